//! Events of push sources through the whole pipeline: from the inbox to targets, over a spool, a
//! crash and the dead letters, beside the events of a vCenter. Every event is delivered as it came.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::pages::{self, Made};
use crate::common::until;
use event_router::app::pipeline_settings;
use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::event::{Attributes, Batch, Extension, ExtensionKind, PushedEvent, Selection, SourceInfo};
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::processor::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use event_router::settings::{self, Admin, Config, StateLocation};
use event_router::source::{Found, Intake, Page, PageForm, Start};
use event_router::state::{DeadLetterFilter, Store, StoreReader, WriteOutcome, inbox};
use event_router::supervise::Supervisor;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

const HOOKS: usize = 1;

/// Keeps the CloudEvents that it takes.
#[derive(Default)]
struct Target {
    taken: Mutex<Vec<Value>>,
    /// The blame of its answers; `None` while it accepts events.
    blame: Mutex<Option<Blame>>,
}

impl Target {
    fn answer(&self, blame: Option<Blame>) {
        *self.blame.lock().unwrap() = blame;
    }

    fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }

    /// The ids of the pushed events that it took.
    fn ids(&self) -> Vec<String> {
        let of = |event: &Value| {
            let is_pushed = event["source"] == "/harbor";
            is_pushed.then(|| event["id"].as_str().unwrap().to_owned())
        };
        self.taken().iter().filter_map(of).collect()
    }
}

impl Processor for Target {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 7, bytes_max: 1 << 20, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async {
            if let Some(blame) = *self.blame.lock().unwrap() {
                return DeliveryOutcome::Failed(Failure { status: Some(422), ..Failure::new(blame, "no") });
            }
            let envelope = Envelope::new(EnvelopeOptions::default()).unwrap();
            for (batch, i) in request.events() {
                let mut body = Vec::new();
                envelope.open(batch).structured(i, &mut body);
                self.taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            }
            DeliveryOutcome::Delivered
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { Ok("here".into()) })
    }
}

/// Two sources, a vCenter and one whose events are pushed, to the processors `all` and `pushes`.
/// The latter gets only the events that its pattern takes.
fn config(dir: &Path) -> Config {
    let source = |name: &str| {
        let mut vcenter = settings::Vcenter::new("https://vc/sdk", "u", settings::Secret::inline("p"));
        vcenter.overlap = if name == "hooks" { Duration::ZERO } else { vcenter.overlap };
        settings::SourceConfig { name: name.into(), kind: settings::SourceKind::Vcenter(vcenter) }
    };
    let processor = |name: &str| settings::ProcessorConfig {
        name: name.into(),
        kind: settings::ProcessorKind::Blackhole(Default::default()),
        delivery: settings::DeliveryPolicy {
            retry: settings::Retry { attempts: 1, ..settings::Retry::default() },
            ..settings::DeliveryPolicy::default()
        },
    };
    let route = |processor: &str, pattern: Option<Value>| settings::RouteConfig {
        name: processor.into(),
        sources: vec!["vc".into(), "hooks".into()],
        pattern,
        line: 1,
        processors: vec![processor.into()],
        ..settings::RouteConfig::default()
    };
    let pattern = json!({
        "type": [{"prefix": "harbor."}],
        "severitytext": ["WARN"],
        "data": {"tag": [{"anything-but": "latest"}]},
    });
    Config {
        admin: Admin { bind_address: None, ..Admin::default() },
        routes: vec![route("all", None), route("pushes", Some(pattern))],
        checkpoint_interval: Duration::from_millis(20),
        memory_bytes: 8 << 20,
        ..Config::new(
            StateLocation::Dir(dir.into()),
            vec![source("vc"), source("hooks")],
            vec![processor("all"), processor("pushes")],
        )
    }
}

struct Run {
    pipeline: Pipeline,
    hooks: (Intake, Start),
    pages: u64,
}

impl Run {
    async fn start(dir: &Path, targets: [&Arc<Target>; 2]) -> Run {
        let pipeline = Pipeline::start(Parts {
            settings: pipeline_settings::pipeline(&config(dir)),
            processors: targets.map(|target| Arc::clone(target) as Arc<dyn Processor>).into(),
            store: Store::open(dir).unwrap(),
            parse_threads: 2,
            spools: true,
            positions: None,
            supervisor: Supervisor::default(),
        })
        .unwrap();
        let intake = pipeline.intake(HOOKS);
        // The place before the first row of an inbox.
        let found = Found {
            url: String::new(),
            instance_uuid: Uuid::from_u128(5),
            api_version: String::new(),
            start_us: -500,
        };
        let start = intake.begin(found).await.unwrap();
        Run { pipeline, hooks: (intake, start), pages: 0 }
    }

    /// Makes the events of one request durable, as a push source does before it answers the sender.
    async fn accept(&self, ids: impl IntoIterator<Item = u32>) -> i64 {
        let batch = pushed(&self.hooks.1.info, ids);
        let write = inbox::append(&batch, &Selection::first(batch.records.len()), u64::MAX, 0).unwrap();
        let (done, is_done) = oneshot::channel();
        self.pipeline.store().apply(vec![write], move |outcomes| {
            let [WriteOutcome::Row(row)] = outcomes[..] else { panic!("{outcomes:?}") };
            let _ = done.send(row);
        });
        is_done.await.unwrap()
    }

