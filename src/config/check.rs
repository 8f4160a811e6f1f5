//! Checks a tree against a table of keys: reports all errors, and returns the values.
//!
//! It does not stop at the first error. A field that is wrong or missing gets a placeholder, so
//! that rules about several fields can still be checked. The caller discards the values if there
//! are errors.

use std::time::Duration;

use super::Secret;
use super::event_names;
use super::field::{Block, Field, FieldRule, FieldType, Variant};
use super::format::MapFormat;
use super::found::{CheckedMap, NULL_SECRET, Value, join};
use super::line_at::line_at;
use super::misplaced::{
    NOT_SHOWN, header_shown, is_path, is_typo, shown, variable_in_secret, variable_problem,
};
use super::problem::{FoundSecret, Problems};
use super::scalar::{self, ExpandError};
use super::tree::{MapEntry, Node, NodeData, Scalar};
use eventpattern::{PatternSet, Root};

/// Looks up an environment variable.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a tree by a table of keys.
pub(crate) struct TableReader<'a> {
    pub problems: &'a mut Problems,
    /// Replaces `${NAME}` in text; `None` leaves text unchanged.
    pub env: Option<Env<'a>>,
    /// The treatment of keys that the table does not have.
    pub unknown: Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    Refuse,
    /// As in Go's JSON package: unknown keys are ignored, and the case of keys does not matter.
    Ignore,
}

/// The similarity from which a word is suggested (Jaro-Winkler; 1 is equal).
const NEAR: f64 = 0.84;

/// The word that is most similar to `text`, if any is similar enough.
pub(crate) fn nearest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let text = text.to_ascii_lowercase();
    let score = |word: &str| strsim::jaro_winkler(&text, &word.to_ascii_lowercase());
    words
        .into_iter()
        .map(|word| (score(word), word))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

