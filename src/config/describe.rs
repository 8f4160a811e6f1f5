//! Describes a table of keys as a JSON schema for editors and as a manual for people.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::field::{Block, Field, FieldRule, FieldType};

/// The JSON schema (draft 7, which editors know best) of a file with these fields.
pub(crate) fn schema(root: &'static Block, title: &str) -> Value {
    let mut definitions = Map::new();
    let mut schema = object(root, &mut definitions);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "definitions": definitions,
    });
    if let (Some(schema), Value::Object(head)) = (schema.as_object_mut(), head) {
        schema.extend(head);
    }
    schema
}

/// Adds the schema of a block to `definitions`, and returns a reference to it.
fn reference(block: &'static Block, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(block.name) {
        // The recursion ends because no block contains itself.
        let schema = object(block, definitions);
        definitions.insert(block.name.into(), schema);
    }
    json!({ "$ref": format!("#/definitions/{}", block.name) })
}

fn object(block: &'static Block, definitions: &mut Map<String, Value>) -> Value {
    if block.variants.is_empty() {
        return fields(&block.fields_of(None), block.rules, None, definitions);
    }
    let variants = block.variants.iter().map(|variant| {
        let mut schema =
            fields(&block.fields_of(Some(variant)), variant.block.rules, Some(variant.word), definitions);
        schema["description"] = variant.block.doc.into();
        schema
    });
    let variants: Vec<Value> = variants.collect();
    json!({ "oneOf": variants })
}

fn fields(
    fields: &[Field],
    rules: &[FieldRule],
    word: Option<&str>,
    definitions: &mut Map<String, Value>,
) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = match word {
            Some(word) if field.key == "type" => json!({ "const": word }),
            _ => kind(field.kind, definitions),
        };
        // Draft 7 ignores everything beside a `$ref`.
        if schema.get("$ref").is_some() {
            schema = json!({ "allOf": [schema] });
        }
        schema["description"] = field.doc.into();
        if let Some(default) = field.default_text() {
            schema["default"] = match field.kind {
                FieldType::Flag | FieldType::Whole(..) | FieldType::Decimal(..) => {
                    default.parse().unwrap_or_default()
                }
                _ => default.into(),
            };
        }
        properties.insert(field.key.into(), schema);
    }
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.key).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    if !rules.is_empty() {
        schema["allOf"] = rules.into();
    }
    schema
}

fn rule(rule: &FieldRule) -> Value {
    let given =
        |keys: &[&str]| -> Vec<Value> { keys.iter().map(|key| json!({ "required": [key] })).collect() };
    match rule {
        FieldRule::ExactlyOne(keys) => json!({ "oneOf": given(keys) }),
        FieldRule::AtMostOne(keys) => {
            let none = json!({ "not": { "anyOf": given(keys) } });
            json!({ "oneOf": given(keys).into_iter().chain([none]).collect::<Vec<_>>() })
        }
        FieldRule::Needs(key, others) => {
            json!({ "if": { "required": [key] }, "then": { "anyOf": given(others) } })
        }
    }
}

fn kind(kind_of: FieldType, definitions: &mut Map<String, Value>) -> Value {
    let or_variable =
        |schema: Value| json!({ "anyOf": [schema, { "type": "string", "pattern": r"\$\{[A-Za-z_]" }] });
    // A text field takes the text as written, even if YAML calls it a number or a flag.
    let text = || json!({ "type": ["string", "number", "boolean"] });
    match kind_of {
        FieldType::Text(format) if !format.any_scalar => json!({ "type": "string" }),
        FieldType::Text(_) | FieldType::Secret => text(),
        FieldType::SecretFile => json!({ "type": "string" }),
        FieldType::Flag => or_variable(json!({ "type": "boolean" })),
        FieldType::Whole(min, u64::MAX) => or_variable(json!({ "type": "integer", "minimum": min })),
        FieldType::Whole(min, max) => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        FieldType::Decimal(0.0, max) => {
            or_variable(json!({ "type": "number", "exclusiveMinimum": 0, "maximum": max }))
        }
        FieldType::Decimal(min, max) => {
            or_variable(json!({ "type": "number", "minimum": min, "maximum": max }))
        }
        FieldType::Duration(..) => or_variable(json!({
            "type": "string", "pattern": r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
        })),
        FieldType::Size(..) => or_variable(json!({ "type": "string", "pattern": "^\\d+([KMGT]i?B|kB|B)$" })),
        FieldType::OneOf(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            or_variable(json!({ "enum": words }))
        }
        FieldType::List(each) => json!({ "type": "array", "items": kind(*each, definitions) }),
        FieldType::NonEmpty(each) => {
            json!({ "type": "array", "items": kind(*each, definitions), "minItems": 1 })
        }
        FieldType::OneOrMore(each) => {
            let each = kind(*each, definitions);
            json!({ "anyOf": [each, { "type": "array", "items": each }] })
        }
        FieldType::Map(format) => (format.schema)(text()),
        FieldType::Pattern | FieldType::Raw => json!({ "type": "object" }),
        FieldType::Block(block) | FieldType::Maybe(block) => reference(block, definitions),
        FieldType::Blocks(block) => {
            json!({ "type": "array", "items": reference(block, definitions), "minItems": 1 })
        }
    }
}

