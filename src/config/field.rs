//! Types for tables of keys. Each format has a table, which lists its keys with their types,
//! defaults and meanings.
//!
//! Validation, the JSON schema and `docs/configuration.md` are all based on the table, so they
//! cannot contradict each other. The table of the native format comes from the declarations of the
//! settings, see [`declare`](super::declare).

use std::time::Duration;

use super::format::{MapFormat, TextFormat};
use super::found::CheckedMap;
use super::problem::Problems;
use super::scalar;

/// The fields of one map.
#[derive(Debug)]
pub(crate) struct Block {
    /// Its heading in the documentation and its definition in the schema, such as `tls`.
    pub name: &'static str,
    pub doc: &'static str,
    /// The flag that turns the whole block on or off.
    pub switch: Option<Field>,
    pub members: &'static [Member],
    /// Additional fields by the value of `type`; empty if the block has no `type`.
    pub variants: &'static [Variant],
    pub rules: &'static [FieldRule],
    /// Checks a map of a file for rules about several fields that `rules` cannot express.
    pub check: Option<fn(&CheckedMap, &mut Problems)>,
}

/// The fields of one member of a struct of settings.
#[derive(Debug)]
pub(crate) enum Member {
    Fields(&'static [Field]),
    /// The fields of another block, in the same map. The second list replaces fields by their keys.
    Inline(&'static Block, &'static [Field]),
}

/// The additions of a `type` to a block.
#[derive(Debug)]
pub(crate) struct Variant {
    pub word: &'static str,
    pub block: &'static Block,
    /// Fields that replace the outer block's fields with the same keys.
    pub changed: &'static [Field],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub key: &'static str,
    pub kind: FieldType,
    pub default: Option<FieldDefault>,
    pub required: bool,
    /// The text that stands for no value, such as `none`.
    pub none: Option<&'static str>,
    /// True for a field without default whose absence is an empty text.
    pub or_empty: bool,
    /// Its meaning in one or two sentences, with units.
    pub doc: &'static str,
    /// Names that people write by mistake for this field.
    pub also: &'static [&'static str],
}

/// The value of a field that the file leaves out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldDefault {
    /// As written in a file.
    Text(&'static str),
    Bytes(u64),
    Number(u64),
}

