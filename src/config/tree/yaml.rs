//! Reads YAML into a tree, from the events of the parser. Aliases are replaced by copies, within
//! the bounds on values, text and nesting.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};

use super::{
    DEPTH_MAX, MAP_ENTRIES_MAX, MapEntry, NODES_MAX, Node, NodeData, Scalar, Stop, TEXT_BYTES_MAX, too_deep,
    too_wide,
};
use crate::config::problem::Problems;

/// Reads the only document of a YAML file. Returns `None` and adds to `problems` if that fails.
pub(crate) fn read_yaml(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = TreeBuilder { problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, bytes: 0 };
    match builder.read(text) {
        Ok(root) => Some(root),
        Err((line, message)) => {
            problems.error(line, "", message);
            None
        }
    }
}

/// A list or map whose end was not read yet.
struct Open {
    line: usize,
    anchor: usize,
    data: NodeData,
    /// A key whose value was not read yet.
    key: Option<(String, usize)>,
}

struct TreeBuilder<'p> {
    problems: &'p mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

impl TreeBuilder<'_> {
    fn read(&mut self, text: &str) -> Result<Node, Stop> {
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        let mut root = None;
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                let reason = match error.kind() {
                    ErrorKind::UnknownAnchor => {
                        "`*` begins an alias, but its anchor is not defined before it".into()
                    }
                    _ => error.info(),
                };
                (error.marker().line().max(1), yaml_fault(&reason))
            })?;
            let line = span.start.line().max(1);
            let done = match event {
                Event::DocumentStart(..) if root.is_some() => {
                    return Err((line, "the file has more than one YAML document".into()));
                }
                Event::Scalar(value, style, anchor, tag) => {
                    let quoted = Self::tagged_as_text(tag.as_deref(), line)?;
                    let plain = style == ScalarStyle::Plain && !quoted;
                    let data = match &*value {
                        "" | "~" | "null" | "Null" | "NULL" if plain => NodeData::Null,
                        text => NodeData::Scalar(Scalar { text: text.into(), plain }),
                    };
                    self.count(1, value.len(), line)?;
                    let node = Node { line, data };
                    self.remember(anchor, &node);
                    self.place(node)?
                }
                Event::SequenceStart(_, anchor, tag) => {
                    Self::tagged_as_text(tag.as_deref(), line)?;
                    self.begin(line, anchor, NodeData::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(_, anchor, tag) => {
                    Self::tagged_as_text(tag.as_deref(), line)?;
                    self.begin(line, anchor, NodeData::Map(Vec::new()))?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(anchor) => {
                    let Some(node) = self.anchors.get(&anchor).cloned() else {
                        return Err((line, "an alias of a value within that value".into()));
                    };
                    let weight = node.weight();
                    self.count(weight.nodes, weight.bytes, line)?;
                    self.check_depth(weight.depth, line)?;
                    self.place(node)?
                }
                _ => None,
            };
            root = root.or(done);
        }
        root.filter(|node: &Node| node.data != NodeData::Null).ok_or_else(|| (1, "the file is empty".into()))
    }

    /// Returns true if a tag turns a scalar into text. Accepts the tags of YAML's core types.
    fn tagged_as_text(tag: Option<&Tag>, line: usize) -> Result<bool, Stop> {
        match tag.map(Tag::core_suffix) {
            None => Ok(false),
            Some(Some("str")) => Ok(true),
            Some(Some("int" | "float" | "bool" | "null" | "seq" | "map")) => Ok(false),
            Some(_) => Err((
                line,
                "a YAML tag that has no meaning here; remove the word that begins with `!`, or put text that begins with it in single quotes".into(),
            )),
        }
    }

    /// Adds to the size of the file, and checks its bounds.
    fn count(&mut self, nodes: usize, bytes: usize, line: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > NODES_MAX || self.bytes > TEXT_BYTES_MAX {
            return Err((
                line,
                format!(
                    "the file has more than {NODES_MAX} values or {TEXT_BYTES_MAX} bytes of text once its aliases are resolved"
                ),
            ));
        }
        Ok(())
    }

    /// Checks the nesting. The parser's own limit is not sufficient, since it does not see into
    /// aliases.
    fn check_depth(&self, more: usize, line: usize) -> Result<(), Stop> {
        if self.open.len() + more > DEPTH_MAX { Err(too_deep(line)) } else { Ok(()) }
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, data: NodeData) -> Result<(), Stop> {
        self.count(1, 0, line)?;
        self.check_depth(1, line)?;
        self.open.push(Open { line, anchor, data, key: None });
        Ok(())
    }

    fn end(&mut self) -> Result<Option<Node>, Stop> {
        let Some(open) = self.open.pop() else { return Ok(None) };
        let mut node = Node { line: open.line, data: open.data };
        if let NodeData::Map(entries) = &mut node.data {
            self.merge(entries)?;
        }
        self.remember(open.anchor, &node);
        self.place(node)
    }

    /// Adds a finished value to the innermost open list or map. Returns it if it is the root.
    fn place(&mut self, node: Node) -> Result<Option<Node>, Stop> {
        let Some(open) = self.open.last_mut() else { return Ok(Some(node)) };
        match (&mut open.data, open.key.take()) {
            (NodeData::Map(entries), Some((key, line))) => {
                if let Some(first) = entries.iter().find(|entry| entry.key == key && key != "<<") {
                    let key = if looks_like_field(&key) { format!("`{key}`") } else { "a field".into() };
                    let message = format!("{key} is here twice; the first is in line {}", first.line);
                    self.problems.error(line, "", message);
                } else if entries.len() >= MAP_ENTRIES_MAX {
                    return Err(too_wide(line));
                } else {
                    entries.push(MapEntry { key, line, value: node });
                }
            }
            (NodeData::Map(_), None) => match node.data {
                NodeData::Scalar(scalar) => open.key = Some((scalar.text, node.line)),
                _ => {
                    return Err((
                        node.line,
                        "a field's name must be text; put text that begins with `{` in single quotes".into(),
                    ));
                }
            },
            (NodeData::List(items), _) => items.push(node),
            (NodeData::Null | NodeData::Scalar(_), _) => unreachable!("only collections are opened"),
        }
        Ok(None)
    }

    /// Applies `<<: *other`: adds the fields of the other map that this one does not have.
    fn merge(&mut self, entries: &mut Vec<MapEntry>) -> Result<(), Stop> {
        while let Some(at) = entries.iter().position(|entry| entry.key == "<<") {
            let merged = entries.remove(at);
            let maps = match merged.value.data {
                NodeData::List(maps) => maps,
                data => vec![Node { line: merged.line, data }],
            };
            for map in maps {
                let NodeData::Map(more) = map.data else {
                    return Err((merged.line, "`<<` takes a map, or a list of maps".into()));
                };
                if entries.len() + more.len() > MAP_ENTRIES_MAX {
                    return Err(too_wide(merged.line));
                }
                for entry in more {
                    if entries.iter().all(|own| own.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns true for a name such as fields have. Other text may be a secret.
fn looks_like_field(key: &str) -> bool {
    key.len() <= 40 && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
}

/// Leaves out what the parser quotes from the file, except for single characters of its syntax.
fn unquoted(reason: &str) -> String {
    let mut out = String::new();
    let mut rest = reason;
    while let Some(at) = rest.find(['`', '\'', '"']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inner = &from[1..];
        let Some(end) = inner.find(['`', '\'', '"']) else {
            rest = from;
            break;
        };
        let (quoted, after) = from.split_at(end + 2);
        let is_syntax = quoted.len() <= 5 && !quoted.bytes().any(|byte| byte.is_ascii_alphanumeric());
        out.push_str(if is_syntax { quoted } else { "…" });
        rest = after;
    }
    out + rest
}

/// The parser's message with a hint at its usual cause.
fn yaml_fault(reason: &str) -> String {
    const HINTS: [(&str, &str); 5] = [
        ("found a tab", "a line is indented with a tab: use spaces"),
        ("multiline quoted", "text that begins with a quote in this line or before it has no closing quote"),
        ("simple key expected", "a field is written `name: value`, with a space behind the colon"),
        ("while parsing a block", "the line is not indented like those that it belongs to"),
        ("recursion limit", "lists and maps are nested too deep"),
    ];
    const QUOTES: &str = "put text with special characters in single quotes";
    let hint = HINTS.iter().find(|(part, _)| reason.contains(part)).map_or(QUOTES, |(_, hint)| hint);
    // Turn an old-style quote, `x', into `x`.
    let reason = reason
        .strip_suffix('\'')
        .filter(|rest| rest.contains('`'))
        .map(|rest| format!("{rest}`"))
        .unwrap_or(reason.into());
    format!("not readable as YAML: {}; {hint}", unquoted(&reason))
}
