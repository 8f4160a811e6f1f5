//! Drives a run: sets the rate of the vCenters and carries out the workload's troubles.
//!
//! The times of the troubles are a pure function of the workload and its seed ([`Timetable`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testbed::vcenter::{Pace, Trouble as CallTrouble, VCenter};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::target::Target;
use crate::workload::{Rate, Trouble, Workload};

/// The interval at which a changing rate is set: a thousandth of a usual run, and too short to see
/// in a chart.
const STEP: Duration = Duration::from_millis(50);
/// The method that troubles of pages affect.
const READ: &str = "ReadNextEvents";

/// A due trouble: its time, its index in the workload, and its vCenter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    pub at: Duration,
    pub trouble: usize,
    pub vcenter: usize,
}

/// An iterator over all due troubles in order of time. It may be endless.
pub struct Timetable<'w> {
    workload: &'w Workload,
    next: BinaryHeap<Reverse<(Duration, usize)>>,
    random: StdRng,
}

impl<'w> Timetable<'w> {
    pub fn new(workload: &'w Workload) -> Timetable<'w> {
        let first =
            workload.troubles.iter().enumerate().map(|(number, trouble)| Reverse((trouble.at, number)));
        Timetable { workload, next: first.collect(), random: StdRng::seed_from_u64(workload.seed) }
    }
}

impl Iterator for Timetable<'_> {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let Reverse((at, trouble)) = self.next.pop()?;
        if let Some(every) = self.workload.troubles[trouble].every {
            self.next.push(Reverse((at + every, trouble)));
        }
        Some(Due { at, trouble, vcenter: self.random.random_range(0..self.workload.vcenters as usize) })
    }
}

/// A trouble that just happened, for the owner of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartedTrouble {
    pub trouble: &'static str,
    pub vcenter: usize,
    /// Kill the router and start it again after this time. Only the owner of the run can do that.
    pub router_downtime: Option<Duration>,
}

/// The servers that a workload drives: vCenters, target, or both.
#[derive(Clone)]
pub struct DrivenServers {
    pub vcenters: Vec<VCenter>,
    pub target: Option<Target>,
}

impl DrivenServers {
    fn stop_events(&self) {
        self.vcenters.iter().for_each(|vcenter| vcenter.set_pace(Pace::Idle));
    }
}

/// Drives the workload for its duration; without a duration, until the future is dropped.
pub async fn drive(
    workload: &Workload,
    driven: &DrivenServers,
    happened: &mpsc::UnboundedSender<StartedTrouble>,
) {
    let start = Instant::now();
    // One task follows the rate, the other causes the troubles. The run ends with the rate.
    let rate = async {
        set_rate(workload, driven, Duration::ZERO);
        let end = workload.duration.filter(|_| workload.rate != Rate::None);
        if workload.rate.is_constant() {
            return match end {
                Some(end) => sleep_until(start + end).await,
                None => std::future::pending().await,
            };
        }
        loop {
            let now = start.elapsed();
            if end.is_some_and(|end| now >= end) {
                return;
            }
            set_rate(workload, driven, now);
            sleep(STEP).await;
        }
    };
    let troubles = async {
        for due in Timetable::new(workload) {
            sleep_until(start + due.at).await;
            let trouble = &workload.troubles[due.trouble].trouble;
            let router_downtime = match trouble {
                Trouble::RouterKill { downtime } => Some(*downtime),
                _ => None,
            };
            act(trouble, driven, due.vcenter);
            // At the end of the run nobody listens any more.
            let _ = happened.send(StartedTrouble {
                trouble: trouble.name(),
                vcenter: due.vcenter,
                router_downtime,
            });
        }
        std::future::pending().await
    };
    tokio::select! {
        () = rate => {}
        () = troubles => {}
    }
    driven.stop_events();
}

fn set_rate(workload: &Workload, driven: &DrivenServers, now: Duration) {
    let share = f64::from(workload.vcenters);
    let pace = match workload.rate.at(now) {
        None => Pace::Endless,
        Some(rate) if rate > 0.0 => Pace::Rate(rate / share),
        Some(_) => Pace::Idle,
    };
    for vcenter in &driven.vcenters {
        vcenter.set_pace(pace);
    }
}

