//! The decision about one event for every destination, with reasons.

use serde::Serialize;

use crate::cloudevents::asks_for_severity;
use crate::event::severity::{Severity, TypeSeverities};
use crate::event::{Batch, severity};
use crate::limits::EXPLANATION_BYTES_MAX;
use crate::outside;
use crate::pipeline::destination::{is_named, name_of};
use crate::pipeline::route::Route;
use crate::pipeline::settings::RouteSettings;
use crate::settings::Config;

/// The decision of one route.
#[derive(Debug, Serialize)]
pub struct RouteVerdict {
    pub route: String,
    /// `None` if it asks for the severity of the event, which is unknown.
    pub takes: Option<bool>,
    /// The reason why it does not take the event, or why that is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The decision about one destination.
#[derive(Debug, Serialize)]
pub struct DestinationVerdict {
    pub destination: String,
    /// `None` if that is unknown: its functions or rules decide, or the severity does.
    pub takes: Option<bool>,
    /// The routes that name its processor.
    pub routes: Vec<RouteVerdict>,
    /// More about the decision than the routes say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl DestinationVerdict {
    /// Returns true for the name of the destination, and for that of a function without namespace.
    pub fn is_named(&self, name: &str) -> bool {
        is_named(&self.destination, name)
    }

    /// Name, decision, route and reason: one row, or one for each route that refuses the event.
    pub fn rows(&self) -> Vec<[String; 4]> {
        let takes = match self.takes {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let row = |route: &str, reason: &str| {
            [self.destination.clone(), takes.to_owned(), route.to_owned(), reason.to_owned()]
        };
        let taking: Vec<&str> =
            self.routes.iter().filter(|route| route.takes == Some(true)).map(|route| &*route.route).collect();
        if !taking.is_empty() || self.routes.is_empty() {
            return vec![row(&taking.join(", "), self.reason.as_deref().unwrap_or_default())];
        }
        let refusing = self.routes.iter();
        refusing.map(|route| row(&route.route, route.reason.as_deref().unwrap_or_default())).collect()
    }
}

/// Decides about events.
pub struct Decider<'c> {
    pub config: &'c Config,
    pub routes: &'c [RouteSettings],
    /// The routes with the functions and rules of the processors; `None` if these are not known.
    pub connected: Option<Route>,
}

/// Returns true if `route` decides by the severity of event `i`, and that is unknown.
fn depends_on_severity(route: &RouteSettings, batch: &Batch, i: usize) -> bool {
    let (instance, record) = (batch.source.instance_uuid, &batch.records[i]);
    let asks = route.pattern.as_ref().is_some_and(asks_for_severity);
    if !asks || batch.attributes(record).is_some() || severity::known(instance).of(batch, record).is_some() {
        return false;
    }
    let subject = batch.text(record.subject);
    let takes_unknown = route.refusal(batch, i).is_none();
    let differs = Severity::WORDS.iter().any(|word| {
        severity::learn(instance, [(subject, *word)].into_iter().collect());
        route.refusal(batch, i).is_none() != takes_unknown
    });
    severity::learn(instance, TypeSeverities::default());
    differs
}

impl Decider<'_> {
    /// The decision about event `i` of `batch` for each destination, in the order of the
    /// processors.
    pub fn verdicts(&mut self, batch: &Batch, i: usize) -> Vec<DestinationVerdict> {
        (0..self.config.processors.len()).flat_map(|processor| self.of(processor, batch, i)).collect()
    }

    fn of(&mut self, at: usize, batch: &Batch, i: usize) -> Vec<DestinationVerdict> {
        let processor = &self.config.processors[at];
        let naming = self.routes.iter().filter(|route| route.processors.contains(&at));
        let routes = || -> Vec<RouteVerdict> {
            let verdict = |route: &RouteSettings| {
                let refusal = route.refusal(batch, i);
                let takes = Some(refusal.is_none()).filter(|_| !depends_on_severity(route, batch, i));
                let reason = match takes {
                    Some(_) => refusal.map(|reason| outside::display(reason, EXPLANATION_BYTES_MAX)),
                    None => Some("it asks for the severity of the event; name that with `--severity`".into()),
                };
                RouteVerdict { route: route.name.clone(), takes, reason }
            };
            naming.clone().map(verdict).collect()
        };
        let verdict = |part: &str, takes, reason: Option<String>| DestinationVerdict {
            destination: name_of(&processor.name, part),
            takes,
            routes: routes(),
            reason: reason.map(|reason| outside::text(&reason, EXPLANATION_BYTES_MAX)),
        };
        if naming.clone().next().is_none() {
            return vec![verdict("", Some(false), Some("no route sends events to it".to_owned()))];
        }
        let offers: Vec<Option<bool>> = routes().iter().map(|route| route.takes).collect();
        let is_offered = offers.contains(&Some(true));
        if !is_offered && offers.contains(&None) {
            return vec![verdict("", None, None)];
        }
        if !is_offered || !processor.kind.settings().selects() {
            return vec![verdict("", Some(is_offered), None)];
        }
        let unknown = "its functions or rules decide; `--connect` asks for them";
        let Some(choices) = self.connected.as_mut().and_then(|route| route.choices(at, batch, i)) else {
            return vec![verdict("", None, Some(unknown.to_owned()))];
        };
        if choices.is_empty() {
            return vec![verdict("", Some(false), Some("no function has topics".to_owned()))];
        }
        let each = choices.into_iter();
        each.map(|choice| verdict(&choice.name, Some(choice.refusal.is_none()), choice.refusal)).collect()
    }
}