/// The manual of a file with these fields, as Markdown behind an introduction.
pub(crate) fn manual(root: &'static Block, introduction: &str) -> String {
    let mut out = introduction.to_owned();
    let mut queue: Vec<&'static Block> = Vec::new();
    out += "\n## The file\n\n";
    table(&mut out, &root.fields_of(None), &mut queue);
    let mut at = 0;
    while at < queue.len() {
        let block = queue[at];
        at += 1;
        let _ = write!(out, "\n## `{}`\n\n", block.name);
        if !block.doc.is_empty() {
            let _ = write!(out, "{}\n\n", block.doc);
        }
        rules(&mut out, block.rules);
        let mut below = Vec::new();
        if block.variants.is_empty() {
            table(&mut out, &block.fields_of(None), &mut below);
        } else {
            table(&mut out, &block.fields_of(None), &mut below);
            for variant in block.variants {
                let _ = write!(out, "\n### `type: {}`\n\n{}\n\n", variant.word, variant.block.doc);
                rules(&mut out, variant.block.rules);
                let own = variant.fields();
                if !own.is_empty() {
                    table(&mut out, &own, &mut below);
                }
            }
        }
        // Depth first, so that related blocks stand together.
        let new: Vec<_> =
            below.into_iter().filter(|block| !queue.iter().any(|known| known.name == block.name)).collect();
        queue.splice(at..at, new);
    }
    out
}

fn rules(out: &mut String, rules: &[FieldRule]) {
    let list = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    let mut any = false;
    for rule in rules {
        let line = match rule {
            FieldRule::ExactlyOne(keys) => format!("Exactly one of {} is required.", list(keys).join(", ")),
            FieldRule::AtMostOne(keys) => format!("{} exclude each other.", list(keys).join(" and ")),
            FieldRule::Needs(key, others) => format!("`{key}` requires {}.", list(others).join(" or ")),
        };
        let _ = writeln!(out, "- {line}");
        any = true;
    }
    if any {
        out.push('\n');
    }
}

fn table(out: &mut String, fields: &[Field], blocks: &mut Vec<&'static Block>) {
    *out += "| key | value | default | meaning |\n|---|---|---|---|\n";
    for field in fields {
        let block = field.kind.block();
        if let Some(block) = block
            && !blocks.iter().any(|known| known.name == block.name)
        {
            blocks.push(block);
        }
        let takes = match (field.kind, block) {
            (FieldType::Blocks(_), Some(block)) => {
                format!("list of [{0}](#{1})", block.name, anchor(block.name))
            }
            (_, Some(block)) => format!("[{0}](#{1})", block.name, anchor(block.name)),
            (FieldType::OneOf(words), _) => {
                let words = words.iter().map(|(word, meaning)| format!("`{word}`: {meaning}"));
                words.collect::<Vec<_>>().join("<br>")
            }
            (kind, _) => kind.allowed(),
        };
        let default = match field.default_text() {
            _ if field.required => "required".into(),
            Some(default) => format!("`{default}`"),
            None if matches!(field.kind, FieldType::Block(_)) => "its defaults".into(),
            None => "–".into(),
        };
        let _ =
            writeln!(out, "| `{}` | {takes} | {default} | {} |", field.key, field.doc.replace('|', "\\|"));
    }
}

/// The anchor that Markdown gives a heading of code.
fn anchor(name: &str) -> String {
    name.to_ascii_lowercase().chars().filter(|c| *c != '.').collect()
}
