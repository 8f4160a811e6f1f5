//! Events whose content is not from the model: posted by clients, or made by a test.

use super::inventory::Object;
use super::model::Model;
use super::property::ObjectReference;
use super::template::category;
use super::xml::{self, Node};

#[derive(Default)]
pub(crate) struct Special {
    pub class: String,
    /// For `EventEx` and `ExtendedEvent` only.
    pub event_type_id: Option<String>,
    pub user: String,
    pub category: &'static str,
    /// The entities of the inventory that it names in its arguments.
    pub entities: Vec<Object>,
    /// True if the element is not well-formed.
    pub malformed: bool,
    /// The elements after createdTime; class, key and chain id are written before them.
    pub tail: Vec<u8>,
}

impl Special {
    pub fn new(model: &Model, class: &str, tail: Vec<u8>) -> Special {
        let parsed = xml::parse_fragment(&String::from_utf8_lossy(&tail));
        let malformed = parsed.is_err();
        let fields = parsed.unwrap_or_default();
        let with_id = matches!(class, "EventEx" | "ExtendedEvent");
        let event_type_id = fields.text_of("eventTypeId").filter(|_| with_id).map(|id| id.trim().to_owned());
        Special {
            class: class.to_owned(),
            event_type_id,
            user: fields.text_of("userName").unwrap_or_default().to_owned(),
            category: category(class, fields.text_of("severity").map(str::trim)),
            entities: entities(model, &fields),
            malformed,
            tail,
        }
    }
}

/// The entities that an event names.
fn entities(model: &Model, fields: &Node) -> Vec<Object> {
    let arguments = ["datacenter", "computeResource", "host", "vm", "ds", "net", "dvs"];
    let named = arguments.iter().filter_map(|argument| {
        let reference = fields.child(argument)?.children.iter().find(|child| child.reference_type.is_some());
        reference.map(ObjectReference::of)
    });
    // An EventEx names its object apart from the arguments.
    let object = fields.text_of("objectType").zip(fields.text_of("objectId"));
    let object = object.map(|(kind, id)| ObjectReference { kind: kind.trim().into(), id: id.trim().into() });
    named.chain(object).filter_map(|target| target.find(model)).collect()
}
