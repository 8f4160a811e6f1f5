//! A file as a tree with positions: what validation walks. Reads YAML (`granit-parser`, the parser under serde-saphyr) and strict JSON (serde_json).
//!
//! Scalars keep their text as written: whether `0123` or `no` is a number, a flag or a password is the field's business, not the parser's.
//!
//! INVARIANT: no message carries text of the file but field and anchor-free positions: anything in it may be a secret.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::Problems;

/// Bytes of a configuration file: 10,000 routes of 400 bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Values in a file, those that aliases repeat counted each time: 10,000 routes of 20 values.
const NODES_MAX: usize = 200_000;
/// Bytes of text in a file, aliases counted each time: four times the largest file.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Nesting of lists and maps. The deepest field is at 7; patterns may go on from there.
const DEPTH_MAX: usize = 64;

/// Fields of one map: duplicates are looked for one by one, 1,000 * 1,000 / 2 comparisons a map.
const MAP_ENTRIES_MAX: usize = 1_000;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Counted from 1.
    pub line: usize,
    pub data: NodeData,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeData {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<MapEntry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    pub text: String,
    /// Written without quotes: may be a number or a flag where no field says what it is.
    pub plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct MapEntry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

impl Node {
    /// The entry of a map, where this is one.
    pub fn get(&self, key: &str) -> Option<&MapEntry> {
        match &self.data {
            NodeData::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of a scalar, where this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            NodeData::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// What this value and all under it weigh.
    fn weight(&self) -> Weight {
        let mut weight = Weight { nodes: 1, bytes: 0, depth: 1 };
        let mut add = |child: &Node| {
            let child = child.weight();
            weight.nodes += child.nodes;
            weight.bytes += child.bytes;
            weight.depth = weight.depth.max(child.depth + 1);
        };
        match &self.data {
            NodeData::Null => {}
            NodeData::Scalar(scalar) => weight.bytes = scalar.text.len(),
            NodeData::List(items) => items.iter().for_each(add),
            NodeData::Map(entries) => {
                entries.iter().for_each(|entry| add(&entry.value));
                weight.bytes += entries.iter().map(|entry| entry.key.len()).sum::<usize>();
            }
        }
        weight
    }
}

/// What an alias adds to the tree.
struct Weight {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// What stops the reading of a file: line and reason.
type Stop = (usize, String);

fn too_deep(line: usize) -> Stop {
    (line, format!("lists and maps are nested more than {DEPTH_MAX} deep"))
}

fn too_wide(line: usize) -> Stop {
    (line, format!("a map with more than {MAP_ENTRIES_MAX} fields"))
}

/// The one document of a YAML file; `None` where it is not readable, with the reason in `problems`.
pub(super) fn read_yaml(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = TreeBuilder { problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, bytes: 0 };
    match builder.read(text) {
        Ok(root) => Some(root),
        Err((line, message)) => {
            problems.error(line, "", message);
            None
        }
    }
}

/// A collection whose end has not been seen.
struct Open {
    line: usize,
    anchor: usize,
    data: NodeData,
    /// The key that waits for its value.
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
                        "`*` begins an alias of something that is nowhere defined".into()
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

    /// Whether a tag makes text of a scalar. Tags that only say what a value is anyway are let through.
    fn tagged_as_text(tag: Option<&Tag>, line: usize) -> Result<bool, Stop> {
        match tag.map(Tag::core_suffix) {
            None => Ok(false),
            Some(Some("str")) => Ok(true),
            Some(Some("int" | "float" | "bool" | "null" | "seq" | "map")) => Ok(false),
            Some(_) => Err((
                line,
                "a YAML tag that means nothing here; take out the word that begins with `!`, or put text that begins so in single quotes".into(),
            )),
        }
    }

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

    /// Aliases nest without the parser seeing it, so its own limits are not enough.
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

    /// Puts a finished value where it belongs; gives it back when it is the root.
    fn place(&mut self, node: Node) -> Result<Option<Node>, Stop> {
        let Some(open) = self.open.last_mut() else { return Ok(Some(node)) };
        match (&mut open.data, open.key.take()) {
            (NodeData::Map(entries), Some((key, line))) => {
                if let Some(first) = entries.iter().find(|entry| entry.key == key && key != "<<") {
                    let message = format!("`{key}` is here twice; the first is in line {}", first.line);
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

    /// `<<: *other`: what the other map has and this one has not.
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

/// The value of a JSON file; `None` where it is not readable, with the reason in `problems`. Of a key given twice the last counts, as in Go.
pub(super) fn read_json(text: &str, problems: &mut Problems) -> Option<Node> {
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let reader = Json { text, starts };
    let read = serde_json::from_str::<&RawValue>(text)
        .map_err(|error| (error.line(), json_fault(&error)))
        .and_then(|raw| reader.node(raw, 0));
    match read {
        Ok(root) => Some(root),
        Err((line, message)) => {
            problems.error(line.max(1), "", message);
            None
        }
    }
}

/// serde_json's words without the position, which is ours to give.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The parser's words and what people mostly got wrong when it says them.
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
    // `x' is an old way to quote.
    let reason = reason
        .strip_suffix('\'')
        .filter(|rest| rest.contains('`'))
        .map(|rest| format!("{rest}`"))
        .unwrap_or(reason.into());
    format!("not readable as YAML: {reason}; {hint}")
}

/// serde_json's words, likewise.
fn json_fault(error: &serde_json::Error) -> String {
    let reason = reason(error);
    let hint = match error.classify() {
        _ if reason.contains("control character") => {
            "a closing `\"` is missing, or a line break in text is not written `\\n`"
        }
        serde_json::error::Category::Eof => "a closing `]`, `}` or `\"` is missing",
        _ => {
            "JSON has text in double quotes, a comma between elements but none behind the last, and no comments"
        }
    };
    format!("not readable as JSON: {reason}; {hint}")
}

struct Json<'t> {
    text: &'t str,
    /// Where each line begins, in bytes.
    starts: Vec<usize>,
}

impl<'t> Json<'t> {
    fn line(&self, raw: &'t RawValue) -> usize {
        let offset = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
        self.starts.partition_point(|start| *start <= offset)
    }

    fn node(&self, raw: &'t RawValue, depth: usize) -> Result<Node, Stop> {
        let line = self.line(raw);
        let stop = |error: serde_json::Error| (line, json_fault(&error));
        if depth >= DEPTH_MAX {
            return Err(too_deep(line));
        }
        let source = raw.get();
        let data = match source.as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(source).map_err(stop)?;
                NodeData::List(
                    items.into_iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?,
                )
            }
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(source).map_err(stop)?;
                if pairs.len() > MAP_ENTRIES_MAX {
                    return Err(too_wide(line));
                }
                let mut entries: Vec<MapEntry> = Vec::with_capacity(pairs.len());
                for (key, raw) in pairs {
                    let value = self.node(raw, depth + 1)?;
                    entries.retain(|entry| entry.key != key);
                    entries.push(MapEntry { key, line: value.line, value });
                }
                NodeData::Map(entries)
            }
            Some(b'"') => {
                NodeData::Scalar(Scalar { text: serde_json::from_str(source).map_err(stop)?, plain: false })
            }
            Some(b'n') => NodeData::Null,
            _ => NodeData::Scalar(Scalar { text: source.into(), plain: true }),
        };
        Ok(Node { line, data })
    }
}

/// A JSON object's members in the file's order, their values not looked at.
struct Pairs<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as `LINE:value` text, or the errors.
    fn show(read: fn(&str, &mut Problems) -> Option<Node>, text: &str) -> String {
        fn write(node: &Node) -> String {
            let inner = match &node.data {
                NodeData::Null => "null".into(),
                NodeData::Scalar(Scalar { text, plain: true }) => text.clone(),
                NodeData::Scalar(Scalar { text, plain: false }) => format!("{text:?}"),
                NodeData::List(items) => {
                    format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(" "))
                }
                NodeData::Map(entries) => {
                    let entries = entries.iter().map(|e| format!("{}@{}={}", e.key, e.line, write(&e.value)));
                    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
                }
            };
            format!("{}:{inner}", node.line)
        }
        let mut problems = Problems::default();
        let tree = read(text, &mut problems).map(|node| write(&node)).unwrap_or_default();
        let errors = problems.errors.iter().map(|p| format!(" !{}: {}", p.line, p.message));
        tree + &errors.collect::<String>()
    }

    #[test]
    fn yaml_keeps_lines_and_text() {
        let check = |text: &str, expected: &str| assert_eq!(show(read_yaml, text), expected, "{text}");
        check("a: 1\nb:\n  - x\n  - 'y'\n", r#"1:{a@1=1:1 b@2=3:[3:x 4:"y"]}"#);
        check("\u{feff}a: 0123\nb: no\nc: ~\nd:\n", "1:{a@1=1:0123 b@2=2:no c@3=3:null d@4=4:null}");
        check("p: 'a$ # \" '' \\ : %'\n", r#"1:{p@1=1:"a$ # \" ' \\ : %"}"#);
        check("a: !!str 12\n", r#"1:{a@1=1:"12"}"#);
        check(
            "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n",
            "1:{a@1=1:{k@1=1:1 l@1=1:2} b@2=3:{l@4=4:3 k@1=1:1}}",
        );
        check("a: 1\nb: 2\na: 3\n", "1:{a@1=1:1 b@2=2:2} !3: `a` is here twice; the first is in line 1");
    }

    #[test]
    fn unreadable_yaml_says_where() {
        let check = |text: &str, line: usize, part: &str| {
            let shown = show(read_yaml, text);
            assert!(shown.starts_with(&format!(" !{line}: ")) && shown.contains(part), "{text}: {shown}");
            assert!(!shown.contains("hunter2"), "shows a secret: {shown}");
        };
        check("", 1, "the file is empty");
        check("# nothing\n", 1, "the file is empty");
        check("a: b\npassword: *hunter2\n", 2, "`*` begins an alias");
        check("a: b\npassword: @hunter2\n", 2, "single quotes");
        check("a: [1, 2\nb: 3\n", 2, "not readable as YAML");
        check("a: 1\n---\nb: 2\n", 2, "more than one YAML document");
        check("a: !hunter2 x\n", 1, "a YAML tag");
        check("{a: {b}: c}\n", 1, "");
        check("a: &x [*x]\n", 1, "an alias of a value within that value");
        check(&format!("a: {}", "[".repeat(200)), 1, "");
    }

    #[test]
    fn aliases_cannot_explode() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
        }
        let shown = show(read_yaml, &bomb);
        assert!(shown.contains("once its aliases are resolved"), "{}", &shown[..200.min(shown.len())]);
        let mut tower = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(show(read_yaml, &tower).contains("nested more than 64 deep"));
        let wide: String = (0..1_001).map(|n| format!("k{n}: 1\n")).collect();
        assert!(show(read_yaml, &wide).contains("more than 1000 fields"));
        let fat = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
        assert!(show(read_yaml, &fat).contains("once its aliases are resolved"));
    }

    #[test]
    fn json_keeps_lines_and_text() {
        let check = |text: &str, expected: &str| assert_eq!(show(read_json, text), expected, "{text}");
        check(
            "[\n\t{\"a\": \"x\\n\\u00e9\",\n\t\"b\"\n:\ntrue, \"c\": null}\n]",
            r#"1:[2:{a@2=2:"x\né" b@5=5:true c@5=5:null}]"#,
        );
        check(r#"{"a": 1, "a": 2}"#, "1:{a@1=1:2}");
        const ADVICE: &str = "JSON has text in double quotes, a comma between elements but none behind the last, and no comments";
        check("[\n{\"a\": 1,}\n]", &format!(" !2: not readable as JSON: key must be a string; {ADVICE}"));
        check("[1] x", &format!(" !1: not readable as JSON: trailing characters; {ADVICE}"));
        let deep = "[".repeat(100) + &"]".repeat(100);
        check(&deep, " !1: lists and maps are nested more than 64 deep");
    }
}
