//! The promises of the vCenter source over the real wire: against the synthetic vCenter, and
//! against VMware's own simulator.
//!
//! The real decoder and the real order and dedup stage follow the source. Behind them no event may
//! be missing, and none may come twice.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_router::event::SourceInfo;
use event_router::limits::TIME_RENDERING;
use event_router::memory::Budget;
use event_router::pipeline::order::{Leaving, Order, Ordered};
use event_router::pipeline::parse::Parse;
use event_router::queue;
use event_router::settings::{Protocol, Secret, StartAt, Sweep, Vcenter};
use event_router::source::vcenter::{Method, Status, VcenterSource};
use event_router::source::{Begin, Intake, Progress, SourceState, Start};
use testbed::vcenter::{Options, Pace, Trouble, VCenter};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::wait_until;

const LIMIT: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Delivered {
    /// Key and createdTime of every event, once.
    events: HashSet<(i32, i64)>,
    classes: Vec<String>,
    twice: usize,
    poisons: usize,
    newest: Option<Instant>,
}

/// A running source.
struct Run {
    runtime: Runtime,
    status: Arc<Status>,
    delivered: Arc<Mutex<Delivered>>,
    stop: watch::Sender<bool>,
    source: tokio::task::JoinHandle<()>,
}

impl Run {
    fn start(runtime: Runtime, settings: Vcenter) -> Run {
        let (begins_in, begins) = mpsc::channel(1);
        let (pages_in, pages) = queue::bounded(8);
        let intake = Intake::new(0, Budget::new(64 << 20), begins_in, pages_in, Arc::default());
        let status = Arc::new(Status::default());
        let (stop, stopped) = watch::channel(false);
        let delivered = Arc::new(Mutex::new(Delivered::default()));
        let out = Arc::clone(&delivered);
        runtime.spawn_blocking(move || pipeline(begins, &pages, &out));
        let ready = std::future::ready(());
        let source =
            VcenterSource::new("vc".to_string(), settings, intake, Arc::clone(&status), ready, stopped);
        let source = runtime.spawn(async move { source.run().await });
        Run { runtime, status, delivered, stop, source }
    }

    fn delivered(&self) -> usize {
        self.delivered.lock().unwrap().events.len()
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        assert!(wait_until(LIMIT, condition), "{what}; delivered {}, {:?}", self.delivered(), self.status);
    }

    /// Waits until all of these were delivered.
    fn wait_for(&self, vcenter: &VCenter, indexes: impl Iterator<Item = u64>) {
        let expected: Vec<_> = indexes
            .map(|index| vcenter.fact(index).unwrap())
            .map(|fact| (fact.key, fact.created_us))
            .collect();
        self.wait(&format!("{} events", expected.len()), || {
            let delivered = self.delivered.lock().unwrap();
            delivered.events.len() >= expected.len()
                && expected.iter().all(|event| delivered.events.contains(event))
        });
    }

    fn wait_for_all(&self, vcenter: &VCenter) {
        self.wait_for(vcenter, 0..vcenter.produced());
    }

    /// Stops the source; gives the runtime back.
    fn stop(self) -> Runtime {
        self.stop.send_replace(true);
        let Run { runtime, source, status, delivered, .. } = self;
        runtime.block_on(source).unwrap();
        assert_eq!(status.state(), SourceState::Stopped);
        assert_eq!(delivered.lock().unwrap().twice, 0, "behind dedup an event came twice");
        runtime
    }
}

