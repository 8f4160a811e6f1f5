//! The rows: the actions of the target, their time, and the outcome of every request.

use std::collections::BTreeMap;

use event_router::settings::Ordering;

use super::column::{Asked, CLASSES, Column, Got};
use crate::processors_support::{Act, Seen, answer};

/// The fault of a target that accepts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    RetryAfter,
    Status500,
    Status503,
    Hang,
    HalfBody,
    Reset,
    AcknowledgementLost,
    /// Refuses every event with this status.
    RefusesEverything(u16),
    /// Some events of a request are refused.
    Partial,
    /// It does not fail.
    None,
}

impl Row {
    /// Returns true if the fault lasts until [`Script::released`]. The event waits as long, so a
    /// cell can check the other destination meanwhile.
    pub fn lasts(self) -> bool {
        matches!(self, Row::Status503 | Row::Hang | Row::Reset | Row::RefusesEverything(_))
    }
}

/// The outcome of a request, as the target knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken and acknowledged.
    Taken,
    /// Taken, but the acknowledgement did not arrive whole.
    Lost,
    /// Not taken.
    Refused,
}

/// One event of one request.
#[derive(Clone, Debug)]
pub struct Entry {
    pub to: String,
    pub got: Got,
    pub verdict: Verdict,
}

/// The event that is always refused until the target is mended.
pub const POISON: i32 = 16;
/// The first event that meets the fault: some come through before.
pub const FIRST: i32 = 6;
/// Requests that meet it.
const FAULTS: usize = 2;
/// VMs, each a lane in scope `entity`.
const VMS: i32 = 5;

/// The VM of an event: every VM has events of both kinds.
pub fn vm(key: i32) -> i32 {
    key / 2 % VMS
}

/// The class of an event: even ones go to `on`.
pub fn class(key: i32) -> &'static str {
    CLASSES[key as usize % 2].1
}

/// The state of the target.
pub struct Script {
    column: Column,
    row: Row,
    left: usize,
    /// A fault that lasts ends now.
    pub released: bool,
    pub mended: bool,
    /// The gateway is gone: a request for functions or rules finds the connection closed.
    pub gone: bool,
    pub listings: usize,
    pub log: Vec<Entry>,
    /// For `Retry-After`: the time of that answer, and the pause until the next request to the same
    /// destination.
    said_at: Option<std::time::Instant>,
    pub waited: Option<std::time::Duration>,
}

impl Script {
    pub fn new(column: Column, row: Row) -> Self {
        Script {
            column,
            row,
            left: FAULTS,
            released: false,
            mended: false,
            gone: false,
            listings: 0,
            log: Vec::new(),
            said_at: None,
            waited: None,
        }
    }

    pub fn step(&mut self, seen: &Seen) -> Act {
        match self.column.read(seen) {
            Asked::Listing(_) if self.gone => {
                self.listings += 1;
                Act::SayAndClose(String::new())
            }
            Asked::Listing(act) => {
                self.listings += 1;
                act
            }
            Asked::Deliver(to, events) => self.deliver(&to, &events),
        }
    }

    fn deliver(&mut self, to: &str, events: &[Got]) -> Act {
        if to == "on"
            && let Some(at) = self.said_at.take()
        {
            self.waited.get_or_insert(at.elapsed());
        }
        let fails = to == "on" && self.left > 0 && events.iter().any(|event| event.key >= FIRST);
        let codes = |script: &Script, of_first: Option<&'static str>| -> Vec<Option<&'static str>> {
            let of = |(at, event): (usize, &Got)| match of_first {
                Some(code) if at == 0 => Some(code),
                _ if event.key == POISON && !script.mended => Some("MalformedDetail"),
                _ => None,
            };
            events.iter().enumerate().map(of).collect()
        };
        if fails && let Some((act, verdict)) = self.fault(events.len()) {
            let lasts = self.row.lasts() && !self.released;
            self.left = if lasts { self.left.max(2) - 1 } else { self.left - 1 };
            self.note(to, events, |_| verdict);
            return act;
        }
        if self.column.is_partial() {
            // Each kind of temporary failure of an entry, in turn.
            let of_first = (fails && self.row == Row::Partial).then(|| {
                self.left -= 1;
                ["InternalFailure", "ThrottlingException"][self.left % 2]
            });
            let codes = codes(self, of_first);
            self.note(to, events, |at| if codes[at].is_some() { Verdict::Refused } else { Verdict::Taken });
            return self.column.each(&codes);
        }
        if !self.mended && events.iter().any(|event| event.key == POISON) {
            self.note(to, events, |_| Verdict::Refused);
            return answer("400 Bad Request", "", "poison");
        }
        self.note(to, events, |_| Verdict::Taken);
        self.column.taken(events.len())
    }

