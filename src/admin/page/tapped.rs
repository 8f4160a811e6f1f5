//! The screen of live events: a form that selects them, and the latest of those that pass.
//!
//! ```text
//! GET /tap?…                      the form, and the errors in it
//! GET /tap?…  text/event-stream   LiveEvents::listen ─► TapHub; at each update take() ─► list
//! ```

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt;
use serde::Serialize;
use serde_json::Value as Json;

use super::pattern::indented;
use crate::admin::model::Model;
use crate::admin::tap;
use crate::limits::PAGE_TAP_EVENTS_MAX;
use crate::outside;
use crate::pipeline::observe::tap::{Tap, TapCounts, TapFilter, TappedEvent};

/// The fields of the form. An empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct TapForm {
    pub source: String,
    pub to: String,
    /// Names of types, separated by spaces or commas.
    pub types: String,
    pub pattern: String,
}

impl TapForm {
    pub fn of(fields: &mut BTreeMap<String, String>) -> Self {
        let mut field = |name: &str| fields.remove(name).unwrap_or_default().trim().to_owned();
        TapForm { source: field("source"), to: field("to"), types: field("type"), pattern: field("pattern") }
    }

    /// # Errors
    /// Returns the error of the pattern, in words.
    fn filter(&self) -> Result<TapFilter, String> {
        let pattern = match self.pattern.as_str() {
            "" => None,
            text => Some(
                serde_json::from_str::<Json>(text)
                    .map_err(|error| format!("The pattern is no JSON: {error}."))?,
            ),
        };
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let types = self.types.split([' ', ',']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(TapFilter {
            pattern,
            source: given(&self.source),
            types,
            to: given(&self.to),
            with_request: false,
        })
    }
}

/// The live events of one open screen. Dropping it ends the listener.
pub(super) struct LiveEvents {
    tap: Tap,
    /// The oldest first.
    shown: VecDeque<LiveEvent>,
    /// Number of events that were shown before.
    count: u64,
}

/// A row of the screen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LiveEvent {
    /// A number of its own, by which an update finds the row again.
    pub number: u64,
    pub read: String,
    pub source: String,
    pub subject: String,
    /// The text for people in the event's data.
    pub message: String,
    pub destination: Option<String>,
    /// The end of the request, in words.
    pub answer: Option<String>,
    pub is_failure: bool,
    /// The event as indented JSON.
    pub event: String,
}

impl LiveEvents {
    /// Begins to listen. Must run within a tokio runtime.
    ///
    /// # Errors
    /// Returns, in words, what is wrong with the form, or that too many listen already.
    pub fn listen(form: &TapForm, model: &Model) -> Result<Self, String> {
        let tap = tap::listen(form.filter()?, model)?;
        Ok(LiveEvents { tap, shown: VecDeque::new(), count: 0 })
    }

    /// Takes the events that have come, and keeps the latest [`PAGE_TAP_EVENTS_MAX`].
    pub fn take(&mut self) {
        while let Some(Some(event)) = self.tap.next().now_or_never() {
            self.count += 1;
            if self.shown.len() == PAGE_TAP_EVENTS_MAX {
                self.shown.pop_front();
            }
            self.shown.push_back(row(self.count, &event));
        }
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = &LiveEvent> {
        self.shown.iter().rev()
    }

    pub fn counts(&self) -> TapCounts {
        self.tap.counts()
    }
}

fn row(number: u64, event: &TappedEvent) -> LiveEvent {
    let json: Json = serde_json::from_str(event.event.get()).unwrap_or_default();
    let message = json["data"]["FullFormattedMessage"].as_str().unwrap_or_default();
    let delivery = event.delivery.as_ref();
    let answer = |failure: &Option<String>, took_ms: u64, attempt: u32| {
        let end = failure.clone().unwrap_or_else(|| "accepted".to_owned());
        let attempt = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        format!("{end} ({took_ms} ms{attempt})")
    };
    LiveEvent {
        number,
        read: event.read.clone(),
        source: event.source.clone(),
        subject: event.subject.clone(),
        message: outside::text(message, 300),
        destination: delivery.map(|delivery| delivery.destination.clone()),
        answer: delivery.map(|delivery| answer(&delivery.failure, delivery.took_ms, delivery.attempt)),
        is_failure: delivery.is_some_and(|delivery| delivery.failure.is_some()),
        event: indented(&json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_select_everything() {
        let filter = TapForm::default().filter().expect("no pattern");
        assert!(filter.pattern.is_none() && filter.source.is_none() && filter.to.is_none());
        assert!(filter.types.is_empty());
    }

    #[test]
    fn a_form_becomes_a_filter() {
        let fields =
            [("source", "vc"), ("type", "Vm*, HostConnectedEvent"), ("pattern", "{\"subject\": [\"a\"]}")];
        let mut fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let filter = TapForm::of(&mut fields).filter().expect("a pattern");
        assert_eq!(filter.types, ["Vm*", "HostConnectedEvent"]);
        assert_eq!(filter.source.as_deref(), Some("vc"));
        assert!(filter.pattern.is_some());
        let broken = TapForm { pattern: "{".into(), ..TapForm::default() };
        assert!(broken.filter().unwrap_err().contains("no JSON"));
    }
}