/// The stages behind the source: parse, order and dedup. They answer the source as the pipeline
/// does.
fn pipeline(
    mut begins: mpsc::Receiver<Begin>,
    pages: &queue::Receiver<event_router::source::Page>,
    out: &Mutex<Delivered>,
) {
    let Some(Begin { found, answer, .. }) = begins.blocking_recv() else { return };
    let progress = Arc::new(Progress::new(found.start_us, i64::MAX));
    let info = Arc::new(SourceInfo {
        index: 0,
        name: "vc".to_string(),
        url: found.url,
        instance_uuid: found.instance_uuid,
        api_version: found.api_version,
    });
    answer
        .send(Ok(Start {
            info,
            begin_us: found.start_us,
            floor_us: found.start_us,
            progress: Arc::clone(&progress),
        }))
        .unwrap();
    let (mut parse, mut order) = (Parse::default(), Order::default());
    while let Some(page) = pages.recv() {
        let step = order.step(parse.step(page).0);
        let mut out = out.lock().unwrap();
        for leaving in step.leaving {
            let Leaving::Events(Ordered { batch, .. }) = leaving else {
                out.poisons += 1;
                continue;
            };
            for record in &batch.records {
                out.classes.push(batch.text(record.class).to_string());
                let event = (record.key.unwrap(), record.created_us.unwrap());
                out.twice += usize::from(!out.events.insert(event));
            }
            out.newest = Some(Instant::now());
        }
        if step.keys_restarted {
            progress.restarted.store(true, Relaxed);
        }
        progress.has_gaps.store(order.seen().has_gaps_since(0), Relaxed);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs `check` against two synthetic vCenters at the same time, over SOAP and over VI/JSON: these
/// tests wait far more than they compute.
fn synthetic(options: Options, check: impl Fn(Runtime, VCenter, Vcenter) + Sync) {
    let run = |protocol| {
        let runtime = runtime();
        let vcenter = runtime.block_on(VCenter::start(options.clone())).unwrap();
        let password = Secret::inline(&*options.password);
        let mut settings = Vcenter::new(vcenter.url(), &*options.user, password);
        settings.start_at = StartAt::Beginning;
        settings.protocol = protocol;
        check(runtime, vcenter, settings);
    };
    std::thread::scope(|scope| {
        let json = scope.spawn(|| run(Protocol::ViJson));
        run(Protocol::Soap);
        json.join().expect("the check over VI/JSON passes");
    });
}

/// As [`synthetic`], for each value of a switch, all at the same time.
fn synthetic_with_and_without(options: Options, check: impl Fn(bool, Runtime, VCenter, Vcenter) + Sync) {
    std::thread::scope(|scope| {
        for switch in [false, true] {
            let (options, check) = (options.clone(), &check);
            scope.spawn(move || {
                synthetic(options, |runtime, vcenter, settings| check(switch, runtime, vcenter, settings))
            });
        }
    });
}

#[test]
fn a_backlog_is_read_whole_with_and_without_compression() {
    let options = Options { backlog: 20_000, ..Options::default() };
    synthetic_with_and_without(options, |gzip, runtime, vcenter, settings| {
        vcenter.set_gzip(gzip);
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        vcenter.append(10);
        run.wait_for_all(&vcenter);
        assert!(run.status.calls(Method::ReadNextEvents) < 100);
        run.wait("all is read", || run.status.state() == SourceState::Waiting);
        let _runtime = run.stop();
        assert_eq!(vcenter.counters().calls_of("Logout"), 1);
    });
}

#[test]
fn lost_answers_lose_no_event() {
    synthetic(Options { backlog: 3_000, ..Options::default() }, |runtime, vcenter, mut settings| {
        settings.timeouts.call = Duration::from_secs(1);
        settings.page_events = 100;
        let run = Run::start(runtime, settings);
        let troubles = [
            Trouble::CutBody,
            Trouble::LoseAnswer,
            Trouble::Delay(Duration::from_secs(2)),
            Trouble::Drip(5, Duration::from_millis(10)),
            Trouble::NotUtf8,
            Trouble::Reset,
            Trouble::Status(503),
            Trouble::Html,
            Trouble::Hang,
            Trouble::Fault("RuntimeFault".to_string()),
        ];
        for trouble in troubles {
            for method in ["ReadNextEvents", "CreateCollectorForEvents", "WaitForUpdatesEx"] {
                vcenter.trouble(method, 1, trouble.clone());
            }
            vcenter.append(500);
            run.wait_for_all(&vcenter);
        }
        run.stop();
    });
}

#[test]
fn an_undecodable_event_loses_no_other() {
    synthetic(Options { backlog: 2_500, ..Options::default() }, |runtime, vcenter, settings| {
        let bad = vcenter.append_malformed().unwrap();
        vcenter.append(1_500);
        let run = Run::start(runtime, settings);
        run.wait_for(&vcenter, (0..vcenter.produced()).filter(|index| *index != bad));
        run.wait("the dead letter", || run.delivered.lock().unwrap().poisons == 1);
        vcenter.append_huge(300_000).unwrap();
        vcenter.append_unknown_class().unwrap();
        run.wait_for(&vcenter, (0..vcenter.produced()).filter(|index| *index != bad));
        run.stop();
    });
}

/// vCenter refuses each page that holds such a row; its cursor may pass the page or not.
#[test]
fn rows_that_vcenter_cannot_send_cost_no_other_event() {
    let options = Options { backlog: 1_500, ..Options::default() };
    synthetic_with_and_without(options, |passes, runtime, vcenter, settings| {
        // The time of such a row must differ from the times of the events behind it.
        let append_unsendable = || {
            let index = vcenter.append_unsendable(passes);
            std::thread::sleep(Duration::from_millis(5));
            index
        };
        let first = append_unsendable();
        vcenter.append(700);
        let run = Run::start(runtime, settings);
        let good =
            |bad: &[u64]| (0..vcenter.produced()).filter(|index| !bad.contains(index)).collect::<Vec<_>>();
        run.wait_for(&vcenter, good(&[first]).into_iter());
        let second = append_unsendable();
        vcenter.append(10);
        run.wait_for(&vcenter, good(&[first, second]).into_iter());
        run.wait("the dead letters", || run.delivered.lock().unwrap().poisons == 2);
        assert_eq!(run.status.rows.load(Relaxed), 2);
        run.stop();
    });
}

/// Each page takes longer to arrive than `timeouts.call`.
#[test]
fn pages_that_arrive_slowly_are_read() {
    synthetic(Options { backlog: 1_500, ..Options::default() }, |runtime, vcenter, mut settings| {
        settings.timeouts.call = Duration::from_secs(1);
        vcenter.trouble("ReadNextEvents", u32::MAX, Trouble::Drip(20, Duration::from_millis(100)));
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        run.stop();
    });
}

#[test]
fn lost_sessions_collectors_and_connections_lose_no_event() {
    synthetic(Options { backlog: 1_000, ..Options::default() }, |runtime, vcenter, settings| {
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        vcenter.kill_sessions();
        vcenter.append(100);
        run.wait_for_all(&vcenter);
        vcenter.destroy_collectors();
        vcenter.append(100);
        run.wait_for_all(&vcenter);
        run.runtime.block_on(vcenter.stop());
        vcenter.append(100);
        run.wait("says so", || matches!(run.status.state(), SourceState::Failed(_)));
        run.runtime.block_on(vcenter.restart()).unwrap();
        run.wait_for_all(&vcenter);
        run.stop();
    });
}

#[test]
fn wrapped_keys_lose_no_event() {
    synthetic(
        Options { backlog: 500, first_key: i32::MAX - 1_000, ..Options::default() },
        |runtime, vcenter, settings| {
            let run = Run::start(runtime, settings);
            run.wait_for_all(&vcenter);
            for _ in 0..10 {
                // The wrap falls into a first half. The source notices it by an event that is
                // more than `TIME_RENDERING` newer than the last one before the wrap.
                vcenter.append(75);
                vcenter.step_clock(2 * TIME_RENDERING.as_micros() as i64);
                vcenter.append(75);
                run.wait_for_all(&vcenter);
            }
            // More than one answer holds.
            vcenter.set_pace(Pace::Rate(5_000.0));
            run.wait("a burst", || vcenter.produced() > 15_000);
            vcenter.set_pace(Pace::Idle);
            run.wait_for_all(&vcenter);
            run.stop();
        },
    );
}

#[test]
fn forbidden_events_are_stepped_over() {
    let options = Options { backlog: 500, ..Options::default() };
    synthetic_with_and_without(options, |sticky, runtime, vcenter, settings| {
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        let forbidden = vcenter.forbid_next(5_000, sticky);
        vcenter.append(5_000);
        // The first event behind the gap cannot be decoded: closing in on that event must not
        // end before it.
        let malformed = vcenter.append_malformed().unwrap();
        vcenter.append(200);
        let missing = |index: &u64| forbidden.contains(index) || *index == malformed;
        run.wait_for(&vcenter, (0..vcenter.produced()).filter(|index| !missing(index)));
        run.stop();
    });
}

#[test]
fn sweeps_find_late_events() {
    synthetic(Options { backlog: 100, ..Options::default() }, |runtime, vcenter, mut settings| {
        settings.sweep =
            Some(Sweep { interval: Duration::from_millis(500), window: Duration::from_secs(120) });
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        let hidden = vcenter.hide_next(5, None);
        vcenter.append(50);
        run.wait_for(&vcenter, (0..vcenter.produced()).filter(|index| !hidden.contains(index)));
        vcenter.reveal();
        run.wait_for_all(&vcenter);
        run.stop();
    });
}

#[test]
fn reading_continues_after_a_restore() {
    synthetic(Options { backlog: 30_000, ..Options::default() }, |runtime, vcenter, settings| {
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        vcenter.restore(20_000, Duration::from_secs(600));
        // Events go on while the source finds out what happened.
        let (restored, before) = (vcenter.produced(), run.delivered());
        run.wait("it goes on", || {
            vcenter.append(10);
            run.delivered() > before
        });
        run.wait_for(&vcenter, restored..vcenter.produced());
        run.stop();
    });
}

#[test]
fn the_first_event_after_idle_is_read_at_once() {
    synthetic(Options { backlog: 10, ..Options::default() }, |runtime, vcenter, settings| {
        let run = Run::start(runtime, settings);
        run.wait_for_all(&vcenter);
        let waits = || run.status.calls(Method::WaitForUpdatesEx);
        run.wait("idle", || run.status.state() == SourceState::Waiting && waits() > 0);
        let before = waits();
        vcenter.append(1);
        run.wait_for_all(&vcenter);
        run.wait("woken", || waits() > before);
        run.stop();
    });
}

#[test]
fn power_events_of_vcsim_survive_lost_sessions_collectors_and_restarts() {
    let Some(mut vcsim) = Vcsim::start(&["-vms", "4"]) else { return };
    let mut settings = Vcenter::new(vcsim.url(), USER, Secret::inline(PASSWORD));
    settings.start_at = StartAt::Beginning;
    let run = Run::start(runtime(), settings);
    // The events of our own sessions come along, one for each login; only those of the machines
    // count.
    let powered = |run: &Run, count: usize| {
        run.wait(&format!("{count} power events"), || {
            let delivered = run.delivered.lock().unwrap();
            let of = |class: &str| delivered.classes.iter().filter(|&name| name == class).count();
            // The machines were powered on before the first round.
            of("VmPoweredOffEvent") + of("VmPoweredOnEvent") == 4 + count
        });
    };
    powered(&run, 0);
    vcsim.power(4);
    powered(&run, 4);
    vcsim.kill_sessions();
    vcsim.power(4);
    powered(&run, 8);
    vcsim.destroy_collectors();
    vcsim.power(4);
    powered(&run, 12);
    vcsim.restart();
    // The old process reported the same machines: the history of the new one begins with the next
    // event.
    vcsim.power(4);
    powered(&run, 16);
    run.stop();
    assert_eq!(vcsim.command("sessions"), "0", "logged out");
}

#[test]
fn a_wrong_password_is_tried_once() {
    synthetic(Options::default(), |runtime, vcenter, settings| {
        let wrong = Vcenter { password: Secret::inline("hunter2"), ..settings };
        let run = Run::start(runtime, wrong);
        run.wait("says so", || {
            matches!(run.status.state(), SourceState::Failed(text) if text.contains("InvalidLogin") && !text.contains("hunter2"))
        });
        assert!(run.status.first_attempt_done());
        // Nothing may happen: any other failure is tried again within a second.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(vcenter.counters().calls_of("Login"), 1);
        run.stop();
    });
}
