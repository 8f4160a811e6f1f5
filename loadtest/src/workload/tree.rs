//! A workload file as a tree with line numbers, and what is wrong with it.
//!
//! Scalars keep their text as written: what it must be is the field's business. Anchors and tags are refused: a workload is a page long.

use std::fmt;

use granit_parser::{Event, Parser, ScalarStyle};

/// Nesting of lists and maps. The deepest field of a workload is at 4; settings of the router may go on from there.
const DEPTH_MAX: usize = 16;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: usize,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Null,
    /// `plain`: written without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1; 0 for what no line says.
    pub line: usize,
    /// The field's path, `target.delay`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

/// All that is wrong with a workload, in the file's order; never empty.
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

/// The one document of a YAML text.
///
/// # Errors
/// It is not YAML, or something that a workload has no use for.
pub fn read(text: &str) -> Result<Node, Problem> {
    let mut open: Vec<(Node, Option<(String, usize)>)> = Vec::new();
    let mut root: Option<Node> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            problem(error.marker().line(), format!("not readable as YAML: {}", error.info()))
        })?;
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
                return Err(problem(line, "anchors (`&name`) have no use here; write the value again"));
            }
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                let data = match &*text {
                    "" | "~" | "null" if plain => Data::Null,
                    text => Data::Scalar { text: text.to_owned(), plain },
                };
                Some(Node { line, data })
            }
            Event::SequenceStart(..) => {
                open.push((Node { line, data: Data::List(Vec::new()) }, None));
                None
            }
            Event::MappingStart(..) => {
                open.push((Node { line, data: Data::Map(Vec::new()) }, None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|(node, _)| node),
            _ => None,
        };
        if open.len() > DEPTH_MAX {
            return Err(problem(line, format!("lists and maps are nested more than {DEPTH_MAX} deep")));
        }
        let Some(node) = done else { continue };
        match open.last_mut() {
            None => root = Some(node),
            Some((parent, key)) => place(parent, key, node)?,
        }
    }
    root.filter(|root| root.data != Data::Null).ok_or_else(|| problem(1, "the file is empty"))
}

fn place(parent: &mut Node, key: &mut Option<(String, usize)>, node: Node) -> Result<(), Problem> {
    match (&mut parent.data, key.take()) {
        (Data::Map(entries), Some((key, line))) => {
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("`{key}` is here twice; the first is in line {}", first.line);
                return Err(problem(line, message));
            }
            entries.push(Entry { key, line, value: node });
        }
        (Data::Map(_), None) => match node.data {
            Data::Scalar { text, .. } => *key = Some((text, node.line)),
            _ => return Err(problem(node.line, "a field's name must be text")),
        },
        (Data::List(items), _) => items.push(node),
        (Data::Null | Data::Scalar { .. }, _) => unreachable!("only lists and maps are opened"),
    }
    Ok(())
}

fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem { line: line.max(1), path: String::new(), message: message.into() }
}

impl Node {
    /// In one line, as YAML's flow style.
    pub fn write(&self, out: &mut String) {
        match &self.data {
            Data::Null => out.push('~'),
            Data::Scalar { text, plain: true } => out.push_str(text),
            Data::Scalar { text, plain: false } => out.push_str(&quoted(text)),
            Data::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Data::Map(entries) => {
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

/// As a YAML scalar, whatever is in it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_as_one_line() {
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
    fn lines_are_counted_and_nonsense_is_named() {
        let node = read("a: 1\nb:\n  c: 2\n").unwrap();
        let Data::Map(entries) = node.data else { panic!() };
        assert_eq!((entries[0].line, entries[1].line), (1, 2));
        for (text, line, part) in [
            ("", 1, "empty"),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: [1\nb: 2", 2, "YAML"),
            ("a: &x 1\n", 1, "anchors"),
            ("a: 1\n---\nb: 1\n", 2, "more than one"),
            ("? {a: 1}\n: 2\n", 1, "text"),
            (&("[".repeat(40) + &"]".repeat(40)), 1, "nested"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.message.contains(part), "{text}: {problem:?}");
            assert_eq!(problem.line, line, "{text}: {problem:?}");
        }
    }
}
