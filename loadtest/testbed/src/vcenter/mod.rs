//! A synthetic vCenter: the part of the vSphere API that event clients use, over a virtual history
//! of events, with troubles on demand.
//!
//! ```text
//!         protocol (SOAP)
//! http ─► or vijson ─► methods ┬► collector (filter, cursor) ─► history ─► model ─► page
//!                              └► selection, views, search_index ─► property ─► entity
//! ```
//!
//! Events are virtual (see [`model`]): event `i` of a seed is always the same, so a backlog of any
//! size costs nothing and a verifier needs no list. An answer to `ReadNextEvents` is rendered
//! outside the lock, into a buffer that is used again.

pub(crate) mod clock;
mod collector;
mod data;
mod description;
pub(crate) mod digits;
mod entity;
mod filter;
mod history;
mod http;
mod identity;
mod inventory;
mod machine;
mod methods;
mod mix;
pub(crate) mod model;
mod post;
mod property;
mod protocol;
mod search_index;
mod selection;
mod special;
pub(crate) mod template;
mod trouble;
mod updates;
mod view;
mod views;
pub(crate) mod vijson;
mod world;
pub(crate) mod xml;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

pub use history::{Exceptions, KeySpan};
pub use model::{EntitiesOfMix, Entity, Mix, MixError, Model, ModelSpec};
pub use trouble::Trouble;
pub use world::Counters;

use crate::cert::{Certificate, Tls};
use crate::content::SpecialContent;
use crate::net::{Hosted, StartError};
use crate::truth::Truth;
use history::History;
use special::Special;
use trouble::ArmedTrouble;
pub(crate) use world::wall_us;
use world::{Shared, World};

/// The pace at which events are created.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// Only by `append` and by clients that post events.
    #[default]
    Idle,
    /// This many a second, evenly spaced.
    Rate(f64),
    /// As fast as they are read: reading a page creates it.
    Endless,
}

/// A vCenter to start. `..Options::default()` gives an idle one with no history on a free port over
/// HTTP.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0 for a free port.
    pub port: u16,
    /// HTTPS with this certificate; `None` for HTTP.
    pub tls: Option<Certificate>,
    pub user: String,
    pub password: String,
    pub name: String,
    /// `None` derives it from the seed, so that equal options give equal ids.
    pub instance_uuid: Option<Uuid>,
    pub seed: u64,
    pub vms: u32,
    pub hosts: u32,
    pub mix: Mix,
    pub first_key: i32,
    /// Number of events that exist at the start; the newest is `backlog_spacing` old.
    pub backlog: u64,
    pub backlog_spacing: Duration,
    pub pace: Pace,
    /// Largest number of events, backlog included.
    pub total: Option<u64>,
    /// Time without a call after which a session ends; 30 minutes by default, as on a real vCenter.
    pub session_idle: Duration,
    /// Collectors return no event after the first negative key, as on a real vCenter.
    pub wrap_silences: bool,
    /// The vCenter's clock less this machine's, in microseconds.
    pub clock_offset_us: i64,
    /// Stops the vCenter's clock at this time (microseconds since 1970), so that only
    /// [`VCenter::step_clock`] moves it. Equal options and equal calls then give equal keys and
    /// times in every run.
    pub frozen_at_us: Option<i64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            port: 0,
            tls: None,
            user: "administrator@vsphere.local".into(),
            password: "VMware1!".into(),
            name: "VMware vCenter Server".into(),
            instance_uuid: None,
            seed: 1,
            vms: 1_000,
            hosts: 32,
            mix: Mix::Steady,
            first_key: 1,
            backlog: 0,
            backlog_spacing: Duration::from_millis(1),
            pace: Pace::Idle,
            total: None,
            session_idle: Duration::from_secs(30 * 60),
            wrap_silences: true,
            clock_offset_us: 0,
            frozen_at_us: None,
        }
    }
}

/// A handle on a running synthetic vCenter; clones share it. Dropping the last one stops the
/// vCenter.
#[derive(Clone)]
pub struct VCenter {
    shared: Arc<Shared>,
    hosted: Arc<Hosted<Shared>>,
}

