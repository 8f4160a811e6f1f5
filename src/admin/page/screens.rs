//! The screens: each one's part of the model, and its template.

use std::sync::PoisonError;

use minijinja::value::Serde;
use minijinja::{Value, context};

use super::chart::{Line, chart};
use super::letters::{self, Chosen};
use super::pattern::{Tried, indented, try_pattern};
use super::replay::ShownReplay;
use super::tapped::{LiveEvent, LiveEvents, TapForm};
use super::{OperatorPage, flow, shown};
use crate::admin::access::Rights;
use crate::admin::model::{Overview, PlotPoint, Urgency};
use crate::limits::{PAGE_LETTERS_CHANGED_MAX, PAGE_ROWS_MAX, PAGE_TAP_EVENTS_MAX, RECENT_EVENTS_MAX};

/// A screen with what was asked of it.
#[derive(Clone, Debug)]
pub(super) enum Screen {
    Overview,
    Source(String),
    Destination(String),
    Events {
        /// Empty for all.
        source: String,
        /// Empty if no pattern is tried.
        pattern: String,
    },
    /// The events that pass.
    Tap(TapForm),
    Replay,
    Letters {
        chosen: Chosen,
        /// The end of a change: true if all went well, and the words.
        message: Option<(bool, String)>,
    },
}

/// The HTML within a page.
pub(super) struct ScreenContent {
    pub title: String,
    pub html: String,
    /// True if the open screen is updated.
    pub is_live: bool,
}

/// The name of a line, and its value at a point.
type PlotLine = (&'static str, fn(&PlotPoint) -> f32);

/// A pattern that shows the form.
const EXAMPLE: &str = r#"{"subject": [{"prefix": "Vm"}]}"#;

impl Screen {
    /// Returns true if an open screen of this kind is updated.
    pub fn is_live(&self) -> bool {
        !matches!(self, Screen::Events { .. } | Screen::Letters { .. })
    }

    /// The path of the link to it; empty for a screen without one.
    pub fn path(&self) -> &'static str {
        match self {
            Screen::Overview => "/",
            Screen::Events { .. } => "/events",
            Screen::Tap(_) => "/tap",
            Screen::Replay => "/replay",
            Screen::Letters { .. } => "/dead-letters",
            Screen::Source(_) | Screen::Destination(_) => "",
        }
    }
}

impl OperatorPage {
    /// Renders a screen; `None` if there is no such source or destination. `live`: the events of an
    /// open screen of live events.
    pub(super) async fn content(
        &self,
        screen: &Screen,
        rights: Rights,
        live: Option<&LiveEvents>,
    ) -> Option<ScreenContent> {
        let mut is_live = screen.is_live();
        let (title, template, values) = match screen {
            Screen::Overview => ("Overview".to_owned(), "overview.html", self.overview()),
            Screen::Source(name) => (name.clone(), "source.html", self.source(name)?),
            Screen::Destination(name) => (name.clone(), "destination.html", self.destination(name)?),
            Screen::Events { source, pattern } => {
                ("Event types".to_owned(), "events.html", self.events(source, pattern, rights))
            }
            Screen::Tap(form) => {
                let error = match live {
                    None if rights.events => LiveEvents::listen(form, &self.model).err(),
                    _ => None,
                };
                is_live = rights.events && error.is_none();
                ("Live events".to_owned(), "tap.html", self.tap(form, error, rights, live))
            }
            Screen::Replay => ("Replay".to_owned(), "replay.html", self.replay(rights)),
            Screen::Letters { chosen, message } => {
                let values = self.letters(chosen, message.as_ref(), rights).await;
                ("Dead letters".to_owned(), "letters.html", values)
            }
        };
        let rendered = self.templates.get_template(template).and_then(|template| template.render(values));
        let html = rendered.unwrap_or_else(|error| {
            tracing::error!(%error, template, "a screen of the page cannot be rendered");
            "<p class=\"verdict critical\">This screen cannot be shown; see the log.</p>".to_owned()
        });
        Some(ScreenContent { title, html, is_live })
    }

    fn overview(&self) -> Value {
        overview_values(&self.model.recent_overview())
    }

    fn source(&self, name: &str) -> Option<Value> {
        let (model, overview) = (&self.model, self.model.recent_overview());
        let source = overview.sources.iter().find(|source| source.name == name)?;
        let points = model.source_points(name);
        let mut types = model.event_types(Some(name), false);
        types.truncate(20);
        Some(context! {
            s => value_of(source),
            rate_chart => plot("Events per second", &points, &[("the rate", |p| p.events_per_s)], shown::rate),
            lag_chart => plot("Lag", &points, &[("the lag", |p| p.oldest_s)], shown::seconds),
            types => value_of(&types),
        })
    }

