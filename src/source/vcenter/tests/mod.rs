//! Tests of the whole source, in paused time: a simulated vCenter on one side, the real decoder,
//! order and dedup on the other.

mod calls;
mod fake;
mod links;
mod lives;
mod outages;
mod reading;
mod rereads;
mod rest;
mod rows;
mod sessions;
mod severities;
mod sweeps;
mod undecodable;
mod unreadable;
mod wrap;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::fake::Fake;
use super::link::{Clock, Link};
use super::status::Status;
use crate::config::Secret;
use crate::event::{SourceInfo, minute_of};
use crate::memory::Budget;
use crate::pipeline::order::{Leaving, Order};
use crate::pipeline::parse::Parse;
use crate::source::vcenter::settings::{StartAt, Vcenter};
use crate::source::{BeginError, Intake, Progress, SourceState, Start};

const MINUTE: Duration = Duration::from_secs(60);

/// The output of dedup.
#[derive(Debug, Default)]
struct Delivered {
    /// Keys in the order of delivery, with the time.
    keys: Vec<(i32, Instant)>,
    duplicates: usize,
    poisons: Vec<String>,
    pages: u64,
}

/// A running source with its simulated vCenter and pipeline.
struct Run {
    fake: Fake,
    status: Arc<Status>,
    budget: Budget,
    delivered: Arc<Mutex<Delivered>>,
    progress: Arc<Progress>,
    shutdown: watch::Sender<bool>,
    source: JoinHandle<()>,
}

fn settings() -> Vcenter {
    let mut settings = Vcenter::new("https://vc/sdk", "user", Secret::inline("right"));
    settings.start_at = StartAt::Beginning;
    settings
}

/// Settings with pages of 50 events, so that few events fill many pages.
fn small_pages() -> Vcenter {
    let mut settings = settings();
    settings.page_events = 50;
    settings
}

/// Forgets the events that a checkpoint would not keep now: those older than the position by more
/// than the overlap, unless they are to be swept.
fn forget(order: &mut Order, progress: &Progress, overlap_us: i64) {
    let position_us = progress.position_us.load(Relaxed);
    let Some(resume_us) = order.newest_us().map(|newest_us| newest_us.min(position_us)) else { return };
    let kept_us = resume_us.saturating_sub(overlap_us).min(progress.unswept_us.load(Relaxed));
    order.seen().prune(minute_of(kept_us).saturating_sub(1));
}

impl Run {
    fn start(fake: Fake, settings: Vcenter) -> Run {
        Run::start_when(fake, settings, std::future::ready(()))
    }

    /// Starts a source that reads no event before `ready`.
    fn start_when(fake: Fake, settings: Vcenter, ready: impl Future<Output = ()> + Send + 'static) -> Run {
        Run::start_in_lives(fake, settings, ready, Vec::new())
    }