    /// The action of the row on a request of `n` events, if the row acts on whole requests.
    fn fault(&mut self, n: usize) -> Option<(Act, Verdict)> {
        Some(match self.row {
            Row::RetryAfter => {
                self.left = 1;
                self.said_at = Some(std::time::Instant::now());
                (answer("429 Too Many Requests", "Retry-After: 1\r\n", "{}"), Verdict::Refused)
            }
            Row::Status500 => (answer("500 Internal Server Error", "", "{}"), Verdict::Refused),
            Row::Status503 => (answer("503 Service Unavailable", "", "{}"), Verdict::Refused),
            Row::RefusesEverything(status) => {
                (answer(&format!("{status} Refused"), "Location: /login\r\n", "{}"), Verdict::Refused)
            }
            Row::Hang => (Act::SayAndHang(String::new()), Verdict::Refused),
            Row::Reset => (Act::Reset, Verdict::Refused),
            Row::HalfBody => match self.column.taken(n) {
                Act::Say(whole) if !whole.ends_with("\r\n\r\n") => {
                    (Act::SayAndClose(whole[..whole.len() - 1].into()), Verdict::Lost)
                }
                _ => {
                    let half = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
                    (Act::SayAndClose(half.into()), Verdict::Lost)
                }
            },
            Row::AcknowledgementLost => (Act::SayAndClose(String::new()), Verdict::Lost),
            Row::Partial | Row::None => return None,
        })
    }

    fn note(&mut self, to: &str, events: &[Got], verdict: impl Fn(usize) -> Verdict) {
        let entry =
            |(at, got): (usize, &Got)| Entry { to: to.into(), got: got.clone(), verdict: verdict(at) };
        self.log.extend(events.iter().enumerate().map(entry));
    }

    /// The keys that a destination has acknowledged, in that order.
    pub fn taken(&self, to: &str) -> Vec<i32> {
        let of = |entry: &&Entry| entry.to == to && entry.verdict == Verdict::Taken;
        self.log.iter().filter(of).map(|entry| entry.got.key).collect()
    }

    /// Returns true if the target knows which events the router counts as acknowledged. It does not
    /// if a time-out of the router decides.
    pub fn is_exact(&self) -> bool {
        self.row != Row::Hang
    }

    /// Status and tries of the refused event.
    pub fn refusal(&self) -> (Option<u16>, u32) {
        match self.row {
            _ if self.column.is_partial() => (None, 1),
            _ => (Some(400), 1),
        }
    }

    /// Returns true if the fault has occurred, or if the script has none.
    pub fn has_failed(&self) -> bool {
        self.row == Row::None || self.left < FAULTS
    }

    /// Asserts the properties of the log that hold for every row.
    pub fn check(&self) {
        let mut ids = BTreeMap::new();
        let mut newest: BTreeMap<(&str, i32), i32> = BTreeMap::new();
        for Entry { to, got, verdict } in &self.log {
            let right = CLASSES.iter().find(|(name, _)| name == to).unwrap().1;
            assert_eq!(got.subject, right, "{to} got {got:?}");
            assert_eq!(got.subject, class(got.key), "{got:?}");
            let id = ids.entry(got.key).or_insert(&got.id);
            assert_eq!(*id, &got.id, "the id of {} has changed", got.key);
            if got.key == POISON {
                // Replayed, it comes late on purpose.
                continue;
            }
            let lane = if self.column.ordering() == Ordering::Source { 0 } else { vm(got.key) };
            let newest = newest.entry((to, lane)).or_insert(-1);
            // A time-out ends a request that hung. On a machine that stalls, an answered one may
            // end the same way.
            let again = self.row == Row::Hang && *newest == got.key;
            assert!(*newest < got.key || again, "{} came to {to} after {newest} was taken", got.key);
            if *verdict == Verdict::Taken {
                *newest = got.key;
            }
        }
    }
}
