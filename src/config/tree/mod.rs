//! Parses a file into a tree with line numbers, which validation then walks. Reads YAML
//! (`granit-parser`, the parser under serde-saphyr) and strict JSON (serde_json).
//!
//! Scalars keep their text as written. The field decides whether `0123` or `no` is a number, a flag
//! or a password; the parser cannot know.
//!
//! INVARIANT: no message contains text of the file other than names of fields, since any of it may
//! be a secret.

mod json;
#[cfg(test)]
mod tests;
mod yaml;

pub(crate) use self::json::read_json;
pub(crate) use self::yaml::read_yaml;

/// The largest configuration file in bytes: 10,000 routes of 400 bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// The most values in a file, with those behind aliases counted each time: 10,000 routes of 20
/// values.
const NODES_MAX: usize = 200_000;
/// The most bytes of text in a file, with aliases counted each time: four times the largest file.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// The deepest nesting of lists and maps. The deepest field is at level 7; patterns nest deeper.
const DEPTH_MAX: usize = 64;

/// The most fields in a map. Duplicates are searched one by one: 1,000 * 1,000 / 2 comparisons.
const MAP_ENTRIES_MAX: usize = 1_000;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Counted from 1.
    pub line: usize,
    pub data: NodeData,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeData {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<MapEntry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub text: String,
    /// Written without quotes, so it may be a number or a flag where no table gives its type.
    pub plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MapEntry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

impl Node {
    /// The entry with this key; `None` if there is none, or this is no map.
    pub fn get(&self, key: &str) -> Option<&MapEntry> {
        match &self.data {
            NodeData::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of a scalar; `None` if this is none.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            NodeData::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The size of this value with everything below it.
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

/// The size of a subtree, which an alias adds to the tree.
struct Weight {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// An error that ends the reading of a file: line and reason.
type Stop = (usize, String);

fn too_deep(line: usize) -> Stop {
    (line, format!("lists and maps are nested more than {DEPTH_MAX} deep"))
}

fn too_wide(line: usize) -> Stop {
    (line, format!("a map has more than {MAP_ENTRIES_MAX} fields"))
}
