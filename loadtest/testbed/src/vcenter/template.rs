//! Templates of events: `templates.txt`, parsed and compiled into bytes with places to patch.
//!
//! ```text
//! templates.txt   VmPoweredOnEvent vm VmEvent          class, entity, ancestors
//!                 <userName>…</userName>{host}{vm}     elements after createdTime
//!                            │ parse, expand arguments, compile once
//!                            ▼
//! Tail            </createdTime>…<name>app-000000</name>…   bytes
//!                                          ▲ Vm(offset)     patches
//! ```
//!
//! Rendering an event copies the bytes of its template's tail and overwrites the patches: the
//! number of the virtual machine, the number of the host, the sequence number, and the time.
//! [`super::model`] chooses the template and the numbers of an event, and writes the part before
//! the tail.

use super::digits::write_digits;
use super::model::Pick;
use super::vijson;

const TEMPLATES: &str = include_str!("templates.txt");

/// The kind of entity that a template's events are about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum EntityKind {
    Vm,
    Host,
    User(u32),
    None,
}

/// The offset of a place that each event overwrites.
#[derive(Clone, Copy)]
enum Patch {
    Vm(u32),
    Host(u32),
    Seq(u32),
    Time(u32),
}

/// One prebuilt event. The element is `<NAME` + `open` + key + … + `tail` + `</NAME>`.
pub(crate) struct Template {
    /// The name in a mix: the class, or the event type id.
    pub name: String,
    pub class: String,
    /// For `EventEx` and `ExtendedEvent` only.
    pub event_type_id: Option<String>,
    ancestors: Vec<String>,
    user: String,
    category: &'static str,
    pub kind: EntityKind,
    /// The arguments of its events, by their names in [`ARGUMENTS`].
    arguments: Vec<&'static str>,
    /// The elements after createdTime, with their placeholders.
    pub body: String,
    /// The bytes from the element's name up to the key.
    pub open: Vec<u8>,
    pub full: Tail,
    /// Without `fullFormattedMessage`, for `disableFullMessage`.
    pub brief: Tail,
    pub json_full: Tail,
    pub json_brief: Tail,
}

/// The end of a rendered event, from the end of createdTime on.
pub(crate) struct Tail {
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

impl Template {
    /// True if its events are of this class, or of a class derived from it.
    pub fn is_a(&self, class: &str) -> bool {
        class == "Event" || class == self.class || self.ancestors.iter().any(|ancestor| ancestor == class)
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// The category of its events in `EventDescription`.
    pub fn category(&self) -> &'static str {
        self.category
    }

    /// True if its events have this argument: `{dc}`, `{cluster}`, `{host}`, `{vm}` or `{ds}`.
    pub fn has(&self, argument: &str) -> bool {
        self.arguments.contains(&argument)
    }
}

impl Tail {
    /// Appends the tail of event `index`; `micros` is the event's time.
    pub fn write(&self, out: &mut Vec<u8>, pick: Pick, index: u64, micros: &[u8; 27]) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let patched = &mut out[at..];
        for patch in &self.patches {
            match *patch {
                Patch::Vm(offset) => write_digits(&mut patched[offset as usize..][..6], pick.vm),
                Patch::Host(offset) => write_digits(&mut patched[offset as usize..][..4], pick.host),
                Patch::Seq(offset) => {
                    write_digits(&mut patched[offset as usize..][..8], (index % 100_000_000) as u32);
                }
                Patch::Time(offset) => patched[offset as usize..][..27].copy_from_slice(micros),
            }
        }
    }
}

/// The category of an event: by severity for an `EventEx`, else by class.
pub(crate) fn category(class: &str, severity: Option<&str>) -> &'static str {
    match (class, severity) {
        ("HostConnectionLostEvent" | "BadUsernameSessionEvent", _) | ("EventEx", Some("error")) => "error",
        ("EventEx", Some("warning")) => "warning",
        ("GeneralUserEvent", _) | ("EventEx", Some("user")) => "user",
        _ => "info",
    }
}

/// All templates, and the number of different users among them. Equal users get equal numbers.
pub(crate) fn load() -> (Vec<Template>, u32) {
    let mut templates = parse_templates();
    let mut users: Vec<String> = Vec::new();
    for template in &mut templates {
        if let EntityKind::User(number) = &mut template.kind {
            *number = match users.iter().position(|user| *user == template.user) {
                Some(at) => at as u32,
                None => {
                    users.push(template.user.clone());
                    users.len() as u32 - 1
                }
            };
        }
    }
    (templates, users.len() as u32)
}

/// The names that a mix may use.
#[cfg(test)]
pub(crate) fn template_names() -> Vec<String> {
    parse_templates().into_iter().map(|template| template.name).collect()
}

fn parse_templates() -> Vec<Template> {
    let text: String =
        TEMPLATES.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()).map(parse_template).collect()
}

