//! The data types of vSphere's vim25 namespace: their members in schema order, and the members'
//! kinds.
//!
//! The table is generated (`scripts/generate-schema`), as compact text that compiles quickly. A
//! class is built, with inherited members, on first use. A router therefore pays for the hundred
//! classes that it meets, not for all three thousand.
//!
//! ```text
//! ("VmEvent", "Event", "template:boolean")       class, parent, own members
//!   name    marks                                        kind
//!   ─────── ─────────────────────────────────────────── ─ ──────────────────────────────────────
//!   device  ?  optional                                  : XML Schema's name (string, int, …),
//!           *  a list: the element repeats                 ManagedObjectReference, or a class
//!           +  newer than the schema that functions know
//!           ~  null when absent, for any kind
//!           !  the kind's zero when absent, though optional
//! ```

mod generated;

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use rustc_hash::FxHashMap;

use crate::Category;

/// The type of a member's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Boolean,
    Byte,
    Short,
    Int,
    Long,
    Float,
    Double,
    DateTime,
    Base64,
    /// The type that its `xsi:type` names.
    Any,
    /// A managed object reference.
    Reference,
    /// An object of this class or of a subclass.
    Object(ClassId),
}

/// A class, as its row in the generated table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassId(u16);

/// The JSON of a member that the event does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// None: the member is newer than the schema that functions know.
    Omitted,
    /// This JSON.
    Json(Box<str>),
}

/// A member of a class.
#[derive(Debug)]
pub struct Field {
    /// The element's name.
    pub name: &'static str,
    /// The key in JSON: the name in PascalCase, as Go spells struct fields.
    pub key: Box<str>,
    pub kind: Kind,
    /// True if the element repeats. It is rendered as a list.
    pub many: bool,
    /// True if vCenter may leave the member out.
    pub optional: bool,
    pub absent: Absent,
}

/// A class. The members of its ancestors come first, in the order in which vCenter serializes them.
#[derive(Debug)]
pub struct Class {
    pub id: ClassId,
    pub name: &'static str,
    pub fields: Box<[Field]>,
    /// True for `Event` and its subclasses.
    pub is_event: bool,
    pub category: Category,
    /// True if the class has subclasses: a member of this class may then hold any of them.
    pub has_subclasses: bool,
    /// The object with every member absent, as Go marshals a zero struct.
    pub zero: Box<str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

struct Table {
    by_name: FxHashMap<&'static [u8], ClassId>,
    has_subclasses: Box<[bool]>,
    classes: Box<[OnceLock<Class>]>,
}

impl Table {
    fn new() -> Self {
        let rows = generated::ROWS;
        let by_name: FxHashMap<_, _> =
            rows.iter().zip(0..).map(|(row, i)| (row.0.as_bytes(), ClassId(i))).collect();
        let mut has_subclasses = vec![false; rows.len()];
        for parent in rows.iter().filter_map(|row| by_name.get(row.1.as_bytes())) {
            has_subclasses[usize::from(parent.0)] = true;
        }
        Table {
            by_name,
            has_subclasses: has_subclasses.into(),
            classes: rows.iter().map(|_| OnceLock::new()).collect(),
        }
    }
}

/// The class with this name.
pub fn class(name: &str) -> Option<&'static Class> {
    class_id(name.as_bytes()).map(ClassId::class)
}

/// The id of the class with this name.
pub fn class_id(name: &[u8]) -> Option<ClassId> {
    TABLE.by_name.get(name).copied()
}

/// The base of all events. Events without `xsi:type` and events of unknown classes use it.
pub fn event() -> &'static Class {
    class("Event").expect("the generated table has the base of all events")
}

/// Every class of the table.
pub fn classes() -> impl Iterator<Item = &'static Class> {
    (0..generated::ROWS.len() as u16).map(|i| ClassId(i).class())
}

/// The number of classes. Ids are below it.
pub fn class_count() -> usize {
    generated::ROWS.len()
}

impl ClassId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub fn class(self) -> &'static Class {
        TABLE.classes[self.index()].get_or_init(|| Class::build(self))
    }

    fn has_subclasses(self) -> bool {
        TABLE.has_subclasses[self.index()]
    }
}

