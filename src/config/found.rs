//! The values that a check found in one map.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::tree::Node;

/// A value that was checked.
#[derive(Debug)]
pub(super) enum Value {
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
    Blocks(Vec<CheckedMap>),
    Raw(Node),
}

/// The values of one map, by the keys of its table. Asking for something as what it is not is a defect of the caller, and ends in a panic that every
/// configuration would cause: builders ask for all keys, always.
#[derive(Debug)]
pub(super) struct CheckedMap {
    pub path: String,
    /// Where a message about the map as a whole points to.
    pub line: usize,
    /// What `type` says; empty for a block without variants, or where it says something unknown.
    pub variant: &'static str,
    /// Line and value of each field that has one.
    pub values: HashMap<&'static str, (usize, Value)>,
    /// Keys that the file gives, rightly or wrongly.
    pub given: Vec<&'static str>,
    /// Keys with a wrong value, which is reported; a placeholder is in its place.
    pub wrong: Vec<&'static str>,
    /// The lines of keys that the file names without a value (`password:`, `password: ~`).
    pub nulls: HashMap<&'static str, usize>,
}

/// What is said of a secret without a value: it may have been meant as text.
pub(super) const NULL_SECRET: &str =
    "has no value; a password such as `null` or `~` needs single quotes around it";

/// The path of a field.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// The value of a field if it has one; never shown, since it may be a secret.
macro_rules! value {
    ($found:expr, $key:expr, $kind:path) => {
        match $found.values.get($key) {
            None => None,
            Some((_, $kind(value))) => Some(value),
            Some(_) => unreachable!("`{}` is something else than what it is asked for", $key),
        }
    };
}

impl CheckedMap {
    /// A map with nothing in it yet.
    pub fn new(path: &str, line: usize, variant: &'static str) -> Self {
        CheckedMap {
            path: path.into(),
            line,
            variant,
            values: HashMap::new(),
            given: Vec::new(),
            wrong: Vec::new(),
            nulls: HashMap::new(),
        }
    }

    /// Whether the file has this field.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains(&key)
    }

    /// Whether this field has a wrong value, which is reported already.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.wrong.contains(&key)
    }

    /// Whether the file names this field without a value.
    pub fn is_null(&self, key: &str) -> bool {
        self.nulls.contains_key(key)
    }

    /// The line of a field, or of the map where the field is not in the file.
    pub fn line_of(&self, key: &str) -> usize {
        self.values.get(key).map(|(line, _)| *line).or(self.nulls.get(key).copied()).unwrap_or(self.line)
    }

    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The text of a field; empty where it has neither value nor default.
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

    pub fn maybe_whole(&self, key: &str) -> Option<u64> {
        value!(self, key, Value::Whole).copied()
    }

    /// A number that its table bounds to what the caller takes.
    pub fn whole<T: TryFrom<u64> + Default>(&self, key: &str) -> T {
        self.maybe_whole(key).and_then(|number| T::try_from(number).ok()).unwrap_or_default()
    }

    pub fn maybe_decimal(&self, key: &str) -> Option<f64> {
        value!(self, key, Value::Decimal).copied()
    }

    pub fn duration(&self, key: &str) -> Duration {
        value!(self, key, Value::Duration).copied().unwrap_or_default()
    }

    /// Bytes.
    pub fn size(&self, key: &str) -> u64 {
        value!(self, key, Value::Size).copied().unwrap_or_default()
    }

    /// The secret that `key` has, or the file of `keyFile`.
    pub fn maybe_secret(&self, key: &str) -> Option<Secret> {
        let file = format!("{key}File");
        value!(self, key, Value::Secret).or_else(|| value!(self, &*file, Value::Secret)).cloned()
    }

    pub fn secret(&self, key: &str) -> Secret {
        self.maybe_secret(key).unwrap_or_else(|| Secret::inline(""))
    }

    /// A list of texts; empty where the file has none.
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

    pub fn maybe_pattern(&self, key: &str) -> Option<&serde_json::Value> {
        value!(self, key, Value::Pattern)
    }

    pub fn maybe_block(&self, key: &str) -> Option<&CheckedMap> {
        value!(self, key, Value::Block)
    }

    /// A map that is there even where the file leaves it out.
    pub fn block(&self, key: &str) -> &CheckedMap {
        self.maybe_block(key).expect("the table fills in a `Kind::Block`")
    }

    pub fn blocks(&self, key: &str) -> &[CheckedMap] {
        value!(self, key, Value::Blocks).map_or(&[], |blocks| blocks)
    }

    pub fn maybe_raw(&self, key: &str) -> Option<&Node> {
        value!(self, key, Value::Raw)
    }
}
