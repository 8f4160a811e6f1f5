//! The checked values of a map, between the check of a file and the builders of a configuration.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::problem::Problems;
use super::tree::Node;

/// A checked value.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    Whole(u64),
    Decimal(f64),
    Duration(Duration),
    Size(u64),
    Secret(Secret),
    List(Vec<Value>),
    Map(Vec<(String, String)>),
    Pattern(serde_json::Value),
    Block(CheckedMap),
    Raw(Node),
}

/// The values of a map, by the keys of its table.
///
/// Asking for a value by the wrong type panics. Such a defect cannot hide: builders always ask for
/// all keys, so any configuration would trigger it.
#[derive(Debug)]
pub(crate) struct CheckedMap {
    pub path: String,
    /// The line for messages about the map as a whole.
    pub line: usize,
    /// The value of `type`; empty for a block without variants, or if it is unknown.
    pub variant: &'static str,
    /// Line and value of each field that has a value.
    pub values: HashMap<&'static str, (usize, Value)>,
    /// Keys in the file, with right or wrong values.
    pub given: Vec<&'static str>,
    /// Keys with a wrong value. It was reported, and replaced by a placeholder.
    pub wrong: Vec<&'static str>,
    /// Keys whose text has an environment variable in it.
    pub variables: Vec<&'static str>,
    /// Lines of keys without a value (`password:`, `password: ~`).
    pub nulls: HashMap<&'static str, usize>,
}

/// The message about a secret without a value, which may have been meant as text.
pub(crate) const NULL_SECRET: &str =
    "has no value; a password such as `null` or `~` needs single quotes around it";

/// The path of a field.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// The value of a field, if it has one. The panic message omits it, since it may be a secret.
macro_rules! value {
    ($found:expr, $key:expr, $kind:path) => {
        match $found.values.get($key) {
            None => None,
            Some((_, $kind(value))) => Some(value),
            Some(_) => unreachable!("`{}` has another type in its table", $key),
        }
    };
}

impl CheckedMap {
    /// An empty map.
    pub fn new(path: &str, line: usize, variant: &'static str) -> Self {
        CheckedMap {
            path: path.into(),
            line,
            variant,
            values: HashMap::new(),
            given: Vec::new(),
            wrong: Vec::new(),
            variables: Vec::new(),
            nulls: HashMap::new(),
        }
    }

    /// The value of a field, if it has one.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// Returns true if the file has this field.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains(&key)
    }

    /// Returns true if this field has a wrong value, which was reported already.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.wrong.contains(&key)
    }

    /// Returns true if the file names this field without a value.
    pub fn is_null(&self, key: &str) -> bool {
        self.nulls.contains_key(key)
    }

    /// Returns true if the value of this field has an environment variable in it.
    pub fn has_variable(&self, key: &str) -> bool {
        self.variables.contains(&key)
    }

    /// The line of a field, or of the map if the file does not have the field.
    pub fn line_of(&self, key: &str) -> usize {
        self.values.get(key).map(|(line, _)| *line).or(self.nulls.get(key).copied()).unwrap_or(self.line)
    }

    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The text of a field; empty if it has neither value nor default.
    pub fn text(&self, key: &str) -> &str {
        self.maybe_text(key).unwrap_or_default()
    }

    pub fn maybe_text(&self, key: &str) -> Option<&str> {
        value!(self, key, Value::Text).map(|text| &**text)
    }

    pub fn maybe_path(&self, key: &str) -> Option<PathBuf> {
        self.maybe_text(key).map(PathBuf::from)
    }

    pub fn flag(&self, key: &str) -> bool {
        value!(self, key, Value::Flag).is_some_and(|flag| *flag)
    }

    pub fn duration(&self, key: &str) -> Duration {
        value!(self, key, Value::Duration).copied().unwrap_or_default()
    }

    /// A list of texts; empty if the file has none.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let items = value!(self, key, Value::List).into_iter().flatten();
        let text = |item: &Value| match item {
            Value::Text(text) => text.clone(),
            _ => unreachable!("`{key}` does not list text"),
        };
        items.map(text).collect()
    }

    pub fn map(&self, key: &str) -> &[(String, String)] {
        value!(self, key, Value::Map).map_or(&[], |pairs| pairs)
    }

    pub fn maybe_block(&self, key: &str) -> Option<&CheckedMap> {
        value!(self, key, Value::Block)
    }

    /// A map that has defaults, so that it exists even if the file leaves it out.
    pub fn block(&self, key: &str) -> &CheckedMap {
        self.maybe_block(key).expect("the check fills in every `FieldType::Block`")
    }

    /// A list of maps; empty if the file has none.
    pub fn blocks(&self, key: &str) -> Vec<&CheckedMap> {
        let items = value!(self, key, Value::List).into_iter().flatten();
        items.filter_map(|item| if let Value::Block(found) = item { Some(found) } else { None }).collect()
    }

    pub fn maybe_raw(&self, key: &str) -> Option<&Node> {
        value!(self, key, Value::Raw)
    }
}

/// Reports names that are used twice.
pub(crate) fn distinct_names(blocks: &[&CheckedMap], what: &str, problems: &mut Problems) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for block in blocks {
        let (name, line) = (block.text("name"), block.line_of("name"));
        if name.is_empty() {
            continue;
        }
        if let Some(first) = lines.get(name) {
            let message = format!("another {what} has the name `{name}`, in line {first}");
            problems.error(line, &block.path_of("name"), message);
        } else {
            lines.insert(name, line);
        }
    }
}