impl Class {
    fn build(id: ClassId) -> Self {
        let name = generated::ROWS[id.index()].0;
        // The class and its ancestors, youngest first.
        let mut lineage = vec![id];
        while let Some(parent) = class_id(generated::ROWS[lineage[lineage.len() - 1].index()].1.as_bytes()) {
            lineage.push(parent);
        }
        let fields: Box<[Field]> = lineage
            .iter()
            .rev()
            .flat_map(|id| generated::ROWS[id.index()].2.split_ascii_whitespace())
            .map(Field::parse)
            .collect();
        // Go's zero struct.
        let mut zero = String::from("{");
        for field in &fields {
            if let Absent::Json(json) = &field.absent {
                let comma = if zero.len() > 1 { "," } else { "" };
                zero.extend([comma, "\"", &field.key, "\":", json]);
            }
        }
        zero.push('}');
        Class {
            id,
            name,
            fields,
            is_event: lineage.iter().any(|id| generated::ROWS[id.index()].0 == "Event"),
            category: match name {
                "EventEx" => Category::EventEx,
                "ExtendedEvent" => Category::ExtendedEvent,
                _ => Category::Event,
            },
            has_subclasses: id.has_subclasses(),
            zero: zero.into(),
        }
    }

    /// Returns true for the class `name` and its subclasses.
    pub fn is_a(&self, name: &str) -> bool {
        let mut at = Some(self.id);
        while let Some(id) = at {
            let (own, parent, _) = generated::ROWS[id.index()];
            if own == name {
                return true;
            }
            at = class_id(parent.as_bytes());
        }
        false
    }

    /// The class that this one extends.
    pub fn parent(&self) -> Option<&'static Class> {
        class(generated::ROWS[self.id.index()].1)
    }

    /// The members that this class adds to those of its parent.
    pub fn own_fields(&self) -> &[Field] {
        &self.fields[self.parent().map_or(0, |parent| parent.fields.len())..]
    }

    /// The member with this name, and its index.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }
}

impl Field {
    /// Parses `name[?*+~!]:kind`, as the generator writes it.
    fn parse(text: &'static str) -> Self {
        let (marked, kind) = text.split_once(':').expect("the generator writes name:kind");
        let name = marked.trim_end_matches(['?', '*', '+', '~', '!']);
        let marks = &marked[name.len()..];
        let (many, optional) = (marks.contains('*'), marks.contains('?'));
        let kind = Kind::parse(kind);
        let absent = if marks.contains('+') {
            Absent::Omitted
        } else if many || marks.contains('~') {
            Absent::Json("null".into())
        } else {
            Absent::Json(kind.absent(optional && !marks.contains('!')).into())
        };
        Field { name, key: pascal(name).into(), kind, many, optional, absent }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::String => "string",
            Kind::Boolean => "boolean",
            Kind::Byte => "byte",
            Kind::Short => "short",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::DateTime => "dateTime",
            Kind::Base64 => "base64Binary",
            Kind::Any => "anyType",
            Kind::Reference => "ManagedObjectReference",
            Kind::Object(id) => id.class().name,
        })
    }
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "string" => Kind::String,
            "boolean" => Kind::Boolean,
            "byte" => Kind::Byte,
            "short" => Kind::Short,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "dateTime" => Kind::DateTime,
            "base64Binary" => Kind::Base64,
            "anyType" => Kind::Any,
            "ManagedObjectReference" => Kind::Reference,
            class => Kind::Object(
                class_id(class.as_bytes()).expect("the generator writes every class that it names"),
            ),
        }
    }

    /// The kind of a list's items, by vSphere's name behind `ArrayOf`.
    pub fn of_item(name: &str) -> Option<Self> {
        Some(match name {
            "String" | "AnyURI" => Kind::String,
            "Boolean" => Kind::Boolean,
            "Byte" => Kind::Byte,
            "Short" => Kind::Short,
            "Int" => Kind::Int,
            "Long" => Kind::Long,
            "Float" => Kind::Float,
            "Double" => Kind::Double,
            "DateTime" => Kind::DateTime,
            "Base64Binary" | "Binary" => Kind::Base64,
            "AnyType" => Kind::Any,
            "ManagedObjectReference" => Kind::Reference,
            class => Kind::Object(class_id(class.as_bytes())?),
        })
    }

    /// The JSON of a field of Go's struct whose element is missing.
    fn absent(self, optional: bool) -> &'static str {
        match self {
            Kind::String => "\"\"",
            Kind::Byte | Kind::Short | Kind::Int | Kind::Long | Kind::Float | Kind::Double => "0",
            Kind::Base64 | Kind::Any => "null",
            _ if optional => "null",
            Kind::Boolean => "false",
            Kind::DateTime => "\"0001-01-01T00:00:00Z\"",
            Kind::Reference => r#"{"Type":"","Value":""}"#,
            // govmomi has an interface for a class with subclasses and a value for any other.
            Kind::Object(id) if id.has_subclasses() => "null",
            Kind::Object(id) => &id.class().zero,
        }
    }
}

