//! The pipeline without a vCenter: hand-made pages, a target of our own, a real store, and
//! restarts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::pages::{self, Made, begin};
use crate::common::until;
use event_router::app::pipeline_settings;
use event_router::pipeline::run::{Drained, Parts, Pipeline};
use event_router::processor::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use event_router::settings::{self, Admin, Config, ConfigFormat, Log, StateLocation};
use event_router::source::{Intake, Start};
use event_router::state::Store;
use event_router::supervise::Supervisor;

/// Keeps the keys of the events that it took, and refuses events as configured.
#[derive(Default)]
pub struct Target {
    pub taken: Mutex<Vec<i32>>,
    pub down: Mutex<bool>,
    pub asked: std::sync::atomic::AtomicUsize,
    poison: Option<i32>,
    /// Panics at every request.
    panics: bool,
    /// Refuses every event for good.
    pub refuses: Mutex<bool>,
    /// Refuses events of every seventh key, counted from here, for now. They are of one VM.
    sick: Mutex<Option<i32>>,
    /// The attributes of events that had failed elsewhere: destination, code, data, key.
    told: Mutex<Vec<(String, u16, String, i32)>>,
}

impl Processor for Target {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 100, bytes_max: 1 << 20, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(!self.panics, "as it was told to");
            let failure = |blame| DeliveryOutcome::Failed(Failure::new(blame, "no"));
            if *self.down.lock().unwrap() {
                return failure(Blame::Target);
            }
            let keys: Vec<i32> = request.events().map(|(batch, i)| batch.records[i].key.unwrap()).collect();
            if self.poison.is_some_and(|poison| keys.contains(&poison)) || *self.refuses.lock().unwrap() {
                return DeliveryOutcome::Failed(Failure {
                    status: Some(422),
                    said: "no such VM".into(),
                    ..Failure::new(Blame::Event, "422")
                });
            }
            if self.sick.lock().unwrap().is_some_and(|sick| keys.iter().any(|key| key % 7 == sick)) {
                return failure(Blame::Evidence);
            }
            for (batch, i) in request.events() {
                if let Some(failed) = &batch.failed {
                    let key = batch.records[i].key.unwrap();
                    self.told.lock().unwrap().push((
                        failed.dest.clone(),
                        failed.code,
                        failed.data.clone(),
                        key,
                    ));
                }
            }
            self.taken.lock().unwrap().extend(keys);
            DeliveryOutcome::Delivered
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { Ok("here".into()) })
    }
}

/// `a>b` stands for a processor `a` whose dead letters go to `b`. A name that begins with `sink`
/// gets nothing but dead letters.
fn name_of(target: &str) -> &str {
    target.split_once('>').map_or(target, |(name, _)| name)
}

fn config(names: &[&str], dir: &std::path::Path) -> Config {
    let vcenter = settings::Vcenter::new("https://vc/sdk", "u", settings::Secret::inline("p"));
    Config {
        cluster: None,
        format: ConfigFormat::Native,
        reload_on_change: false,
        state: StateLocation::Dir(dir.into()),
        admin: Admin { bind_address: None, ..Admin::default() },
        sources: vec![settings::SourceConfig {
            name: "vc".into(),
            kind: settings::SourceKind::Vcenter(vcenter),
        }],
        processors: names
            .iter()
            .map(|name| settings::ProcessorConfig {
                name: name_of(name).to_string(),
                kind: settings::ProcessorKind::Blackhole(Default::default()),
                delivery: settings::DeliveryPolicy {
                    dead_letter: name.split_once('>').map(|(_, sink)| sink.to_string()),
                    ordering: if name.starts_with("entity") {
                        settings::Ordering::Entity
                    } else {
                        settings::Ordering::Source
                    },
                    retry: settings::Retry {
                        attempts: if name.starts_with("entity") { 1_000_000 } else { 8 },
                        backoff_max: Duration::from_secs(1),
                        ..settings::Retry::default()
                    },
                    ..settings::DeliveryPolicy::default()
                },
            })
            .collect(),
        routes: vec![settings::RouteConfig {
            name: "all".into(),
            sources: vec!["vc".into()],
            pattern: None,
            line: 1,
            processors: names
                .iter()
                .map(|name| name_of(name).to_string())
                .filter(|name| !name.starts_with("sink"))
                .collect(),
            ..settings::RouteConfig::default()
        }],
        memory_bytes: 8 << 20,
        shutdown_timeout: Duration::from_secs(5),
        checkpoint_interval: Duration::from_millis(50),
        dead_letters: Default::default(),
        log: Log::default(),
    }
}

