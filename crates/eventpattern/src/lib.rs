//! EventBridge event patterns: which patterns match an event.
//!
//! The route stage asks which destinations want an event; the EventBridge processor asks which rules of a bus would take it. Both compile their
//! patterns once into a [`PatternSet`] and give each thread a [`Matcher`].
//!
//! ```text
//! pattern ──► alternatives (one for each combination of `$or`), each a conjunction:
//!
//!   class constraints   source, type, subject, …: few values      decided once a class, remembered
//!   event constraints   id, time, extensions                      decided for each event, data untouched
//!   data constraints    what lies in `data`                       `data` read once for all that remain
//!                         ├─ found by value     a constraint of exact strings and integers, hashed
//!                         ├─ found by quamina   many at once; operators that it has
//!                         └─ tried in turn      the direct evaluator, every operator
//! ```
//!
//! A *class* is what many events share: subject, type and source. Alternatives with an exact subject are found by it; the others are tried, once
//! a class. Whatever way finds an alternative, the direct evaluator has the last word on all its constraints, so that quamina is a filter and not
//! a second truth; tests hold the two equal on what both can say.
//!
//! Invariants: a matcher gives the same patterns for the same event whatever came before; a pattern that cannot be decided (unreadable `data`, an
//! unknown account) counts as matching, so that no event is lost to doubt; patterns over the envelope alone never touch `data` and, once the
//! class is known, never allocate.
//!
//! The language is AWS's (EventBridge user guide, "Comparison operators for use in event patterns"), as its engine Event Ruler reads it:
//! `prefix`, `suffix`, `equals-ignore-case`, `wildcard`, `anything-but`, `numeric`, `exists`, `cidr`, `$or`; also the old router's `shellstyle`.
//! Numbers compare by value: `300`, `300.0` and `3e2` are equal; integers of 64 bits exactly, all others as binary64. `exists` looks at leaves: an object, an empty object and an empty array do not exist, `null` does.

mod compile;
mod error;
mod flatten;
mod index;
pub mod limits;
mod matcher;
mod number;
mod operator;
mod paths;
mod set;
mod shard;
#[cfg(test)]
mod tests;
mod text;

pub use error::{Fault, PatternError};
pub use matcher::Matcher;
pub use set::{Needs, PatternSet};

/// The caller's name for a pattern. Several patterns may share one: it is reported when any of them matches.
pub type PatternId = u32;

/// What a pattern's top level names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// The CloudEvent: `{"source": …, "type": …, "subject": …, "data": {…}}`.
    #[default]
    CloudEvent,
    /// The AWS event that PutEvents makes of it: `{"source": …, "detail-type": SUBJECT, "account": …, "region": …, "detail": {CLOUDEVENT}}`.
    /// AWS sets `id` and `time` when the event arrives: constraints on them count as met.
    AwsEvent,
}

/// What an event is, as far as patterns can see. Empty text is an absent attribute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The CloudEvents `source`: the SDK URL.
    pub source: &'a str,
    /// The CloudEvents `type`.
    pub kind: &'a str,
    pub subject: &'a str,
    /// Needed only where [`Needs::id`] says so.
    pub id: &'a str,
    /// The CloudEvents `time` as it is delivered. Needed only where [`Needs::time`] says so.
    pub time: &'a str,
    pub datacontenttype: &'a str,
    /// Extension attributes. Needed only where [`Needs::extensions`] says so.
    pub extensions: &'a [(&'a str, &'a str)],
    /// AWS account, where known; constraints on an unknown one count as met. [`Root::AwsEvent`] only.
    pub account: &'a str,
    /// AWS region, where known. [`Root::AwsEvent`] only.
    pub region: &'a str,
    /// `data` as JSON, UTF-8. Needed only where [`Needs::data`] says so.
    pub data: &'a [u8],
}
