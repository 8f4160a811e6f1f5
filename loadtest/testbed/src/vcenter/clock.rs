//! Times as vCenter writes them, at a few nanoseconds each: the date and the second are formatted
//! once a second.

use super::digits::write_digits;

/// Formats microseconds since 1970 as `2026-11-22T00:06:52.398830Z`.
#[derive(Clone)]
pub(crate) struct Rfc3339 {
    second: i64,
    text: [u8; 27],
    millis: [u8; 24],
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Rfc3339 {
            second: i64::MIN,
            text: *b"1970-01-01T00:00:00.000000Z",
            millis: *b"1970-01-01T00:00:00.000Z",
        }
    }
}

impl Rfc3339 {
    pub fn micros(&mut self, micros: i64) -> [u8; 27] {
        self.write_second(micros.div_euclid(1_000_000));
        write_digits(&mut self.text[20..26], micros.rem_euclid(1_000_000) as u32);
        self.text
    }

    /// Appends a createdTime with six or three digits. Returns the text with six digits.
    pub fn created(&mut self, out: &mut Vec<u8>, micros: i64, millis: bool) -> [u8; 27] {
        let text = self.micros(micros);
        if millis {
            out.extend_from_slice(self.rounded_millis(micros));
        } else {
            out.extend_from_slice(&text);
        }
        text
    }

    /// The time with three digits, rounded half up. This form agrees with the six digits about the
    /// whole minute of time + 0.5 ms.
    pub fn rounded_millis(&mut self, micros: i64) -> &[u8; 24] {
        let text = self.micros(round_to_millis(micros));
        self.millis[..23].copy_from_slice(&text[..23]);
        &self.millis
    }

    fn write_second(&mut self, second: i64) {
        if second == self.second {
            return;
        }
        self.second = second;
        let (year, month, day) = civil(second.div_euclid(86_400));
        let of_day = second.rem_euclid(86_400) as u32;
        let fields = [
            (0..4, year as u32),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3600),
            (14..16, of_day / 60 % 60),
            (17..19, of_day % 60),
        ];
        for (range, value) in fields {
            write_digits(&mut self.text[range], value);
        }
    }
}

/// Year, month and day from days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `createdTime` as text, for single values; pages keep an [`Rfc3339`].
pub(crate) fn format_micros(micros: i64) -> String {
    String::from_utf8_lossy(&Rfc3339::default().micros(micros)).into_owned()
}

/// Rounds half up to whole milliseconds.
pub(crate) fn round_to_millis(micros: i64) -> i64 {
    (micros + 500).div_euclid(1000) * 1000
}

/// Microseconds since 1970 of an `xsd:dateTime` with an offset. A time without one is taken as UTC,
/// as in vCenter.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Some(time.as_microsecond()),
        Err(_) => format!("{text}Z").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_jiff() {
        let mut clock = Rfc3339::default();
        for micros in
            [0, 1, 951_782_400_000_000, 1_795_305_612_398_830, 4_102_444_799_999_999, 1_709_164_799_999_999]
        {
            let text = String::from_utf8(clock.micros(micros).to_vec()).unwrap();
            assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_microsecond(), micros, "{text}");
            assert_eq!(parse_micros(&text), Some(micros));
        }
    }

    #[test]
    fn millis_round_half_up_over_the_second() {
        let mut clock = Rfc3339::default();
        for (micros, expected) in [
            (999_499, "1970-01-01T00:00:00.999Z"),
            (999_500, "1970-01-01T00:00:01.000Z"),
            (59_999_600, "1970-01-01T00:01:00.000Z"),
        ] {
            assert_eq!(std::str::from_utf8(clock.rounded_millis(micros)).unwrap(), expected);
        }
    }

    #[test]
    fn reads_what_clients_send() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("1970-01-01T01:00:01.5+01:00", Some(1_500_000)),
            ("1970-01-01T00:00:01.000000999Z", Some(1_000_000)),
            ("1970-01-01T00:00:01", Some(1_000_000)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_micros(text), expected, "{text}");
        }
    }
}
