//! The golden pages, and the comparison with the values of govmomi.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The folder of the golden pages.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden")
}

/// Returns the first difference between our value and govmomi's. Ours must have every key of
/// govmomi's, with the same value. An additional key must be in the event's XML or have a null-like
/// value.
pub fn difference(ours: &Value, oracle: &Value, xml: &str, path: &str) -> Option<String> {
    match (ours, oracle) {
        (Value::Object(ours), Value::Object(oracle)) => {
            if let Some(missing) = oracle.keys().find(|key| !ours.contains_key(*key)) {
                return Some(format!("{path}.{missing} is missing"));
            }
            ours.iter().find_map(|(key, value)| match oracle.get(key) {
                Some(expected) => difference(value, expected, xml, &format!("{path}.{key}")),
                None => {
                    let null_like = [json!(null), json!(""), json!(0), json!(false)].contains(value);
                    let element = format!("<{}{}", key[..1].to_lowercase(), &key[1..]);
                    (!null_like && !xml.contains(&element))
                        .then(|| format!("{path}.{key} is extra and not in the page"))
                }
            })
        }
        (Value::Array(ours), Value::Array(oracle)) if ours.len() == oracle.len() => ours
            .iter()
            .zip(oracle)
            .enumerate()
            .find_map(|(i, (a, b))| difference(a, b, xml, &format!("{path}[{i}]"))),
        (Value::Number(ours), Value::Number(oracle)) if ours.as_f64() == oracle.as_f64() => None,
        (ours, oracle) => (ours != oracle).then(|| format!("{path} is {ours}, oracle {oracle}")),
    }
}