/// A rule for fields that depend on each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldRule {
    /// Exactly one of these must be given.
    ExactlyOne(&'static [&'static str]),
    /// At most one of these may be given.
    AtMostOne(&'static [&'static str]),
    /// The first requires one of the others.
    Needs(&'static str, &'static [&'static str]),
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldType {
    Text(&'static TextFormat),
    Flag,
    /// A whole number between these bounds, inclusive.
    Whole(u64, u64),
    /// A number between these bounds, inclusive. A lower bound of 0 excludes 0.
    Decimal(f64, f64),
    /// A duration between these bounds in milliseconds, inclusive.
    Duration(u64, u64),
    /// A size between these bounds in bytes, inclusive.
    Size(u64, u64),
    /// One of these words, each with its meaning.
    OneOf(&'static [(&'static str, &'static str)]),
    Secret,
    /// The path of a file with a secret.
    SecretFile,
    List(&'static FieldType),
    /// A list with at least one element.
    NonEmpty(&'static FieldType),
    /// A list, or a single element without brackets.
    OneOrMore(&'static FieldType),
    /// A map of names to text.
    Map(&'static MapFormat),
    /// An EventBridge pattern.
    Pattern,
    /// A map with defaults: the file may leave it out.
    Block(&'static Block),
    /// An optional map without defaults.
    Maybe(&'static Block),
    /// A list of at least one map.
    Blocks(&'static Block),
    /// Any value; it is checked later.
    Raw,
}

impl Field {
    pub const fn new(key: &'static str, kind: FieldType) -> Self {
        Field { key, kind, default: None, required: false, none: None, or_empty: false, doc: "", also: &[] }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The default as written in a file.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(FieldDefault::Text(default));
        self
    }

    pub const fn or_bytes(mut self, default: u64) -> Self {
        self.default = Some(FieldDefault::Bytes(default));
        self
    }

    pub const fn or_number(mut self, default: u64) -> Self {
        self.default = Some(FieldDefault::Number(default));
        self
    }

    pub const fn or_empty(mut self) -> Self {
        self.or_empty = true;
        self
    }

    pub const fn none(mut self, text: &'static str) -> Self {
        self.none = Some(text);
        self
    }

    pub const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Takes the text of doc comments, unless the field has its own documentation.
    pub const fn documented(self, comment: &'static str) -> Self {
        if self.doc.is_empty() { self.doc(comment.trim_ascii()) } else { self }
    }

    /// The default as written in a file.
    pub fn default_text(&self) -> Option<String> {
        Some(match self.default? {
            FieldDefault::Text(text) => text.into(),
            FieldDefault::Bytes(bytes) => scalar::show_size(bytes),
            FieldDefault::Number(number) => number.to_string(),
        })
    }

    /// Returns true if every checked map has a value for this field.
    const fn is_filled(&self) -> bool {
        self.required || self.or_empty || self.default.is_some() || matches!(self.kind, FieldType::Block(_))
    }
}

impl Member {
    /// Stops the build if a setting that needs a value may have none.
    pub const fn assert_filled(fields: &[Field], may_be_absent: bool) {
        assert!(may_be_absent || fields[0].is_filled(), "declare a default, `required`, or an optional type");
    }

    /// The fields of a member that has keys of its own.
    pub fn fields(&'static self) -> &'static [Field] {
        match self {
            Member::Fields(fields) => fields,
            Member::Inline(..) => &[],
        }
    }
}

impl Block {
    pub const fn new(name: &'static str, members: &'static [Member]) -> Self {
        Block { name, doc: "", switch: None, members, variants: &[], rules: &[], check: None }
    }

    /// The field with this key, to declare a variation of it. Stops the build if there is none.
    pub const fn field(&self, key: &str) -> Field {
        match self.find(key) {
            Some(field) => field,
            None => panic!("the block has no such field"),
        }
    }

    const fn find(&self, key: &str) -> Option<Field> {
        let mut at = 0;
        while at < self.members.len() {
            match &self.members[at] {
                Member::Inline(block, _) => {
                    let found = block.find(key);
                    if found.is_some() {
                        return found;
                    }
                }
                Member::Fields(fields) => {
                    let mut field = 0;
                    while field < fields.len() {
                        if is_equal(fields[field].key, key) {
                            return Some(fields[field]);
                        }
                        field += 1;
                    }
                }
            }
            at += 1;
        }
        None
    }

    /// The fields without those of variants.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = self.switch.into_iter().collect();
        for member in self.members {
            match member {
                Member::Fields(own) => fields.extend(*own),
                Member::Inline(block, changed) => {
                    let instead = |field: Field| {
                        changed.iter().copied().find(|change| change.key == field.key).unwrap_or(field)
                    };
                    fields.extend(block.fields().into_iter().map(instead));
                }
            }
        }
        fields
    }

    /// The fields that a map of this variant may have, those of the variant first.
    pub fn fields_of(&self, variant: Option<&Variant>) -> Vec<Field> {
        let own = variant.map_or_else(Vec::new, Variant::fields);
        let common = self.fields().into_iter().filter(|field| own.iter().all(|other| other.key != field.key));
        // `name` and `type` come first in any case.
        let (head, rest): (Vec<_>, Vec<_>) = common.partition(|field| matches!(field.key, "name" | "type"));
        let own = own.iter().copied();
        head.into_iter().chain(own).chain(rest).collect()
    }

    /// This block and all blocks whose fields are in the same map.
    pub fn parts(&'static self) -> Vec<&'static Block> {
        let inline = self.members.iter().filter_map(|member| match member {
            Member::Inline(block, _) => Some(block.parts()),
            Member::Fields(_) => None,
        });
        std::iter::once(self).chain(inline.flatten()).collect()
    }
}

impl Variant {
    /// The fields that it adds or replaces.
    pub fn fields(&self) -> Vec<Field> {
        self.block.fields().into_iter().chain(self.changed.iter().copied()).collect()
    }
}

/// Compares texts at compile time.
const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl FieldType {
    /// The table of the map in this field.
    pub fn block(self) -> Option<&'static Block> {
        match self {
            FieldType::Block(block) | FieldType::Maybe(block) | FieldType::Blocks(block) => Some(block),
            _ => None,
        }
    }

    /// The allowed values, for messages and documentation. Completes "must be …".
    pub fn allowed(self) -> String {
        match self {
            FieldType::Text(format) => format.allowed.into(),
            FieldType::Flag => "`true` or `false`".into(),
            FieldType::Whole(min, u64::MAX) => format!("a whole number, {min} or more"),
            FieldType::Whole(min, max) => format!("a whole number from {min} to {max}"),
            FieldType::Decimal(0.0, max) => format!("a number greater than 0, and at most {max}"),
            FieldType::Decimal(min, max) => format!("a number from {min} to {max}"),
            FieldType::Duration(min, max) => {
                let [min, max] = [min, max].map(|ms| scalar::show_duration(Duration::from_millis(ms)));
                format!("a duration such as `10s`, `5m` or `1h30m`, from {min} to {max}")
            }
            FieldType::Size(min, max) => {
                let (min, max) = (scalar::show_size(min), scalar::show_size(max));
                format!("a size such as `64MiB`, from {min} to {max}")
            }
            FieldType::OneOf(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                match &words[..] {
                    [word] => word.clone(),
                    [first @ .., last] => format!("{} or {last}", first.join(", ")),
                    [] => String::new(),
                }
            }
            FieldType::Secret => "text".into(),
            FieldType::SecretFile => "the path of a file that contains the secret".into(),
            FieldType::List(each) => format!("a list (`[…]`), each element {}", each.allowed()),
            FieldType::NonEmpty(each) => {
                format!("a list (`[…]`) of one or more, each element {}", each.allowed())
            }
            FieldType::OneOrMore(each) => format!("{}, or a list of them", each.allowed()),
            FieldType::Map(format) => format.allowed.into(),
            FieldType::Pattern => "an EventBridge pattern (a map)".into(),
            FieldType::Block(_) | FieldType::Maybe(_) => "a map".into(),
            FieldType::Blocks(_) => "a list of maps".into(),
            FieldType::Raw => "a map".into(),
        }
    }
}
