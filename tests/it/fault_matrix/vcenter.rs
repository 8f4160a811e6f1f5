//! Faults of a vCenter, one test each. After each fault the router continues by itself, every event
//! arrives once and in order, the log names the fault, and the operator's metric changes.

use std::time::Duration;

use crate::common::config::Section;
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::wait_until;
use event_router::limits::TIME_RENDERING;
use serde_json::json;
use testbed::cert::Certificate;
use testbed::vcenter::{Options, Trouble};

const LIMIT: Duration = Duration::from_secs(30);
const BACKLOG: u64 = 300;

/// A router that has read the backlog and waits for more.
struct Cell {
    stack: Stack,
    router: Router,
}

/// The signs of a fault.
struct Signs<'a> {
    /// Parts of the log; empty where nothing is worth a line.
    log: &'a [&'a str],
    /// A metric of the source that rises.
    metric: &'a str,
}

impl Cell {
    fn new() -> Cell {
        Cell::of(Options::default(), &Section::default())
    }

    /// With more settings of the source.
    fn of(options: Options, source: &Section) -> Cell {
        let backlog = options.backlog.max(BACKLOG);
        let stack = Stack::new(Options { backlog, ..options }, ["batched"]);
        let router = stack.start(&stack.config().change_source("vc", |vc| vc.with(source)));
        stack.targets[0].wait_for(backlog, LIMIT);
        Cell { stack, router }
    }

    fn metric(&self, name: &str) -> f64 {
        self.router.metric(name, "vc")
    }

    /// Causes the fault, with events that are created during and after it.
    fn check(mut self, fault: impl FnOnce(&Stack), signs: &Signs) {
        let before = self.metric(signs.metric);
        fault(&self.stack);
        self.stack.vcenter.append(200);
        self.wait_for_signs(signs, before);
        self.judge(0);
    }

    fn wait_for_signs(&mut self, signs: &Signs, before: f64) {
        let seen = wait_until(LIMIT, || {
            self.metric(signs.metric) > before
                && signs.log.iter().all(|part| self.router.stderr().contains(part))
        });
        let now = self.metric(signs.metric);
        assert!(
            seen,
            "{} from {before} to {now}, {:?} not all in:\n{}",
            signs.metric,
            signs.log,
            self.router.stderr().text()
        );
    }

    /// Asserts that every event arrives, once and in order, except for `hidden` ones that nobody
    /// can read.
    fn judge(mut self, hidden: u64) {
        let target = &self.stack.targets[0];
        target.wait_for(self.stack.vcenter.produced() - hidden, LIMIT);
        self.stack.vcenter.append(10);
        target.wait_for(self.stack.vcenter.produced() - hidden, LIMIT);
        let total = target.report().total;
        assert_eq!((total.missing, total.wrong_ids, total.unknown), (0, 0, 0), "{total:?}");
        assert_eq!((total.duplicates, total.out_of_order), (0, 0), "{total:?}");
        assert!(self.router.running() && !self.router.stderr().contains("panicked"));
        let up = wait_until(LIMIT, || self.metric("event_router_source_up") == 1.0);
        assert!(up, "{}", self.router.stderr().text());
    }
}

const REBUILT: &str = "event_router_source_collector_rebuilds_total";
const LOGGED_IN: &str = "event_router_source_relogins_total";

/// The next three page reads go wrong. One failure is everyday and not logged; the second is.
#[track_caller]
fn check_reads(source: Section, trouble: Trouble, log: &[&str]) {
    let log = &[&["vCenter cannot be read; trying again", "source=vc"], log].concat();
    let fault = |stack: &Stack| stack.vcenter.trouble("ReadNextEvents", 3, trouble);
    Cell::of(Options::default(), &source).check(fault, &Signs { log, metric: REBUILT });
}

fn call_within_1s() -> Section {
    Section::default().set("timeouts", json!({"call": "1s"}))
}

/// Often, and over few events.
fn sweeps() -> Section {
    Section::default().set("sweep", json!({"interval": "1s", "window": "2m"}))
}

