//! The templates render, and escape what other machines wrote.

use minijinja::{Value, context};

use super::screens::{overview_values, value_of};
use super::*;
use crate::admin::model::{
    BacklogStatus, DestinationStatus, EventTypeStatus, FailureStatus, Overview, ProcessorStatus, RouteStatus,
    SourceStatus, Urgency,
};

const EVIL: &str = "<script>alert(\"x\")</script>'";

fn overview() -> Overview {
    let failure =
        FailureStatus { reason: EVIL.into(), said: EVIL.into(), requests: 1, ..FailureStatus::default() };
    let destination = DestinationStatus {
        name: EVIL.into(),
        processor: "fn".into(),
        urgency: Urgency::Critical,
        why: Some(EVIL.into()),
        failures: vec![failure],
        backlog: BacklogStatus { memory_events: 7, oldest_s: 800.0, ..BacklogStatus::default() },
        request_p99_s: Some(0.5),
        ..DestinationStatus::default()
    };
    let source =
        SourceStatus { name: EVIL.into(), why: Some(EVIL.into()), lag_s: Some(1.0), ..Default::default() };
    let processor = ProcessorStatus { name: EVIL.into(), why: Some(EVIL.into()), ..Default::default() };
    let route = RouteStatus { name: EVIL.into(), sources: vec![EVIL.into()], ..Default::default() };
    Overview {
        urgency: Urgency::Critical,
        trouble: Some(EVIL.into()),
        sources: vec![source],
        processors: vec![processor],
        destinations: vec![destination],
        routes: vec![route],
        ..Overview::default()
    }
}

fn rendered(template: &str, values: Value) -> String {
    let templates = templates();
    let rendered = templates.get_template(template).and_then(|template| template.render(values));
    rendered.unwrap_or_else(|error| panic!("{template}: {error:#}"))
}

/// Every screen whose values come from other machines.
fn screens() -> [(&'static str, Value); 7] {
    let overview = overview();
    let seen = EventTypeStatus { subject: EVIL.into(), sample: Some(EVIL.into()), ..Default::default() };
    let group = context! { letters => 1, destination => EVIL, status => 422, reason => EVIL, last => "", href => EVIL };
    let letter = context! { number => 1, subject => EVIL, source => EVIL, destination => EVIL, attempts => 1, last => "" };
    [
        ("overview.html", overview_values(&overview)),
        (
            "source.html",
            context! { s => value_of(&overview.sources[0]), rate_chart => "", lag_chart => "",
            types => value_of([&seen]) },
        ),
        (
            "destination.html",
            context! { d => value_of(&overview.destinations[0]), rate_chart => "",
            backlog_chart => "", oldest_chart => "", latency_chart => "" },
        ),
        (
            "events.html",
            context! { sources => [EVIL], source => EVIL, pattern => EVIL, error => EVIL, may_see => true,
            example => "", tried => true, matched => [(); 0], reasons => [EVIL], recent => 1,
            types => value_of([&seen]), more => 1 },
        ),
        (
            "tap.html",
            context! { may_see => true, sources => [EVIL], destinations => [EVIL], error => (),
            form => context! { source => EVIL, to => EVIL, types => EVIL, pattern => EVIL }, example => "",
            counts => context! { examined => 2, matched => 1, skipped => 1 }, kept => 50,
            events => [context! { number => 1, read => "", source => EVIL, subject => EVIL, message => EVIL,
                destination => EVIL, answer => EVIL, is_failure => true, event => EVIL }] },
        ),
        (
            "replay.html",
            context! { sources => value_of(&overview.sources), vcenters => [EVIL], destinations => [EVIL],
            may_see => true, may_write => true, token => "t", refusal => EVIL,
            form => context! { source => EVIL, from => EVIL, to => EVIL, destination => EVIL },
            job => context! { urgency => "ok", text => EVIL, is_running => true, counted => 3 } },
        ),
        (
            "letters.html",
            context! { may_see => true, may_write => true, write_off => false, message => EVIL,
            message_urgency => "ok", filtered => true, destination => EVIL, status => EVIL, reason => EVIL,
            number => "", token => "t", found => 2, is_cut => true, changes => 2, changed_max => 1_000,
            groups => [group], letters => [letter], event => EVIL },
        ),
    ]
}

#[test]
fn every_screen_escapes_text_from_outside() {
    for (template, values) in screens() {
        let html = rendered(template, values);
        assert!(html.contains("&lt;script&gt;"), "{template}: {html}");
        assert!(!html.contains("<script") && !html.contains("alert(\""), "{template}: {html}");
    }
}

#[test]
fn pages_have_no_inline_script_or_style() {
    for (template, values) in screens() {
        let html = rendered(template, values);
        assert!(!html.contains(" style=") && !html.contains(" onclick"), "{template}: {html}");
    }
    let (_, layout) = TEMPLATES[0];
    assert!(!layout.contains("<style") && !layout.contains("http"), "{layout}");
}

#[test]
fn the_scripts_of_the_page_stay_small() {
    assert!(SCRIPT.lines().count() < 400);
}
