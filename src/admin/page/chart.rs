//! Charts as inline SVG, without a style attribute: `page.css` has the colours.

use std::fmt::Write;

/// In units of the SVG.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 140.0;
/// Space for the labels.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 20.0;

/// One line of a chart.
pub(super) struct Line<'a> {
    pub name: &'a str,
    /// Seconds since 1970 UTC, and the value.
    pub points: Vec<(u32, f64)>,
}

/// Renders a chart of up to two lines over the last hour, with a text alternative.
pub(super) fn chart(title: &str, lines: &[Line], format: fn(f64) -> String) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let (Some(first), Some(last)) = (all().map(|point| point.0).min(), all().map(|point| point.0).max())
    else {
        return "<p class=\"empty\">No figures yet: the first come after ten seconds.</p>".to_owned();
    };
    let top = nice(all().map(|point| point.1).fold(0.0, f64::max));
    let span = f64::from(last - first).max(1.0);
    let x = |at: u32| LEFT + f64::from(at - first) / span * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let latest = |line: &Line| {
        let value = line.points.last().map_or(0.0, |point| point.1);
        format!("{} is {} now", line.name, format(value))
    };
    let said: Vec<String> = lines.iter().map(latest).collect();
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {}\">",
        said.join(", ")
    );
    for share in [0.0, 0.5, 1.0] {
        let (value, at) = (top * share, y(top * share));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 3.5,
            format(value)
        );
    }
    let minutes = (span / 60.0).round();
    let begin = if minutes < 1.0 { format!("{span:.0} s ago") } else { format!("{minutes:.0} min ago") };
    let base = HEIGHT - 5.0;
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{base}\">{begin}</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">now</text>",
        WIDTH - RIGHT
    );
    for (at, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|(t, value)| format!("{:.1},{:.1}", x(*t), y(*value))).collect();
        let _ = write!(out, "<polyline class=\"line-{at}\" points=\"{}\"/>", points.join(" "));
    }
    out.push_str("</svg>");
    out
}

/// The next of 1, 2, 5, 10, 20, … from `value` on.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let decade = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * decade >= value);
    step.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number() {
        let check = |value: f64, expected: f64| {
            assert!((nice(value) / expected - 1.0).abs() < 1e-9, "{value}: {}", nice(value));
        };
        check(0.0, 1.0);
        check(0.03, 0.05);
        check(7.0, 10.0);
        check(100.0, 100.0);
        check(101.0, 200.0);
    }

    #[test]
    fn a_chart_has_a_text_alternative_and_no_style() {
        let line = Line { name: "the rate", points: vec![(100, 1.0), (160, 3.0)] };
        let svg = chart("Events", &[line], |value| format!("{value:.0}/s"));
        assert!(svg.contains("aria-label=\"Events: the rate is 3/s now\""), "{svg}");
        assert!(svg.contains("points=\"46.0,") && svg.contains("1 min ago"), "{svg}");
        assert!(!svg.contains("style="), "{svg}");
        assert!(chart("Events", &[], |value| value.to_string()).contains("No figures yet"));
    }
}
