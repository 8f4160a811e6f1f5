//! `event-router events top`: the event types that the running router has read, with counts.

use anyhow::Context;
use clap::Args;

use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::admin::model::EventTypeStatus;
use crate::cli::Exit;
use crate::cli::state::StateArgs;
use crate::cli::table::table;
use crate::outside;

/// Count the events of each type that the running router has read, the most frequent first.
///
/// Counts begin with the start of the router. TYPE is the CloudEvents `subject`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router events top --config F
  event-router events top --config F --source vc2 --sort hour --limit 10
  event-router events top --config F --json | jq -r '.[] | [.eventsTotal, .subject] | @tsv'")]
pub struct EventsTopArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Name of a source; by default all
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Order of the types
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    sort: CountOrder,
    /// Number of types to show
    #[arg(long, value_name = "TYPES", default_value_t = 50)]
    limit: usize,
    /// Print a JSON array instead of a table, with a sample of each type
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum CountOrder {
    /// Events since the start of the router
    #[default]
    Total,
    /// Events of the last hour
    Hour,
    /// Time of the last event, the latest first
    Last,
}

pub(super) fn run(args: &EventsTopArgs) -> anyhow::Result<Exit> {
    let located = match args.state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let client = ControlClient::connect(&located.dir)?
        .with_context(|| format!("no router runs on the data directory {}", located.dir.display()))?;
    let mut types = Vec::new();
    let request = ControlRequest::EventTypes { source: args.source.clone(), samples: args.json };
    client.ask(&request, |answer| {
        if let ControlAnswer::EventType(counted) = answer {
            types.push(*counted);
        }
    })?;
    sort(&mut types, args.sort);
    let left_out = types.len().saturating_sub(args.limit);
    types.truncate(args.limit);
    let text = if args.json { as_json(&types)? } else { as_table(&types, left_out) };
    crate::cli::print(text.as_bytes())?;
    Ok(Exit::Done)
}

fn sort(types: &mut [EventTypeStatus], order: CountOrder) {
    // Times have one form, so their text sorts like them.
    types.sort_by(|a, b| match order {
        CountOrder::Total => b.events_total.cmp(&a.events_total),
        CountOrder::Hour => b.events_last_hour.cmp(&a.events_last_hour),
        CountOrder::Last => b.last.cmp(&a.last),
    });
}

fn as_json(types: &[EventTypeStatus]) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(types)?;
    Ok(text.lines().map(|line| format!("{}\n", outside::escaped_json(line))).collect())
}

fn as_table(types: &[EventTypeStatus], left_out: usize) -> String {
    let row = |counted: &EventTypeStatus| {
        [
            counted.events_total.to_string(),
            counted.events_last_hour.to_string(),
            counted.last.clone(),
            counted.source.clone(),
            counted.subject.clone(),
        ]
    };
    let rows: Vec<_> = types.iter().map(row).collect();
    let mut text = table(["EVENTS", "LAST HOUR", "LAST", "SOURCE", "TYPE"], &rows);
    if left_out > 0 {
        text += &format!("and {left_out} more types; `--limit` shows more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_by_each_order() {
        let counted = |subject: &str, events_total, events_last_hour, last: &str| EventTypeStatus {
            subject: subject.into(),
            events_total,
            events_last_hour,
            last: last.into(),
            ..EventTypeStatus::default()
        };
        let mut types = [
            counted("a", 9, 1, "2026-12-01T01:00:00Z"),
            counted("b", 5, 5, "2026-12-01T02:00:00Z"),
            counted("c", 1, 0, "2026-12-01T03:00:00Z"),
        ];
        let check = |order, expected: &str, types: &mut [EventTypeStatus]| {
            sort(types, order);
            assert_eq!(types.iter().map(|one| one.subject.as_str()).collect::<String>(), expected);
        };
        check(CountOrder::Last, "cba", &mut types);
        check(CountOrder::Hour, "bac", &mut types);
        check(CountOrder::Total, "abc", &mut types);
        let table = as_table(&types[..1], 2);
        assert!(table.contains("9       1          2026-12-01T01:00:00Z"), "{table}");
        assert!(table.ends_with("and 2 more types; `--limit` shows more\n"), "{table}");
    }
}
