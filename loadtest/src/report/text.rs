//! Formats numbers and names for people.

/// `312,000`, `8.35`: no decimals from 100 on.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        small if small >= 100.0 || small == small.round() => 0,
        small if small >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{:.*}", digits, value.abs());
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `312k`, `1.5M`: for an axis.
pub fn short(value: f64) -> String {
    let (unit, name) = match value.abs() {
        large if large >= 1e6 => (1e6, "M"),
        large if large >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = format!("{:.3}", value / unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A percentage on an axis: `50 %`.
pub fn percent(value: f64) -> String {
    format!("{} %", short(value))
}

/// Microseconds as `830 µs`, `8.3 ms`, `1.2 s`.
pub fn time(micros: f64) -> String {
    match micros {
        long if long >= 1e6 => format!("{} s", number(long / 1e6)),
        middle if middle >= 1e3 => format!("{} ms", number(middle / 1e3)),
        _ => format!("{micros:.0} µs"),
    }
}

/// Busy cores in the terms that people compare: `140 % of a core, 70 % of the machine`.
pub fn cpu_share(busy: f64, cores: usize) -> String {
    let of_a_core = busy * 100.0;
    let of_all = of_a_core / cores.max(1) as f64;
    match cores {
        0 | 1 => format!("{of_a_core:.0} % of the machine's one core"),
        _ => format!("{of_a_core:.0} % of a core, {of_all:.0} % of the machine"),
    }
}

/// Escapes text for HTML, including attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, expected) in [
            (312_000.0, "312,000"),
            (1_234_567.8, "1,234,568"),
            (8.345, "8.35"),
            (42.25, "42.2"),
            (0.0, "0"),
            (-1500.0, "-1,500"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (value, expected) in
            [(312_000.0, "312k"), (1_500_000.0, "1.5M"), (2_500.0, "2500"), (0.25, "0.25"), (0.0, "0")]
        {
            assert_eq!(short(value), expected);
        }
        for (micros, expected) in [(830.0, "830 µs"), (8_300.0, "8.30 ms"), (1_200_000.0, "1.20 s")] {
            assert_eq!(time(micros), expected);
        }
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