/// Starts a trouble. One with a duration continues after the last event: a target that is away must
/// come back.
fn act(trouble: &Trouble, driven: &DrivenServers, vcenter: usize) {
    if let (Trouble::TargetOutage { downtime }, Some(target)) = (trouble, driven.target.clone()) {
        tokio::spawn(outage(target, *downtime));
    }
    // A standalone target has no vCenters.
    if let Some(at) = driven.vcenters.get(vcenter) {
        act_at(trouble, at);
    }
}

fn act_at(trouble: &Trouble, at: &VCenter) {
    let calls = |calls: u64, trouble: CallTrouble| {
        at.trouble(READ, calls.min(u64::from(u32::MAX - 1)) as u32, trouble)
    };
    match trouble {
        Trouble::Duplicates { events } => at.duplicate_next(*events),
        Trouble::Late { events, delay } => drop(at.hide_next(*events, Some(*delay))),
        Trouble::KeyWrap { events } => {
            at.set_next_key(i32::MAX - i32::try_from(*events).unwrap_or(i32::MAX) + 1);
        }
        Trouble::Restore { events, downtime } => at.restore(*events, *downtime),
        Trouble::Unreadable { events, sticky } => drop(at.forbid_next(*events, *sticky)),
        Trouble::UnknownClass { events } => {
            for _ in 0..*events {
                at.append_unknown_class();
            }
        }
        Trouble::Huge { bytes } => {
            at.append_huge(*bytes as usize);
        }
        Trouble::SlowPages { calls: number, delay } => calls(*number, CallTrouble::Delay(*delay)),
        Trouble::CutAnswers { calls: number } => calls(*number, CallTrouble::CutBody),
        Trouble::LostAnswers { calls: number } => calls(*number, CallTrouble::LoseAnswer),
        Trouble::Resets { calls: number } => calls(*number, CallTrouble::Reset),
        Trouble::Status { calls: number, status } => calls(*number, CallTrouble::Status(*status)),
        Trouble::Hang { calls: number } => calls(*number, CallTrouble::Hang),
        Trouble::Html { calls: number } => calls(*number, CallTrouble::Html),
        Trouble::Drip { calls: number, pieces, pause } => {
            calls(*number, CallTrouble::Drip(*pieces as usize, *pause));
        }
        Trouble::Malformed { events } => {
            for _ in 0..*events {
                at.append_malformed();
            }
        }
        Trouble::SessionExpiry => at.kill_sessions(),
        Trouble::CollectorLoss => at.destroy_collectors(),
        Trouble::ClockStep { by, back } => {
            let by = by.as_micros() as i64;
            at.step_clock(if *back { -by } else { by });
        }
        Trouble::Restart { downtime } => drop(tokio::spawn(restart(at.clone(), *downtime))),
        // An outage was started by the caller; the owner of the run kills the router.
        Trouble::TargetOutage { .. } | Trouble::RouterKill { .. } => {}
    }
}

async fn outage(target: Target, downtime: Duration) {
    target.outage().await;
    sleep(downtime).await;
    // If another program takes the port meanwhile, events are missing in the verdict.
    let _ = target.resume().await;
}

async fn restart(vcenter: VCenter, downtime: Duration) {
    vcenter.stop().await;
    sleep(downtime).await;
    // As above.
    let _ = vcenter.restart().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(troubles: &str) -> Workload {
        let text = format!("vcenters: 3\nrate: 100\nduration: 10s\ntroubles:\n{troubles}");
        Workload::parse("test", &text).unwrap()
    }

    #[test]
    fn the_timetable_is_in_order_and_the_same_for_a_seed() {
        let workload = workload("  - {type: sessionExpiry, every: 3s}\n  - {type: collectorLoss, at: 4s}\n");
        let dues: Vec<Due> = Timetable::new(&workload).take(5).collect();
        let times: Vec<(u64, usize)> = dues.iter().map(|due| (due.at.as_secs(), due.trouble)).collect();
        assert_eq!(times, [(3, 0), (4, 1), (6, 0), (9, 0), (12, 0)]);
        assert!(dues.iter().all(|due| due.vcenter < 3));
        assert_eq!(dues, Timetable::new(&workload).take(5).collect::<Vec<_>>());
        assert!(dues.iter().any(|due| due.vcenter != dues[0].vcenter), "not all at one vCenter: {dues:?}");
    }

    #[test]
    fn a_timetable_without_repetition_ends() {
        let workload = workload("  - {type: collectorLoss, at: 4s}\n");
        assert_eq!(Timetable::new(&workload).count(), 1);
    }
}
