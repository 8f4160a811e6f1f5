//! Explanations of the terms of a report, for readers who do not know the product.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::text::escape;
use crate::measure::sample::Sample;

/// Terms of every report.
const COMMON: &[(&str, &str)] = &[
    (
        "latency",
        "The time from the creation of an event, by vCenter's clock, to its first receipt by the target. A repeated delivery does not \
         count again.",
    ),
    ("p50", "Half of all events had this latency or less: the median."),
    (
        "p90, p99, p99.9",
        "90 of 100, 99 of 100, and 999 of 1,000 events had this latency or less. The others took longer.",
    ),
    (
        "lag",
        "The number of events that exist and have not arrived yet. A lag that stays level means that the router keeps up.",
    ),
    (
        "warm-up",
        "The beginning of a measurement, in which connections are opened and caches filled. Its events are counted apart.",
    ),
    ("drain", "The end of a measurement: no more events are created, and those under way are waited for."),
    (
        "CPU, % of a core, % of the machine",
        "How much of the machine's computing time was used. 100 % of a core is one core that never rests; 100 % of the machine is all of \
         its cores. On a machine with two cores, 100 % of a core is 50 % of the machine.",
    ),
    (
        "CPU for a million events",
        "Computing time of one core that the router spends on a million events. It carries over to other machines with the same kind of \
         core: at 2 s, one core that only the router uses takes at most 500,000 events a second.",
    ),
    (
        "stage",
        "A part of the router with threads of its own. Its utilisation is the share of time that these threads work. A stage near 100 % \
         is the one that all others wait for.",
    ),
];

/// Terms of a limit search.
const OF_LIMIT: &[(&str, &str)] = &[
    (
        "holds",
        "A rate holds when every event arrived once, with its own id and in its order, when p99 stayed under its bound, and when the lag \
         did not grow.",
    ),
    (
        "limit",
        "The highest rate that holds, below all rates that do not. Of several tries of one rate the longest decides, and of equally long \
         ones the last.",
    ),
    ("at half", "Measured at half of the limit: the load to plan with. The other half is room for storms."),
    ("offered load", "Events that the vCenters create, a second."),
    (
        "knee",
        "The point from which on more offered load does not mean more deliveries. The lag grows there, and latency with it.",
    ),
    ("batched", "The router sends many events in one request."),
    ("per event", "The router sends one request for each event, which costs more."),
];

/// The work of the router's threads, by the name of their stage.
const STAGES: &[(&str, &str)] = &[
    ("parse", "decodes what the vCenters return; it uses several threads"),
    (
        "core",
        "puts events in order, drops repeated ones and chooses their destinations; one thread by design",
    ),
    ("store", "writes positions, waiting events and dead letters to disk; one thread"),
    ("network", "sends requests to vCenters and targets; it uses several threads"),
    ("event-router", "starts and supervises the others"),
];

/// The kind of a page, which decides its terms.
pub enum PageKind {
    Run,
    Limit,
}

/// The list of terms with their meanings, and the stages that occur in these samples.
pub fn terms<'s>(kind: &PageKind, samples: impl Iterator<Item = &'s Sample>) -> String {
    let mut out = String::from("<h2>Terms</h2>\n<dl class=\"terms\">\n");
    let mut add = |term: &str, meaning: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(term), escape(meaning));
    };
    let own: &[(&str, &str)] = match kind {
        PageKind::Run => &[],
        PageKind::Limit => OF_LIMIT,
    };
    for (term, meaning) in own.iter().chain(COMMON) {
        add(term, meaning);
    }
    let names: BTreeSet<&str> = samples.flat_map(|sample| sample.stages.keys().map(String::as_str)).collect();
    for name in names {
        if let Some((_, meaning)) = STAGES.iter().find(|(known, _)| *known == name) {
            add(&format!("stage {name}"), &format!("This stage {meaning}."));
        }
    }
    out + "</dl>\n"
}
