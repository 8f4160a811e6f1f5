//! Data objects of the vSphere API as trees. Every value carries its type, so that the XML holds
//! all the information that VI/JSON needs.

use super::inventory::Object;
use super::property::{ObjectReference, write_reference_of};
use super::xml::escape;

/// A value of a property, or part of one.
pub(crate) enum Data {
    /// A type of XML Schema (`string`, `int`, …) or an enumeration, with the text of the value.
    Leaf(&'static str, String),
    Reference(Object),
    Struct(&'static str, Vec<(&'static str, Data)>),
    /// Declared type of the items, and the items.
    List(&'static str, Vec<Data>),
    /// The field exists but has no value.
    Unset,
}

pub(crate) fn string(text: impl Into<String>) -> Data {
    Data::Leaf("string", text.into())
}

pub(crate) fn int(value: u32) -> Data {
    Data::Leaf("int", value.to_string())
}

pub(crate) fn short(value: u16) -> Data {
    Data::Leaf("short", value.to_string())
}

pub(crate) fn long(value: i64) -> Data {
    Data::Leaf("long", value.to_string())
}

pub(crate) fn boolean(value: bool) -> Data {
    Data::Leaf("boolean", value.to_string())
}

pub(crate) fn time(micros: i64) -> Data {
    Data::Leaf("dateTime", super::clock::format_micros(micros))
}

fn is_schema_type(kind: &str) -> bool {
    kind.starts_with(|first: char| first.is_ascii_lowercase())
}

impl Data {
    /// The value at this path of field names; `None` if a field does not exist.
    pub fn at(self, path: &str) -> Option<Data> {
        if path.is_empty() {
            return Some(self);
        }
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        match self {
            Data::Struct(_, fields) => {
                fields.into_iter().find(|(field, _)| *field == name).and_then(|(_, value)| value.at(rest))
            }
            Data::Unset => Some(Data::Unset),
            _ => None,
        }
    }

    /// Writes an element called `element`. A list becomes one element that holds all items.
    pub fn write(&self, out: &mut Vec<u8>, element: &str) {
        let open = |out: &mut Vec<u8>, kind: &str| {
            let prefix = if is_schema_type(kind) { "xsd:" } else { "" };
            out.extend_from_slice(format!("<{element} xsi:type=\"{prefix}{kind}\">").as_bytes());
        };
        match self {
            Data::Unset => return,
            Data::Reference(object) => {
                return write_reference_of(out, element, &ObjectReference::object(*object));
            }
            Data::Leaf(kind, text) => {
                open(out, kind);
                escape(out, text);
            }
            Data::Struct(kind, fields) => {
                open(out, kind);
                for (name, value) in fields {
                    match value {
                        Data::List(_, items) => items.iter().for_each(|item| item.write(out, name)),
                        value => value.write(out, name),
                    }
                }
            }
            Data::List(kind, items) => {
                let first = kind[..1].to_uppercase();
                open(out, &format!("ArrayOf{first}{}", &kind[1..]));
                items.iter().for_each(|item| item.write(out, kind));
            }
        }
        out.extend_from_slice(format!("</{element}>").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_with_types_and_read_by_path() {
        let tree = || {
            let inner = Data::Struct(
                "B",
                vec![("ids", Data::List("int", vec![int(1), int(2)])), ("none", Data::Unset)],
            );
            Data::Struct("A", vec![("b", inner), ("host", Data::Reference(Object::Host(3)))])
        };
        let text = |data: Data| {
            let mut out = Vec::new();
            data.write(&mut out, "val");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(tree()),
            "<val xsi:type=\"A\"><b xsi:type=\"B\"><ids xsi:type=\"xsd:int\">1</ids><ids xsi:type=\"xsd:int\">2</ids></b>\
             <host type=\"HostSystem\" xsi:type=\"ManagedObjectReference\">host-10003</host></val>"
        );
        assert_eq!(
            text(tree().at("b.ids").unwrap()),
            "<val xsi:type=\"ArrayOfInt\"><int xsi:type=\"xsd:int\">1</int><int xsi:type=\"xsd:int\">2</int></val>"
        );
        assert!(matches!(tree().at("b.none"), Some(Data::Unset)));
        assert!(tree().at("b.more").is_none() && tree().at("host.name").is_none());
    }
}
