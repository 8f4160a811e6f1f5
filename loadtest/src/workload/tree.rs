//! A workload file as a tree with line numbers, and the problems in it.
//!
//! Scalars keep their text as written; each field decides what it means. Anchors and tags are
//! rejected: a workload fits on a page.

use std::fmt;

use granit_parser::{Event, Parser, ScalarStyle};

/// Maximum nesting. The deepest field of a workload is at level 4, and the router's settings may go
/// deeper.
const DEPTH_MAX: usize = 16;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlNode {
    /// CounterReadings from 1.
    pub line: usize,
    pub data: YamlData,
}

#[derive(Clone, Debug, PartialEq)]
pub enum YamlData {
    Null,
    /// `plain` means without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<YamlNode>),
    Map(Vec<YamlEntry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct YamlEntry {
    pub key: String,
    pub line: usize,
    pub value: YamlNode,
}

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// CounterReadings from 1; 0 if it belongs to no line.
    pub line: usize,
    /// The path of the field, `target.delay`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

/// All problems in a workload, in the order of the file. Never empty.
#[derive(Debug, thiserror::Error)]
pub struct WorkloadErrors {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for WorkloadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if problem.line > 0 {
                write!(f, ":{}", problem.line)?;
            }
            f.write_str(": ")?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

/// Parses a YAML text with exactly one document.
///
/// # Errors
/// It is not YAML, or uses a feature that workloads do not need.
pub fn read(text: &str) -> Result<YamlNode, Problem> {
    // The lists and maps that are open, and for a map the key whose value comes next.
    let mut open: Vec<(YamlNode, Option<(String, usize)>)> = Vec::new();
    let mut root: Option<YamlNode> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| problem(error.marker().line(), format!("not valid YAML: {}", error.info())))?;
        let line = span.start.line().max(1);
        let done = match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(problem(line, "the file has more than one YAML document"));
            }
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(_, anchor, _)
            | Event::MappingStart(_, anchor, _)
                if anchor != 0 =>
            {
                return Err(problem(line, "anchors (`&name`) are not supported; repeat the value"));
            }
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                let data = match &*text {
                    "" | "~" | "null" if plain => YamlData::Null,
                    text => YamlData::Scalar { text: text.to_owned(), plain },
                };
                Some(YamlNode { line, data })
            }
            Event::SequenceStart(..) => {
                open.push((YamlNode { line, data: YamlData::List(Vec::new()) }, None));
                None
            }
            Event::MappingStart(..) => {
                open.push((YamlNode { line, data: YamlData::Map(Vec::new()) }, None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|(node, _)| node),
            _ => None,
        };
        if open.len() > DEPTH_MAX {
            return Err(problem(line, format!("lists and maps nest deeper than {DEPTH_MAX} levels")));
        }
        let Some(node) = done else { continue };
        // A finished node belongs to the innermost open one, or is the document.
        match open.last_mut() {
            None => root = Some(node),
            Some((parent, key)) => place(parent, key, node)?,
        }
    }
    root.filter(|root| root.data != YamlData::Null).ok_or_else(|| problem(1, "the file is empty"))
}

/// Adds a node to a list, or as key or value to a map.
fn place(parent: &mut YamlNode, key: &mut Option<(String, usize)>, node: YamlNode) -> Result<(), Problem> {
    match (&mut parent.data, key.take()) {
        (YamlData::Map(entries), Some((key, line))) => {
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("`{key}` occurs twice; the first is in line {}", first.line);
                return Err(problem(line, message));
            }
            entries.push(YamlEntry { key, line, value: node });
        }
        (YamlData::Map(_), None) => match node.data {
            YamlData::Scalar { text, .. } => *key = Some((text, node.line)),
            _ => return Err(problem(node.line, "a field's name must be text")),
        },
        (YamlData::List(items), _) => items.push(node),
        (YamlData::Null | YamlData::Scalar { .. }, _) => unreachable!("only lists and maps are opened"),
    }
    Ok(())
}

fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem { line: line.max(1), path: String::new(), message: message.into() }
}

impl YamlNode {
    /// Writes the node as one line, in YAML's flow style.
    pub fn write(&self, out: &mut String) {
        match &self.data {
            YamlData::Null => out.push('~'),
            YamlData::Scalar { text, plain: true } => out.push_str(text),
            YamlData::Scalar { text, plain: false } => out.push_str(&quoted(text)),
            YamlData::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            YamlData::Map(entries) => {
                out.push('{');
                for (at, entry) in entries.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(&quoted(&entry.key));
                    out.push_str(": ");
                    entry.value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Writes any text as a YAML scalar.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_again_as_one_line() {
        for (text, expected) in [
            ("a: 1\nb:\n  - x\n  - 'y'\n", "{'a': 1, 'b': [x, 'y']}"),
            ("a: {b: [1, 2], c: }", "{'a': {'b': [1, 2], 'c': ~}}"),
            ("- \"it's\"", "['it''s']"),
        ] {
            let mut out = String::new();
            read(text).unwrap().write(&mut out);
            assert_eq!(out, expected, "{text}");
        }
    }

    #[test]
    fn errors_name_their_line_and_problem() {
        let node = read("a: 1\nb:\n  c: 2\n").unwrap();
        let YamlData::Map(entries) = node.data else { panic!() };
        assert_eq!((entries[0].line, entries[1].line), (1, 2));
        for (text, line, part) in [
            ("", 1, "empty"),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: [1\nb: 2", 2, "YAML"),
            ("a: &x 1\n", 1, "anchors"),
            ("a: 1\n---\nb: 1\n", 2, "more than one"),
            ("? {a: 1}\n: 2\n", 1, "text"),
            (&("[".repeat(40) + &"]".repeat(40)), 1, "nest deeper"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.message.contains(part), "{text}: {problem:?}");
            assert_eq!(problem.line, line, "{text}: {problem:?}");
        }
    }
}