    /// Reads the inbox from `row` on.
    async fn read_from(&mut self, dir: &Path, row: i64) {
        self.read_damaged(dir, row, |_| false).await;
    }

    /// Reads the inbox from `row` on. The rows that `is_damaged` selects arrive with a wrong byte.
    async fn read_damaged(&mut self, dir: &Path, row: i64, is_damaged: impl Fn(i64) -> bool) {
        let (intake, start) = &self.hooks;
        let rows =
            StoreReader::open(dir).unwrap().peek(&inbox::spool_of("hooks"), row - 1, u64::MAX).unwrap();
        for mut row in rows {
            row.blob[9] ^= u8::from(is_damaged(row.row));
            let (verdicts, _kept) = mpsc::unbounded_channel();
            let page = Page {
                source: Arc::clone(&start.info),
                number: self.pages,
                reading: None,
                produced_us: 0,
                form: PageForm::Inbox { row: row.row },
                permit: intake.reserve(row.blob.len()).await,
                body: row.blob.into(),
                poison: None,
                verdicts,
            };
            intake.push(page).await.unwrap();
            self.pages += 1;
        }
    }

    /// Delivers the events that can be delivered, and stops. Returns true if every event is
    /// settled.
    async fn stop(self) -> bool {
        drop(self.hooks);
        self.pipeline.drain(Duration::from_secs(10)).await.unwrap().settled
    }
}

fn pushed(info: &Arc<SourceInfo>, ids: impl IntoIterator<Item = u32>) -> Batch {
    let mut batch = Batch::new(Arc::clone(info), 0, Vec::new(), Vec::new());
    for id in ids {
        let attributes = Attributes {
            id: &id.to_string(),
            source: "/harbor",
            kind: "harbor.push",
            time: "2026-11-22T00:06:48+01:00",
            ..Attributes::EMPTY
        };
        let severity = if id % 2 == 0 { "WARN" } else { "INFO" };
        let extensions = [Extension { name: "severitytext", kind: ExtensionKind::String, value: severity }];
        let data = json!({"tag": if id % 5 == 0 { "latest" } else { "1.0" }, "n": id}).to_string();
        let subject = format!("library/{}", id % 3);
        batch.push(&PushedEvent {
            attributes,
            extensions: &extensions,
            subject: &subject,
            data: data.as_bytes(),
        });
    }
    batch
}

fn all(ids: impl IntoIterator<Item = u32>) -> Vec<String> {
    ids.into_iter().map(|id| id.to_string()).collect()
}

/// The events that the pattern of `pushes` takes.
fn wanted(ids: impl IntoIterator<Item = u32>) -> Vec<String> {
    all(ids.into_iter().filter(|id| id % 2 == 0 && id % 5 != 0))
}

fn targets() -> [Arc<Target>; 2] {
    [Arc::default(), Arc::default()]
}

