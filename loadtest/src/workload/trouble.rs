//! Troubles: the faults that a workload injects, and their times.

use std::time::Duration;

use serde::Serialize;

use super::fields::{Fields, duration, flag, whole, word};

/// Maximum number of events in one trouble.
const EVENTS_MAX: u64 = 1_000_000;
/// Maximum size of a huge event. It stays below the router's limit by a margin.
const HUGE_BYTES_MAX: u64 = 16 << 20;

/// Maximum number of pieces of an answer: smaller pieces than a network packet make no difference.
const PIECES_MAX: u64 = 1_000;

/// A trouble with its times.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduled {
    pub trouble: Trouble,
    /// Time since the start.
    pub at: Duration,
    /// The interval of repetitions.
    pub every: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trouble {
    /// The next pages begin with events that were returned before.
    Duplicates { events: u64 },
    /// The next events become visible late, behind cursors that have passed them.
    Late { events: u64, delay: Duration },
    /// Keys turn negative after this many events, and collectors fall silent.
    KeyWrap { events: u64 },
    /// The newest events disappear and their keys are used again. The clock advances by `downtime`.
    Restore { events: u64, downtime: Duration },
    /// The user may not see the next events. `sticky`: the cursor cannot pass a page full of them.
    Unreadable { events: u64, sticky: bool },
    /// Events of a class that is in no schema.
    UnknownClass { events: u64 },
    /// An event with this many bytes of text.
    Huge { bytes: u64 },
    /// The next page reads take longer.
    SlowPages { calls: u64, delay: Duration },
    /// Only half of the answer to the next page reads arrives.
    CutAnswers { calls: u64 },
    /// The next page reads are executed, but their answers are lost.
    LostAnswers { calls: u64 },
    /// The next calls end with a reset connection.
    Resets { calls: u64 },
    /// The next calls get this HTTP status.
    Status { calls: u64, status: u16 },
    /// The next page reads get no answer.
    Hang { calls: u64 },
    /// A proxy answers the next page reads with an HTML page.
    Html { calls: u64 },
    /// The answers of the next page reads come in pieces, with a pause before each.
    Drip { calls: u64, pieces: u64, pause: Duration },
    /// An event that is not well-formed XML breaks every page that contains it.
    Malformed { events: u64 },
    /// All sessions expire.
    SessionExpiry,
    /// All collectors are destroyed.
    CollectorLoss,
    /// The vCenter is down for a while and loses its sessions.
    Restart { downtime: Duration },
    /// vCenter's clock steps.
    ClockStep { by: Duration, back: bool },
    /// The target's port is closed for a while.
    TargetOutage { downtime: Duration },
    /// The router is killed with `kill -9` and started again.
    RouterKill { downtime: Duration },
}

impl Trouble {
    /// The word in a workload file.
    pub fn name(&self) -> &'static str {
        match self {
            Trouble::Duplicates { .. } => "duplicates",
            Trouble::Late { .. } => "late",
            Trouble::KeyWrap { .. } => "keyWrap",
            Trouble::Restore { .. } => "restore",
            Trouble::Unreadable { .. } => "unreadable",
            Trouble::UnknownClass { .. } => "unknownClass",
            Trouble::Huge { .. } => "huge",
            Trouble::SlowPages { .. } => "slowPages",
            Trouble::CutAnswers { .. } => "cutAnswers",
            Trouble::LostAnswers { .. } => "lostAnswers",
            Trouble::Resets { .. } => "resets",
            Trouble::Status { .. } => "status",
            Trouble::Hang { .. } => "hang",
            Trouble::Html { .. } => "html",
            Trouble::Drip { .. } => "drip",
            Trouble::Malformed { .. } => "malformed",
            Trouble::SessionExpiry => "sessionExpiry",
            Trouble::CollectorLoss => "collectorLoss",
            Trouble::Restart { .. } => "restart",
            Trouble::ClockStep { .. } => "clockStep",
            Trouble::TargetOutage { .. } => "targetOutage",
            Trouble::RouterKill { .. } => "routerKill",
        }
    }

    /// Returns true if the trouble creates events.
    pub fn creates_events(&self) -> bool {
        matches!(self, Trouble::UnknownClass { .. } | Trouble::Huge { .. } | Trouble::Malformed { .. })
    }

    /// Returns true if the trouble may cause repeated deliveries, which at-least-once delivery
    /// allows.
    pub fn repeats_deliveries(&self) -> bool {
        matches!(self, Trouble::TargetOutage { .. } | Trouble::RouterKill { .. })
    }
}

