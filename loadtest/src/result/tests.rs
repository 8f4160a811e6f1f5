use testbed::content::WrongContent;

use super::*;
use crate::workload::Workload;

fn workload() -> Workload {
    Workload::parse("w", "rate: 5\nduration: 5s").unwrap()
}

#[test]
fn a_run_without_an_event_has_not_passed() {
    let mut result = RunResult::default();
    let nothing = "nothing was tested: there was no event to deliver";
    assert_eq!(result.objections(&workload(), true), [nothing]);
    result.router.cpu_seconds = Some(0.1);
    result.router.rss_peak_bytes = Some(1);
    assert!(result.table().contains("0.10 s, - for a million events"), "{}", result.table());
    result.totals.expected = 1;
    assert_eq!(result.objections(&workload(), true), Vec::<String>::new());
}

#[test]
fn missing_events_of_an_incomplete_run_are_not_lost() {
    let missing = Tally { missing: 3, expected: 9, ..Tally::default() };
    let whole = RunResult { totals: missing, ..RunResult::default() };
    assert_eq!(whole.objections(&workload(), true), ["3 events are lost"]);
    let interrupted = RunResult { interrupted: true, ..whole.clone() };
    assert_eq!(interrupted.objections(&workload(), false), ["3 events had not arrived by then"]);
    let table = interrupted.table();
    assert!(table.contains("not arrived    3\n") && table.ends_with("\nINTERRUPTED\n"), "{table}");
    let broken = RunResult { broken_off: Some("the router ended".into()), ..whole };
    assert_eq!(
        broken.objections(&workload(), false),
        ["the router ended", "3 events had not arrived by then"]
    );
}

#[test]
fn wrong_content_fails_a_run_and_is_shown() {
    let wrong = WrongContent {
        index: 4,
        key: 5,
        path: "data.Vm.Name".into(),
        expected: "\"app-000007\"".into(),
        found: "null".into(),
    };
    let tally = Tally {
        expected: 9,
        unique: 9,
        content_verified: 8,
        wrong_content: 2,
        wrong_contents: vec![wrong],
        ..Tally::default()
    };
    let source = SourceReport { tally: tally.clone(), ..SourceReport::default() };
    let result = RunResult { totals: tally, suspects: suspects(&[source], 0), ..RunResult::default() };
    assert_eq!(result.objections(&workload(), true), ["2 deliveries carry wrong content"]);
    let table = result.table();
    assert!(table.contains("content verified: 8 of 9 events, 2 wrong\n"), "{table}");
    assert!(
        table.contains("event 5: wrong content: data.Vm.Name is null, expected \"app-000007\"\n"),
        "{table}"
    );
}

#[test]
fn the_end_of_the_router_is_reported() {
    let check = |exit_code, signal, expected: &[&str]| {
        let totals = Tally { expected: 1, ..Tally::default() };
        let router = RouterFigures { exit_code, signal, ..RouterFigures::default() };
        let result = RunResult { totals, router, ..RunResult::default() };
        assert_eq!(result.objections(&workload(), false), expected);
    };
    check(Some(0), None, &[]);
    check(Some(3), None, &["the router ended with exit code 3"]);
    check(None, Some(9), &["the router died of signal 9 while it stopped"]);
    check(None, None, &["the router did not end after SIGTERM and was killed"]);
}

#[test]
fn a_table_explains_a_missing_latency() {
    let table = |created| RunResult { created, ..RunResult::default() }.table();
    assert!(table(0).contains("nothing was created after the start"), "{}", table(0));
    assert!(table(1).contains("nothing that was created after the start arrived"));
}