    fn destination(&self, name: &str) -> Option<Value> {
        let (model, overview) = (&self.model, self.model.recent_overview());
        let destination = overview.destinations.iter().find(|one| one.name == name)?;
        let points = model.destination_points(name);
        let chart = |title: &str, line: PlotLine, format| plot(title, &points, &[line], format);
        let latency: [PlotLine; 2] = [
            ("the time of half of the requests", |p| p.request_p50_s),
            ("that of 99 of 100", |p| p.request_p99_s),
        ];
        Some(context! {
            d => value_of(destination),
            rate_chart => chart("Events delivered per second", ("the rate", |p| p.events_per_s), shown::rate),
            backlog_chart => chart("Events that wait", ("the number", |p| p.backlog_events), shown::count),
            oldest_chart => chart("Age of the oldest", ("the age", |p| p.oldest_s), shown::seconds),
            latency_chart => plot("Time to an answer", &points, &latency, shown::seconds),
        })
    }

    fn events(&self, source: &str, pattern: &str, rights: Rights) -> Value {
        let model = &self.model;
        let wanted = (!source.is_empty()).then_some(source);
        let mut types = model.event_types(wanted, rights.events);
        let more = types.len().saturating_sub(PAGE_ROWS_MAX);
        types.truncate(PAGE_ROWS_MAX);
        let types: Vec<Value> = types
            .iter()
            .map(|seen| {
                let mut values = serde_json::to_value(seen).unwrap_or_default();
                values["sample"] = seen.sample.as_ref().map(indented).into();
                value_of(&values)
            })
            .collect();
        let recent = if rights.events { model.recent_events(wanted, RECENT_EVENTS_MAX) } else { Vec::new() };
        let is_tried = rights.events && !pattern.is_empty();
        let reads = model.view().config.wants_severities();
        let (tried, error) = match is_tried.then(|| try_pattern(pattern, &recent, reads)) {
            None => (Tried::default(), None),
            Some(Ok(tried)) => (tried, None),
            Some(Err(error)) => (Tried::default(), Some(error)),
        };
        let sources: Vec<String> = model.view().config.sources.iter().map(|s| s.name.clone()).collect();
        context! {
            sources, source, pattern, types, more, error,
            may_see => rights.events,
            example => EXAMPLE,
            tried => is_tried,
            matched => value_of(&tried.matched),
            reasons => tried.reasons,
            recent => recent.len(),
        }
    }

    fn tap(&self, form: &TapForm, error: Option<String>, rights: Rights, live: Option<&LiveEvents>) -> Value {
        let view = self.model.view();
        let sources: Vec<String> = view.config.sources.iter().map(|source| source.name.clone()).collect();
        let events: Vec<&LiveEvent> = live.into_iter().flat_map(LiveEvents::latest).collect();
        context! {
            sources, error,
            destinations => self.destinations(),
            form => value_of(form),
            may_see => rights.events,
            example => EXAMPLE,
            counts => live.map(|live| value_of(live.counts())),
            kept => PAGE_TAP_EVENTS_MAX,
            events => value_of(&events),
        }
    }

    /// Positions, and a replay of a range.
    fn replay(&self, rights: Rights) -> Value {
        let overview = self.model.recent_overview();
        let read_again = overview.sources.iter().filter(|source| source.kind == "vcenter");
        let refusal = self.replay_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let job = self.orders().and_then(|orders| orders.replays.job());
        context! {
            sources => value_of(&overview.sources),
            vcenters => read_again.map(|source| source.name.clone()).collect::<Vec<_>>(),
            destinations => self.destinations(),
            may_see => rights.events,
            may_write => rights.write,
            token => self.access.token(),
            refusal,
            form => value_of(job.as_ref().map(|job| job.form.clone()).unwrap_or_default()),
            job => job.as_ref().map(ShownReplay::of).map(value_of),
        }
    }

    /// Names of processors and destinations, for a choice.
    fn destinations(&self) -> Vec<String> {
        let processors = &self.model.view().config.processors;
        let mut names: Vec<String> = processors.iter().map(|processor| processor.name.clone()).collect();
        names.extend(self.model.recent_overview().destinations.iter().map(|one| one.name.clone()));
        names.sort_unstable();
        names.dedup();
        names.truncate(PAGE_ROWS_MAX);
        names
    }

