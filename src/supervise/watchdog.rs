//! The watchdog thread: looks for stalled parts, gives the service manager signs of life, and ends
//! a process that does not end by itself.

use std::time::{Duration, Instant};

use super::limits::{FAILURE_EXIT_AFTER, LAST_LINE_MAX, PULSE_INTERVAL, STOP_EXIT_AFTER, WATCHDOG_INTERVAL};
use super::stall::StallDetector;
use super::{Part, PartKind, ProcessHealth, ServiceManager, Supervisor, fault};

/// Starts the watchdog of the process. It lasts as long as the process. Must run within a tokio
/// runtime, which it watches as well.
pub fn watch(supervisor: &Supervisor, mut manager: ServiceManager) -> std::io::Result<()> {
    fault::watch();
    tokio::spawn(supervisor.task(Part::new(PartKind::Runtime, "runtime"), pulse()));
    let watched = supervisor.clone();
    supervisor.thread(Part::new(PartKind::Watchdog, "watchdog"), move |_| {
        let interval = manager.interval().map_or(WATCHDOG_INTERVAL, |sign| sign.min(WATCHDOG_INTERVAL));
        let mut detector = StallDetector::default();
        let mut last = Instant::now();
        loop {
            std::thread::sleep(interval);
            let now = Instant::now();
            // A look that comes late counts as one interval: nobody ran meanwhile.
            watched.look(&mut detector, (now - last).min(2 * interval));
            last = now;
            if watched.is_overdue() {
                end(&watched);
            }
            if watched.health() == ProcessHealth::Healthy {
                manager.alive(now);
            }
        }
    })?;
    Ok(())
}

/// Takes a turn at intervals, which shows that the runtime still runs tasks.
async fn pulse() {
    loop {
        tokio::time::sleep(PULSE_INTERVAL).await;
    }
}

impl Supervisor {
    /// True if the process has failed or was to stop, and should have ended by now.
    fn is_overdue(&self) -> bool {
        let failed_at = self.0.failed_at.get();
        // `elapsed` is zero until the time has come.
        failed_at.is_some_and(|at| at.elapsed() >= FAILURE_EXIT_AFTER)
            || self.0.stop_by.borrow().is_some_and(|by| by.elapsed() >= STOP_EXIT_AFTER)
    }
}

/// Ends the process with exit code 1, whatever its parts do.
fn end(supervisor: &Supervisor) -> ! {
    let (reason, parts) = (supervisor.failure(), supervisor.unfinished());
    // The log may be what is stuck.
    let line = std::thread::spawn(move || {
        tracing::error!(?reason, ?parts, "the router does not end by itself; ending the process");
    });
    let until = Instant::now() + LAST_LINE_MAX;
    while !line.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(1)
}
