//! Writes values as YAML, in the order of a table of keys. Values that equal their default are left
//! out.

use super::field::{Block, Field, FieldType};
use super::scalar::escape;

/// A value to write.
pub(crate) enum Out {
    /// No value.
    Nothing,
    /// Text, in quotes if necessary.
    Text(String),
    /// Texts or maps.
    List(Vec<Out>),
    Pairs(Vec<(String, String)>),
    Map(Fields),
    Json(serde_json::Value),
}

/// Values by their keys.
pub(crate) type Fields = Vec<(&'static str, Out)>;

/// Comments, each with the path of the field that it stands above, such as `sources[0].address`.
pub(crate) type Notes = Vec<(String, &'static str)>;

/// Writes a file with these fields of `block`.
pub(crate) fn write(fields: &Fields, block: &'static Block, notes: &Notes) -> String {
    let mut writer = Writer { out: String::new(), notes };
    writer.fields(fields, block, "", 0, false);
    writer.out
}

struct Writer<'a> {
    out: String,
    notes: &'a Notes,
}

impl Writer<'_> {
    /// Writes the fields of a map. If `item` is true, the first line follows a `- `.
    fn fields(&mut self, fields: &Fields, block: &'static Block, path: &str, indent: usize, item: bool) {
        let word = fields.iter().find_map(|(key, out)| match out {
            Out::Text(word) if *key == "type" => block.variants.iter().find(|variant| variant.word == word),
            _ => None,
        });
        let mut first = item;
        for field in block.fields_of(word) {
            let Some((_, out)) = fields.iter().find(|(key, _)| *key == field.key) else { continue };
            if is_left_out(&field, out) {
                continue;
            }
            let path = super::found::join(path, field.key);
            for (_, note) in self.notes.iter().filter(|(at, _)| *at == path) {
                self.line(indent, first, &format!("# {note}"));
                first = false;
            }
            self.field(&field, out, &path, indent, first);
            first = false;
        }
    }

    /// Writes a line. The `first` line of a list item begins with `- `, two columns to the left.
    fn line(&mut self, indent: usize, first: bool, text: &str) {
        match first {
            true => self.out += &format!("{}- {text}\n", " ".repeat(indent - 2)),
            false => self.out += &format!("{}{text}\n", " ".repeat(indent)),
        }
    }

    fn field(&mut self, field: &Field, out: &Out, path: &str, indent: usize, first: bool) {
        let key = field.key;
        match out {
            Out::Nothing => {}
            Out::Text(text) => self.line(indent, first, &format!("{key}: {}", quote(text))),
            Out::List(items) => self.list(field, items, path, indent, first),
            Out::Pairs(pairs) => {
                self.line(indent, first, &format!("{key}:"));
                for (name, value) in pairs {
                    self.line(indent + 2, false, &format!("{}: {}", quote_key(name), quote(value)));
                }
            }
            Out::Json(json) => self.line(indent, first, &format!("{key}: {}", escape(&json.to_string()))),
            Out::Map(fields) => {
                self.line(indent, first, &format!("{key}:"));
                if let Some(block) = field.kind.block() {
                    self.fields(fields, block, path, indent + 2, false);
                }
            }
        }
    }

    /// Writes texts in one line, and maps below each other.
    fn list(&mut self, field: &Field, items: &[Out], path: &str, indent: usize, first: bool) {
        let key = field.key;
        let texts: Option<Vec<_>> = items
            .iter()
            .map(|item| match item {
                Out::Text(text) => Some(quote_in_flow(text)),
                _ => None,
            })
            .collect();
        if let Some(texts) = texts {
            self.line(indent, first, &format!("{key}: [{}]", texts.join(", ")));
            return;
        }
        self.line(indent, first, &format!("{key}:"));
        for (at, item) in items.iter().enumerate() {
            if let (Out::Map(fields), Some(block)) = (item, field.kind.block()) {
                self.fields(fields, block, &format!("{path}[{at}]"), indent + 4, true);
            }
        }
    }
}

/// Returns true if a value need not be written: it is missing or equals the default.
fn is_left_out(field: &Field, out: &Out) -> bool {
    match (out, field.kind) {
        (Out::Nothing, _) => true,
        (Out::Text(text), _) => field.default_text().as_ref() == Some(text),
        (Out::List(items), _) => items.is_empty(),
        (Out::Pairs(pairs), _) => pairs.is_empty(),
        (Out::Map(values), FieldType::Block(block)) => {
            let fields = block.fields();
            let find = |key: &str| fields.iter().find(|inner| inner.key == key);
            values.iter().all(|(key, out)| find(key).is_none_or(|inner| is_left_out(inner, out)))
        }
        (Out::Map(_) | Out::Json(_), _) => false,
    }
}

/// Writes any text as a YAML scalar that is read as the same text.
pub(crate) fn quote(text: &str) -> String {
    let text = escape(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=$".contains(c);
    // Quote words that YAML reads as null. Numbers and flags are read as written, so need no
    // quotes.
    let is_null = matches!(&*text, "~" | "null" | "Null" | "NULL");
    if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.')
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !is_null
    {
        return text;
    }
    // Single quotes fold line breaks, and cannot contain characters that YAML calls not printable.
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    if !text.contains(odd) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if odd(c) => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Writes text as a scalar within `[…]`.
fn quote_in_flow(text: &str) -> String {
    let quoted = quote(text);
    // A `:` before a `,` or `]` would make it a key.
    if quoted == text && text.contains(':') { format!("'{text}'") } else { quoted }
}

/// Writes a key that comes from a file. Variables in keys are not replaced, so it is not escaped.
fn quote_key(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { text.into() } else { format!("'{}'", text.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::problem::Problems;
    use super::super::{scalar, tree};
    use super::*;

    /// Reads the value of `key` with variables replaced.
    fn read(yaml: &str) -> Option<String> {
        let mut problems = Problems::default();
        let root = tree::read_yaml(yaml, &mut problems)?;
        let node = &root.get("key")?.value;
        let text = match &node.data {
            tree::NodeData::List(items) => items[0].text(),
            _ => node.text(),
        };
        scalar::expand(text?, &|_| None).ok()
    }

    fn check(text: &str) {
        assert_eq!(read(&format!("key: {}\n", quote(text))).as_deref(), Some(text), "{}", quote(text));
        let flow = quote_in_flow(text);
        assert_eq!(read(&format!("key: [{flow}]\n")).as_deref(), Some(text), "{flow}");
    }

    #[test]
    fn awkward_text_survives() {
        for text in [
            "p$#\"w",
            "it's",
            "a: b",
            "a #b",
            "- x",
            "${HOME}",
            "$${HOME}",
            "%41",
            "@x",
            "`x`",
            "null",
            "~",
            "true",
            "0123",
            "",
            " ",
            " a ",
            "a\nb",
            "a\tb",
            "\\n",
            "é",
            "\u{1}",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
            "x:",
            ":x",
            "*a",
            "&a",
            "!a",
            "|",
            ">",
            "[a]",
            "{a}",
            "a,b",
            "?",
            "-",
            "😀",
            "<<",
            "---",
            "...",
            "a'b\"c\\d:e %f$g#h",
        ] {
            check(text);
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "\\PC{0,20}|[ -~\n\t\u{0}-\u{1f}\u{7f}-\u{a0}]{0,20}") {
            check(&text);
        }
    }
}
