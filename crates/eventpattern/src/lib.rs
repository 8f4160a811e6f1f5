//! [EventBridge event patterns][patterns]: compile many patterns once, then find those that match
//! an event.
//!
//! [patterns]: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
//!
//! ```
//! use std::sync::Arc;
//!
//! use eventpattern::{Event, PatternSet, Root};
//! use serde_json::json;
//!
//! let patterns = [
//!     (1, json!({"subject": ["VmPoweredOnEvent", "VmPoweredOffEvent"]})),
//!     (2, json!({"data": {"Vm": {"Name": [{"prefix": "web-"}]}}})),
//!     (3, json!({"data": {"Key": [{"numeric": [">", 100]}]}})),
//! ];
//! let set = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).expect("valid patterns"));
//!
//! let mut matcher = set.matcher();
//! let mut matched = Vec::new();
//! let event = Event {
//!     subject: "VmPoweredOnEvent",
//!     data: br#"{"Key": 7, "Vm": {"Name": "web-1"}}"#,
//!     ..Event::default()
//! };
//! matcher.matches(&event, &mut matched);
//! assert_eq!(matched, [1, 2]);
//! ```
//!
//! # Pattern language
//!
//! The operators are `prefix`, `suffix`, `equals-ignore-case`, `wildcard`, `anything-but`,
//! `numeric`, `exists`, `cidr` and `$or`, with the semantics of [Event
//! Ruler](https://github.com/aws/event-ruler), the engine of EventBridge, and `shellstyle` of
//! quamina. Numbers compare by value: `300`, `300.0` and `3e2` are equal. `exists` looks at leaves:
//! `null` exists; objects and empty arrays do not.
//!
//! Errors name their place in the pattern and what is allowed there:
//!
//! ```
//! use eventpattern::{PatternSet, Root};
//! use serde_json::json;
//!
//! let pattern = json!({"source": [{"prefx": "aws."}]});
//! let errors = PatternSet::compile(Root::CloudEvent, &[(1, pattern)]).expect_err("misspelled");
//! assert!(errors[0].to_string().starts_with(
//!     "$.source[0].prefx: unknown operator `prefx`; did you mean `prefix`?"
//! ));
//! ```
//!
//! [`explain`] tells which part of a pattern an event does not meet:
//!
//! ```
//! use eventpattern::{Event, Explanation, Root, explain};
//! use serde_json::json;
//!
//! let pattern = json!({"data": {"Vm": {"Name": [{"prefix": "web-"}]}}});
//! let event = Event { data: br#"{"Vm": {"Name": "db-1"}}"#, ..Event::default() };
//! let Ok(Explanation::Refused(reasons)) = explain(Root::CloudEvent, &pattern, &event) else {
//!     panic!("the name does not begin with web-");
//! };
//! assert_eq!(
//!     reasons[0].to_string(),
//!     r#"`$.data.Vm.Name` allows [{"prefix":"web-"}]; the event has "db-1""#
//! );
//! ```
//!
//! # Search
//!
//! ```text
//! pattern ──► alternatives (one for each combination of `$or` branches), each a conjunction of
//!
//!   class constraints   source, type, subject, …: few values   evaluated once for each class
//!   event constraints   id, time, extensions                   evaluated for each event
//!   data constraints    the rest                               found by an index, then evaluated
//! ```
//!
//! A *class* is the set of events with the same source, type, subject and so on. A [`Matcher`]
//! remembers for each class the patterns that match all its events and an index of the alternatives
//! with its subject. Alternatives without an exact subject share one index. An index proposes
//! alternatives by one of their conditions on `data`; the evaluator then checks all constraints of
//! each. So the index may find too many alternatives, but must never miss one.
//!
//! Invariants:
//!
//! - The result for an event does not depend on earlier events.
//! - A pattern that cannot be decided counts as matching, and [`Matcher::undecided`] counts the
//!   event. This happens when `data` is malformed or its nested arrays need too many steps.
//! - Patterns on attributes alone never read `data`, and do not allocate once the class is known.

mod compile;
mod condition;
mod error;
mod evaluate;
mod explain;
mod flatten;
mod index;
pub mod limits;
mod matcher;
mod number;
mod paths;
mod set;
#[cfg(test)]
mod tests;
mod text;

pub use error::{ErrorKind, PatternError};
pub use explain::{Explanation, Mismatch, explain};
pub use matcher::Matcher;
pub use set::{Needs, PatternSet};

/// The caller's name for a pattern. Patterns with the same id act as one that matches when any of
/// them does.
pub type PatternId = u32;

/// The kind of event that the top level of a pattern describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// A CloudEvent: `{"source": …, "type": …, "subject": …, "data": {…}}`.
    #[default]
    CloudEvent,
    /// An AWS event that carries a CloudEvent as its `detail` and has the CloudEvent's subject as
    /// `detail-type`: `{"source": …, "detail-type": …, "account": …, "region": …, "detail": {…}}`.
    /// AWS sets `id` and `time` on arrival, so constraints on them count as met.
    AwsEvent,
    /// The JSON document in [`Event::data`], for events that are not CloudEvents:
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use eventpattern::{Event, PatternSet, Root};
    /// let pattern = serde_json::json!({"detail": {"state": [{"anything-but": "running"}]}});
    /// let set = Arc::new(PatternSet::compile(Root::Data, &[(1, pattern)]).expect("a valid one"));
    /// let mut matched = Vec::new();
    /// let event = Event { data: br#"{"detail": {"state": "stopped"}}"#, ..Event::default() };
    /// set.matcher().matches(&event, &mut matched);
    /// assert_eq!(matched, [1]);
    /// ```
    Data,
}

/// The value of an extension attribute. Patterns see the JSON value that a structured CloudEvent
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionValue<'a> {
    /// An empty text is an absent attribute.
    Text(&'a str),
    Integer(i64),
    Boolean(bool),
}

/// An event as patterns refer to it. An empty text is an absent attribute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    pub source: &'a str,
    /// The CloudEvents attribute `type`.
    pub event_type: &'a str,
    pub subject: &'a str,
    /// May stay empty unless [`Needs::id`] is set.
    pub id: &'a str,
    /// The CloudEvents attribute `time`. May stay empty unless [`Needs::time`] is set.
    pub time: &'a str,
    pub datacontenttype: &'a str,
    /// Extension attributes. May stay empty unless [`Needs::extensions`] is set.
    pub extensions: &'a [(&'a str, ExtensionValue<'a>)],
    /// For [`Root::AwsEvent`]: the AWS account. Constraints on an unknown one count as met.
    pub account: &'a str,
    /// For [`Root::AwsEvent`]: the AWS region. Constraints on an unknown one count as met.
    pub region: &'a str,
    /// JSON in UTF-8. May stay empty unless [`Needs::data`] is set.
    pub data: &'a [u8],
}
