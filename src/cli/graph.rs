//! `event-router graph`: the configuration as a picture, in the languages of Mermaid and Graphviz.
//!
//! ```text
//! source ──► route (pattern) ──► processor ··dead letters··► processor
//! ```

use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::{ConfigArgs, Exit};
use crate::config::scalar::show_duration;
use crate::outside;
use crate::settings::{Config, RouteConfig};

/// Draw the configuration: sources, routes with their patterns, and processors.
///
/// Prints a diagram for Mermaid, which GitHub, GitLab and many wikis show, or for Graphviz:
/// `event-router graph --format dot | dot -Tsvg > routes.svg`. Credentials do not appear in it.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Language of the diagram
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: GraphFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// A flowchart for Mermaid
    #[default]
    Mermaid,
    /// A directed graph for Graphviz
    Dot,
}

/// Characters of a pattern in its node. The whole pattern is in the configuration.
const PATTERN_CHARS_MAX: usize = 60;
/// Lines of a pattern in its node.
const PATTERN_LINES_MAX: usize = 4;

pub(super) fn run(args: &GraphArgs) -> anyhow::Result<Exit> {
    let (_, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let picture = Picture::of(&config);
    let text = match args.format {
        GraphFormat::Mermaid => picture.mermaid(),
        GraphFormat::Dot => picture.dot(),
    };
    super::print(text.as_bytes())?;
    Ok(Exit::Done)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeShape {
    Source,
    Route,
    Processor,
}

/// A box of the picture. Its id has letters and digits only.
#[derive(Debug)]
struct PictureNode {
    id: String,
    shape: NodeShape,
    lines: Vec<String>,
}

/// An arrow between two boxes, by their ids.
#[derive(Debug)]
struct Arrow {
    from: String,
    to: String,
    /// True for dead letters.
    is_dotted: bool,
}

#[derive(Debug)]
struct Picture {
    nodes: Vec<PictureNode>,
    arrows: Vec<Arrow>,
}

impl Picture {
    fn of(config: &Config) -> Self {
        let (mut nodes, mut arrows) = (Vec::new(), Vec::new());
        for (at, source) in config.sources.iter().enumerate() {
            let lines = vec![source.name.clone(), source.kind.as_type().address()];
            nodes.push(PictureNode { id: format!("s{at}"), shape: NodeShape::Source, lines });
        }
        let processor = |name: &String| config.processors.iter().position(|one| one.name == *name);
        for (at, route) in config.routes.iter().enumerate() {
            let lines = std::iter::once(route.name.clone()).chain(summary(route)).collect();
            nodes.push(PictureNode { id: format!("r{at}"), shape: NodeShape::Route, lines });
            for (from, source) in config.sources.iter().enumerate() {
                if route.sources.contains(&source.name) {
                    arrows.push(Arrow { from: format!("s{from}"), to: format!("r{at}"), is_dotted: false });
                }
            }
            for to in route.processors.iter().filter_map(processor) {
                arrows.push(Arrow { from: format!("r{at}"), to: format!("p{to}"), is_dotted: false });
            }
        }
        for (at, one) in config.processors.iter().enumerate() {
            let lines = vec![one.name.clone(), one.kind.word().to_owned(), one.kind.settings().shown()];
            nodes.push(PictureNode { id: format!("p{at}"), shape: NodeShape::Processor, lines });
            if let Some(to) = one.delivery.dead_letter.as_ref().and_then(processor) {
                arrows.push(Arrow { from: format!("p{at}"), to: format!("p{to}"), is_dotted: true });
            }
        }
        for node in &mut nodes {
            node.lines.retain(|line| !line.is_empty());
            for line in &mut node.lines {
                *line = outside::cell(line);
            }
        }
        Picture { nodes, arrows }
    }

    fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for PictureNode { id, shape, lines } in &self.nodes {
            let label = lines.iter().map(|line| mermaid_text(line)).collect::<Vec<_>>().join("<br/>");
            let (open, close) = match shape {
                NodeShape::Source => ("([", "])"),
                NodeShape::Route => ("{{", "}}"),
                NodeShape::Processor => ("[", "]"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "    {id}{open}\"{label}\"{close}");
        }
        for Arrow { from, to, is_dotted } in &self.arrows {
            let arrow = if *is_dotted { "-. dead letters .->" } else { "-->" };
            let _ = writeln!(out, "    {from} {arrow} {to}");
        }
        out
    }

    fn dot(&self) -> String {
        let mut out =
            String::from("digraph router {\n    rankdir=LR;\n    node [fontname=\"sans-serif\"];\n");
        for PictureNode { id, shape, lines } in &self.nodes {
            let label = lines.iter().map(|line| dot_text(line)).collect::<Vec<_>>().join("\\n");
            let shape = match shape {
                NodeShape::Source => "ellipse",
                NodeShape::Route => "hexagon",
                NodeShape::Processor => "box",
            };
            let _ = writeln!(out, "    {id} [shape={shape}, label=\"{label}\"];");
        }
        for Arrow { from, to, is_dotted } in &self.arrows {
            let style = if *is_dotted { " [style=dashed, label=\"dead letters\"]" } else { "" };
            let _ = writeln!(out, "    {from} -> {to}{style};");
        }
        out.push_str("}\n");
        out
    }
}

/// The conditions of a route, one on a line.
fn summary(route: &RouteConfig) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pattern) = route.whole_pattern() {
        conditions(&pattern, "", &mut lines);
    }
    if let Some(age) = route.max_age {
        lines.push(format!("maxAge: {}", show_duration(age)));
    }
    let more = lines.len().saturating_sub(PATTERN_LINES_MAX);
    if more > 0 {
        lines.truncate(PATTERN_LINES_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Appends one line for each member of a pattern.
fn conditions(pattern: &Json, path: &str, lines: &mut Vec<String>) {
    for (name, value) in pattern.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Json::Object(_) => conditions(value, &path, lines),
            Json::Array(branches) if name == "$or" => {
                lines.push(format!("one of {} alternatives", branches.len()));
            }
            Json::Array(values) => {
                let values: Vec<String> = values.iter().map(condition).collect();
                let line = format!("{path}: {}", values.join(", "));
                let short: String = line.chars().take(PATTERN_CHARS_MAX).collect();
                lines.push(if short.len() < line.len() { short + "…" } else { line });
            }
            other => lines.push(format!("{path}: {other}")),
        }
    }
}

/// One condition, as people write it: `VmPoweredOnEvent`, `com.vmware.*`, `> 5`.
fn condition(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Object(operator) => operator.iter().map(operation).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn operation((name, operand): (&String, &Json)) -> String {
    match (name.as_str(), operand) {
        ("prefix", Json::String(text)) => format!("{text}*"),
        ("suffix", Json::String(text)) => format!("*{text}"),
        ("wildcard" | "shellstyle" | "exactly" | "cidr", Json::String(text)) => text.clone(),
        ("exists", Json::Bool(true)) => "exists".to_owned(),
        ("exists", Json::Bool(false)) => "absent".to_owned(),
        ("numeric", Json::Array(terms)) => terms.iter().map(condition).collect::<Vec<_>>().join(" "),
        ("anything-but", Json::Array(values)) => {
            format!("not {}", values.iter().map(condition).collect::<Vec<_>>().join(", "))
        }
        ("anything-but", other) => format!("not {}", condition(other)),
        (name, other) => format!("{name} {}", condition(other)),
    }
}

/// Text in a quoted label. Mermaid writes a special character as `#code;`.
fn mermaid_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '#' | '<' | '>' | '&' | '`' | ';' | '\\' | '[' | ']' | '{' | '}' => {
                let _ = write!(out, "#{};", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out
}

/// Text in a quoted label of Graphviz.
fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::load_str;

    fn picture(text: &str) -> Picture {
        let (config, _) = load_str(text, "config.yaml".as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
        Picture::of(&config)
    }

    const CONFIG: &str = r#"
apiVersion: event-router/v1
sources:
  - {name: vc, type: vcenter, address: "https://vc.example", username: u, password: a-long-password}
processors:
  - {name: 'a"b', type: console, deadLetterTo: last}
  - {name: last, type: console}
routes:
  - name: "on <x>"
    pattern: {subject: [VmPoweredOnEvent, {prefix: com.vmware.}], data: {Key: [{numeric: [">", 5]}]}}
    maxAge: 1h
    processors: ['a"b']
"#;

    #[test]
    fn a_configuration_is_a_flowchart() {
        assert_eq!(
            picture(CONFIG).mermaid(),
            "flowchart LR
    s0([\"vc<br/>https://vc.example/sdk\"])
    r0{{\"on #60;x#62;<br/>data.Key: #62; 5<br/>subject: VmPoweredOnEvent, com.vmware.*<br/>maxAge: 1h\"}}
    p0[\"a#34;b<br/>console<br/>stdout\"]
    p1[\"last<br/>console<br/>stdout\"]
    s0 --> r0
    r0 --> p0
    p0 -. dead letters .-> p1
"
        );
    }

    #[test]
    fn a_configuration_is_a_graph_for_graphviz() {
        let dot = picture(CONFIG).dot();
        assert!(dot.starts_with("digraph router {") && dot.ends_with("}\n"), "{dot}");
        assert!(dot.contains(r#"p0 [shape=box, label="a\"b\nconsole\nstdout"];"#), "{dot}");
        assert!(dot.contains("p0 -> p1 [style=dashed, label=\"dead letters\"];"), "{dot}");
    }

    #[test]
    fn patterns_are_summarized() {
        let check = |pattern: Json, expected: &[&str]| {
            let route = RouteConfig { pattern: Some(pattern.clone()), ..RouteConfig::default() };
            assert_eq!(summary(&route), expected, "{pattern}");
        };
        check(json!({"source": [{"suffix": "/sdk"}, {"exists": false}]}), &["source: */sdk, absent"]);
        check(json!({"source": [{"anything-but": ["a", 1]}]}), &["source: not a, 1"]);
        check(json!({"source": [{"anything-but": {"prefix": "a"}}]}), &["source: not a*"]);
        check(json!({"source": [{"equals-ignore-case": "a"}]}), &["source: equals-ignore-case a"]);
        check(json!({"$or": [{"source": ["a"]}, {"source": ["b"]}]}), &["one of 2 alternatives"]);
        check(
            json!({"a": [1], "b": [2], "c": [3], "d": [4], "e": [5], "f": [null]}),
            &["a: 1", "b: 2", "c: 3", "d: 4", "and 2 more"],
        );
        let long = json!({"subject": ["x".repeat(100)]});
        let route = RouteConfig { pattern: Some(long), ..RouteConfig::default() };
        assert_eq!(summary(&route)[0].chars().count(), PATTERN_CHARS_MAX + 1);
    }
}