    /// As `start_when`, and the task of the source is dropped after each of `lives`, as a panic
    /// would drop it, and started again.
    fn start_in_lives(
        fake: Fake,
        settings: Vcenter,
        ready: impl Future<Output = ()> + Send + 'static,
        lives: Vec<Duration>,
    ) -> Run {
        let (begins_in, mut begins) = mpsc::channel(1);
        let (pages_in, pages) = crate::queue::bounded(8);
        let budget = Budget::new(64 << 20);
        let intake = Intake::new(0, budget.clone(), begins_in, pages_in, Arc::default());
        let status = Arc::new(Status::default());
        let clock: Clock = {
            let fake = fake.clone();
            Arc::new(move || {
                let world = fake.world();
                world.now_us() + world.router_clock_ahead_us
            })
        };
        let overlap_us = settings.overlap.as_micros() as i64;
        // A vCenter that describes its event types stands for a configuration that uses them.
        let wants_severities = !fake.world().event_info.is_empty();
        let (api, name) = (fake.clone(), "vc".to_string());
        let link = Link::new(api, name, settings, intake, Arc::clone(&status), clock, wants_severities);
        let (shutdown, mut stop) = watch::channel(false);
        let source = tokio::spawn(async move {
            for life in lives {
                let read = super::read(&link, std::future::ready(()), std::future::pending());
                assert!(tokio::time::timeout(life, read).await.is_err(), "it reads until it is stopped");
            }
            super::read(&link, ready, super::stopped(&mut stop)).await;
        });
        let delivered = Arc::new(Mutex::new(Delivered::default()));
        let out = Arc::clone(&delivered);
        let progress = Arc::new(Progress::new(0, i64::MAX));
        let told = Arc::clone(&progress);
        tokio::spawn(async move {
            let mut known = None;
            let (mut parse, mut order) = (Parse { keep_sent: true }, Order::default());
            loop {
                tokio::select! {
                    Some(begin) = begins.recv() => {
                        let crate::source::Begin { found, answer, .. } = begin;
                        let expected = *known.get_or_insert(found.instance_uuid);
                        let info = SourceInfo {
                            index: 0,
                            name: "vc".to_string(),
                            url: found.url,
                            instance_uuid: found.instance_uuid,
                            api_version: found.api_version,
                        };
                        told.resume_us.store(found.start_us, Relaxed);
                        let start = Start { info: Arc::new(info), begin_us: found.start_us, floor_us: found.start_us, progress: Arc::clone(&told) };
                        let source_name = "vc".to_string();
                        let refused = BeginError::OtherInstance { source_name, expected, found: found.instance_uuid };
                        let _ = answer.send(if expected == found.instance_uuid { Ok(start) } else { Err(refused) });
                    }
                    Some(page) = pages.recv_async() => {
                        // The decoder takes some time, so that pages are read ahead of their
                        // verdicts.
                        sleep(Duration::from_millis(3)).await;
                        let (parsed, _) = parse.step(page);
                        forget(&mut order, &told, overlap_us);
                        let step = order.step(parsed);
                        let mut out = out.lock().unwrap();
                        out.pages += 1;
                        out.duplicates += step.duplicates;
                        let now = Instant::now();
                        for leaving in step.leaving {
                            match leaving {
                                Leaving::Events(ordered) => out
                                    .keys
                                    .extend(ordered.batch.records.iter().map(|record| (record.key.unwrap(), now))),
                                Leaving::Poison(poison) => {
                                    out.poisons.push(String::from_utf8(poison.batch.raw_page.to_vec()).unwrap());
                                }
                            }
                        }
                        if step.keys_restarted {
                            told.restarted.store(true, Relaxed);
                        }
                        told.pages_ordered.store(order.pages(), Relaxed);
                        told.has_gaps.store(order.seen().has_gaps_since(0), Relaxed);
                    }
                    else => return,
                }
            }
        });
        Run { fake, status, budget, delivered, progress, shutdown, source }
    }

    /// Waits until `condition` holds, for at most `limit` of simulated time.
    async fn wait(&self, limit: Duration, what: &str, condition: impl Fn(&Run) -> bool) {
        let deadline = Instant::now() + limit;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {limit:?}; {:?} {:?}",
                self.status,
                self.fake.world().calls
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn count(&self) -> usize {
        self.delivered.lock().unwrap().keys.len()
    }

    /// Waits until every deliverable event was delivered, and checks that no other one was.
    async fn caught_up(&self, limit: Duration) {
        let good = self.fake.world().events.iter().filter(|event| event.is_deliverable()).count();
        self.wait(limit, &format!("{good} delivered"), |run| run.count() >= good).await;
        let mut keys: Vec<_> = self.delivered.lock().unwrap().keys.iter().map(|(key, _)| *key).collect();
        let mut expected: Vec<_> = {
            let world = self.fake.world();
            world.events.iter().filter(|event| event.is_deliverable()).map(|event| event.key).collect()
        };
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }

    /// Stops the source, and checks that it never did anything forbidden.
    async fn stop(self) {
        self.shutdown.send_replace(true);
        self.source.await.unwrap();
        assert_eq!(self.status.state(), SourceState::Stopped);
        let world = self.fake.world();
        assert_eq!(world.violations, Vec::<String>::new());
        assert!(world.collectors_peak <= 5, "{} collectors at once", world.collectors_peak);
    }
}
