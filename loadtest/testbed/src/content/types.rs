//! The fields of govmomi's types. For each field the table says if an absent one is `null` or has a
//! zero value.
//!
//! The table is `types.txt`; its head describes the format.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("types.txt");

static TYPES: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(parse);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FieldKind {
    Text,
    Number,
    Bool,
    Time,
    Reference,
    /// The type that `xsi:type` names.
    Any,
    Object(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field {
    /// Name as in JSON.
    pub name: &'static str,
    pub kind: FieldKind,
    pub list: bool,
    /// A pointer or an interface, which is `null` when absent.
    pub optional: bool,
}

#[derive(Debug, Default)]
struct Type {
    parent: Option<&'static str>,
    fields: Vec<Field>,
}

/// True if the table has this type.
pub(super) fn is_known(name: &str) -> bool {
    TYPES.contains_key(name)
}

/// The fields of a type, those of its ancestors first.
pub(super) fn fields(name: &str) -> Vec<Field> {
    let Some(found) = TYPES.get(name) else { return Vec::new() };
    let mut all = found.parent.map(fields).unwrap_or_default();
    all.extend_from_slice(&found.fields);
    all
}

/// Reads the table.
fn parse() -> HashMap<&'static str, Type> {
    let mut types = HashMap::new();
    let mut name = "";
    for line in TEXT.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(field) => {
                let (field, kind) = field.split_once(' ').expect("a field has a name and a kind");
                let list = kind.ends_with('*');
                let optional = kind.ends_with('?');
                let kind = match kind.trim_end_matches(['*', '?']) {
                    "text" => FieldKind::Text,
                    "number" => FieldKind::Number,
                    "bool" => FieldKind::Bool,
                    "time" => FieldKind::Time,
                    "reference" => FieldKind::Reference,
                    "any" => FieldKind::Any,
                    class => FieldKind::Object(class),
                };
                let field = Field { name: field, kind, list, optional };
                types.entry(name).or_insert_with(Type::default).fields.push(field);
            }
            None => {
                let parent = line.split_once(" < ").map(|(_, parent)| parent);
                name = line.split_once(" < ").map_or(line, |(name, _)| name);
                types.insert(name, Type { parent, fields: Vec::new() });
            }
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_exists() {
        for (name, declared) in TYPES.iter() {
            assert!(declared.parent.is_none_or(is_known), "{name}");
            for field in &declared.fields {
                let known = match field.kind {
                    FieldKind::Object("object") => field.list || field.optional,
                    FieldKind::Object(class) => is_known(class),
                    _ => true,
                };
                assert!(known, "{name}: {field:?}");
            }
        }
        let names: Vec<&str> = fields("VmPoweredOnEvent").iter().map(|field| field.name).collect();
        assert_eq!((names[0], names[3], names[names.len() - 1]), ("Key", "UserName", "Template"));
    }
}
