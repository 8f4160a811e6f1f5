//! The progress of a command on stderr, and the signals that end it.

use std::time::Duration;

use indicatif::ProgressBar;
use tokio::task::JoinHandle;

use super::stop::Stop;
use crate::interrupts::Interrupts;
use crate::measure::sample::Sample;

/// A progress line, removed on drop.
pub struct ProgressLine {
    bar: ProgressBar,
    listener: Option<JoinHandle<()>>,
}

impl ProgressLine {
    /// Counts Ctrl-C, SIGTERM and SIGHUP from now on; they no longer end the process. `means`
    /// returns the text to print for the signal with this number.
    ///
    /// # Errors
    /// The system does not deliver signals.
    pub fn new(
        message: String,
        means: impl Fn(u32) -> Option<&'static str> + Send + 'static,
    ) -> anyhow::Result<(ProgressLine, Interrupts)> {
        let mut watch = ProgressLine::quiet(message);
        let mut stop = Stop::new()?;
        let (raise, interrupts) = Interrupts::new();
        let bar = watch.bar.clone();
        watch.listener = Some(tokio::spawn(async move {
            for count in 1.. {
                stop.wait().await;
                raise.send_replace(count);
                if let Some(meaning) = means(count) {
                    say(&bar, meaning);
                }
            }
        }));
        Ok((watch, interrupts))
    }

    /// A progress line without signal handling.
    pub fn quiet(message: String) -> ProgressLine {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(message);
        ProgressLine { bar, listener: None }
    }

    /// Replaces the line. Without a terminal nothing is shown.
    pub fn show(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Prints a permanent line, with or without a terminal.
    pub fn say(&self, message: &str) {
        say(&self.bar, message);
    }
}

fn say(bar: &ProgressBar, message: &str) {
    match bar.is_hidden() {
        true => super::tell(message),
        false => bar.println(message),
    }
}

impl Drop for ProgressLine {
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
