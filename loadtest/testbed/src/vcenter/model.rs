//! The synthetic vCenter's events: pure functions of a seed and an index.
//!
//! ```text
//! (seed, index) ─► hash ─► Pick: template, virtual machine, host
//!                            │
//!       key, createdTime ──► render ─► head + the template's tail, patched
//! ```
//!
//! No event is stored, so any number of them costs no memory, and rendering a page takes a few
//! copies. A verifier in another process computes the same events from a [`ModelSpec`]. The
//! templates are in [`super::template`], the share of events for each in [`super::mix`].

use serde::{Deserialize, Serialize};

use super::clock::Rfc3339;
use super::digits::push_int;
use super::mix::{MIX_SLOTS, slots};
pub use super::mix::{Mix, MixError};
use super::template::{self, EntityKind, Template};

/// All inputs of the events' content; equal specs give equal events.
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

/// The subject of an event, which is the scope of the order check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entity {
    /// Number of the virtual machine: `vm-1000042` is 42.
    Vm(u32),
    /// Number of the host: `host-10007` is 7.
    Host(u32),
    /// Number of the user among the templates' users.
    User(u32),
    /// No subject that every reader would name alike.
    None,
}

/// The choices that the hash of an index makes.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub template: usize,
    pub vm: u32,
    pub host: u32,
}

/// The entities that the events of a mix are about.
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
    /// Compiles the templates of a spec.
    ///
    /// # Errors
    /// The mix names an unknown template or has no weight.
    pub fn new(spec: ModelSpec) -> Result<Model, MixError> {
        let (templates, users) = template::load();
        let names: Vec<&str> = templates.iter().map(|template| template.name.as_str()).collect();
        let slots = slots(&spec.mix, &names)?;
        let spec =
            ModelSpec { vms: spec.vms.clamp(1, 1_000_000), hosts: spec.hosts.clamp(1, 10_000), ..spec };
        Ok(Model { spec, templates, users, slots })
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

    /// The subject of event `index`.
    pub fn entity(&self, index: u64) -> Entity {
        let pick = self.pick(index);
        match self.templates[pick.template].kind {
            EntityKind::Vm => Entity::Vm(pick.vm),
            EntityKind::Host => Entity::Host(pick.host),
            EntityKind::User(user) => Entity::User(user),
            EntityKind::None => Entity::None,
        }
    }

    /// [`Model::entity`] as a dense number less than [`Model::lanes`]; `None` if no order is
    /// promised.
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

    /// Counts the entities that events of this mix are about, and names the one with the most.
    pub fn entities_of_mix(&self) -> EntitiesOfMix {
        // Slots of events about virtual machines, and about hosts.
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
        // The events of a kind spread evenly over its entities, but each user has templates of its
        // own.
        let share = |slots: u32, among: u32| f64::from(slots) / MIX_SLOTS as f64 / f64::from(among);
        let user_name = |number: usize| {
            let of = self
                .templates
                .iter()
                .find(|template| matches!(template.kind, EntityKind::User(user) if user as usize == number));
            format!("the user {}", of.map_or("", Template::user))
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
    // One call site for each format; a struct would be filled and taken apart for every event.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn render(
        &self,
        out: &mut Vec<u8>,
        element: &str,
        index: u64,
        key: i32,
        clock: &mut Rfc3339,
        created_us: i64,
        form: WireForm,
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
        form: WireForm,
    ) {
        let pick = self.pick(index);
        let template = &self.templates[pick.template];
        open_json(out, &template.class, key, chain_id(key, index));
        let micros = clock.created(out, created_us, form.millis);
        let tail = if form.brief { &template.json_brief } else { &template.json_full };
        tail.write(out, pick, index, &micros);
    }
}

/// Number of consecutive keys that share a chain, as the events of one operation do.
pub(crate) const CHAIN_KEYS: i32 = 4;

pub(crate) fn chain_id(key: i32, index: u64) -> i32 {
    key.wrapping_sub((index % CHAIN_KEYS as u64) as i32)
}

/// Appends the beginning of an event in VI/JSON, up to the text of createdTime.
pub(crate) fn open_json(out: &mut Vec<u8>, class: &str, key: i32, chain_id: i32) {
    out.extend_from_slice(b"{\"_typeName\":\"");
    out.extend_from_slice(class.as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    push_int(out, key);
    out.extend_from_slice(b",\"chainId\":");
    push_int(out, chain_id);
    out.extend_from_slice(b",\"createdTime\":\"");
}

/// The form of written events. A filter or the operator chooses it; it is not part of the event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WireForm {
    /// Leaves `fullFormattedMessage` out.
    pub brief: bool,
    /// Writes `createdTime` with three digits instead of six.
    pub millis: bool,
}

/// The output function of the generator SplitMix64: equal seeds give equal, well mixed numbers.
pub(crate) fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Scales a hash to a number less than `bound`, evenly.
fn scale(hash: u64, bound: u32) -> u32 {
    ((u64::from(hash as u32) * u64::from(bound)) >> 32) as u32
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
            model.render(&mut out, "returnval", index, index as i32 + 1, &mut clock, 0, WireForm::default());
        }
        String::from_utf8(out).unwrap()
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
}