#[test]
fn vcenter_restarts() {
    let fault = |stack: &Stack| {
        stack.runtime.block_on(stack.vcenter.stop());
        stack.vcenter.append(100);
        stack.runtime.block_on(stack.vcenter.restart()).unwrap();
    };
    Cell::new().check(fault, &Signs { log: &["logging in again"], metric: LOGGED_IN });
}

#[test]
fn session_expires() {
    let signs = Signs { log: &["NotAuthenticated", "logging in again"], metric: LOGGED_IN };
    Cell::new().check(|stack| stack.vcenter.kill_sessions(), &signs);
}

#[test]
fn collector_is_gone() {
    Cell::new().check(|stack| stack.vcenter.destroy_collectors(), &Signs { log: &[], metric: REBUILT });
}

#[test]
fn method_is_missing() {
    check_reads(Section::default(), Trouble::MethodNotFound, &["MethodNotFound"]);
}

/// The router works without the waker.
#[test]
fn updates_are_unavailable() {
    let cell = Cell::new();
    for method in ["WaitForUpdatesEx", "CreateFilter", "CreatePropertyCollector"] {
        cell.stack.vcenter.trouble(method, u32::MAX, Trouble::MethodNotFound);
    }
    cell.stack.vcenter.append(1);
    cell.stack.targets[0].wait_for(BACKLOG + 1, LIMIT);
    cell.check(|_| {}, &Signs { log: &[], metric: "event_router_source_pages_total" });
}

#[test]
fn answers_are_slow() {
    let trouble = Trouble::Delay(Duration::from_millis(1_500));
    check_reads(call_within_1s(), trouble, &["ReadNextEvents: vCenter was silent for 1s"]);
}

#[test]
fn answer_never_comes() {
    check_reads(call_within_1s(), Trouble::Hang, &["ReadNextEvents: vCenter was silent for 1s"]);
}

#[test]
fn answer_drips() {
    let trouble = Trouble::Drip(50, Duration::from_millis(5));
    let fault = |stack: &Stack| stack.vcenter.trouble("ReadNextEvents", 3, trouble);
    Cell::new().check(fault, &Signs { log: &[], metric: "event_router_source_pages_total" });
}

#[test]
fn answer_is_cut() {
    check_reads(Section::default(), Trouble::CutBody, &["ReadNextEvents: the answer was lost"]);
}

#[test]
fn answer_is_lost() {
    check_reads(Section::default(), Trouble::LoseAnswer, &["ReadNextEvents: the answer was lost"]);
}

#[test]
fn connection_is_reset() {
    check_reads(Section::default(), Trouble::Reset, &["ReadNextEvents: the answer was lost"]);
}

#[test]
fn proxy_answers_html() {
    check_reads(Section::default(), Trouble::Html, &["HTTP 200 without an answer of the vSphere API"]);
}

#[test]
fn service_is_unavailable() {
    check_reads(Section::default(), Trouble::Status(503), &["HTTP 503 without an answer of the vSphere API"]);
}

#[test]
fn fault_is_unknown() {
    check_reads(
        Section::default(),
        Trouble::Fault("RuntimeFault".into()),
        &["vCenter answered RuntimeFault"],
    );
}

#[test]
fn permission_is_missing_for_a_while() {
    check_reads(Section::default(), Trouble::Fault("NoPermission".into()), &["NoPermission", "Read-only"]);
}

#[test]
fn answer_is_not_utf_8() {
    let signs = Signs {
        log: &["a page cannot be decoded; reading it again in halves", "UTF-8"],
        metric: "event_router_source_unreadable_pages_total",
    };
    Cell::new().check(|stack| stack.vcenter.trouble("ReadNextEvents", 1, Trouble::NotUtf8), &signs);
}