/// Parses one paragraph of the file.
fn parse_template(text: &str) -> Template {
    // The first line: name, entity and ancestors.
    let (head, body) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = head.split(' ');
    let name = words.next().unwrap_or_default();
    let (class, name, event_type_id) = match name.split_once(':') {
        Some((class @ ("EventEx" | "ExtendedEvent"), id)) => (class, id, Some(id)),
        // `TaskEvent:large` is a second template of a class without type ids.
        Some((class, _)) => (class, name, None),
        None => (name, name, None),
    };
    let kind = match words.next() {
        Some("vm") => EntityKind::Vm,
        Some("host") => EntityKind::Host,
        Some("user") => EntityKind::User(0),
        _ => EntityKind::None,
    };
    // The body, with and without the message that a filter may disable.
    let body: String = body.lines().map(str::trim).collect();
    let user = between(&body, "<userName>", "</userName>").unwrap_or_default().to_owned();
    let brief = match (body.find("<fullFormattedMessage>"), body.find("</fullFormattedMessage>")) {
        (Some(from), Some(to)) => {
            format!("{}{}", &body[..from], &body[to + "</fullFormattedMessage>".len()..])
        }
        _ => body.clone(),
    };
    Template {
        name: name.to_owned(),
        class: class.to_owned(),
        event_type_id: event_type_id.map(str::to_owned),
        ancestors: words.map(str::to_owned).collect(),
        user,
        category: category(class, between(&body, "<severity>", "</severity>")),
        kind,
        arguments: ARGUMENTS.iter().map(|(name, _)| *name).filter(|name| body.contains(name)).collect(),
        body: expand(&body),
        open: format!(" xsi:type=\"{class}\"><key>").into_bytes(),
        full: compile("</createdTime>", &expand(&body)),
        brief: compile("</createdTime>", &expand(&brief)),
        json_full: compile("\"", &json_fields(class, &body)),
        json_brief: compile("\"", &json_fields(class, &brief)),
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let start = text.find(from)? + from.len();
    Some(&text[start..start + text[start..].find(to)?])
}

/// Event arguments, by placeholder.
const ARGUMENTS: [(&str, &str); 5] = [
    (
        "{dc}",
        "<datacenter><name>DC-FRA-01</name><datacenter type=\"Datacenter\">datacenter-3</datacenter></datacenter>",
    ),
    (
        "{cluster}",
        "<computeResource><name>CL-Prod-01</name><computeResource type=\"ClusterComputeResource\">domain-c8</computeResource></computeResource>",
    ),
    (
        "{host}",
        "<host><name>esx-{host4}.lab.local</name><host type=\"HostSystem\">host-1{host4}</host></host>",
    ),
    ("{vm}", "<vm><name>app-{vm6}</name><vm type=\"VirtualMachine\">vm-1{vm6}</vm></vm>"),
    ("{ds}", "<ds><name>vsan-01</name><datastore type=\"Datastore\">datastore-41</datastore></ds>"),
];

/// Replaces the placeholders of event arguments by their elements.
fn expand(body: &str) -> String {
    ARGUMENTS.iter().fold(body.to_owned(), |text, (placeholder, element)| text.replace(placeholder, element))
}

/// The body as VI/JSON. Up to this point a patched number is in quotes.
fn json_fields(class: &str, body: &str) -> String {
    vijson::event_fields(class, &expand(body)).replace("\"1{seq8}\"", "1{seq8}")
}

/// Joins `start` and `text`, and records the offset of each placeholder.
fn compile(start: &str, text: &str) -> Tail {
    type Placeholder = (&'static str, usize, fn(u32) -> Patch);
    const PLACEHOLDERS: [Placeholder; 4] = [
        ("{vm6}", 6, Patch::Vm),
        ("{host4}", 4, Patch::Host),
        ("{seq8}", 8, Patch::Seq),
        ("{time}", 27, Patch::Time),
    ];
    let mut bytes = start.as_bytes().to_vec();
    let mut patches = Vec::new();
    let mut rest = text;
    let next = |rest: &str| {
        let found =
            PLACEHOLDERS.iter().filter_map(|placeholder| Some((rest.find(placeholder.0)?, *placeholder)));
        found.min_by_key(|(at, _)| *at)
    };
    while let Some((at, (name, width, patch))) = next(rest) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        patches.push(patch(bytes.len() as u32));
        bytes.resize(bytes.len() + width, b'0');
        rest = &rest[at + name.len()..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Tail { bytes, patches }
}

#[cfg(test)]
mod tests {
    use super::super::model::open_json;
    use super::*;

    #[test]
    fn every_template_is_well_formed_and_complete() {
        for (number, template) in load().0.iter().enumerate() {
            assert!(!template.full.bytes.contains(&b'{'), "{}: unknown placeholder", template.class);
            let mut out = template.open.clone();
            out.splice(0..0, *b"<returnval xmlns:xsi='http://x'");
            out.extend_from_slice(b"1</key><createdTime>t");
            out.extend_from_slice(&template.full.bytes);
            out.extend_from_slice(b"</returnval>");
            let text = String::from_utf8(out).unwrap();
            let node = crate::vcenter::xml::parse(text.as_bytes())
                .unwrap_or_else(|error| panic!("template {number} {}: {error}\n{text}", template.class));
            assert!(node.child("fullFormattedMessage").is_some(), "{}", template.class);
            let mut json = Vec::new();
            open_json(&mut json, &template.class, 1, 1);
            json.extend_from_slice(&template.json_full.bytes);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap_or_else(|error| {
                panic!("{}: {error}\n{}", template.class, String::from_utf8_lossy(&json))
            });
            assert_eq!(value["userName"], template.user);
            assert_eq!(value["fullFormattedMessage"], node.text_of("fullFormattedMessage").unwrap());
        }
    }
}
