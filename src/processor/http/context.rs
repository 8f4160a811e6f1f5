//! The values of an event that templates can use.
//!
//! They are read from the rendered CloudEvent, so that they are the ones that every other target
//! would receive, with the `payload`, `time` and `extensions` of the processor. Only the data of an
//! event whose templates use it is parsed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::Value;
use serde_json::value::RawValue;

/// The names that a template can use.
pub const NAMES: [&str; 10] = [
    "id",
    "source",
    "specversion",
    "type",
    "subject",
    "time",
    "data",
    "datacontenttype",
    "extensions",
    "secrets",
];

/// Reads the values of one event, a structured CloudEvent.
pub fn context(event: &[u8], uses_data: bool, secrets: &Value) -> Result<Value, serde_json::Error> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(event)?;
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut extensions: BTreeMap<String, Value> = BTreeMap::new();
    for (name, raw) in members {
        if name == "data" && !uses_data {
            continue;
        }
        let value: Value = serde_json::from_str(raw.get())?;
        if NAMES.contains(&&*name) {
            values.insert(name.into_owned(), value);
        } else {
            extensions.insert(name.into_owned(), value);
        }
    }
    values.insert("extensions".to_owned(), Value::from(extensions));
    values.insert("secrets".to_owned(), secrets.clone());
    Ok(Value::from(values))
}