#[test]
fn event_is_not_xml() {
    let mut cell = Cell::new();
    let bad = cell.stack.vcenter.append(150).end;
    cell.stack.vcenter.append_malformed().unwrap();
    cell.stack.vcenter.append(150);
    let signs = Signs {
        log: &["reading it again in halves", "an event cannot be decoded; it becomes a dead letter"],
        metric: "event_router_source_unreadable_events_total",
    };
    cell.wait_for_signs(&signs, 0.0);
    let letters = || {
        let reader = event_router::state::StoreReader::open(&cell.stack.data()).unwrap();
        let listed = reader.dead_letters(&Default::default()).unwrap();
        listed.into_iter().map(|letter| reader.dead_letter(letter.row).unwrap().unwrap()).collect::<Vec<_>>()
    };
    assert!(wait_until(LIMIT, || !letters().is_empty()));
    let [letter] = &letters()[..] else { panic!("more than one: {:?}", letters()) };
    let raw = String::from_utf8_lossy(letter.payload.bytes()).into_owned();
    let key = cell.stack.vcenter.fact(bad).unwrap().key;
    assert!(raw.contains(&format!("<key>{key}</key>")), "the bytes that vCenter sent: {raw}");
    assert_eq!(cell.metric(signs.metric), 1.0, "and no other event");
    cell.judge(1);
}

#[test]
fn certificate_is_renewed() {
    let stack = Stack::new(
        Options { backlog: BACKLOG, tls: Some(Certificate::Valid), ..Options::default() },
        ["batched"],
    );
    let ca = stack.folder.path().join("ca.pem");
    let write = |stack: &Stack| std::fs::write(&ca, stack.vcenter.tls().unwrap().ca_pem()).unwrap();
    write(&stack);
    let router = stack.start(&stack.config().set_source("vc", "tls", json!({"caFile": ca})));
    stack.targets[0].wait_for(BACKLOG, LIMIT);
    let mut cell = Cell { stack, router };
    // Another authority: no client trusts it until the file has it.
    cell.stack.runtime.block_on(cell.stack.vcenter.restart_with(Certificate::Valid)).unwrap();
    let failing = wait_until(LIMIT, || cell.router.stderr().contains("the TLS handshake with"));
    assert!(failing, "{}", cell.router.stderr().text());
    cell.stack.vcenter.append(200);
    write(&cell.stack);
    cell.wait_for_signs(&Signs { log: &["tls.caFile"], metric: LOGGED_IN }, 0.0);
    cell.judge(0);
}

#[test]
fn password_is_changed() {
    let stack = Stack::new(Options { backlog: BACKLOG, ..Options::default() }, ["batched"]);
    let file = stack.folder.path().join("password");
    std::fs::write(&file, "VMware1!\n").unwrap();
    let in_file = |vc: Section| vc.without("password").set("passwordFile", file.to_str());
    let router = stack.start(&stack.config().change_source("vc", in_file));
    stack.targets[0].wait_for(BACKLOG, LIMIT);
    let mut cell = Cell { stack, router };
    cell.stack.vcenter.set_password("another one");
    cell.stack.vcenter.kill_sessions();
    cell.stack.vcenter.append(200);
    let refused = wait_until(LIMIT, || cell.router.stderr().contains("InvalidLogin"));
    assert!(refused, "{}", cell.router.stderr().text());
    std::fs::write(&file, "another one").unwrap();
    cell.wait_for_signs(&Signs { log: &["as soon as", "changes"], metric: LOGGED_IN }, 0.0);
    assert_eq!(cell.stack.vcenter.counters().calls_of("Login"), 3, "no account is locked by trying");
    cell.judge(0);
}

#[test]
fn events_are_forbidden() {
    let mut cell = Cell::new();
    let forbidden = cell.stack.vcenter.forbid_next(2_000, true);
    cell.stack.vcenter.append(2_200);
    let signs =
        Signs { log: &["stepped over", "Read-only"], metric: "event_router_source_gaps_stepped_over_total" };
    cell.wait_for_signs(&signs, 0.0);
    assert_eq!(forbidden.end - forbidden.start, 2_000);
    cell.judge(2_000);
}