/// All names, in the order of the documentation.
const NAMES: [&str; 22] = [
    "duplicates",
    "late",
    "keyWrap",
    "restore",
    "unreadable",
    "unknownClass",
    "huge",
    "slowPages",
    "cutAnswers",
    "lostAnswers",
    "resets",
    "status",
    "hang",
    "html",
    "drip",
    "malformed",
    "sessionExpiry",
    "collectorLoss",
    "restart",
    "clockStep",
    "targetOutage",
    "routerKill",
];

pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Scheduled> {
    let name = fields.need("type", word(&NAMES.map(|name| (name, name))));
    let at = fields.get("at", duration);
    let every = fields.get("every", duration);
    if every.is_some_and(|every| every < Duration::from_millis(10)) {
        fields.wrong("every", "must be at least 10ms");
    }
    let trouble = read_kind(name?, fields)?;
    let at = at.or(every).unwrap_or(Duration::from_secs(1));
    Some(Scheduled { trouble, at, every })
}

fn read_kind(name: &str, fields: &mut Fields<'_, '_>) -> Option<Trouble> {
    // All fields are read before `?` returns, so that all problems are found at once.
    let mut events = || fields.need("events", whole(1, EVENTS_MAX));
    Some(match name {
        "duplicates" => Trouble::Duplicates { events: events()? },
        "keyWrap" => Trouble::KeyWrap { events: events()? },
        "unknownClass" => Trouble::UnknownClass { events: events()? },
        "malformed" => Trouble::Malformed { events: events()? },
        "late" => {
            let (events, delay) = (events(), fields.need("delay", duration));
            Trouble::Late { events: events?, delay: delay? }
        }
        "restore" => {
            let (events, downtime) = (events(), fields.need("downtime", duration));
            // Ids with equal keys differ only by the minute. A real restore takes longer than that.
            if downtime.is_some_and(|downtime| downtime < Duration::from_secs(120)) {
                fields.wrong(
                    "downtime",
                    "must be at least 2m: ids of events with one key differ by the minute",
                );
            }
            Trouble::Restore { events: events?, downtime: downtime? }
        }
        "unreadable" => {
            let (events, sticky) = (events(), fields.get("sticky", flag));
            Trouble::Unreadable { events: events?, sticky: sticky.unwrap_or(false) }
        }
        "huge" => Trouble::Huge { bytes: fields.need("bytes", whole(1, HUGE_BYTES_MAX))? },
        "sessionExpiry" => Trouble::SessionExpiry,
        "collectorLoss" => Trouble::CollectorLoss,
        "slowPages" => {
            let (calls, delay) = (calls(fields), fields.need("delay", duration));
            Trouble::SlowPages { calls: calls?, delay: delay? }
        }
        "hang" => Trouble::Hang { calls: calls(fields)? },
        "html" => Trouble::Html { calls: calls(fields)? },
        "drip" => {
            let (calls, pieces) = (calls(fields), fields.need("pieces", whole(1, PIECES_MAX)));
            let pause = fields.need("pause", duration);
            Trouble::Drip { calls: calls?, pieces: pieces?, pause: pause? }
        }
        "cutAnswers" => Trouble::CutAnswers { calls: calls(fields)? },
        "lostAnswers" => Trouble::LostAnswers { calls: calls(fields)? },
        "resets" => Trouble::Resets { calls: calls(fields)? },
        "status" => {
            let (calls, status) = (calls(fields), fields.need("status", whole(400, 599)));
            Trouble::Status { calls: calls?, status: status? as u16 }
        }
        "clockStep" => {
            let (by, back) = (fields.need("by", duration), fields.get("back", flag));
            Trouble::ClockStep { by: by?, back: back.unwrap_or(false) }
        }
        "restart" => Trouble::Restart { downtime: fields.need("downtime", duration)? },
        "targetOutage" => Trouble::TargetOutage { downtime: fields.need("downtime", duration)? },
        "routerKill" => Trouble::RouterKill { downtime: fields.need("downtime", duration)? },
        other => unreachable!("`{other}` is in the list of names and is not read"),
    })
}

fn calls(fields: &mut Fields<'_, '_>) -> Option<u64> {
    // By default a trouble affects one call.
    if fields.node("calls").is_none() {
        return Some(1);
    }
    fields.get("calls", whole(1, 1_000_000))
}
