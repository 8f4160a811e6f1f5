//! A class of the schema as the fast decoder walks it: tags to expect, fragments to write, in schema order.

use std::sync::{LazyLock, OnceLock};

use super::bytes::{Fragment, Tag};
use crate::Category;
use crate::decode::ENTITY_MEMBERS;
use crate::schema::{self, Absent, Class, ClassId, Field, Kind};

/// How to decode objects of one class.
#[derive(Debug)]
pub(super) struct Plan {
    pub class: &'static Class,
    pub steps: Box<[Step]>,
    /// The JSON of all absent members, one behind the other, each with a comma before it.
    absent: Fragment,
}

/// One member.
#[derive(Debug)]
pub(super) struct Step {
    /// The start tag as it nearly always is: `<name>`, and `<name type="` of a reference.
    pub open: Tag,
    /// `<name`, without what ends the tag.
    pub name: Tag,
    /// `</name>`.
    pub close: Tag,
    /// `,"Name":` and, for strings, times and references that do not repeat, the JSON up to their text.
    pub key: Fragment,
    pub kind: Kind,
    pub many: bool,
    pub note: Note,
    /// The class of an object.
    pub class: Option<ClassId>,
    /// Where this member's absence begins in [`Plan::absent`].
    absent: u32,
    /// It is what names the managed object that the class, an argument of an event, stands for.
    pub names_object: bool,
}

/// What a later stage needs of a member of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Nothing,
    Key,
    ChainId,
    CreatedTime,
    User,
    EventTypeId,
    ObjectId,
    ObjectType,
    /// It may name what the event is about; the rank among those that do.
    Entity(u8),
}

static PLANS: LazyLock<Box<[OnceLock<Plan>]>> =
    LazyLock::new(|| (0..schema::class_count()).map(|_| OnceLock::new()).collect());

/// The plan of a class.
#[inline]
pub(super) fn of(class: ClassId) -> &'static Plan {
    PLANS[class.index()].get_or_init(|| Plan::build(class.class()))
}

/// The plan of the class of this name.
#[inline]
pub(super) fn named(name: &[u8]) -> Option<&'static Plan> {
    schema::class_id(name).map(of)
}

impl Plan {
    fn build(class: &'static Class) -> Self {
        let mut absent = Vec::new();
        let mut steps = Vec::with_capacity(class.fields.len());
        let naming = class.fields.iter().position(|field| field.kind == Kind::Reference);
        for (i, field) in class.fields.iter().enumerate() {
            steps.push(Step::build(class, field, absent.len() as u32, naming == Some(i)));
            if let Absent::Json(json) = &field.absent {
                absent.extend_from_slice(format!(",\"{}\":{json}", field.key).as_bytes());
            }
        }
        Plan { class, steps: steps.into(), absent: Fragment::new(&absent) }
    }

    /// What is written for the members `from..to` when they are absent; `to` may be the number of members.
    #[inline(always)]
    pub fn absent(&self, from: usize, to: usize) -> Fragment {
        let begin = |step: usize| self.steps.get(step).map_or(self.absent.len(), |step| step.absent as usize);
        self.absent.part(begin(from), begin(to))
    }
}

impl Step {
    fn build(class: &Class, field: &Field, absent: u32, names_object: bool) -> Self {
        let opening = match field.kind {
            _ if field.many => "",
            Kind::String | Kind::Base64 | Kind::DateTime => "\"",
            Kind::Reference => "{\"Type\":\"",
            _ => "",
        };
        Step {
            open: Tag::new(
                format!("<{}{}", field.name, if field.kind == Kind::Reference { " type=\"" } else { ">" })
                    .as_bytes(),
            ),
            name: Tag::new(format!("<{}", field.name).as_bytes()),
            close: Tag::new(format!("</{}>", field.name).as_bytes()),
            key: Fragment::new(format!(",\"{}\":{opening}", field.key).as_bytes()),
            kind: field.kind,
            many: field.many,
            note: if class.is_event { Note::of(class, field) } else { Note::Nothing },
            class: if let Kind::Object(id) = field.kind { Some(id) } else { None },
            absent,
            names_object,
        }
    }
}

impl Note {
    fn of(class: &Class, field: &Field) -> Self {
        let is_about = |field: &Field| {
            let rank = ENTITY_MEMBERS.iter().position(|name| *name == field.name)?;
            matches!(field.kind, Kind::Reference | Kind::Object(_)).then_some(Note::Entity(rank as u8))
        };
        match (field.name, field.kind) {
            _ if field.many => Note::Nothing,
            ("key", Kind::Int) => Note::Key,
            ("chainId", Kind::Int) => Note::ChainId,
            ("createdTime", Kind::DateTime) => Note::CreatedTime,
            ("userName", Kind::String) => Note::User,
            ("eventTypeId", Kind::String) if class.category != Category::Event => Note::EventTypeId,
            ("objectId", Kind::String) => Note::ObjectId,
            ("objectType", Kind::String) => Note::ObjectType,
            _ => is_about(field).unwrap_or(Note::Nothing),
        }
    }
}

/// The rank of EventEx's pair of objectType and objectId among [`ENTITY_MEMBERS`].
pub(super) fn object_rank() -> u8 {
    static RANK: LazyLock<u8> = LazyLock::new(|| {
        ENTITY_MEMBERS.iter().position(|name| *name == "objectId").map_or(u8::MAX, |rank| rank as u8)
    });
    *RANK
}