fn list(keys: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    keys.into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

impl TableReader<'_> {
    /// Reads a map. `line` is for messages about the map as a whole.
    pub fn block(&mut self, node: &Node, block: &'static Block, path: &str, line: usize) -> CheckedMap {
        let empty = Vec::new();
        let entries = match &node.data {
            NodeData::Map(entries) => entries,
            NodeData::Null => &empty,
            _ => {
                self.problems.error(line, path, "must be a map of fields to values");
                return defaults(block, path, line);
            }
        };
        // Find the fields that the map may have.
        let entries: Vec<&MapEntry> = entries.iter().collect();
        let variant = self.variant(&entries, block);
        // If `type` is unknown, check the fields by the type that was probably meant. Its unknown
        // fields may be of another type.
        let any_field = !block.variants.is_empty() && variant.is_none();
        let assumed = variant.or_else(|| self.likely_variant(&entries, block));
        let fields = block.fields_of(assumed);
        // Read the fields that it has.
        let mut found = CheckedMap::new(path, line, variant.map_or("", |variant| variant.word));
        for entry in entries {
            let Some(field) = fields.iter().find(|field| self.is_named(entry, field)) else {
                let elsewhere =
                    || block.variants.iter().any(|of| of.fields().iter().any(|f| f.key == entry.key));
                let may_be_known = any_field && (assumed.is_none() || elsewhere());
                if self.unknown == Unknown::Refuse && !may_be_known {
                    self.unknown_field(entry, block, &fields, path);
                }
                continue;
            };
            if entry.value.data == NodeData::Null {
                found.nulls.insert(field.key, entry.line);
                if matches!(field.kind, FieldType::Secret) {
                    self.problems.error(entry.line, &join(path, field.key), NULL_SECRET);
                    found.given.push(field.key);
                }
                continue;
            }
            found.given.push(field.key);
            if self.has_variable(&entry.value) {
                found.variables.push(field.key);
            }
            let value = self.value(&entry.value, field.kind, &join(path, field.key), entry.line);
            if value.is_none() {
                found.wrong.push(field.key);
            }
            found.values.insert(
                field.key,
                (entry.line, value.unwrap_or_else(|| placeholder(field.kind, path, entry.line))),
            );
        }
        // Check rules about several fields, and add the fields that are left out.
        let parts = block.parts().into_iter().chain(assumed.into_iter().flat_map(|own| own.block.parts()));
        let parts: Vec<_> = parts.collect();
        self.rules(&found, parts.iter().flat_map(|part| part.rules));
        self.fill(&mut found, &fields);
        parts.iter().filter_map(|part| part.check).for_each(|check| check(&found, self.problems));
        found
    }

    /// Adds defaults, and reports missing fields that are required.
    fn fill(&mut self, found: &mut CheckedMap, fields: &[Field]) {
        for field in fields {
            if found.values.contains_key(field.key) {
                continue;
            }
            if field.required {
                let message = format!("`{}` is missing; it must be {}", field.key, field.kind.allowed());
                self.problems.error(found.line, &found.path, message);
            }
            found.fill(field);
        }
    }

    /// Returns true if a scalar, or a value of a map, has a variable in it.
    fn has_variable(&self, node: &Node) -> bool {
        match &node.data {
            NodeData::Map(entries) => entries.iter().any(|entry| self.has_variable(&entry.value)),
            _ => node.text().is_some_and(|text| self.expanded(text).is_ok_and(|done| done != text)),
        }
    }

    fn is_named(&self, entry: &MapEntry, field: &Field) -> bool {
        match self.unknown {
            Unknown::Refuse => entry.key == field.key,
            Unknown::Ignore => entry.key.eq_ignore_ascii_case(field.key),
        }
    }

    /// The variant that `type` names. The check of the field itself reports a missing or unknown
    /// type.
    fn variant(&self, entries: &[&MapEntry], block: &'static Block) -> Option<&'static Variant> {
        let entry = entries.iter().find(|entry| entry.key == "type")?;
        let text = entry.value.text().and_then(|text| self.expanded(text).ok())?;
        block.variants.iter().find(|variant| variant.word == text)
    }

    /// The variant that was probably meant by an unknown or missing `type`: the only one there is,
    /// or the one with the most similar name, or else the one that has most of the fields.
    fn likely_variant(&self, entries: &[&MapEntry], block: &Block) -> Option<&'static Variant> {
        if let [only] = block.variants {
            return Some(only);
        }
        let given = entries.iter().find(|entry| entry.key == "type").and_then(|entry| entry.value.text());
        let near = given.and_then(|text| nearest(text, block.variants.iter().map(|variant| variant.word)));
        if let Some(word) = near {
            return block.variants.iter().find(|variant| variant.word == word);
        }
        let shared = |variant: &Variant| {
            let fields = variant.fields();
            entries.iter().filter(|entry| fields.iter().any(|field| field.key == entry.key)).count()
        };
        let most = block.variants.iter().map(shared).max().filter(|most| *most > 0)?;
        let mut likely = block.variants.iter().filter(|variant| shared(variant) == most);
        likely.next().filter(|_| likely.next().is_none())
    }

    /// Reports an unknown field, with a suggestion if there is a likely one.
    fn unknown_field(&mut self, entry: &MapEntry, block: &Block, fields: &[Field], path: &str) {
        let given = |field: &Field| {
            field.key.eq_ignore_ascii_case(&entry.key)
                || field.also.iter().any(|name| name.eq_ignore_ascii_case(&entry.key))
        };
        let here = fields.iter().find(|field| given(field)).map(|field| field.key.to_owned());
        let below = || {
            fields.iter().find_map(|field| {
                let inner = field.kind.block()?.fields().into_iter().find(|inner| given(inner))?;
                Some(format!("{}.{}", field.key, inner.key))
            })
        };
        let near = || nearest(&entry.key, fields.iter().map(|field| field.key)).map(ToOwned::to_owned);
        let elsewhere =
            block.variants.iter().find(|variant| variant.fields().iter().any(|f| f.key == entry.key));
        let meant = here.or_else(below);
        let is_known = meant.is_some() || elsewhere.is_some();
        // A secret may stand in the place of a key where one belongs: show only names of fields.
        let has_secrets =
            fields.iter().any(|field| matches!(field.kind, FieldType::Secret | FieldType::SecretFile));
        let near = near();
        let is_typo = near.as_deref().is_some_and(|near| is_typo(&entry.key, near));
        let key = if has_secrets && !is_known && !is_typo { NOT_SHOWN.to_owned() } else { shown(&entry.key) };
        let mut message = format!("unknown field {key}");
        if let Some(meant) = meant.or(near) {
            message += &format!("; did you mean `{meant}`?");
        } else if let Some(variant) = elsewhere {
            message += &format!("; it belongs to type `{}`", variant.word);
        }
        message += &format!(" (allowed: {})", list(fields.iter().map(|field| field.key)));
        self.problems.error(entry.line, path, message);
    }

    /// Reports violations of rules about several fields.
    fn rules<'r>(&mut self, found: &CheckedMap, rules: impl IntoIterator<Item = &'r FieldRule>) {
        for rule in rules {
            let given = |keys: &[&'static str]| -> Vec<&'static str> {
                keys.iter().copied().filter(|key| found.is_given(key)).collect()
            };
            let message = match rule {
                FieldRule::ExactlyOne(keys) | FieldRule::AtMostOne(keys) if given(keys).len() > 1 => {
                    format!("{} exclude each other; keep one", list(given(keys)))
                }
                FieldRule::ExactlyOne(keys) if given(keys).is_empty() => {
                    format!("one of {} is missing", list(*keys))
                }
                FieldRule::Needs(key, others) if found.is_given(key) && given(others).is_empty() => {
                    format!("`{key}` also needs {}", list(*others).replace(", ", " or "))
                }
                _ => continue,
            };
            let keys: &[&str] = match rule {
                FieldRule::ExactlyOne(keys) | FieldRule::AtMostOne(keys) => keys,
                FieldRule::Needs(key, _) => &[key],
            };
            let line = keys.iter().filter_map(|key| found.values.get(key)).map(|(line, _)| *line).max();
            self.problems.error(line.unwrap_or(found.line), &found.path, message);
        }
    }

    /// Reads the value of a field. Reports a wrong one and returns `None`.
    fn value(&mut self, node: &Node, kind: FieldType, path: &str, line: usize) -> Option<Value> {
        match (&node.data, kind) {
            (_, FieldType::Raw) => Some(Value::Raw(node.clone())),
            (NodeData::Scalar(scalar), FieldType::OneOrMore(each)) => {
                Some(Value::List(vec![self.scalar(scalar, *each, path, line)?]))
            }
            (NodeData::List(items), FieldType::Blocks(_) | FieldType::NonEmpty(_)) if items.is_empty() => {
                self.problems.error(line, path, "must have at least one element");
                None
            }
            (
                NodeData::List(items),
                FieldType::List(each) | FieldType::NonEmpty(each) | FieldType::OneOrMore(each),
            ) => {
                let item =
                    |(at, item): (usize, &Node)| self.value(item, *each, &format!("{path}[{at}]"), item.line);
                Some(Value::List(items.iter().enumerate().filter_map(item).collect()))
            }
            (NodeData::Map(entries), FieldType::Map(format)) => {
                Some(Value::Map(self.map(entries, format, path)))
            }
            (NodeData::Map(_), FieldType::Pattern) => {
                let pattern = self.json(node, path)?;
                self.pattern(&pattern, node, path).then_some(Value::Pattern(pattern))
            }
            (NodeData::Map(_), FieldType::Block(block) | FieldType::Maybe(block)) => {
                Some(Value::Block(self.block(node, block, path, line)))
            }
            (NodeData::List(items), FieldType::Blocks(block)) => {
                let item = |(at, item): (usize, &Node)| {
                    Value::Block(self.block(item, block, &format!("{path}[{at}]"), item.line))
                };
                Some(Value::List(items.iter().enumerate().map(item).collect()))
            }
            (NodeData::Scalar(scalar), _) => self.scalar(scalar, kind, path, line),
            _ => {
                self.problems.error(line, path, format!("must be {}", kind.allowed()));
                None
            }
        }
    }

    /// Reads a scalar: replaces variables, then parses it by the type of the field.
    fn scalar(&mut self, scalar: &Scalar, kind: FieldType, path: &str, line: usize) -> Option<Value> {
        if self.problems.without_secrets
            && let Some(value) = self.unread(scalar, kind)
        {
            return Some(value);
        }
        let text = self.expanded(&scalar.text).map_err(|error| match kind {
            FieldType::Secret | FieldType::SecretFile => variable_in_secret(&scalar.text, &error),
            _ => variable_problem(&error),
        });
        match text.and_then(|text| Ok((parsed(&text, kind)?, text))) {
            Ok((value, text)) => {
                if let Value::Secret(secret) = &value {
                    let is_inline = secret.path().is_none() && text == *scalar.text;
                    let (path, secret) = (path.to_owned(), secret.clone());
                    self.problems.secrets.push(FoundSecret { line, path, secret, is_inline });
                }
                Some(value)
            }
            Err(message) => {
                self.problems.error(line, path, message);
                None
            }
        }
    }

    /// The value of a field whose secret or certificate is not on this machine. `None` if it can be
    /// checked all the same.
    fn unread(&self, scalar: &Scalar, kind: FieldType) -> Option<Value> {
        let is_missing = || matches!(self.expanded(&scalar.text), Err(ExpandError::Missing(_)));
        match kind {
            FieldType::Secret if is_missing() => Some(Value::Secret(Secret::inline(""))),
            FieldType::SecretFile => Some(Value::Secret(Secret::file(&*scalar.text))),
            FieldType::Text(format) if format.reads_a_file() => Some(Value::Text(scalar.text.clone())),
            _ => None,
        }
    }

    /// Replaces variables in text.
    fn expanded(&self, text: &str) -> Result<String, ExpandError> {
        self.env.map_or_else(|| Ok(text.into()), |env| scalar::expand(text, env))
    }

    /// Reads a map of names to text.
    fn map(&mut self, entries: &[MapEntry], format: &MapFormat, path: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            let value = match &entry.value.data {
                NodeData::Scalar(scalar) => {
                    self.expanded(&scalar.text).map_err(|error| match format.has_secrets {
                        true => variable_in_secret(&scalar.text, &error),
                        false => variable_problem(&error),
                    })
                }
                NodeData::Null => Ok(String::new()),
                _ => Err("must be text".into()),
            };
            let checked = value.and_then(|value| (format.check)(&entry.key, &value).map(|()| value));
            match checked {
                Ok(value) => pairs.push((entry.key.clone(), value)),
                Err(message) => {
                    // A secret may stand in the place of its name.
                    let key = if format.has_secrets { header_shown(&entry.key) } else { shown(&entry.key) };
                    self.problems.error(entry.line, path, format!("{key} {message}"));
                }
            }
        }
        pairs
    }

    /// Converts a value into JSON, by YAML's rules for numbers and text.
    fn json(&mut self, node: &Node, path: &str) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match &node.data {
            NodeData::Null => Json::Null,
            NodeData::List(items) => {
                Json::Array(items.iter().map(|item| self.json(item, path)).collect::<Option<_>>()?)
            }
            NodeData::Map(entries) => {
                let member = |entry: &MapEntry| Some((entry.key.clone(), self.json(&entry.value, path)?));
                Json::Object(entries.iter().map(member).collect::<Option<_>>()?)
            }
            NodeData::Scalar(Scalar { text, plain: true }) if matches!(&**text, "true" | "false") => {
                Json::Bool(text == "true")
            }
            NodeData::Scalar(Scalar { text, plain }) => {
                let number = plain.then(|| text.parse::<serde_json::Number>().ok()).flatten();
                match number {
                    Some(number) => Json::Number(number),
                    None => match self.expanded(text) {
                        Ok(text) => Json::String(text),
                        Err(error) => {
                            self.problems.error(node.line, path, variable_problem(&error));
                            return None;
                        }
                    },
                }
            }
        })
    }

    /// Returns true if a pattern compiles. Reports each of its errors with its own line.
    fn pattern(&mut self, pattern: &serde_json::Value, node: &Node, path: &str) -> bool {
        let compiled = PatternSet::compile(Root::CloudEvent, &[(0, pattern.clone())]);
        let errors = compiled.err().unwrap_or_default();
        for error in &errors {
            self.problems.error(line_at(node, &error.path), path, error.to_string());
        }
        for (place, said) in event_names::pattern_advice(pattern) {
            self.problems.warn(line_at(node, &place), path, said);
        }
        errors.is_empty()
    }
}