    async fn letters(&self, chosen: &Chosen, message: Option<&(bool, String)>, rights: Rights) -> Value {
        let mut message = message.cloned();
        let mut found = letters::Letters::default();
        let mut event = None;
        if rights.events
            && let Some(orders) = self.orders()
        {
            match letters::read(&orders, chosen).await {
                Ok(read) => found = read,
                Err(error) => message = Some((false, format!("The dead letters cannot be read: {error}"))),
            }
            if let Ok(number) = chosen.number.parse()
                && let Ok(Some(letter)) = orders.letters.letter(number).await
            {
                event = Some(letters::event(&letter));
            }
        }
        let (is_well, message) = message.map_or((true, None), |(is_well, text)| (is_well, Some(text)));
        context! {
            may_see => rights.events,
            may_write => rights.write,
            write_off => !rights.write,
            message,
            message_urgency => if is_well { "ok" } else { "critical" },
            filtered => !chosen.is_all(),
            destination => chosen.destination.as_str(),
            status => chosen.status.as_str(),
            reason => chosen.reason.as_str(),
            number => chosen.number.as_str(),
            token => self.access.token(),
            found => found.found,
            is_cut => found.is_cut,
            changes => letters::changed(&found),
            changed_max => PAGE_LETTERS_CHANGED_MAX,
            groups => value_of(&found.groups),
            letters => value_of(&found.letters),
            event,
        }
    }
}

/// Data as a value of templates.
pub(super) fn value_of(data: impl serde::Serialize) -> Value {
    Value::from(Serde(data))
}

/// The values of the overview.
pub(super) fn overview_values(overview: &Overview) -> Value {
    let total = |of: &dyn Fn(usize) -> f64, count: usize| (0..count).map(of).sum::<f64>();
    let (sources, destinations) = (&overview.sources, &overview.destinations);
    let read_rate = total(&|at| sources[at].events_per_s, sources.len());
    let delivered_rate = total(&|at| destinations[at].delivered_per_s, destinations.len());
    let waiting: u64 = destinations.iter().map(|destination| destination.backlog.events()).sum();
    context! {
        o => value_of(overview),
        attention => overview.urgency.needs_attention(),
        sources_up => sources.iter().filter(|source| source.up).count(),
        read_rate, delivered_rate, waiting,
        reasons => reasons(overview),
        picture => flow::picture(overview),
        rows => PAGE_ROWS_MAX,
        more => destinations.len().saturating_sub(PAGE_ROWS_MAX) + overview.destinations_left_out,
    }
}

/// The parts that are not well, worst first, with a link to each.
fn reasons(overview: &Overview) -> Vec<Value> {
    let encoded = |name: &str| url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let mut all: Vec<(Urgency, Value)> = Vec::new();
    let mut add = |urgency: Urgency, name: String, href: Option<String>, why: &Option<String>, said: &str| {
        if let Some(why) = why {
            let values = context! { urgency => urgency.as_str(), name, href, why, said };
            all.push((urgency, values));
        }
    };
    add(Urgency::Critical, "process".to_owned(), None, &overview.trouble, "");
    for source in &overview.sources {
        let href = format!("/source?name={}", encoded(&source.name));
        add(source.urgency, format!("source {}", source.name), Some(href), &source.why, "");
    }
    for processor in &overview.processors {
        add(processor.urgency, format!("processor {}", processor.name), None, &processor.why, "");
    }
    for destination in &overview.destinations {
        let href = format!("/destination?name={}", encoded(&destination.name));
        let last = destination.failures.first().filter(|_| destination.urgency.needs_attention());
        let said = last.filter(|last| !last.reason.contains(last.said.trim())).map_or("", |last| &last.said);
        add(
            destination.urgency,
            format!("destination {}", destination.name),
            Some(href),
            &destination.why,
            said,
        );
    }
    // A stable sort keeps the order within an urgency.
    all.sort_by_key(|(urgency, _)| std::cmp::Reverse(*urgency));
    all.truncate(PAGE_ROWS_MAX);
    all.into_iter().map(|(_, values)| values).collect()
}

fn plot(title: &str, points: &[PlotPoint], lines: &[PlotLine], format: fn(f64) -> String) -> String {
    let line = |(name, of): &PlotLine| Line {
        name,
        points: points.iter().map(|point| (point.at, f64::from(of(point)))).collect(),
    };
    chart(title, &lines.iter().map(line).collect::<Vec<_>>(), format)
}

/// The time of day.
pub(super) fn clock() -> String {
    jiff::Timestamp::now().strftime("%H:%M:%S UTC").to_string()
}