fn start(targets: &[(&str, Arc<Target>)], dir: &std::path::Path) -> Pipeline {
    start_over(targets, dir, Store::open(dir).unwrap())
}

pub fn start_over(targets: &[(&str, Arc<Target>)], dir: &std::path::Path, store: Store) -> Pipeline {
    start_changed(targets, dir, store, |_| ())
}

pub fn start_changed(
    targets: &[(&str, Arc<Target>)],
    dir: &std::path::Path,
    store: Store,
    change: impl FnOnce(&mut Config),
) -> Pipeline {
    let names: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
    let mut config = config(&names, dir);
    change(&mut config);
    Pipeline::start(Parts {
        settings: pipeline_settings::pipeline(&config),
        processors: targets.iter().map(|(_, target)| Arc::clone(target) as Arc<dyn Processor>).collect(),
        store,
        parse_threads: 2,
        spools: true,
        positions: None,
        supervisor: Supervisor::default(),
    })
    .unwrap()
}

/// Events of seven VMs.
pub async fn push(intake: &Intake, start: &Start, number: u64, keys: std::ops::Range<i32>) {
    let page = pages::render(keys, |key| Made { class: "VmPoweredOnEvent", vm: key % 7 });
    pages::push(intake, start, number, page).await;
}

pub async fn drained(pipeline: Pipeline, intake: Intake, seconds: u64) -> Drained {
    drop(intake);
    pipeline.drain(Duration::from_secs(seconds)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_read_again_after_a_restart_are_not_delivered_again() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target::default());
    for round in 0..3 {
        let pipeline = start(&[("a", Arc::clone(&target))], dir.path());
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        // Each run reads everything from the beginning of the overlap again.
        push(&intake, &begun, 0, 0..500).await;
        push(&intake, &begun, 1, 500..500 + round * 100).await;
        assert!(drained(pipeline, intake, 30).await.settled);
    }
    assert_eq!(*target.taken.lock().unwrap(), (0..700).collect::<Vec<_>>());
}

