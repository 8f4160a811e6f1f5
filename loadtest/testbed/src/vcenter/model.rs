//! What the synthetic vCenter's events look like: pure functions of a seed and an index.
//!
//! An event is a prebuilt template with its key, chain id, times, virtual machine and host written into it, so that any
//! number of events costs no memory and a page is a few copies. Which template and which entities an index gets is one
//! hash of (seed, index): a verifier in another process computes the same from a [`ModelSpec`].

use serde::{Deserialize, Serialize};

use super::clock::Rfc3339;
use super::mix::{MIX_SLOTS, slots};
pub use super::mix::{Mix, MixError};
use super::vijson;

const TEMPLATES: &str = include_str!("templates.txt");

/// All that determines the events' content; equal specs give equal events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    pub seed: u64,
    /// Virtual machines in the inventory, at most 1,000,000.
    pub vms: u32,
    /// Hosts in the inventory, at most 10,000.
    pub hosts: u32,
    pub mix: Mix,
}

/// What an event is about; the scope of the order check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entity {
    /// Number of the virtual machine: `vm-1000042` is 42.
    Vm(u32),
    /// Number of the host: `host-10007` is 7.
    Host(u32),
    /// Number of the user among the templates' users.
    User(u32),
    /// Nothing that every reader would name alike.
    None,
}

#[derive(Clone, Copy, PartialEq)]
enum EntityKind {
    Vm,
    Host,
    User(u32),
    None,
}

#[derive(Clone, Copy)]
enum Patch {
    Vm(u32),
    Host(u32),
    Seq(u32),
    Time(u32),
}

/// One prebuilt event. The element is `<NAME` + `open` + key + … + `tail` + `</NAME>`.
pub(crate) struct Template {
    /// What a mix calls it: the class, or the event type id.
    name: String,
    pub class: String,
    /// `EventEx` and `ExtendedEvent` only.
    pub event_type_id: Option<String>,
    ancestors: Vec<String>,
    user: String,
    category: &'static str,
    kind: EntityKind,
    /// The arguments that its events have, as [`ARGUMENTS`] names them.
    arguments: Vec<&'static str>,
    /// The elements after createdTime, with placeholders for what is patched.
    pub body: String,
    open: Vec<u8>,
    full: Tail,
    /// Without `fullFormattedMessage`, for `disableFullMessage`.
    brief: Tail,
    json_full: Tail,
    json_brief: Tail,
}

struct Tail {
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

impl Template {
    /// Whether its events are of this class, or of one derived from it.
    pub fn is_a(&self, class: &str) -> bool {
        class == "Event" || class == self.class || self.ancestors.iter().any(|ancestor| ancestor == class)
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// As `EventDescription` sorts event types.
    pub fn category(&self) -> &'static str {
        self.category
    }

    /// Whether its events have this argument: `{dc}`, `{cluster}`, `{host}`, `{vm}` or `{ds}`.
    pub fn has(&self, argument: &str) -> bool {
        self.arguments.contains(&argument)
    }
}

/// The category of an event: the severity of an `EventEx`, else by its class.
pub(crate) fn category(class: &str, severity: Option<&str>) -> &'static str {
    match (class, severity) {
        ("HostConnectionLostEvent" | "BadUsernameSessionEvent", _) | ("EventEx", Some("error")) => "error",
        ("EventEx", Some("warning")) => "warning",
        ("GeneralUserEvent", _) | ("EventEx", Some("user")) => "user",
        _ => "info",
    }
}

/// What of an index the hash decides.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub template: usize,
    pub vm: u32,
    pub host: u32,
}

/// What the events of a mix are about.
#[derive(Clone, Debug, PartialEq)]
pub struct EntitiesOfMix {
    pub count: u64,
    /// The entity with the most events, in words.
    pub busiest: String,
    /// Its share of all events, 0 to 1.
    pub busiest_share: f64,
}

