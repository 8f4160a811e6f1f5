//! Numbers and texts as the page shows them.

/// Escapes a text for HTML, within quotes or not.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

/// A rate with as many digits as say something.
pub(super) fn rate(per_s: f64) -> String {
    match per_s {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 10.0 => format!("{r:.1}"),
        r => count(r.round()),
    }
}

/// A count with a thin space between groups of three digits.
pub(super) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.as_bytes()[at - 1] != b'-' {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that leaves one to three digits.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_000.0 {
            return if value < 10.0 && unit != "B" {
                format!("{value:.1} {unit}")
            } else {
                format!("{value:.0} {unit}")
            };
        }
        value /= 1_024.0;
    }
    format!("{value:.1} TiB")
}

/// A duration in seconds or milliseconds.
pub(super) fn seconds(value: f64) -> String {
    match value {
        s if s <= 0.0 => "0".to_owned(),
        s if s < 0.001 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.1} s"),
        s => crate::admin::model::age(s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_clear() {
        let check = |shown: String, expected: &str| assert_eq!(shown, expected);
        check(rate(0.0), "0");
        check(rate(0.25), "0.2");
        check(rate(12_345.6), "12\u{202f}346");
        check(count(100.0), "100");
        check(count(1_234_567.0), "1\u{202f}234\u{202f}567");
        check(bytes(512.0), "512 B");
        check(bytes(1_536.0), "1.5 KiB");
        check(bytes(25_165_824.0), "24 MiB");
        check(seconds(0.0), "0");
        check(seconds(0.0123), "12 ms");
        check(seconds(720.0), "12 min");
        check(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
