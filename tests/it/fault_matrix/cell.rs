//! A cell: a pipeline with one processor and a failing target, from the first event to the replay
//! of the dead letter.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use event_router::app::pipeline_settings;
use event_router::pipeline::level::QueueLevel;
use event_router::pipeline::replay::{Ended, Replayed};
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::processor::kubernetes::Cluster;
use event_router::processor::{Blame, Processor};
use event_router::settings::{self, Admin, ClientTls, Config, HttpClient, StateLocation};
use event_router::source::{Intake, Start};
use event_router::state::{DeadLetterPayload, Store, StoreReader, codec};
use event_router::supervise::Supervisor;
use tokio::net::TcpListener;

use super::column::{self, Column, Site};
use super::script::{FIRST, POISON, Row, Script, class, vm};
use crate::common::pages::{self, Made, begin};
use crate::common::wait_until;
use crate::processors_support::{Act, Authority, Deaf, Target, narrow_listener, patient};

/// Events of a cell; half of them are for each destination.
const EVENTS: i32 = 40;
/// The time for a condition on a machine that is busy with everything else.
const LIMIT: Duration = Duration::from_secs(60);

/// The parts that last for a whole cell: the listener and script of the target, and the state of
/// the router.
struct Cell {
    column: Column,
    script: Arc<Mutex<Script>>,
    listener: Arc<TcpListener>,
    target: Option<Target>,
    authority: Option<Authority>,
    http: HttpClient,
    concurrency: usize,
    folder: tempfile::TempDir,
    /// For Knative, with a switch that makes it answer.
    api: Option<(Target, Arc<Mutex<bool>>)>,
    run: Option<Run>,
}

/// One run of the router.
struct Run {
    pipeline: Pipeline,
    intake: Intake,
    processors: Vec<Arc<dyn Processor>>,
    begun: Option<Start>,
}

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, condition: impl FnMut() -> bool) {
    let came = tokio::task::block_in_place(|| wait_until(LIMIT, condition));
    assert!(came, "{what}");
}

impl Cell {
    fn new(column: Column, row: Row) -> Self {
        let listener = narrow_listener();
        Cell {
            column,
            script: Arc::new(Mutex::new(Script::new(column, row))),
            listener,
            target: None,
            authority: None,
            http: patient(),
            concurrency: 8,
            folder: tempfile::tempdir().unwrap(),
            api: None,
            run: None,
        }
    }