/// The position of the pushed events, as the last checkpoint has it.
fn resume_us(dir: &Path) -> i64 {
    StoreReader::open(dir).unwrap().load("hooks").unwrap().unwrap().resume_us
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_events_are_delivered_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let [every, pushes] = targets();
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    let vcenter = run.pipeline.intake(0);
    let start = pages::begin(&vcenter).await;
    pages::push(
        &vcenter,
        &start,
        0,
        pages::render(1..40, |key| Made { class: "VmPoweredOnEvent", vm: key % 7 }),
    )
    .await;
    let first = run.accept(1..=20).await;
    run.accept(21..=30).await;
    run.read_from(dir.path(), first).await;
    drop(vcenter);
    assert!(run.stop().await);
    assert_eq!(every.ids(), all(1..=30));
    assert_eq!(pushes.ids(), wanted(1..=30));
    assert_eq!(every.taken().len(), 30 + 39, "also the events of the vCenter");
    let event = every.taken().into_iter().find(|event| event["id"] == "4").unwrap();
    assert_eq!(
        event,
        json!({
            "id": "4", "source": "/harbor", "specversion": "1.0", "type": "harbor.push", "subject": "library/1",
            "time": "2026-11-22T00:06:48+01:00", "data": {"tag": "1.0", "n": 4}, "severitytext": "WARN",
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_keeps_pushed_events_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let [every, pushes] = targets();
    every.answer(Some(Blame::Target));
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    // More than the memory budget holds, so that the rest is spilled.
    let mut accepted = 0;
    let spooled =
        || StoreReader::open(dir.path()).unwrap().spools().unwrap().get("all").map_or(0, |size| size.rows);
    while spooled() == 0 {
        let first = run.accept(accepted + 1..=accepted + 1_000).await;
        accepted += 1_000;
        run.read_from(dir.path(), first).await;
        assert!(accepted < 200_000, "nothing is spooled");
    }
    until("the other destination has what it wants", || pushes.ids().len() == wanted(1..=accepted).len())
        .await;
    assert!(every.ids().is_empty());
    // A stop while the store appends to the spool repeats the events of that append.
    let unsettled = || {
        let stored = StoreReader::open(dir.path()).unwrap().load("hooks").unwrap();
        stored.and_then(|stored| stored.unsettled.get("all").map(Vec::len)).unwrap_or(0)
    };
    let in_spool =
        || StoreReader::open(dir.path()).unwrap().spools().unwrap().get("all").map_or(0, |size| size.events);
    until("each event is in the spool or unsettled", || {
        in_spool() + unsettled() as u64 == u64::from(accepted)
    })
    .await;
    run.stop().await;

    every.answer(None);
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    run.read_from(dir.path(), inbox::first_read(resume_us(dir.path()))).await;
    until("all is delivered", || every.ids().len() >= accepted as usize).await;
    assert!(run.stop().await);
    assert_eq!(every.ids(), all(1..=accepted), "each once, in the order of arrival");
    assert_eq!(pushes.ids(), wanted(1..=accepted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_repeats_events_in_flight_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [every, pushes] = targets();
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    let first = run.accept(1..=30).await;
    run.read_from(dir.path(), first).await;
    until("the first are settled", || every.ids().len() == 30).await;
    until("and a checkpoint knows", || {
        let stored = StoreReader::open(dir.path()).unwrap().load("hooks").unwrap();
        stored.is_some_and(|stored| stored.resume_us > -500 || !stored.seen.is_empty())
    })
    .await;
    every.answer(Some(Blame::Target));
    let second = run.accept(31..=60).await;
    run.read_from(dir.path(), second).await;
    // Accepted, but not read when the crash comes.
    run.accept(61..=70).await;
    until("the other destination has its share", || pushes.ids().len() == wanted(1..=60).len()).await;
    // A copy of the files at this moment is the state after a crash.
    let copy = tempfile::tempdir().unwrap();
    for file in ["state.db", "state.db-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    run.stop().await;

    let (before, [again_every, again_pushes]) = (every.ids(), targets());
    let mut run = Run::start(copy.path(), [&again_every, &again_pushes]).await;
    run.read_from(copy.path(), inbox::first_read(resume_us(copy.path()))).await;
    let mut accepted_row = 0;
    for id in 71..=75 {
        accepted_row = run.accept([id]).await;
    }
    run.read_from(copy.path(), accepted_row - 4).await;
    assert!(run.stop().await);
    let union: BTreeSet<String> = before.into_iter().chain(again_every.ids()).collect();
    assert_eq!(union, all(1..=75).into_iter().collect());
    let again = again_every.ids();
    assert_eq!(again.len(), again.iter().collect::<BTreeSet<_>>().len(), "each once in a run");
    assert!(again.iter().all(|id| id.parse::<u32>().unwrap() > 30), "what a checkpoint knew is not repeated");
    let missed: BTreeSet<String> = pushes.ids().into_iter().chain(again_pushes.ids()).collect();
    assert_eq!(missed, wanted(1..=75).into_iter().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushed_event_becomes_a_dead_letter_and_is_replayed_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let [every, pushes] = targets();
    every.answer(Some(Blame::Event));
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    let first = run.accept(1..=9).await;
    run.read_from(dir.path(), first).await;
    let letters =
        || StoreReader::open(dir.path()).unwrap().dead_letters(&DeadLetterFilter::default()).unwrap();
    until("they are dead letters", || letters().len() == 9).await;
    assert!(
        letters().iter().all(|letter| letter.facts.source == "hooks" && letter.facts.destination == "all")
    );
    assert_eq!(letters()[3].facts.subject, "library/1");
    every.answer(None);
    let letters_again = run.pipeline.dead_letters();
    letters_again.replay(&DeadLetterFilter::default(), None, |_| true).await.unwrap();
    drop(letters_again);
    assert!(letters().is_empty());
    let mut ids = every.ids();
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, all(1..=9));
    assert!(run.stop().await);
}

/// The senders cannot be asked again, so its bytes are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_decoded_becomes_a_dead_letter_before_the_checkpoint_passes_it() {
    let dir = tempfile::tempdir().unwrap();
    let [every, pushes] = targets();
    let mut run = Run::start(dir.path(), [&every, &pushes]).await;
    let first = run.accept(1..=3).await;
    run.accept(4..=6).await;
    run.accept(7..=9).await;
    run.read_damaged(dir.path(), first, |row| row != first + 1).await;
    assert!(run.stop().await);
    assert_eq!(every.ids(), all(4..=6));
    let reader = StoreReader::open(dir.path()).unwrap();
    let letters = reader.dead_letters(&DeadLetterFilter::default()).unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| (letter.is_raw, &letter.facts.reason)).collect();
    assert_eq!(letters.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|(is_raw, reason)| *is_raw && reason.contains("of the inbox")), "{reasons:?}");
    assert!(!reader.spools().unwrap().contains_key(&inbox::spool_of("hooks")), "no row waits any more");
}
