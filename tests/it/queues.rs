//! Queues whose senders never wait stay within the bounds that their arithmetic promises, under
//! load and with every kind of message: thousands of events a second one at a time, spools, dead
//! letters, dead-letter processors, replays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::common::pages::{self, Made, begin};
use crate::common::until;
use event_router::app::pipeline_settings;
use event_router::limits::REPLAYS_MAX;
use event_router::pipeline::level::QueueLevel;
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::processor::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use event_router::settings::{self, Config, StateLocation};
use event_router::state::{DeadLetterFilter, Store, StoreReader};
use event_router::supervise::Supervisor;

const PAGES: i32 = 12;
const PAGE: i32 = 1_000;

/// A processor that answers at once and counts the events.
#[derive(Default)]
struct Busy {
    taken: AtomicU64,
    asked: AtomicU64,
    /// Refuses every event whose key is a multiple of this.
    refuses: Option<i32>,
    /// The number of requests at the beginning that fail.
    down: u64,
}

impl Processor for Busy {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 1, bytes_max: 1 << 20, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async {
            // The others run in between.
            tokio::task::yield_now().await;
            if self.asked.fetch_add(1, Relaxed) < self.down {
                return DeliveryOutcome::Failed(Failure::new(Blame::Target, "down"));
            }
            let (batch, i) = request.events().next().unwrap();
            let key = batch.records[i].key.unwrap();
            if self.refuses.is_some_and(|every| key % every == 0) {
                return DeliveryOutcome::Failed(Failure::new(Blame::Event, "refused"));
            }
            self.taken.fetch_add(1, Relaxed);
            DeliveryOutcome::Delivered
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { Ok("here".into()) })
    }
}

/// Bounds count thousands of replays, which would hide everything else where there are none:
/// `replays` is how many there may have been.
fn assert_within_bounds(pipeline: &Pipeline, replays: usize) {
    assert_eq!(*pipeline.failed().borrow(), None);
    for QueueLevel { name, highest, bound } in pipeline.queues() {
        let bound = if name == "control" { bound } else { bound - REPLAYS_MAX + replays };
        println!("{name}: {highest} of {bound}");
        assert!(highest > 0, "{name} is not used");
        assert!(highest <= bound, "{name} has held {highest} of {bound}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_stay_within_their_bounds_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = |every| Busy { refuses: Some(every), ..Busy::default() };
    let targets = [
        ("fast", Busy::default()),
        ("entity", Busy::default()),
        ("refusing", refusing(5)),
        ("adopted", refusing(5)),
        ("late", Busy { down: 40, ..Busy::default() }),
        ("sink", Busy::default()),
    ];
    let targets = targets.map(|(name, target)| (name, Arc::new(target)));
    let vcenter = settings::Vcenter::new("https://vc/sdk", "u", settings::Secret::inline("p"));
    let sources =
        vec![settings::SourceConfig { name: "vc".into(), kind: settings::SourceKind::Vcenter(vcenter) }];
    let processor = |name: &str| settings::ProcessorConfig {
        name: name.to_string(),
        kind: settings::ProcessorKind::Blackhole(Default::default()),
        delivery: settings::DeliveryPolicy {
            ordering: if name == "entity" { settings::Ordering::Entity } else { settings::Ordering::None },
            dead_letter: (name == "adopted").then(|| "sink".to_string()),
            retry: settings::Retry {
                attempts: 1_000_000,
                backoff_max: Duration::from_millis(20),
                ..settings::Retry::default()
            },
            // `late` fails 40 requests, most of which may be probes.
            breaker: Some(settings::Breaker {
                probe_interval: Duration::from_millis(20),
                ..settings::DeliveryPolicy::default().breaker.unwrap()
            }),
            ..settings::DeliveryPolicy::default()
        },
    };
    let processors = targets.iter().map(|(name, _)| processor(name)).collect();
    let mut config = Config::new(StateLocation::Dir(dir.path().into()), sources, processors);
    // Two or three pages: destinations spill.
    config.memory_bytes = 4 << 20;
    config.checkpoint_interval = Duration::from_millis(20);
    config.routes[0].processors.retain(|name| name != "sink");
    let pipeline = Pipeline::start(Parts {
        settings: pipeline_settings::pipeline(&config),
        processors: targets.iter().map(|(_, target)| Arc::clone(target) as Arc<dyn Processor>).collect(),
        store: Store::open(dir.path()).unwrap(),
        parse_threads: 2,
        spools: true,
        positions: None,
        supervisor: Supervisor::default(),
    })
    .unwrap();
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    for page in 0..PAGES {
        let keys = page * PAGE..(page + 1) * PAGE;
        let page_bytes = pages::render(keys, |key| Made { class: "VmPoweredOnEvent", vm: key % 50 });
        pages::push(&intake, &begun, page as u64, page_bytes).await;
    }
    let events = (PAGES * PAGE) as u64;
    let taken = |at: usize| targets[at].1.taken.load(Relaxed);
    let expected = [events, events, events * 4 / 5, events * 4 / 5, events, events / 5];
    until("every target has its events", || (0..targets.len()).all(|at| taken(at) >= expected[at])).await;
    let took: Vec<u64> = (0..targets.len()).map(taken).collect();
    assert_eq!(took, expected);
    assert_within_bounds(&pipeline, 0);

    // All dead letters at once, which are refused again. They are of the one destination without a
    // dead-letter processor, and the last ones may still be on their way to the store.
    let reader = StoreReader::open(dir.path()).unwrap();
    let stored = || {
        let (mut filter, mut stored) = (DeadLetterFilter::default(), 0);
        while let letters = reader.dead_letters(&filter).unwrap()
            && let Some(last) = letters.last()
        {
            stored += letters.len() as u64;
            filter.after_row = last.row;
        }
        stored
    };
    until("all dead letters are stored", || stored() == events / 5).await;
    let mut ended = 0;
    let letters = pipeline.dead_letters();
    let tell = |_| {
        ended += 1;
        true
    };
    letters.replay(&Default::default(), None, tell).await.unwrap();
    assert_eq!(ended, events / 5);
    assert_within_bounds(&pipeline, REPLAYS_MAX);
    drop((letters, intake));
    assert!(pipeline.drain(Duration::from_secs(60)).await.unwrap().settled);
}
