//! Parses the router's `/metrics` (Prometheus text format 0.0.4).

/// One page of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<MetricLine>);

#[derive(Clone, Debug, PartialEq)]
struct MetricLine {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Comments and malformed lines are skipped.
    pub fn parse(text: &str) -> Metrics {
        Metrics(text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_line).collect())
    }

    /// The sum of all series with this name; `None` if there are none.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values =
            self.0.iter().filter(|series| series.name == name).map(|series| series.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The values with this name by one of their labels, in the order of the page.
    pub fn by_label(&self, name: &str, label: &str) -> Vec<(&str, f64)> {
        let series = self.0.iter().filter(|series| series.name == name);
        let labelled = series.filter_map(|series| {
            let (_, text) = series.labels.iter().find(|(key, _)| key == label)?;
            Some((text.as_str(), series.value))
        });
        labelled.collect()
    }
}

fn parse_line(line: &str) -> Option<MetricLine> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (text, after) = label_text(after)?;
            labels.push((key.to_owned(), text));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(MetricLine { name: name.to_owned(), labels, value })
}

/// Parses a label's text up to its closing quote. Returns it and the rest.
fn label_text(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_line_by_line() {
        let page = Metrics::parse(concat!(
            "# HELP busy time\n# TYPE busy counter\n",
            "busy{stage=\"parse\"} 12\nbusy{stage=\"co\\\"re\",x=\"a, b}\"} 3.5\n\n",
            "plain 7\nodd{ 1\nnone\n",
            "seconds_bucket{le=\"+Inf\"} 9 1700000000\n",
        ));
        assert_eq!(page.by_label("busy", "stage"), [("parse", 12.0), ("co\"re", 3.5)]);
        assert_eq!(page.by_label("busy", "x"), [("a, b}", 3.5)]);
        assert_eq!(page.sum("busy"), Some(15.5));
        assert_eq!(page.sum("plain"), Some(7.0));
        assert_eq!(page.sum("seconds_bucket"), Some(9.0));
        assert_eq!(page.sum("odd"), None);
    }
}