/// The compiled templates of one [`ModelSpec`].
pub struct Model {
    spec: ModelSpec,
    templates: Vec<Template>,
    users: u32,
    slots: Vec<u8>,
}

impl Model {
    /// # Errors
    /// The mix names an unknown template or has no weight.
    pub fn new(spec: ModelSpec) -> Result<Model, MixError> {
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
        let names: Vec<&str> = templates.iter().map(|template| template.name.as_str()).collect();
        let slots = slots(&spec.mix, &names)?;
        let spec =
            ModelSpec { vms: spec.vms.clamp(1, 1_000_000), hosts: spec.hosts.clamp(1, 10_000), ..spec };
        Ok(Model { spec, templates, users: users.len() as u32, slots })
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    pub(crate) fn templates(&self) -> &[Template] {
        &self.templates
    }

    pub(crate) fn pick(&self, index: u64) -> Pick {
        let hash = splitmix(self.spec.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let vm = scale(hash >> 16, self.spec.vms);
        Pick { template: self.slots[hash as usize % MIX_SLOTS] as usize, vm, host: vm % self.spec.hosts }
    }

    /// Class name of event `index` (`EventEx`, `VmPoweredOnEvent`, …).
    pub fn class(&self, index: u64) -> &str {
        &self.templates[self.pick(index).template].class
    }

    /// `eventTypeId` of event `index`, for `EventEx` and `ExtendedEvent`.
    pub fn event_type_id(&self, index: u64) -> Option<&str> {
        self.templates[self.pick(index).template].event_type_id.as_deref()
    }

    /// What event `index` is about.
    pub fn entity(&self, index: u64) -> Entity {
        let pick = self.pick(index);
        match self.templates[pick.template].kind {
            EntityKind::Vm => Entity::Vm(pick.vm),
            EntityKind::Host => Entity::Host(pick.host),
            EntityKind::User(user) => Entity::User(user),
            EntityKind::None => Entity::None,
        }
    }

    /// [`Model::entity`] as a dense number below [`Model::lanes`]; `None` where no order is promised.
    pub fn lane(&self, index: u64) -> Option<usize> {
        let lane = match self.entity(index) {
            Entity::Vm(vm) => vm,
            Entity::Host(host) => self.spec.vms + host,
            Entity::User(user) => self.spec.vms + self.spec.hosts + user,
            Entity::None => return None,
        };
        Some(lane as usize)
    }

    pub fn lanes(&self) -> usize {
        (self.spec.vms + self.spec.hosts + self.users) as usize
    }

    /// Entities that events of this mix are about, and the one that most of them are about, in words with its share.
    pub fn entities_of_mix(&self) -> EntitiesOfMix {
        let mut shares = (0, 0);
        let mut users = vec![0u32; self.users as usize];
        for slot in &self.slots {
            match self.templates[*slot as usize].kind {
                EntityKind::Vm => shares.0 += 1,
                EntityKind::Host => shares.1 += 1,
                EntityKind::User(user) => users[user as usize] += 1,
                EntityKind::None => {}
            }
        }
        let share = |slots: u32, among: u32| f64::from(slots) / MIX_SLOTS as f64 / f64::from(among);
        let user_name = |number: usize| {
            let of = self
                .templates
                .iter()
                .find(|template| matches!(template.kind, EntityKind::User(user) if user as usize == number));
            format!("the user {}", of.map_or("", |template| template.user.as_str()))
        };
        let mut busiest =
            (format!("each of {} virtual machines", self.spec.vms), share(shares.0, self.spec.vms));
        let hosts = (format!("each of {} hosts", self.spec.hosts), share(shares.1, self.spec.hosts));
        let users_shares =
            users.iter().enumerate().map(|(number, slots)| (user_name(number), share(*slots, 1)));
        for other in std::iter::once(hosts).chain(users_shares) {
            if other.1 > busiest.1 {
                busiest = other;
            }
        }
        let among = |slots: u32, count: u32| if slots > 0 { u64::from(count) } else { 0 };
        EntitiesOfMix {
            count: among(shares.0, self.spec.vms)
                + among(shares.1, self.spec.hosts)
                + users.iter().filter(|slots| **slots > 0).count() as u64,
            busiest: busiest.0,
            busiest_share: busiest.1,
        }
    }

    /// Appends event `index` as an element called `element`.
    #[allow(clippy::too_many_arguments)] // one call site a format; a struct would be filled and taken apart per event
    pub(crate) fn render(
        &self,
        out: &mut Vec<u8>,
        element: &str,
        index: u64,
        key: i32,
        clock: &mut Rfc3339,
        created_us: i64,
        form: Form,
    ) {
        let pick = self.pick(index);
        let template = &self.templates[pick.template];
        out.push(b'<');
        out.extend_from_slice(element.as_bytes());
        out.extend_from_slice(&template.open);
        push_int(out, key);
        out.extend_from_slice(b"</key><chainId>");
        push_int(out, chain_id(key, index));
        out.extend_from_slice(b"</chainId><createdTime>");
        let micros = clock.created(out, created_us, form.millis);
        let tail = if form.brief { &template.brief } else { &template.full };
        tail.write(out, pick, index, &micros);
        out.extend_from_slice(b"</");
        out.extend_from_slice(element.as_bytes());
        out.push(b'>');
    }

    /// Appends event `index` as VI/JSON.
    pub(crate) fn render_json(
        &self,
        out: &mut Vec<u8>,
        index: u64,
        key: i32,
        clock: &mut Rfc3339,
        created_us: i64,
        form: Form,
    ) {
        let pick = self.pick(index);
        let template = &self.templates[pick.template];
        open_json(out, &template.class, key, chain_id(key, index));
        let micros = clock.created(out, created_us, form.millis);
        let tail = if form.brief { &template.json_brief } else { &template.json_full };
        tail.write(out, pick, index, &micros);
    }
}

/// Consecutive keys that share a chain, as the events of one operation do.
pub(crate) const CHAIN_KEYS: i32 = 4;

pub(crate) fn chain_id(key: i32, index: u64) -> i32 {
    key.wrapping_sub((index % CHAIN_KEYS as u64) as i32)
}

/// What every event in VI/JSON begins with, up to the text of createdTime.
pub(crate) fn open_json(out: &mut Vec<u8>, class: &str, key: i32, chain_id: i32) {
    out.extend_from_slice(b"{\"_typeName\":\"");
    out.extend_from_slice(class.as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    push_int(out, key);
    out.extend_from_slice(b",\"chainId\":");
    push_int(out, chain_id);
    out.extend_from_slice(b",\"createdTime\":\"");
}

impl Tail {
    fn write(&self, out: &mut Vec<u8>, pick: Pick, index: u64, micros: &[u8; 27]) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let patched = &mut out[at..];
        for patch in &self.patches {
            match *patch {
                Patch::Vm(offset) => digits(&mut patched[offset as usize..][..6], pick.vm),
                Patch::Host(offset) => digits(&mut patched[offset as usize..][..4], pick.host),
                Patch::Seq(offset) => {
                    digits(&mut patched[offset as usize..][..8], (index % 100_000_000) as u32);
                }
                Patch::Time(offset) => patched[offset as usize..][..27].copy_from_slice(micros),
            }
        }
    }
}

/// How events are written; a filter or an operator's choice, not part of the event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Form {
    /// Without `fullFormattedMessage`.
    pub brief: bool,
    /// `createdTime` with three digits instead of six.
    pub millis: bool,
}

pub(crate) fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn scale(hash: u64, bound: u32) -> u32 {
    ((u64::from(hash as u32) * u64::from(bound)) >> 32) as u32
}

fn digits(at: &mut [u8], mut value: u32) {
    for digit in at.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends a decimal number; `write!` costs five times this, twice an event.
pub(crate) fn push_int(out: &mut Vec<u8>, value: i32) {
    let mut buffer = [0u8; 11];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.extend_from_slice(&buffer[at..]);
}

/// What a mix may name.
#[cfg(test)]
pub(crate) fn template_names() -> Vec<String> {
    parse_templates().into_iter().map(|template| template.name).collect()
}

fn parse_templates() -> Vec<Template> {
    let text: String =
        TEMPLATES.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()).map(parse_template).collect()
}

fn parse_template(text: &str) -> Template {
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

/// Writes out the event arguments.
fn expand(body: &str) -> String {
    ARGUMENTS.iter().fold(body.to_owned(), |text, (placeholder, element)| text.replace(placeholder, element))
}

/// The body as VI/JSON. A number that is patched per event stands between quotes until here.
fn json_fields(class: &str, body: &str) -> String {
    vijson::event_fields(class, &expand(body)).replace("\"1{seq8}\"", "1{seq8}")
}

/// `start` and `text`, with the offsets of what is patched per event.
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
    use super::*;

    fn model(mix: Mix) -> Model {
        Model::new(ModelSpec { seed: 7, vms: 1000, hosts: 20, mix }).unwrap()
    }

    fn page(model: &Model, events: u64) -> String {
        let mut out = Vec::new();
        let mut clock = Rfc3339::default();
        for index in 0..events {
            model.render(&mut out, "returnval", index, index as i32 + 1, &mut clock, 0, Form::default());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_template_is_well_formed_and_complete() {
        for (number, template) in model(Mix::Steady).templates().iter().enumerate() {
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

    #[test]
    fn sizes_are_those_of_a_real_vcenter() {
        let steady = page(&model(Mix::Steady), 10_000).len() / 10_000;
        assert!((690..=800).contains(&steady), "{steady} bytes an event");
        let large = page(&model(Mix::LargeTasks), 1_000).len() / 1_000;
        assert!((2_500..=4_500).contains(&large), "{large} bytes an event");
    }

    #[test]
    fn equal_specs_give_equal_events_and_other_seeds_others() {
        assert_eq!(page(&model(Mix::Steady), 100), page(&model(Mix::Steady), 100));
        let other = Model::new(ModelSpec { seed: 8, vms: 1000, hosts: 20, mix: Mix::Steady }).unwrap();
        assert_ne!(page(&model(Mix::Steady), 100), page(&other, 100));
    }

    #[test]
    fn the_entities_of_a_mix_are_counted_and_the_busiest_is_named() {
        for (mix, count, busiest, share) in [
            (Mix::Steady, 1_000 + 20 + 4, "the user VSPHERE.LOCAL\\svc-monitoring", 0.2),
            (Mix::BootStorm, 1_000, "each of 1000 virtual machines", 0.001),
            (Mix::LoginStorm, 2, "the user VSPHERE.LOCAL\\svc-monitoring", 0.95),
        ] {
            let found = model(mix).entities_of_mix();
            assert_eq!((found.count, found.busiest.as_str()), (count, busiest));
            assert!((found.busiest_share - share).abs() < 0.01, "{found:?}");
        }
    }

    #[test]
    fn all_mixes_compile_and_a_wrong_name_is_refused() {
        for mix in Mix::NAMED {
            assert_eq!(model(mix).slots.len(), MIX_SLOTS);
        }
        for (list, expected) in [
            (vec![("NoSuchEvent".to_owned(), 1)], "mix of events: no template for `NoSuchEvent`"),
            (vec![], "mix of events: no weight; give at least one class a weight above 0"),
        ] {
            let spec = ModelSpec { seed: 1, vms: 1, hosts: 1, mix: Mix::Custom(list) };
            assert_eq!(Model::new(spec).err().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn integers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 1, -1, 42, i32::MAX, i32::MIN, 1_000_000] {
            let mut out = Vec::new();
            push_int(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