impl CheckedMap {
    /// Adds the value of a field that the file leaves out, if it has one.
    fn fill(&mut self, field: &Field) {
        let value = match default_of(field, &self.path, self.line) {
            None if field.required => Some(placeholder(field.kind, &self.path, self.line)),
            default => default,
        };
        self.values.extend(value.map(|value| (field.key, (self.line, value))));
    }
}

/// The values of a map that the file leaves out.
pub(crate) fn defaults(block: &'static Block, path: &str, line: usize) -> CheckedMap {
    let mut found = CheckedMap::new(path, line, "");
    block.fields().iter().for_each(|field| found.fill(field));
    found
}

/// The default of a field in the map at `path`.
pub(crate) fn default_of(field: &Field, path: &str, line: usize) -> Option<Value> {
    if let FieldType::Block(block) = field.kind {
        return Some(Value::Block(defaults(block, &join(path, field.key), line)));
    }
    let text = field.default_text()?;
    Some(
        parsed(&text, field.kind).unwrap_or_else(|error| unreachable!("default of `{}`: {error}", field.key)),
    )
}

/// A substitute for a wrong value.
fn placeholder(kind: FieldType, path: &str, line: usize) -> Value {
    match kind {
        FieldType::Text(_) | FieldType::OneOf(_) => Value::Text(String::new()),
        FieldType::Flag => Value::Flag(false),
        FieldType::Whole(min, _) => Value::Whole(min),
        FieldType::Decimal(_, max) => Value::Decimal(max),
        FieldType::Duration(min, _) => Value::Duration(Duration::from_millis(min)),
        FieldType::Size(min, _) => Value::Size(min),
        FieldType::Secret | FieldType::SecretFile => Value::Secret(Secret::inline("")),
        FieldType::List(_) | FieldType::NonEmpty(_) | FieldType::OneOrMore(_) | FieldType::Blocks(_) => {
            Value::List(Vec::new())
        }
        FieldType::Map(_) => Value::Map(Vec::new()),
        FieldType::Pattern => Value::Pattern(serde_json::Value::Null),
        FieldType::Block(block) | FieldType::Maybe(block) => Value::Block(defaults(block, path, line)),
        FieldType::Raw => Value::Raw(Node { line, data: NodeData::Null }),
    }
}

