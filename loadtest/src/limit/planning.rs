//! Translates a limit into the number of vCenters that one router can serve.
//!
//! No vendor publishes the number of events that a vCenter writes. A database of events whose
//! 32-bit keys ran out within a few years had 15 to 25 per second on average. A failing host, a
//! rebalanced cluster or a site that powers on adds hundreds to thousands per second for a while.
//! The two rates below are from the upper part of these ranges. Every text that uses one of them
//! calls it an assumption.

use super::figures::{CaseFigures, LimitResult};

/// With more cases than these, the summary only names the range.
const SPELLED_OUT_MAX: usize = 3;
/// Events per second that a busy vCenter is assumed to write in a storm. The workload `drs-storm`
/// has the same rate.
pub const STORM_RATE: f64 = 5_000.0;
/// The same for ordinary hours.
const ORDINARY_RATE: f64 = 50.0;
/// The share of the limit to plan with. The rest is room for storms.
const PLANNED_SHARE: f64 = 0.5;

impl LimitResult {
    /// The result in words, for readers who plan and read nothing else. `write` formats a rate.
    pub fn summary(&self, write: impl Fn(f64) -> String) -> String {
        let found: Vec<(&CaseFigures, f64)> =
            self.cases.iter().filter_map(|case| Some((case, case.limit?))).collect();
        let Some((first, limit)) = found.first() else {
            return "No limit was found.".to_owned();
        };
        let takes = |case: &CaseFigures, limit: f64| {
            format!("{}{}", if case.at_least { "at least " } else { "" }, write(limit))
        };
        let storm = format!("A busy vCenter writes up to {} in a storm", write(STORM_RATE));
        let one = format!("This machine takes {} events a second", takes(first, *limit));
        if found.len() == 1 && self.cases.len() == 1 {
            return format!("{one}. {storm}: {}.", enough_for(*limit));
        }
        if found.len() > SPELLED_OUT_MAX {
            let by_limit = |a: &&(&CaseFigures, f64), b: &&(&CaseFigures, f64)| a.1.total_cmp(&b.1);
            let ends = [found.iter().min_by(by_limit), found.iter().max_by(by_limit)];
            let ends: Vec<String> = ends
                .into_iter()
                .flatten()
                .map(|(case, limit)| format!("{} ({})", takes(case, *limit), case.name))
                .collect();
            return format!(
                "{one} ({}). Over all cases the limit is between {}. {storm}: for “{}” {}. The table has this figure for every case.",
                first.name,
                ends.join(" and "),
                first.name,
                enough_for(*limit)
            );
        }
        let limits: Vec<String> =
            found.iter().map(|(case, limit)| format!("{} ({})", takes(case, *limit), case.name)).collect();
        let enough: Vec<String> =
            found.iter().map(|(case, limit)| format!("for “{}” {}", case.name, enough_for(*limit))).collect();
        format!(
            "This machine takes {} events a second. {storm}: {}.",
            limits.join(" and "),
            enough.join("; ")
        )
    }
}

/// The number of vCenters that may all be in a storm while half of the limit stays free.
pub fn vcenters(limit: f64) -> u64 {
    (limit * PLANNED_SHARE / STORM_RATE) as u64
}

/// The vCenters for which a limit suffices. The text ends a sentence that names the limit and the
/// rate of a storm.
pub fn enough_for(limit: f64) -> String {
    match vcenters(limit) {
        0 if limit >= STORM_RATE => "one such storm fits, but uses more than half of the limit".to_owned(),
        0 => {
            let minutes = STORM_RATE / limit;
            let digits = usize::from(minutes < 10.0);
            let ordinary = (limit * PLANNED_SHARE / ORDINARY_RATE) as u64;
            let enough = match ordinary {
                0 => "not enough for one vCenter".to_owned(),
                many => format!("enough for {}", counted(many)),
            };
            format!(
                "a minute of one such storm takes {minutes:.digits$} minutes to deliver; outside storms, at {ORDINARY_RATE:.0} events a second \
                 each, half of the limit is {enough}"
            )
        }
        many => format!("that is {} with room for storms", counted(many)),
    }
}

/// `1 vCenter`, `47 vCenters`.
pub fn counted(vcenters: u64) -> String {
    match vcenters {
        1 => "1 vCenter".to_owned(),
        many => format!("{many} vCenters"),
    }
}

/// The origin of the assumed rate, and how to find a better one.
pub fn assumption(write: impl Fn(f64) -> String) -> String {
    format!(
        "The {} events a second of a storm are an assumption, since no figures are published: a vCenter is estimated to write tens of \
         events a second in ordinary hours, and hundreds to thousands in storms. Room for storms means that all these vCenters can be in a \
         storm at once and use half of the limit. Your own vCenters' figures are in the metric event_router_source_events_total: divide \
         half of the limit by their highest rate.",
        write(STORM_RATE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_expressed_in_vcenters() {
        for (limit, expected) in [
            (473_000.0, "that is 47 vCenters with room for storms"),
            (10_000.0, "that is 1 vCenter with room for storms"),
            (9_999.0, "one such storm fits, but uses more than half of the limit"),
            (
                200.0,
                "a minute of one such storm takes 25 minutes to deliver; outside storms, at 50 events a second each, half of the limit is \
                 enough for 2 vCenters",
            ),
        ] {
            assert_eq!(enough_for(limit), expected);
        }
        let found = enough_for(3_360.0);
        assert!(found.starts_with("a minute of one such storm takes 1.5 minutes to deliver"), "{found}");
        assert!(
            enough_for(80.0).ends_with("half of the limit is not enough for one vCenter"),
            "{}",
            enough_for(80.0)
        );
    }

    #[test]
    fn the_first_paragraph_names_every_case_while_they_are_few() {
        let summary = |cases: &[(&str, Option<f64>)]| {
            let cases = cases.iter().map(|(name, limit)| CaseFigures {
                name: (*name).to_owned(),
                limit: *limit,
                ..CaseFigures::default()
            });
            LimitResult { cases: cases.collect(), ..LimitResult::default() }
                .summary(|rate| format!("{rate:.0}"))
        };
        let (batched, each) = (("batched", Some(473_000.0)), ("per event", Some(47_300.0)));
        let storm = "A busy vCenter writes up to 5000 in a storm";
        assert_eq!(summary(&[("batched", None)]), "No limit was found.");
        assert_eq!(
            summary(&[batched]),
            format!(
                "This machine takes 473000 events a second. {storm}: that is 47 vCenters with room for storms."
            )
        );
        assert_eq!(
            summary(&[batched, each]),
            format!(
                "This machine takes 473000 (batched) and 47300 (per event) events a second. {storm}: for “batched” that is 47 vCenters \
                 with room for storms; for “per event” that is 4 vCenters with room for storms."
            )
        );
        let many = summary(&[batched, each, ("functions", Some(200.0)), ("bus", Some(22_600.0))]);
        assert!(many.starts_with("This machine takes 473000 events a second (batched)."), "{many}");
        assert!(many.contains("between 200 (functions) and 473000 (batched)"), "{many}");
    }
}