impl VCenter {
    /// Starts a vCenter on the caller's tokio runtime.
    ///
    /// # Errors
    /// The port is taken, or the mix names no events.
    pub async fn start(options: Options) -> Result<VCenter, StartError> {
        let model = Model::new(ModelSpec {
            seed: options.seed,
            vms: options.vms,
            hosts: options.hosts,
            mix: options.mix,
        })?;
        let tls = options.tls.map(|certificate| Tls::new(certificate, false)).transpose()?;
        let now_us = options.frozen_at_us.unwrap_or_else(wall_us) + options.clock_offset_us;
        let spacing_us = options.backlog_spacing.as_micros() as u64;
        let history = History::new(options.first_key, options.backlog, spacing_us, options.total, now_us);
        let world = World {
            history,
            sessions: HashMap::new(),
            user: options.user,
            password: options.password,
            clock_offset_us: options.clock_offset_us,
            clock_offset_us_max: options.clock_offset_us,
            armed: Vec::new(),
            duplicates: 0,
            unsendable: Vec::new(),
            refusals_pass: false,
            gzip: false,
            millis: false,
            counters: Counters::default(),
        };
        let uuid = options
            .instance_uuid
            .unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, &options.seed.to_be_bytes()));
        let mut shared =
            Shared::new(model, uuid, options.name, options.session_idle, options.wrap_silences, world);
        shared.frozen_at_us = options.frozen_at_us;
        let shared = Arc::new(shared);
        let hosted = Hosted::start(options.port, tls, Arc::clone(&shared)).await?;
        let vcenter = VCenter { shared, hosted: Arc::new(hosted) };
        vcenter.set_pace(options.pace);
        Ok(vcenter)
    }

    /// The SDK URL, as a source's address: `http://127.0.0.1:PORT/sdk`.
    pub fn url(&self) -> String {
        format!("{}/sdk", self.hosted.origin())
    }

    pub fn port(&self) -> u16 {
        self.hosted.port()
    }

    pub fn instance_uuid(&self) -> Uuid {
        self.shared.uuid
    }

    /// The certificates that a client must trust, for HTTPS.
    pub fn tls(&self) -> Option<Tls> {
        self.hosted.tls()
    }

    pub fn counters(&self) -> Counters {
        self.shared.with(|world, _| world.counters())
    }

    /// Everything that a verifier needs to know about the events, as of now.
    pub fn truth(&self) -> Truth {
        self.shared.truth()
    }

    /// A number that changes whenever [`VCenter::truth`] has more news than the number of events.
    pub fn truth_generation(&self) -> u64 {
        self.shared.with(|world, _| world.history.generation)
    }

    /// Number of events that exist.
    pub fn produced(&self) -> u64 {
        self.shared.with(|world, now_us| world.history.produced(now_us))
    }

    /// The vCenter's clock, in microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.shared.with(|_, now_us| now_us)
    }

    // --- events

    pub fn set_pace(&self, pace: Pace) {
        self.shared.change(|world, now_us| match pace {
            Pace::Idle => world.history.set_rate(0.0, now_us),
            Pace::Rate(per_second) => world.history.set_rate(per_second, now_us),
            Pace::Endless => world.history.set_endless(now_us),
        });
    }

    /// Creates events now and returns their indexes.
    pub fn append(&self, count: u64) -> Range<u64> {
        self.shared.change(|world, now_us| world.history.append(count, now_us))
    }

    /// The answer to `ReadNextEvents` with these events, without a connection. It holds all of them
    /// that exist, even those that a reader may not see, so a page may have any length.
    pub fn page(&self, range: Range<u64>) -> Bytes {
        let page = self.shared.with(|world, now_us| {
            let produced = world.history.produced(now_us);
            world.page_of_range(range.start.min(produced)..range.end.min(produced))
        });
        self.shared.page_answer("ReadNextEvents", &page)
    }

    /// Creates an event of a class that no schema knows.
    pub fn append_unknown_class(&self) -> Option<u64> {
        self.append_raw(
            "VmTeleportedEvent",
            "<userName>LAB.EXAMPLE.COM\\m.weber</userName><fullFormattedMessage>app-000001 was teleported\
             </fullFormattedMessage><warpFactor>9</warpFactor><target xsi:type=\"TeleportTarget\"><planet>Vulcan\
             </planet></target>",
        )
    }

    /// Creates an event whose element is not well-formed. Every page that contains it cannot be
    /// parsed.
    pub fn append_malformed(&self) -> Option<u64> {
        self.append_raw("VmPoweredOnEvent", "<userName>root</userName><vm><name>app-000001</vm></name>")
    }

    /// Creates an event with a message of this many bytes.
    pub fn append_huge(&self, bytes: usize) -> Option<u64> {
        let message = "All work and no play makes Jack a dull boy. ".repeat(bytes / 44 + 1);
        let tail = format!("<userName></userName><message>{}</message>", &message[..bytes]);
        self.append_raw("GeneralUserEvent", &tail)
    }

    /// Creates an event of this class with this XML after createdTime.
    pub fn append_raw(&self, class: &str, tail: &str) -> Option<u64> {
        let special = Special::new(&self.shared.model, class, tail.as_bytes().to_vec());
        self.shared.change(|world, now_us| world.history.append_special(special, now_us))
    }

    // --- troubles of calls

    /// Makes the next `times` calls of `method` go wrong. `*` is any method; `u32::MAX` calls are
    /// until cleared.
    pub fn trouble(&self, method: &str, times: u32, trouble: Trouble) {
        if times > 0 {
            let armed = ArmedTrouble { method: method.to_owned(), left: times, trouble };
            self.shared.with(|world, _| world.armed.push(armed));
        }
    }

    pub fn clear_troubles(&self) {
        self.shared.with(|world, _| world.armed.clear());
    }

    /// Compresses answers for clients that accept it.
    pub fn set_gzip(&self, gzip: bool) {
        self.shared.with(|world, _| world.gzip = gzip);
    }

    /// Writes createdTime with three digits (rounded) instead of six, as some releases do.
    pub fn set_millisecond_times(&self, millis: bool) {
        self.shared.with(|world, _| world.millis = millis);
    }

    pub fn set_password(&self, password: &str) {
        self.shared.with(|world, _| world.password = password.to_owned());
    }

    // --- troubles of sessions and collectors

    /// Ends every session, with all its objects.
    pub fn kill_sessions(&self) {
        self.shared.change(|world, _| world.sessions.clear());
    }

    /// Destroys every collector; sessions stay.
    pub fn destroy_collectors(&self) {
        self.shared.change(|world, _| {
            for session in world.sessions.values_mut() {
                session.collectors.clear();
            }
        });
    }

    // --- troubles of the history

    /// Hides the next `count` events until `delay` has passed or [`VCenter::reveal`] is called.
    /// They then appear behind the cursors that have passed.
    pub fn hide_next(&self, count: u64, delay: Option<Duration>) -> Range<u64> {
        self.shared.change(|world, now_us| {
            let until = delay.map_or(i64::MAX, |delay| now_us + delay.as_micros() as i64);
            world.history.hide_next(count, until, now_us)
        })
    }

    /// Shows all hidden events.
    pub fn reveal(&self) {
        self.shared.change(|world, _| world.history.reveal());
    }

    /// Forbids the user to read the next `count` events: they shorten or empty pages. With `sticky`
    /// the cursor never passes a page full of them, as on a real server.
    pub fn forbid_next(&self, count: u64, sticky: bool) -> Range<u64> {
        self.shared.change(|world, now_us| world.history.forbid_next(count, sticky, now_us))
    }

    /// Creates an event that cannot be sent: each page with it is refused with a fault. With
    /// `passes` the collector's cursor passes the refused page all the same. Returns the event's
    /// index.
    pub fn append_unsendable(&self, passes: bool) -> u64 {
        self.shared.change(|world, now_us| {
            let index = world.history.append(1, now_us).start;
            world.unsendable.push(index);
            world.refusals_pass = passes;
            index
        })
    }

    /// Makes the next pages begin with `count` events that were returned before.
    pub fn duplicate_next(&self, count: u64) {
        self.shared.with(|world, _| world.duplicates += count);
    }

    /// Gives the next event this key. After `i32::MAX` the next key is negative.
    pub fn set_next_key(&self, key: i32) {
        self.shared.change(|world, now_us| world.history.next_key(key, now_us));
    }

    /// Restores the vCenter from a backup: the newest `back` events are gone, keys restart at the
    /// first of theirs, sessions are gone, and `downtime` has passed on the vCenter's clock.
    pub fn restore(&self, back: u64, downtime: Duration) {
        self.step_clock(downtime.as_micros() as i64);
        self.shared.change(|world, now_us| {
            world.history.restore(back, now_us);
            world.sessions.clear();
        });
    }

    /// Steps the vCenter's clock. createdTime never goes back; it stands still instead.
    pub fn step_clock(&self, by_us: i64) {
        self.shared.change(|world, now_us| {
            world.clock_offset_us += by_us;
            world.clock_offset_us_max = world.clock_offset_us_max.max(world.clock_offset_us);
            world.history.clock_stepped(now_us, now_us + by_us);
        });
    }

    // --- the process

    /// Closes the port and all connections. History and sessions stay.
    pub async fn stop(&self) {
        self.hosted.stop().await;
    }

    /// Stops if needed, and starts again on the same port. Sessions are gone; the history stays.
    pub async fn restart(&self) -> Result<(), StartError> {
        self.stop().await;
        self.kill_sessions();
        self.hosted.restart().await
    }

    /// As [`VCenter::restart`], with a new certificate.
    ///
    /// # Errors
    /// As [`VCenter::restart`]; or the certificate cannot be made.
    pub async fn restart_with(&self, certificate: Certificate) -> Result<(), StartError> {
        self.hosted.set_tls(Tls::new(certificate, false)?);
        self.restart().await
    }
}

