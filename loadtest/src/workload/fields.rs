//! Reads the fields of a map one by one and collects all errors, so that a file can be corrected in
//! one go.

use std::time::Duration;

use super::tree::{Problem, YamlData, YamlEntry, YamlNode};

/// A map that is being read. A field that was not asked for before [`Fields::finish`] is an error.
pub struct Fields<'n, 'p> {
    line: usize,
    path: String,
    entries: &'n [YamlEntry],
    asked: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// Opens a node that must be a map; reports a problem if it is not.
    pub fn of(node: &'n YamlNode, path: &str, problems: &'p mut Vec<Problem>) -> Option<Fields<'n, 'p>> {
        match &node.data {
            YamlData::Map(entries) => {
                Some(Fields { line: node.line, path: path.to_owned(), entries, asked: Vec::new(), problems })
            }
            _ => {
                let message = "must be a map of fields".to_owned();
                problems.push(Problem { line: node.line, path: path.to_owned(), message });
                None
            }
        }
    }

    /// The path of a field; that of the map for an empty key.
    fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    /// The value of a field, if it is present and not empty.
    pub fn node(&mut self, key: &'static str) -> Option<&'n YamlNode> {
        self.asked.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.value.data != YamlData::Null).then_some(&entry.value)
    }

    /// Reports a problem with a field, or with the map if the field is missing.
    pub fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let line = self.entries.iter().find(|entry| entry.key == key).map_or(self.line, |entry| entry.line);
        self.problems.push(Problem { line, path: self.path_of(key), message: message.into() });
    }

    /// Parses a field's text with `parse`; `None` if it is missing or wrong.
    pub fn get<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let node = self.node(key)?;
        let YamlData::Scalar { text, .. } = &node.data else {
            self.wrong(key, "must be a single value");
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.wrong(key, message);
                None
            }
        }
    }

    /// As [`Fields::get`], for a required field.
    pub fn need<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if self.entries.iter().all(|entry| entry.key != key) {
            self.asked.push(key);
            self.wrong(key, "is missing");
            return None;
        }
        self.get(key, parse)
    }

    /// Reads a map in this one.
    pub fn block<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Fields<'n, '_>) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let path = self.path_of(key);
        let mut fields = Fields::of(node, &path, self.problems)?;
        let value = read(&mut fields);
        fields.finish();
        value
    }

    /// Reads the maps of a list. Wrong ones are left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Fields<'n, '_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let YamlData::List(items) = &node.data else {
            self.wrong(key, "must be a list");
            return Vec::new();
        };
        let mut values = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let path = format!("{}[{at}]", self.path_of(key));
            if let Some(mut fields) = Fields::of(item, &path, self.problems) {
                values.extend(read(&mut fields));
                fields.finish();
            }
        }
        values
    }

    /// Reports every field that nobody asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if self.asked.iter().all(|asked| *asked != entry.key) {
                let known = self.asked.join("`, `");
                let message = format!("there is no such field; known are `{known}`");
                let path = self.path_of(&entry.key);
                self.problems.push(Problem { line: entry.line, path, message });
            }
        }
    }
}

/// Parses `250ms`, `10s`, `5m`, `1h30m`.
///
/// # Errors
/// The allowed values.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed
        .and_then(|parsed| Duration::try_from(parsed).ok())
        .filter(|_| text.starts_with(|first: char| first.is_ascii_digit()))
        .ok_or_else(|| "must be a duration such as `250ms`, `10s` or `1h30m`".to_owned())
}

/// Parses an integer within bounds, `1_000_000` or `1000000`.
pub fn whole(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.replace('_', "").parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }
}

/// Parses a number within bounds.
pub fn decimal(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.replace('_', "").parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| format!("must be a number from {min} to {max}"))
    }
}

/// # Errors
/// The allowed values.
pub fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be `true` or `false`".into()),
    }
}

/// Parses one of these words.
pub fn word<T: Clone>(words: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of `{}`", allowed.join("`, `"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parsed_within_their_bounds() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "-3s", "soon", "PT5S", "1 fortnight"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(whole(1, 10)("1_0"), Ok(10));
        assert!(whole(1, 10)("11").is_err() && whole(0, 10)("-1").is_err());
        assert_eq!(decimal(0.0, 1.0)("0.25"), Ok(0.25));
        assert!(decimal(0.0, 1.0)("NaN").is_err());
        assert_eq!(word(&[("a", 1), ("b", 2)])("b"), Ok(2));
    }
}
