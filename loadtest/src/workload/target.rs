//! The target of a workload: its type, ordering, delays and errors.

use serde::Serialize;
use testbed::sink::{Behavior, Delay, Reply};

use super::fields::{Fields, decimal, duration, flag, whole, word};

/// The form of delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// Many CloudEvents per request, as a JSON array.
    #[default]
    Batched,
    /// One CloudEvent per request, with everything in the body.
    Structured,
    /// One CloudEvent per request, with attributes in headers.
    Binary,
    /// One function invocation per event.
    Openfaas,
    /// Up to ten events per PutEvents.
    Eventbridge,
}

const SHAPES: [(&str, Shape); 5] = [
    ("batched", Shape::Batched),
    ("structured", Shape::Structured),
    ("binary", Shape::Binary),
    ("openfaas", Shape::Openfaas),
    ("eventbridge", Shape::Eventbridge),
];

impl Shape {
    /// # Errors
    /// The allowed values.
    pub fn parse(text: &str) -> Result<Shape, String> {
        word(&SHAPES)(text)
    }

    pub fn name(self) -> &'static str {
        SHAPES.iter().find(|(_, shape)| *shape == self).map_or("", |(name, _)| name)
    }
}

/// The scope in which events must arrive in vCenter's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ordering {
    Source,
    Entity,
    None,
}

const ORDERINGS: [(&str, Ordering); 3] =
    [("source", Ordering::Source), ("entity", Ordering::Entity), ("none", Ordering::None)];

impl Ordering {
    /// # Errors
    /// The allowed values.
    pub fn parse(text: &str) -> Result<Ordering, String> {
        word(&ORDERINGS)(text)
    }

    pub fn name(self) -> &'static str {
        ORDERINGS.iter().find(|(_, ordering)| *ordering == self).map_or("", |(name, _)| name)
    }
}

/// Parses the response time of the target: `20ms`, uniformly `5ms-20ms`, or mostly fast and
/// sometimes slow `p50=5ms,p99=80ms`.
///
/// # Errors
/// The allowed values.
pub fn delay(text: &str) -> Result<Delay, String> {
    let found = match text.split_once(',') {
        Some((p50, p99)) => {
            let part = |text: &str, name| duration(text.trim().strip_prefix(name)?).ok();
            part(p50, "p50=").zip(part(p99, "p99=")).map(|(p50, p99)| Delay::Percentiles { p50, p99 })
        }
        None => match text.split_once('-') {
            Some((from, to)) => {
                duration(from).ok().zip(duration(to).ok()).map(|(from, to)| Delay::Between(from, to))
            }
            None => duration(text).ok().map(Delay::Fixed),
        },
    };
    let rises = |delay: &Delay| match delay {
        Delay::Fixed(_) => true,
        Delay::Between(from, to) => from <= to,
        Delay::Percentiles { p50, p99 } => !p50.is_zero() && p50 <= p99,
    };
    found
        .filter(rises)
        .ok_or_else(|| "must be a duration such as `20ms`, or `5ms-20ms`, or `p50=5ms,p99=80ms`".to_owned())
}

/// Failing requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// The share of all requests, 0 to 1.
    pub share: f64,
    pub kind: ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    Status(u16),
    /// The connection is reset before the work.
    Reset,
    /// The work is done, then the connection is reset.
    LostAnswer,
    /// There is never an answer.
    Hang,
    /// The work is done, but only half of the answer arrives.
    HalfBody,
}

impl ErrorKind {
    /// Parses a status or a word.
    ///
    /// # Errors
    /// The allowed values.
    pub fn parse(text: &str) -> Result<ErrorKind, String> {
        match whole(400, 599)(text) {
            Ok(status) => Ok(ErrorKind::Status(status as u16)),
            Err(_) => {
                word(&REPLIES)(text).map_err(|message| format!("{message}, or a status from 400 to 599"))
            }
        }
    }

    /// The word for a failure other than a status.
    pub fn name(self) -> &'static str {
        REPLIES.iter().find(|(_, kind)| *kind == self).map_or("status", |(name, _)| name)
    }
}

const REPLIES: [(&str, ErrorKind); 4] = [
    ("reset", ErrorKind::Reset),
    ("lostAnswer", ErrorKind::LostAnswer),
    ("hang", ErrorKind::Hang),
    ("halfBody", ErrorKind::HalfBody),
];

impl Errors {
    pub fn repeats_deliveries(&self) -> bool {
        matches!(self.kind, ErrorKind::LostAnswer | ErrorKind::HalfBody)
    }

    pub fn behavior(&self) -> Behavior {
        match self.kind {
            ErrorKind::Status(status) => Behavior::status(status),
            ErrorKind::Reset => Behavior::reply(Reply::Reset),
            ErrorKind::LostAnswer => Behavior::reply(Reply::LoseAnswer),
            ErrorKind::Hang => Behavior::reply(Reply::Hang),
            ErrorKind::HalfBody => Behavior::reply(Reply::HalfBody),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSettings {
    pub shape: Shape,
    pub ordering: Ordering,
    /// Maximum number of requests in flight; `None` for the router's default.
    pub concurrency: Option<u32>,
    pub https: bool,
    /// True if events that the target cannot accept wait on disk. Otherwise the sources wait.
    pub spill: bool,
    pub delay: Delay,
    pub errors: Option<Errors>,
    /// The number of OpenFaaS functions. Each gets every event.
    pub functions: u32,
}

impl Default for TargetSettings {
    fn default() -> TargetSettings {
        TargetSettings {
            shape: Shape::Batched,
            ordering: Ordering::Source,
            concurrency: None,
            https: false,
            spill: true,
            delay: Delay::default(),
            errors: None,
            functions: 1,
        }
    }
}

impl TargetSettings {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<TargetSettings> {
        let shape = fields.get("shape", Shape::parse).unwrap_or_default();
        // EventBridge keeps no order, so the router's default there is none.
        let usual = if shape == Shape::Eventbridge { Ordering::None } else { Ordering::Source };
        let ordering = fields.get("ordering", Ordering::parse).unwrap_or(usual);
        let concurrency = fields.get("concurrency", whole(1, 1024)).map(|number| number as u32);
        let https = fields.get("https", flag).unwrap_or(false);
        let spill = fields.get("spill", flag).unwrap_or(true);
        let delay = fields.get("delay", delay);
        let errors = fields.block("errors", read_errors);
        let functions = fields.get("functions", whole(1, 64)).unwrap_or(1) as u32;
        if functions > 1 && shape != Shape::Openfaas {
            fields.wrong("functions", "needs `shape: openfaas`");
        }
        let delay = delay.unwrap_or_default();
        Some(TargetSettings { shape, ordering, concurrency, https, spill, delay, errors, functions })
    }
}

fn read_errors(fields: &mut Fields<'_, '_>) -> Option<Errors> {
    let share = fields.need("share", decimal(0.0, 1.0));
    let status = fields.get("status", whole(400, 599));
    let reply = fields.get("reply", word(&REPLIES));
    let kind = match (status, reply) {
        (None, Some(kind)) => kind,
        (status, None) => ErrorKind::Status(status.unwrap_or(503) as u16),
        (Some(_), Some(_)) => {
            fields.wrong("reply", "excludes `status`");
            return None;
        }
    };
    Some(Errors { share: share?, kind })
}