    /// With a target that speaks TLS.
    fn secured(mut self) -> Self {
        let authority = Authority::new();
        let file = self.folder.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        self.http.tls = ClientTls { ca_files: vec![file], ..ClientTls::default() };
        self.authority = Some(authority);
        self
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn url(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{port}")
    }

    /// Serves the target, with a certificate of its authority or of `stranger`.
    async fn serve(&mut self, stranger: Option<&Authority>) {
        let script = Arc::clone(&self.script);
        let authority = stranger.or(self.authority.as_ref());
        let tls = authority.map(|authority| authority.issue("localhost").server(None));
        self.end().await;
        let listener = Arc::clone(&self.listener);
        self.target = Some(Target::on(listener, tls, move |seen| script.lock().unwrap().step(seen)));
    }

    /// Stops the target.
    async fn end(&mut self) {
        if let Some(target) = self.target.take() {
            target.end().await;
        }
    }

    /// Starts the API server that knows the address of a Knative target.
    async fn cluster(&mut self, url: &str) -> Option<Cluster> {
        if self.column != Column::Knative {
            return None;
        }
        let authority = Authority::new();
        column::account(self.folder.path(), &authority.pem);
        let answers = Arc::new(Mutex::new(true));
        let (url, is_up) = (url.to_owned(), Arc::clone(&answers));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let tls = authority.issue("localhost").server(None);
        let server = Target::on(listener, Some(tls), move |seen| match *is_up.lock().unwrap() {
            true => column::api_server(seen, &url),
            false => Act::SayAndClose(String::new()),
        });
        let cluster = Cluster { api: server.https_url(""), account: self.folder.path().into() };
        self.api = Some((server, answers));
        Some(cluster)
    }

    /// Starts the router with a target at `url`.
    async fn start(&mut self, url: &str) {
        let cluster = self.cluster(url).await;
        let site = Site { url: url.into(), http: self.http.clone(), cluster };
        let processors = self.column.processors(&site);
        let vcenter = settings::Vcenter::new("https://vc/sdk", "u", settings::Secret::inline("p"));
        let sources =
            vec![settings::SourceConfig { name: "vc".into(), kind: settings::SourceKind::Vcenter(vcenter) }];
        let settings = |(name, _): &(&str, _)| settings::ProcessorConfig {
            name: name.to_string(),
            kind: settings::ProcessorKind::Blackhole(Default::default()),
            delivery: settings::DeliveryPolicy {
                concurrency: self.concurrency,
                ..column::delivery(self.column)
            },
        };
        let route = |(name, _): &(&str, _)| settings::RouteConfig {
            name: name.to_string(),
            sources: vec!["vc".into()],
            pattern: self.column.pattern(name),
            line: 1,
            processors: vec![name.to_string()],
            ..settings::RouteConfig::default()
        };
        let dir = self.folder.path().join("data");
        let state = StateLocation::Dir(dir.clone());
        let config = Config::new(state, sources, processors.iter().map(settings).collect());
        let config = Config {
            admin: Admin { bind_address: None, ..Admin::default() },
            routes: processors.iter().map(route).collect(),
            checkpoint_interval: Duration::from_millis(50),
            ..config
        };
        let processors: Vec<_> = processors.into_iter().map(|(_, processor)| processor).collect();
        let supervisor = Supervisor::default();
        for processor in &processors {
            Arc::clone(processor).start(&supervisor, "target");
        }
        let pipeline = Pipeline::start(Parts {
            settings: pipeline_settings::pipeline(&config),
            processors: processors.clone(),
            store: Store::open(&dir).unwrap(),
            parse_threads: 1,
            spools: true,
            positions: None,
            supervisor,
        })
        .unwrap();
        let intake = pipeline.intake(0);
        self.run = Some(Run { pipeline, intake, processors, begun: None });
    }

    fn run(&self) -> &Run {
        self.run.as_ref().expect("it was started")
    }

    /// Pushes a page, once the processors know which events they want.
    async fn push(&mut self, number: u64, keys: std::ops::Range<i32>) {
        let run = self.run.as_mut().expect("it was started");
        for processor in &run.processors {
            tokio::time::timeout(LIMIT, processor.ready()).await.expect("the first sync ends");
        }
        if run.begun.is_none() {
            run.begun = Some(begin(&run.intake).await);
        }
        let start = run.begun.as_ref().expect("it has begun");
        let page = pages::render(keys, |key| Made { class: class(key), vm: vm(key) });
        pages::push(&run.intake, start, number, page).await;
    }

    /// Stops the router. Returns whether all events were settled; the others are read again.
    async fn stop(&mut self, limit: Duration) -> bool {
        let Run { pipeline, intake, .. } = self.run.take().expect("it was started");
        drop(intake);
        assert_eq!(*pipeline.failed().borrow(), None);
        let over = |queue: &QueueLevel| queue.highest > queue.bound;
        assert!(!pipeline.queues().iter().any(over), "{:?}", pipeline.queues());
        pipeline.drain(limit).await.unwrap().settled
    }

    /// Waits until all events before `end` are taken, except for the refused one.
    fn until_taken(&self, end: i32) {
        let expected =
            |to: i32| -> Vec<i32> { (0..end).filter(|key| key % 2 == to && *key != POISON).collect() };
        let arrived = |to| {
            let mut keys = self.script().taken(to);
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        let mut last = (Vec::new(), Vec::new());
        let came = tokio::task::block_in_place(|| {
            wait_until(LIMIT, || {
                last = (arrived("on"), arrived("off"));
                last == (expected(0), expected(1))
            })
        });
        assert!(came, "{last:?} of {end} arrived");
    }

    /// Asserts that a request fails, blames the target, and says `part`.
    async fn assert_fails(&self, part: &str) {
        // The first tries may meet old connections that have just been closed.
        let mut said = Vec::new();
        while said.iter().filter(|reason: &&String| reason.contains(part)).count() < 2 {
            let failure = self.run().processors[0].check().await.unwrap_err();
            assert_eq!(failure.blame, Blame::Target, "{failure:?}");
            said.push(failure.reason);
            assert!(said.len() < 10, "{said:?}");
        }
    }

    /// The healthy destination gets all its events while the sick one gets none.
    fn assert_holds_up_no_other(&self) {
        until("the fault comes", || self.script().has_failed());
        until("`off` is held up by nothing", || self.script().taken("off").len() == EVENTS as usize / 2);
        let taken = self.script().taken("on");
        assert!(taken.iter().all(|key| *key < FIRST), "{taken:?} got through to the sick one");
    }

    /// The end of every cell: every event is where it belongs, and the dead letter is whole and can
    /// be replayed.
    async fn finish(mut self) {
        self.until_taken(EVENTS);
        {
            let script = self.script();
            assert!(script.has_failed(), "the fault never came");
            if script.is_exact() {
                let taken = (script.taken("on").len(), script.taken("off").len());
                assert_eq!(taken, (EVENTS as usize / 2 - 1, EVENTS as usize / 2), "none twice");
            }
        }
        let reader = StoreReader::open(&self.folder.path().join("data")).unwrap();
        let letters = || reader.dead_letters(&Default::default()).unwrap();
        until("the refused event is a dead letter", || letters().len() == 1);
        let letter = letters().remove(0);
        let facts = &letter.facts;
        assert_eq!(facts.destination, self.column.destination("on"));
        assert_eq!((facts.source.as_str(), facts.subject.as_str()), ("vc", class(POISON)));
        let (status, attempts) = self.script().refusal();
        assert_eq!((facts.status, facts.attempts), (status, attempts), "{}", facts.reason);
        assert!(facts.first_us <= facts.last_us && !facts.reason.is_empty());
        let DeadLetterPayload::Event(blob) = reader.dead_letter(letter.row).unwrap().unwrap().payload else {
            panic!()
        };
        let batch = codec::decode_blob(&blob).unwrap();
        assert_eq!((batch.records.len(), batch.records[0].key), (1, Some(POISON)));
        let data: serde_json::Value = serde_json::from_slice(batch.bytes(batch.records[0].data)).unwrap();
        assert_eq!(data["Vm"]["Vm"]["Value"], format!("vm-{}", vm(POISON)));

        self.script().mended = true;
        let mut ended = Vec::new();
        let tell = |replayed: Replayed| {
            ended.push(replayed.ended);
            true
        };
        self.run().pipeline.dead_letters().replay(&Default::default(), None, tell).await.unwrap();
        assert_eq!(ended, [Ended::Delivered]);
        assert!(letters().is_empty());
        let entry = self.script().log.last().unwrap().clone();
        assert_eq!((entry.got.key, entry.got.id), (POISON, facts.id.to_string()));
        assert!(self.stop(LIMIT).await, "all is settled");
        assert!(reader.spools().unwrap().is_empty());
        self.script().check();
    }
}

/// A target that does what `row` says to some requests.
pub async fn scripted(column: Column, row: Row) {
    let mut cell = Cell::new(column, row);
    match row {
        Row::Hang => cell.http.timeout = Duration::from_secs(1),
        // A request in flight when the target asks for a pause would count as too early.
        Row::RetryAfter => cell.concurrency = 1,
        _ => {}
    }
    cell.serve(None).await;
    cell.start(&cell.url()).await;
    cell.push(0, 0..EVENTS).await;
    if row.lasts() {
        cell.assert_holds_up_no_other();
        cell.script().released = true;
    }
    cell.until_taken(EVENTS);
    if row == Row::RetryAfter {
        let waited = cell.script().waited.expect("it was asked again");
        assert!(waited >= Duration::from_secs(1), "{waited:?}: it asked for a second");
    }
    cell.finish().await;
}

/// Statuses that blame the target: a login page, an expired token, a policy, a gateway's defect.
const TARGET_REFUSALS: [u16; 4] = [302, 401, 403, 502];
/// Statuses that are evidence only: a lost path, a conflict, a removed object, a limit of a proxy,
/// a broken schema, a defect. The columns configure that 400 blames the event.
const EVIDENCE_REFUSALS: [u16; 6] = [404, 409, 410, 413, 422, 500];

/// The target refuses every event for a while, with each class of status. The column EventBridge
/// leaves no time to compare a refused event with others (`max_age`), so it has no evidence.
pub async fn refuses_everything(column: Column) {
    let evidence: &[u16] = if column.is_partial() { &[] } else { &EVIDENCE_REFUSALS };
    for status in TARGET_REFUSALS.iter().chain(evidence) {
        scripted(column, Row::RefusesEverything(*status)).await;
    }
}

/// Some events of a request are refused, the others not.
pub async fn partial(column: Column) {
    scripted(column, if column.is_partial() { Row::Partial } else { Row::None }).await;
}

/// The target stops accepting connections, then accepts them again.
pub async fn slow_accept(column: Column) {
    let mut cell = Cell::new(column, Row::None);
    cell.http.connect_timeout = Duration::from_millis(500);
    cell.serve(None).await;
    cell.start(&cell.url()).await;
    cell.push(0, 0..10).await;
    cell.until_taken(10);
    cell.end().await;
    let deaf = Deaf::of(Arc::clone(&cell.listener)).await;
    cell.push(1, 10..EVENTS).await;
    cell.assert_fails("within 500 ms").await;
    drop(deaf);
    cell.serve(None).await;
    cell.finish().await;
}

/// The target shows a foreign certificate for a while.
pub async fn wrong_tls(column: Column) {
    let mut cell = Cell::new(column, Row::None).secured();
    cell.serve(None).await;
    cell.start(&cell.url()).await;
    cell.push(0, 0..10).await;
    cell.until_taken(10);
    cell.serve(Some(&Authority::new())).await;
    cell.push(1, 10..EVENTS).await;
    cell.assert_fails("no TLS with https://localhost").await;
    cell.serve(None).await;
    cell.finish().await;
}

/// The target is moved to an unknown name; a person corrects the configuration.
pub async fn dns(column: Column) {
    let mut cell = Cell::new(column, Row::None);
    cell.serve(None).await;
    cell.start(&cell.url()).await;
    cell.push(0, 0..10).await;
    cell.until_taken(10);
    assert!(cell.stop(LIMIT).await);
    cell.start("http://no-such-host.invalid").await;
    if matches!(column, Column::CloudEvents | Column::Http | Column::Knative) {
        cell.push(0, 0..10).await;
        cell.push(1, 10..EVENTS).await;
    }
    cell.assert_fails("no-such-host.invalid").await;
    cell.stop(Duration::from_millis(100)).await;
    cell.start(&cell.url()).await;
    cell.push(0, 0..10).await;
    cell.push(1, 10..EVENTS).await;
    cell.finish().await;
}

/// The peer that lists the destinations goes away, and comes back.
pub async fn refresh_gone(column: Column) {
    let mut cell = Cell::new(column, Row::None);
    cell.serve(None).await;
    if column == Column::Knative {
        cell.start(&cell.url()).await;
        let answers = Arc::clone(&cell.api.as_ref().expect("it was started").1);
        *answers.lock().unwrap() = false;
        cell.push(0, 0..EVENTS).await;
        cell.assert_fails("in Kubernetes").await;
        assert!(cell.script().log.is_empty(), "nobody knows where to");
        *answers.lock().unwrap() = true;
    } else {
        cell.start(&cell.url()).await;
        cell.push(0, 0..10).await;
        cell.script().gone = true;
        let before = cell.script().listings;
        until("refreshes fail", || cell.script().listings > before + 3);
        cell.push(1, 10..30).await;
        cell.until_taken(30);
        cell.script().gone = false;
        let before = cell.script().listings;
        until("refreshes succeed", || cell.script().listings > before + 3);
        cell.push(2, 30..EVENTS).await;
    }
    cell.finish().await;
}