/// Converts `chainId` to `ChainId`, as Go spells struct fields.
pub fn pascal(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    let mut chars = name.chars();
    key.extend(chars.next().map(|c| c.to_ascii_uppercase()));
    key.push_str(chars.as_str());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_can_be_built() {
        let events = classes().filter(|class| class.is_event).count();
        assert_eq!(events, 443, "the event classes of vSphere 9.1");
        for class in classes() {
            let mut names: Vec<_> = class.fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), class.fields.len(), "{} names a member twice", class.name);
            serde_json::from_str::<serde_json::Value>(&class.zero).unwrap();
        }
    }

    #[test]
    fn members_come_in_schema_order_ancestors_first() {
        let keys: Vec<_> =
            class("VmPoweredOnEvent").unwrap().fields.iter().map(|field| &*field.key).collect();
        assert_eq!(keys[..4], ["Key", "ChainId", "CreatedTime", "UserName"]);
        assert_eq!(keys[10..], ["Dvs", "Tgw", "FullFormattedMessage", "ChangeTag", "AuditId", "Template"]);
    }

    #[test]
    fn a_class_adds_members_to_those_of_its_parent() {
        let class = |name: &str| class(name).unwrap();
        let own = |name: &str| class(name).own_fields().iter().map(|field| field.name).collect::<Vec<_>>();
        assert_eq!(class("VmPoweredOnEvent").parent().unwrap().name, "VmEvent");
        assert!(class("Event").parent().is_none() && class("Event").own_fields().len() > 10);
        assert_eq!((own("VmPoweredOnEvent"), own("VmEvent")), (vec![], vec!["template"]));
        assert_eq!(own("EventEx")[..2], ["eventTypeId", "severity"]);
        // The name of a kind is the one that the table has.
        for field in classes().flat_map(|class| class.own_fields()) {
            assert_eq!(Kind::parse(&field.kind.to_string()), field.kind, "{}", field.name);
        }
    }

    #[test]
    fn absent_members_equal_those_of_go() {
        let check = |name: &str, member: &str, expected: Option<&str>| {
            let (_, field) = class(name).unwrap().field(member).unwrap();
            let expected = expected.map_or(Absent::Omitted, |json| Absent::Json(json.into()));
            assert_eq!(field.absent, expected, "{name}.{member}");
        };
        check("Event", "key", Some("0"));
        check("Event", "createdTime", Some("\"0001-01-01T00:00:00Z\""));
        check("Event", "vm", Some("null"));
        check("Event", "tgw", None);
        check("EventEx", "arguments", Some("null"));
        check("TaskInfo", "startTime", Some("null"));
        check("TaskInfo", "progress", Some("0"));
        check("VirtualDevice", "unitNumber", Some("null"));
        check("VmEvent", "template", Some("false"));
        check("VirtualDeviceConnectInfo", "migrateConnect", Some("\"\""));
        check("AlarmEvent", "alarm", Some(r#"{"Name":"","Alarm":{"Type":"","Value":""}}"#));
        check("LocalizedMethodFault", "fault", Some("null"));
        check("HostCapability", "ftSupported", Some("null"));
    }
}
