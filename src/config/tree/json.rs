//! Reads JSON into a tree. `RawValue` borrows from the text, so its address tells the line of a
//! value.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DEPTH_MAX, MAP_ENTRIES_MAX, MapEntry, Node, NodeData, Scalar, Stop, too_deep, too_wide};
use crate::config::problem::Problems;

/// Reads a JSON file. Returns `None` and adds to `problems` if that fails. If a key is repeated,
/// the last one counts, as in Go.
pub(crate) fn read_json(text: &str, problems: &mut Problems) -> Option<Node> {
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

/// serde_json's message without the position, which is reported separately.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// serde_json's message with a hint at its usual cause.
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
    /// The byte offset of each line.
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

/// The members of a JSON object in the order of the file, with unparsed values.
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
