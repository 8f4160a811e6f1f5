//! The picture of the overview: sources on the left, destinations on the right, and a line for each
//! pair that a route connects.

use std::fmt::Write;

use super::shown::{escape, rate};
use crate::admin::model::{DestinationStatus, Overview, SourceStatus, Urgency};
use crate::limits::PICTURE_ROWS_MAX;

const WIDTH: f64 = 900.0;
const ROW: f64 = 34.0;
const BOX: f64 = 330.0;

/// A box of the picture.
struct FlowNode<'a> {
    name: &'a str,
    link: String,
    urgency: Urgency,
    rate: f64,
}

/// Renders the picture, worst first. The tables below it have the same facts for screen readers.
pub(super) fn picture(overview: &Overview) -> String {
    let sources: Vec<FlowNode> = overview.sources.iter().take(PICTURE_ROWS_MAX).map(source).collect();
    let destinations: Vec<FlowNode> =
        overview.destinations.iter().take(PICTURE_ROWS_MAX).map(destination).collect();
    let rows = sources.len().max(destinations.len());
    if rows == 0 {
        return String::new();
    }
    let height = rows as f64 * ROW;
    let place = |at: usize, of: usize| (at as f64 + 0.5) * ROW + (rows - of) as f64 * ROW / 2.0;
    let mut out = format!(
        "<svg class=\"flow\" viewBox=\"0 0 {WIDTH} {height}\" role=\"group\" aria-label=\"{} sources send to {} destinations; the tables below have the details\">",
        overview.sources.len(),
        overview.destinations.len() + overview.destinations_left_out
    );
    // Lines first, so that boxes cover their ends.
    for (from, source) in sources.iter().enumerate() {
        for (to, destination) in overview.destinations.iter().take(destinations.len()).enumerate() {
            if !is_connected(overview, source.name, &destination.processor) {
                continue;
            }
            let (y1, y2) = (place(from, sources.len()), place(to, destinations.len()));
            let urgency = source.urgency.max(destination.urgency);
            let moves = if source.rate > 0.0 && destination.delivered_per_s > 0.0 { " moves" } else { "" };
            let _ = write!(
                out,
                "<path class=\"link {}{moves}\" d=\"M{BOX} {y1} C{m} {y1} {m} {y2} {x} {y2}\"/>",
                urgency.as_str(),
                m = WIDTH / 2.0,
                x = WIDTH - BOX
            );
        }
    }
    for (x, nodes) in [(0.0, &sources), (WIDTH - BOX, &destinations)] {
        for (at, node) in nodes.iter().enumerate() {
            write_node(&mut out, node, x, place(at, nodes.len()));
        }
    }
    out.push_str("</svg>");
    out
}

fn source(source: &SourceStatus) -> FlowNode<'_> {
    let link = format!("/source?name={}", encoded(&source.name));
    FlowNode { name: &source.name, link, urgency: source.urgency, rate: source.events_per_s }
}

fn destination(destination: &DestinationStatus) -> FlowNode<'_> {
    let link = format!("/destination?name={}", encoded(&destination.name));
    FlowNode {
        name: &destination.name,
        link,
        urgency: destination.urgency,
        rate: destination.delivered_per_s,
    }
}

fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

fn is_connected(overview: &Overview, source: &str, processor: &str) -> bool {
    let connects = |route: &crate::admin::model::RouteStatus| {
        route.sources.iter().any(|name| name == source)
            && route.processors.iter().any(|name| name == processor)
    };
    overview.routes.iter().any(connects)
}

fn write_node(out: &mut String, node: &FlowNode, x: f64, y: f64) {
    let name: String = match node.name.chars().count() {
        0..=26 => node.name.to_owned(),
        _ => node.name.chars().take(25).chain(['…']).collect(),
    };
    let _ = write!(
        out,
        "<a href=\"{}\"><rect class=\"node {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\"/><text x=\"{}\" y=\"{}\">{}</text><text class=\"rate\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}/s</text></a>",
        escape(&node.link),
        node.urgency.as_str(),
        x + 1.0,
        y - ROW / 2.0 + 3.0,
        BOX - 2.0,
        ROW - 6.0,
        x + 14.0,
        y + 4.5,
        escape(&name),
        x + BOX - 12.0,
        y + 4.5,
        rate(node.rate)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::RouteStatus;

    #[test]
    fn only_pairs_that_a_route_connects_have_a_line() {
        let source = |name: &str| SourceStatus { name: name.into(), ..SourceStatus::default() };
        let destination = |name: &str| DestinationStatus {
            name: format!("{name}/<f>"),
            processor: name.into(),
            ..DestinationStatus::default()
        };
        let overview = Overview {
            sources: vec![source("a"), source("b")],
            destinations: vec![destination("x"), destination("y")],
            routes: vec![RouteStatus {
                sources: vec!["a".into()],
                processors: vec!["x".into(), "y".into()],
                ..RouteStatus::default()
            }],
            ..Overview::default()
        };
        let svg = picture(&overview);
        assert_eq!((svg.matches("<path").count(), svg.matches("<rect").count()), (2, 4), "{svg}");
        assert!(svg.contains("x/&lt;f&gt;") && !svg.contains("<f>"), "{svg}");
    }
}
