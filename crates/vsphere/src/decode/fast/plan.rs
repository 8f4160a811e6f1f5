//! Decoding plans: a class of the schema as the tags to expect and the fragments to write.
//!
//! A plan is built when its class is first seen and lives as long as the program.
//!
//! ```text
//! VmEvent   step   open          close          key             absent
//!           0      <key>         </key>         ,"Key":         ,"Key":0
//!           3      <userName>    </userName>    ,"UserName":"   ,"UserName":""
//!           …      all `absent` texts are one fragment: a run of missing members is one copy
//! ```

use std::sync::{LazyLock, OnceLock};

use super::bytes::{Fragment, Tag};
use crate::Category;
use crate::decode::ENTITY_MEMBERS;
use crate::schema::{self, Absent, Class, ClassId, Field, Kind};

/// The decoding plan of one class.
#[derive(Debug)]
pub(super) struct Plan {
    pub class: &'static Class,
    pub steps: Box<[Step]>,
    /// The JSON of all absent members in order, each with a leading comma.
    absent: Fragment,
}

/// One member of a class.
#[derive(Debug)]
pub(super) struct Step {
    /// The usual start tag: `<name>`, or `<name type="` for a reference.
    pub open: Tag,
    /// `<name`, without the end of the tag.
    pub name: Tag,
    /// `</name>`.
    pub close: Tag,
    /// `,"Name":`. For single strings, times and references it includes the JSON up to their text.
    pub key: Fragment,
    pub kind: Kind,
    pub many: bool,
    pub role: MemberRole,
    /// The declared class of an object.
    pub class: Option<ClassId>,
    /// The offset of this member's JSON in [`Plan::absent`].
    absent: u32,
    /// True for the first reference of a class. In the class of an event argument it names the
    /// managed object that the argument describes.
    pub names_object: bool,
}

/// The use of an event's member in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberRole {
    /// None: the member is only rendered.
    Plain,
    Key,
    ChainId,
    CreatedTime,
    User,
    EventTypeId,
    ObjectId,
    ObjectType,
    /// The member may name the event's entity. Lower ranks take precedence.
    Entity(u8),
}

static PLANS: LazyLock<Box<[OnceLock<Plan>]>> =
    LazyLock::new(|| (0..schema::class_count()).map(|_| OnceLock::new()).collect());

/// The plan of a class.
#[inline]
pub(super) fn of(class: ClassId) -> &'static Plan {
    PLANS[class.index()].get_or_init(|| Plan::build(class.class()))
}

/// The plan of the class with this name.
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

    /// The JSON of members `from..to` when they are absent. `to` may be the number of members.
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
            role: if class.is_event { MemberRole::of(class, field) } else { MemberRole::Plain },
            class: if let Kind::Object(id) = field.kind { Some(id) } else { None },
            absent,
            names_object,
        }
    }
}

impl MemberRole {
    fn of(class: &Class, field: &Field) -> Self {
        let is_about = |field: &Field| {
            let rank = ENTITY_MEMBERS.iter().position(|name| *name == field.name)?;
            matches!(field.kind, Kind::Reference | Kind::Object(_)).then_some(MemberRole::Entity(rank as u8))
        };
        match (field.name, field.kind) {
            _ if field.many => MemberRole::Plain,
            ("key", Kind::Int) => MemberRole::Key,
            ("chainId", Kind::Int) => MemberRole::ChainId,
            ("createdTime", Kind::DateTime) => MemberRole::CreatedTime,
            ("userName", Kind::String) => MemberRole::User,
            ("eventTypeId", Kind::String) if class.category != Category::Event => MemberRole::EventTypeId,
            ("objectId", Kind::String) => MemberRole::ObjectId,
            ("objectType", Kind::String) => MemberRole::ObjectType,
            _ => is_about(field).unwrap_or(MemberRole::Plain),
        }
    }
}

/// The rank of EventEx's pair of objectType and objectId in [`ENTITY_MEMBERS`].
pub(super) fn object_rank() -> u8 {
    static RANK: LazyLock<u8> = LazyLock::new(|| {
        ENTITY_MEMBERS.iter().position(|name| *name == "objectId").map_or(u8::MAX, |rank| rank as u8)
    });
    *RANK
}