#[test]
fn keys_wrap() {
    let options = Options { first_key: i32::MAX - BACKLOG as i32 - 100, ..Options::default() };
    let signs = Signs {
        log: &["event keys have passed the end of int32", "reading by windows of time"],
        metric: "event_router_source_events_total",
    };
    let fault = |stack: &Stack| {
        stack.vcenter.append(150);
        // Up to the wrap, which the source notices by an event that is more than
        // `TIME_RENDERING` newer.
        stack.targets[0].wait_for(BACKLOG + 101, LIMIT);
        stack.vcenter.step_clock(2 * TIME_RENDERING.as_micros() as i64);
    };
    Cell::of(options, &Section::default()).check(fault, &signs);
}

#[test]
fn vcenter_is_restored_from_a_backup() {
    // A difference of less than 10,000 keys may be a long commit.
    let mut cell = Cell::of(Options { backlog: 15_000, ..Options::default() }, &Section::default());
    cell.stack.vcenter.restore(12_000, Duration::from_secs(300));
    cell.stack.vcenter.append(200);
    let signs = Signs {
        log: &["this vCenter was restored from a backup"],
        metric: "event_router_source_keys_restarted_total",
    };
    cell.wait_for_signs(&signs, 0.0);
    cell.judge(0);
}

#[test]
fn events_become_visible_late() {
    let mut cell = Cell::of(Options::default(), &sweeps());
    let before = cell.metric("event_router_source_sweeps_total");
    let hidden = cell.stack.vcenter.hide_next(3, None);
    cell.stack.vcenter.append(100);
    cell.stack.targets[0].wait_for(BACKLOG + 97, LIMIT);
    cell.stack.vcenter.reveal();
    cell.stack.targets[0].wait_for(BACKLOG + 100, LIMIT);
    assert_eq!(hidden.end - hidden.start, 3);
    cell.wait_for_signs(&Signs { log: &[], metric: "event_router_source_sweeps_total" }, before);
    let total = cell.stack.targets[0].report().total;
    assert_eq!((total.missing, total.duplicates), (0, 0), "{total:?}");
}

#[test]
fn class_is_unknown() {
    let fault = |stack: &Stack| {
        for _ in 0..3 {
            stack.vcenter.append_unknown_class().unwrap();
        }
    };
    Cell::new().check(fault, &Signs { log: &[], metric: "event_router_source_unknown_class_events_total" });
}

#[test]
fn event_has_ten_megabytes() {
    let fault = |stack: &Stack| {
        stack.vcenter.append_huge(10_000_000).unwrap();
    };
    Cell::new().check(fault, &Signs { log: &[], metric: "event_router_source_bytes_total" });
}

#[test]
fn events_are_returned_twice() {
    let signs = Signs { log: &[], metric: "event_router_source_duplicates_dropped_total" };
    Cell::new().check(|stack| stack.vcenter.duplicate_next(50), &signs);
}

#[test]
fn clock_is_wrong() {
    for skew_seconds in [90, -3_600] {
        let options = Options { clock_offset_us: skew_seconds * 1_000_000, ..Options::default() };
        let cell = Cell::of(options, &sweeps());
        let offset = cell.metric("event_router_source_clock_offset_seconds");
        assert!((offset - skew_seconds as f64).abs() < 2.0, "{offset}");
        assert!(cell.metric("event_router_source_lag_seconds") < 10.0, "by vCenter's own clock");
        let fault = |stack: &Stack| stack.vcenter.destroy_collectors();
        cell.check(fault, &Signs { log: &[], metric: REBUILT });
    }
}

#[test]
fn clock_is_set() {
    let mut cell = Cell::new();
    for by_seconds in [600, -300] {
        cell.stack.vcenter.step_clock(by_seconds * 1_000_000);
        cell.stack.vcenter.append(100);
        cell.stack.vcenter.destroy_collectors();
        cell.stack.vcenter.append(100);
    }
    cell.wait_for_signs(&Signs { log: &[], metric: REBUILT }, 0.0);
    cell.judge(0);
}
