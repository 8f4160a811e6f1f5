//! What a person sees of work that goes on, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::task::JoinHandle;

use crate::measure::sample::Sample;

/// A line that changes, and a count of interrupts. Gone when dropped.
pub struct Watch {
    bar: ProgressBar,
    interrupts: Arc<AtomicU32>,
    listener: Option<JoinHandle<()>>,
}

impl Watch {
    /// Ctrl-C is counted from now on instead of ending the process.
    pub fn new(message: String) -> Watch {
        let mut watch = Watch::quiet(message);
        let counted = Arc::clone(&watch.interrupts);
        watch.listener = Some(tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }));
        watch
    }

    /// The line alone; somebody else waits for Ctrl-C.
    pub fn quiet(message: String) -> Watch {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(message);
        Watch { bar, interrupts: Arc::default(), listener: None }
    }

    /// Replaces the line; nothing where stderr is no terminal.
    pub fn show(&self, message: String) {
        self.bar.set_message(message);
    }

    /// A line that stays, terminal or not.
    pub fn say(&self, message: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{message}"),
            false => self.bar.println(message),
        }
    }

    pub fn interrupts(&self) -> u32 {
        self.interrupts.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// A sample in one line.
pub fn line(sample: &Sample) -> String {
    let ms = |micros: u64| micros as f64 / 1e3;
    let mut line = format!(
        "{:>5.0} s   created {:>8.0}/s   delivered {:>8.0}/s   lag {:>7}   p50 {:>7.1} ms   p99 {:>7.1} ms",
        sample.seconds,
        sample.created_rate,
        sample.delivered_rate,
        sample.lag_events,
        ms(sample.p50_us),
        ms(sample.p99_us),
    );
    if let (Some(cores), Some(rss)) = (sample.router_cores, sample.rss_bytes) {
        line.push_str(&format!("   router {:>3.0} % CPU, {:>5.1} MB", cores * 100.0, rss as f64 / 1e6));
    }
    line
}
