//! Describes the table of keys as a JSON schema for editors and as `docs/configuration.md` for
//! people. Both are checked in, and a test keeps them equal to the table.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::field::{Block, Field, FieldRule, FieldType};
use super::model::Config;
use super::setting::Group;

/// The JSON schema (draft 7, which editors know best) of the native format.
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    let mut root = object(Config::BLOCK, &mut definitions);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "vCenter Event Router configuration",
        "definitions": definitions,
    });
    if let (Some(root), Value::Object(head)) = (root.as_object_mut(), head) {
        root.extend(head);
    }
    root
}

/// The text of `docs/config.schema.json`.
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
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

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by a test from the declarations of the settings: `UPDATE_DOCS=1 cargo test --test it docs::` rewrites it. -->

The configuration is a single YAML file. `event-router check --config F` reports all errors in it with their lines. `event-router schema`
prints a JSON schema for editors ([config.schema.json](config.schema.json)). Ready-made files are in [examples](../examples).

```yaml
apiVersion: event-router/v1
sources:
  - name: vc1
    type: vcenter
    address: https://vc1.example/sdk
    username: ro@vsphere.local
    passwordFile: /etc/event-router/vc1-password
processors:
  - name: functions
    type: openfaas
    gateway: http://gateway.openfaas:8080
```

- **Durations** are written as `250ms`, `10s`, `5m`, `1h30m`, `1d`, and **sizes** as `4096B`, `64KiB`, `10MiB`, `1GiB` (or `kB`, `MB`, `GB`
  for powers of 1,000).
- **Variables**: `${NAME}` in any value is replaced by that environment variable; it is an error if the variable is not set. Only `${` is
  special: `$${` stands for the text `${`, and any other `$` for itself. The value of a variable is never parsed as YAML.
- **Secrets** can be written in the file, come from a variable, or be in a file of their own (`passwordFile` for `password`). Such a file is
  read again at each use, so a rotated password needs no restart; one line break at its end is ignored. Put a password with special
  characters in single quotes, and double each `'` in it. A secret of fewer than four characters cannot be redacted where a server
  repeats it; `event-router check` warns of it.
- **Secret URLs**: the URL of a webhook may be its only credential. Put it into a file (`urlFile`), or a part of it into a variable
  (`url: https://hooks.example/${TOKEN}`); then logs, pages and dead letters show its scheme, its host and a short hash. Of any other URL
  they hide query values and segments of the path that look random.
- **File names** are relative to the working directory.
- **YAML anchors** (`&x`, `*x`, `<<: *x`) avoid repetition; see [many.yaml](../examples/many.yaml).
- **Unknown keys** are errors.
- **No default** is shown as –; the description says what happens without the key.

The router also reads the two formats of the old router, and detects them by their content: the JSON array of v0.3 and v0.4, and the YAML
`event-router.vmware.com/v1alpha1` of v0.5 and later. `event-router config convert` converts them into this format.
";

/// The text of `docs/configuration.md`.
pub fn reference_manual() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut queue: Vec<&'static Block> = Vec::new();
    out += "\n## The file\n\n";
    table(&mut out, &Config::BLOCK.fields_of(None), &mut queue);
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
