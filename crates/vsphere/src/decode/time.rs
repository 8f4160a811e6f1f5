//! xsd:dateTime as vCenter writes it: RFC 3339 with an offset and any number of fraction digits.
//!
//! ```text
//! 2024-01-02T03:04:05.1200Z        page
//! 2024-01-02T03:04:05.12Z          as Go marshals it
//! └────── kept ─────────┘
//! ```

use super::json::Sink;

/// A parsed time, with the facts needed to write it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    /// Microseconds since 1970 UTC, rounded down.
    pub micros: i64,
    /// The number of bytes to copy: date, time and at most nine fraction digits without trailing
    /// zeros.
    pub kept: usize,
    /// True if the offset is zero in any spelling.
    pub utc: bool,
}

/// Parses `2024-01-02T03:04:05.120Z`. A time without an offset could mean any instant and gives
/// `None`.
pub(super) fn parse(text: &[u8]) -> Option<Time> {
    parse_prefix(text).filter(|(_, len)| *len == text.len()).map(|(time, _)| time)
}

/// Parses a time at the start of `text`, and returns its length as well.
#[inline]
pub(super) fn parse_prefix(text: &[u8]) -> Option<(Time, usize)> {
    let head: &[u8; 19] = text.first_chunk()?;
    // Digits are below 10 after the subtraction, all other bytes are not. One comparison of the
    // maximum replaces fourteen.
    let mut worst = 0;
    let mut pair = |at: usize| {
        let (tens, ones) = (head[at].wrapping_sub(b'0'), head[at + 1].wrapping_sub(b'0'));
        worst = worst.max(tens).max(ones);
        i64::from(tens) * 10 + i64::from(ones)
    };
    let (year, month, day) = (pair(0) * 100 + pair(2), pair(5), pair(8));
    let (hour, minute, second) = (pair(11), pair(14), pair(17));
    let punctuated = [head[4], head[7], head[10], head[13], head[16]] == *b"--T::";
    let in_range =
        worst < 10 && hour < 24 && minute < 60 && second < 60 && day >= 1 && (1..13).contains(&month);
    if !punctuated || !in_range || day > 28 && day > days_in_month(year, month) {
        return None;
    }
    let (mut kept, mut len, mut micros) = (19, 19, 0);
    if text.get(19) == Some(&b'.') {
        let fraction = &text[20..];
        // `significant` is the position of the last non-zero digit among the nine that count;
        // `digits` is the number of all digits.
        let (mut significant, mut digits, mut unit) = (0, 0, 100_000);
        while let Some(digit) =
            fraction.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
        {
            micros += i64::from(digit) * unit;
            unit /= 10;
            digits += 1;
            if digit != 0 && digits <= 9 {
                significant = digits;
            }
        }
        if digits == 0 {
            return None;
        }
        kept += if significant == 0 { 0 } else { 1 + significant };
        len += 1 + digits;
    }
    let (offset, zone) = match *text.get(len..)? {
        [b'Z', ..] => (0, 1),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, ..]
            if [h1, h2, m1, m2].iter().all(u8::is_ascii_digit) =>
        {
            let value = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let (hours, minutes) = (value(h1, h2), value(m1, m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (if sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes }, 6)
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Some((Time { micros: seconds * 1_000_000 + micros, kept, utc: offset == 0 }, len + zone))
}

impl Time {
    /// Appends `text`, from which this time was parsed, as Go marshals a `time.Time`: no trailing
    /// zeros, `Z` for UTC.
    pub(super) fn write(self, out: &mut impl Sink, text: &[u8]) {
        out.put_bytes(&text[..self.kept]);
        out.put_bytes(if self.utc { b"Z" } else { &text[text.len() - 6..] });
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. The year begins in March here, so that
/// the leap day is its last day.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    // Five months from March on have 153 days. 0000-03-01 is 719,468 days before 1970-01-01.
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month_from_march + 2) / 5
        + day
        - 1
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_normalised_and_keep_their_offset() {
        let check = |text: &str, expected: Option<&str>| {
            let written = parse(text.as_bytes()).map(|time| {
                let mut out = Vec::new();
                time.write(&mut out, text.as_bytes());
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written.as_deref(), expected, "{text}");
        };
        check("2024-01-02T03:04:05Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.000Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.1200Z", Some("2024-01-02T03:04:05.12Z"));
        check("2024-01-02T03:04:05.123456789Z", Some("2024-01-02T03:04:05.123456789Z"));
        check("2024-01-02T03:04:05.1234567899Z", Some("2024-01-02T03:04:05.123456789Z"));
        check("2024-01-02T03:04:05.0000000001Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.5+05:30", Some("2024-01-02T03:04:05.5+05:30"));
        check("2024-01-02T03:04:05-00:00", Some("2024-01-02T03:04:05Z"));
        check("2024-02-29T23:59:59+00:00", Some("2024-02-29T23:59:59Z"));
        for bad in [
            "",
            "2024-01-02",
            "2024-01-02T03:04:05",
            "2024-01-02t03:04:05Z",
            "2024-01-02T03:04:05z",
            "2024-01-02T03:04:05.Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-02T24:00:00Z",
            "2024-01-02T03:04:60Z",
            "2024-01-02T03:04:05+0530",
            "2024-01-02T03:04:05+24:00",
            " 2024-01-02T03:04:05Z",
            "2024-01-02T03:04:05Z ",
            "+024-01-02T03:04:05Z",
            "12024-01-02T03:04:05Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn micros_count_from_1970_in_utc() {
        let check =
            |text: &str, micros: i64| assert_eq!(parse(text.as_bytes()).unwrap().micros, micros, "{text}");
        check("1970-01-01T00:00:00Z", 0);
        check("1970-01-01T01:00:00.000001999+01:00", 1);
        check("1969-12-31T23:59:59.5Z", -500_000);
        check("0001-01-01T00:00:00Z", -62_135_596_800_000_000);
        check("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_calendar(seconds in -62_135_596_800i64..253_402_300_799) {
            let text = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            proptest::prop_assert_eq!(parse(text.as_bytes()).unwrap().micros, seconds * 1_000_000);
        }
    }
}