impl Shared {
    fn truth(&self) -> Truth {
        self.with(|world, now_us| Truth {
            instance_uuid: self.uuid,
            model: self.model.spec().clone(),
            produced: world.history.produced(now_us),
            live_from: world.history.live_from,
            clock_offset_us: world.clock_offset_us,
            clock_offset_us_max: world.clock_offset_us_max,
            spans: world.history.spans.clone(),
            exceptions: world.history.exceptions(now_us),
            generation: world.history.generation,
        })
    }

    fn created(&self, index: u64) -> Option<(i32, i64)> {
        self.with(|world, now_us| {
            let exists = index < world.history.produced(now_us);
            exists.then(|| (world.history.key(index), world.history.created_us(index)))
        })
    }
}

/// One event as it was created.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub index: u64,
    pub key: i32,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// The id that its CloudEvent must have.
    pub id: Uuid,
    pub class: String,
    pub entity: Entity,
}

impl VCenter {
    /// Key and createdTime (microseconds since 1970) of event `index`; `None` if it does not exist
    /// yet.
    pub(crate) fn created(&self, index: u64) -> Option<(i32, i64)> {
        self.shared.created(index)
    }

    /// The content of event `index` if it is not from the model.
    pub(crate) fn special(&self, index: u64) -> Option<SpecialContent> {
        let special = self.shared.with(|world, _| world.history.special(index).cloned())?;
        Some(SpecialContent {
            class: special.class.clone(),
            event_type_id: special.event_type_id.clone(),
            elements: String::from_utf8_lossy(&special.tail).into_owned(),
        })
    }

    /// The facts about event `index`; `None` if it does not exist yet.
    pub fn fact(&self, index: u64) -> Option<Fact> {
        let (key, created_us) = self.shared.created(index)?;
        let special = self.shared.with(|world, _| world.history.special(index).cloned());
        Some(Fact {
            index,
            key,
            created_us,
            id: crate::truth::event_id(&self.shared.uuid, key, created_us),
            class: special
                .as_ref()
                .map_or_else(|| self.shared.model.class(index).to_owned(), |special| special.class.clone()),
            entity: if special.is_some() { Entity::None } else { self.shared.model.entity(index) },
        })
    }
}