/// Parses a text by the type of its field. Returns an error message about a wrong one.
fn parsed(text: &str, kind: FieldType) -> Result<Value, String> {
    let value = match kind {
        FieldType::Text(format) => return (format.check)(text).map(Value::Text),
        FieldType::Flag => text.parse().ok().map(Value::Flag),
        FieldType::Whole(min, max) => {
            text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Whole)
        }
        FieldType::Decimal(min, max) => {
            let fits = |number: &f64| *number > 0.0 && (min..=max).contains(number);
            text.parse().ok().filter(fits).map(Value::Decimal)
        }
        FieldType::Duration(min, max) => {
            let fits = |value: &Duration| (u128::from(min)..=u128::from(max)).contains(&value.as_millis());
            scalar::duration(text).filter(fits).map(Value::Duration)
        }
        FieldType::Size(min, max) => {
            scalar::size(text).filter(|bytes| (min..=max).contains(bytes)).map(Value::Size)
        }
        FieldType::OneOf(words) => {
            words.iter().any(|(word, _)| *word == text).then(|| Value::Text(text.into()))
        }
        FieldType::Secret => (!text.is_empty()).then(|| Value::Secret(Secret::inline(text))),
        FieldType::SecretFile => return secret_file(text),
        _ => None,
    };
    value.ok_or_else(|| match kind {
        FieldType::Secret => "must not be empty".into(),
        FieldType::Flag if matches!(text, "yes" | "on" | "True" | "TRUE") => "must be `true`".into(),
        FieldType::Flag if matches!(text, "no" | "off" | "False" | "FALSE") => "must be `false`".into(),
        FieldType::OneOf(words) => {
            let near = nearest(text, words.iter().map(|(word, _)| *word)).filter(|_| words.len() > 1);
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            format!("must be {}{hint}", kind.allowed())
        }
        _ => format!("must be {}", kind.allowed()),
    })
}

/// Reads the file of a secret once, so that a missing one is reported before anything starts.
fn secret_file(text: &str) -> Result<Value, String> {
    let secret = Secret::file(text);
    match secret.read() {
        Ok(_) => Ok(Value::Secret(secret)),
        Err(error) => Err(error.without_path(is_path(text))),
    }
}