/// A restart soon after the first start: the overlap must not reach events from before that start,
/// which `startAt: now` promised to leave alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_before_the_first_start_is_read_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target::default());
    let overlap_us = settings::Vcenter::new("", "", settings::Secret::inline("")).overlap.as_micros() as i64;
    let mut first_us = None;
    // The last run's newest event is a quarter of an hour after the first start.
    for keys in [0..10, 10..9_000, 0..0] {
        let pipeline = start(&[("a", Arc::clone(&target))], dir.path());
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        let first_us = *first_us.get_or_insert(begun.begin_us);
        if keys.is_empty() {
            let newest_us = first_us + 8_999 * 100_000;
            assert_eq!(
                begun.begin_us,
                newest_us - overlap_us,
                "the overlap, where it lies after the first start"
            );
        } else {
            assert_eq!(begun.begin_us, first_us);
            push(&intake, &begun, 0, keys).await;
        }
        assert!(drained(pipeline, intake, 30).await.settled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_unsettled_events_go_only_to_their_destination() {
    let dir = tempfile::tempdir().unwrap();
    let (up, down) = (Arc::new(Target::default()), Arc::new(Target::default()));
    *down.down.lock().unwrap() = true;
    for settled in [false, true] {
        let targets = [("up", Arc::clone(&up)), ("down", Arc::clone(&down))];
        let pipeline = start(&targets, dir.path());
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        push(&intake, &begun, 0, 0..300).await;
        assert_eq!(drained(pipeline, intake, if settled { 30 } else { 1 }).await.settled, settled);
        *down.down.lock().unwrap() = false;
    }
    assert_eq!(*up.taken.lock().unwrap(), (0..300).collect::<Vec<_>>(), "once, in the first run");
    assert_eq!(*down.taken.lock().unwrap(), (0..300).collect::<Vec<_>>(), "once, in the second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_processor_starts_at_the_current_position_and_a_removed_one_holds_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Arc::new(Target::default()), Arc::new(Target::default()));
    *old.down.lock().unwrap() = true;
    let first = start(&[("old", Arc::clone(&old))], dir.path());
    let intake = first.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..200).await;
    assert!(!drained(first, intake, 1).await.settled);
    let second = start(&[("new", Arc::clone(&new))], dir.path());
    let intake = second.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..300).await;
    assert!(drained(second, intake, 30).await.settled);
    assert_eq!(*new.taken.lock().unwrap(), (200..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_for_good_is_a_dead_letter_and_settled() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target { poison: Some(42), ..Target::default() });
    let pipeline = start(&[("a", Arc::clone(&target))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..100).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    assert_eq!(target.taken.lock().unwrap().len(), 99);
    let store = Store::open(dir.path()).unwrap();
    let letters = store.reader().dead_letters(&Default::default()).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].facts.destination.as_str(), letters[0].facts.subject.as_str()),
        ("a", "VmPoweredOnEvent")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_settled_when_its_dead_letter_processor_has_it_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target { poison: Some(42), ..Target::default() });
    let sink = Arc::new(Target::default());
    *sink.down.lock().unwrap() = true;
    for settled in [false, true] {
        let pipeline = start(&[("a>sink", Arc::clone(&target)), ("sink", Arc::clone(&sink))], dir.path());
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        push(&intake, &begun, 0, 0..100).await;
        let end = drained(pipeline, intake, if settled { 30 } else { 2 }).await;
        assert_eq!(end.settled, settled, "the dead-letter processor is down at first");
        *sink.down.lock().unwrap() = false;
    }
    assert_eq!(*sink.told.lock().unwrap(), [("a".into(), 422, "bm8gc3VjaCBWTQ==".into(), 42)]);
    assert_eq!(*sink.taken.lock().unwrap(), [42], "nothing but dead letters");
    assert_eq!(target.taken.lock().unwrap().len(), 99);
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    assert!(reader.dead_letters(&Default::default()).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_every_dead_letter_processor_refuses_is_a_dead_letter_of_its_destination() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target { poison: Some(42), ..Target::default() });
    let sinks = [0, 1].map(|_| Arc::new(Target { poison: Some(42), ..Target::default() }));
    let targets = [
        ("a>sink1", Arc::clone(&target)),
        ("sink1>sink2", Arc::clone(&sinks[0])),
        ("sink2", Arc::clone(&sinks[1])),
    ];
    let pipeline = start(&targets, dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..100).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    assert!(sinks.iter().all(|sink| sink.asked.load(std::sync::atomic::Ordering::Relaxed) == 1), "in turn");
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    let letters = reader.dead_letters(&Default::default()).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&*letters[0].facts.destination, &*letters[0].facts.reason),
        ("a", "422; the dead-letter processor `sink2` refused it too: 422")
    );
    // A healthy target takes the event as any other.
    let healthy = Arc::new(Target::default());
    let pipeline = start(&[("a", Arc::clone(&healthy))], dir.path());
    let mut delivered = 0;
    let count = |replayed: event_router::pipeline::replay::Replayed| {
        delivered += usize::from(replayed.ended == event_router::pipeline::replay::Ended::Delivered);
        true
    };
    pipeline.dead_letters().replay(&Default::default(), None, count).await.unwrap();
    assert_eq!((delivered, healthy.taken.lock().unwrap().clone()), (1, vec![42]));
    assert!(healthy.told.lock().unwrap().is_empty(), "no attributes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_destination_spills_holds_up_no_other_and_later_gets_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (up, down) = (Arc::new(Target::default()), Arc::new(Target::default()));
    *down.down.lock().unwrap() = true;
    let pipeline = start(&[("up", Arc::clone(&up)), ("down", Arc::clone(&down))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    // About 25 MB of events through 8 MiB of memory.
    for page in 0..40 {
        push(&intake, &begun, page, page as i32 * 1_000..(page as i32 + 1) * 1_000).await;
    }
    until("the healthy one goes on", || up.taken.lock().unwrap().len() >= 40_000).await;
    *down.down.lock().unwrap() = false;
    until("the dead one catches up", || down.taken.lock().unwrap().len() >= 40_000).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    assert_eq!(*down.taken.lock().unwrap(), (0..40_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_whose_driver_panics_stops_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target { panics: true, ..Target::default() });
    let pipeline = start(&[("out", Arc::clone(&target))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..10).await;
    let mut failed = pipeline.failed();
    let reason = tokio::time::timeout(Duration::from_secs(20), failed.wait_for(Option::is_some)).await;
    let reason = reason.expect("in time").unwrap().clone().unwrap();
    assert!(reason.contains("`delivery/out` panicked"), "{reason}");
    assert!(!drained(pipeline, intake, 1).await.settled);
}

/// Each dead target spools. The spools together, and the rows that their destinations read back at
/// once, exceed the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dead_targets_take_no_memory_from_a_healthy_one() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..12).map(|n| format!("dead-{n}")).collect();
    let up = Arc::new(Target::default());
    let dead: Vec<Arc<Target>> = names.iter().map(|_| Arc::default()).collect();
    dead.iter().for_each(|target| *target.down.lock().unwrap() = true);
    let mut targets = vec![("up", Arc::clone(&up))];
    targets.extend(names.iter().map(String::as_str).zip(dead.iter().cloned()));
    let store = Store::open(dir.path()).unwrap();
    let pipeline = start_changed(&targets, dir.path(), store, |config| config.memory_bytes = 4 << 20);
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    for page in 0..16 {
        push(&intake, &begun, page, page as i32 * 1_000..(page as i32 + 1) * 1_000).await;
    }
    until("the one that is well gets all", || up.taken.lock().unwrap().len() == 16_000).await;
    dead.iter().for_each(|target| *target.down.lock().unwrap() = false);
    until("and so do the others", || dead.iter().all(|dead| dead.taken.lock().unwrap().len() >= 16_000))
        .await;
    assert!(drained(pipeline, intake, 60).await.settled);
    for target in dead {
        assert_eq!(*target.taken.lock().unwrap(), (0..16_000).collect::<Vec<_>>(), "in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_entity_fills_no_memory_and_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target::default());
    *target.sick.lock().unwrap() = Some(3);
    let pipeline = start(&[("entity", Arc::clone(&target))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    // More events than fit into the memory: each page has some of the VM whose events are refused.
    for page in 0..30 {
        push(&intake, &begun, page, page as i32 * 1_000..(page as i32 + 1) * 1_000).await;
    }
    let sick = (0..30_000).filter(|key| key % 7 == 3).count();
    until("the others are through", || target.taken.lock().unwrap().len() == 30_000 - sick).await;
    let budget = pipeline.budget().clone();
    until("pages are given back", || budget.used() < budget.limit() / 2).await;
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    until("parked events have a spool", || reader.spools().unwrap().len() == 1).await;
    let spools = reader.spools().unwrap();
    assert!(spools.keys().all(|name| name.starts_with("entity#parked/")), "{spools:?}");
    // Parked events are durable, and precede newer ones after a restart.
    assert!(drained(pipeline, intake, 30).await.settled);
    let pipeline = start(&[("entity", Arc::clone(&target))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 30_000..30_700).await;
    *target.sick.lock().unwrap() = None;
    until("everything has come", || target.taken.lock().unwrap().len() >= 30_700).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    let taken = target.taken.lock().unwrap();
    for entity in 0..7 {
        let of_entity: Vec<i32> = taken.iter().copied().filter(|key| key % 7 == entity).collect();
        let expected: Vec<i32> = (0..30_700).filter(|key| key % 7 == entity).collect();
        assert_eq!(of_entity, expected);
    }
    assert!(reader.spools().unwrap().is_empty(), "it is gone");
}

/// A crash in the middle of a replay leaves a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_replay_leaves_its_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target::default());
    *target.refuses.lock().unwrap() = true;
    let pipeline = start(&[("a", Arc::clone(&target))], dir.path());
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..5).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    *target.down.lock().unwrap() = true;
    let pipeline = start(&[("a", Arc::clone(&target))], dir.path());
    let letters = pipeline.dead_letters();
    let replay = tokio::spawn(async move { letters.replay(&Default::default(), None, |_| true).await });
    until("the target is asked", || target.asked.load(std::sync::atomic::Ordering::Relaxed) > 5).await;
    let intake = pipeline.intake(0);
    drained(pipeline, intake, 1).await;
    assert!(replay.await.unwrap().is_err(), "it says that it did not come to its end");
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    assert_eq!(reader.dead_letters(&Default::default()).unwrap().len(), 5);
}
