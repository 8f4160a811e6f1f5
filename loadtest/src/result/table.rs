//! The table of a run for `loadtest run`: one line for each figure, and the verdict.

use testbed::verify::Tally;

use super::{RunResult, Suspect};
use crate::report::text::cpu_share;

/// Maximum number of wrong deliveries in the table.
const WRONG_SHOWN_MAX: usize = 3;

/// The number of compared events, and the first faults.
fn content(total: &Tally, suspects: &[Suspect]) -> String {
    let mut text = format!("content verified: {} of {} events", total.content_verified, total.unique);
    if total.wrong_content > 0 {
        text.push_str(&format!(", {} wrong", total.wrong_content));
    }
    let wrong = suspects.iter().filter(|suspect| suspect.what.starts_with("wrong content: "));
    for suspect in wrong.take(WRONG_SHOWN_MAX) {
        text.push_str(&format!("\n{:<15}event {}: {}", "", suspect.key, suspect.what));
    }
    text
}

impl RunResult {
    /// Formats the result as a table.
    pub fn table(&self) -> String {
        let mut lines: Vec<(&str, String)> = Vec::new();
        let total = &self.totals;
        let among = match self.receivers {
            0 | 1 => String::new(),
            many => format!(" (all {many} receivers together)"),
        };
        let megabytes = total.bytes as f64 / 1e6;
        lines.push(("delivered", format!("{} events{among}, {megabytes:.1} MB", total.unique)));
        lines.push((if self.was_whole() { "lost" } else { "not arrived" }, total.missing.to_string()));
        lines.push(("duplicated", total.duplicates.to_string()));
        lines.push(("wrong ids", total.wrong_ids.to_string()));
        lines.push(("content", content(total, &self.suspects)));
        let order = format!(
            "{} in their source, {} in their object",
            total.out_of_order, total.out_of_order_in_entity
        );
        lines.push(("out of order", order));
        lines.push(("rate", format!("{:.0} events/s over {:.1} s", self.rate, self.seconds)));
        lines.push(("latency", self.latency_line()));
        lines.extend(self.warm_up.as_ref().map(|warm_up| ("warm-up", warm_up.in_words())));
        if total.from_backlog > 0 {
            lines.push((
                "backlog",
                format!("{} events existed before the start and have no latency", total.from_backlog),
            ));
        }
        lines.push(("lag", format!("{} events at most", self.lag_events_max)));
        lines.extend(self.router_lines());
        lines.push(("limited by", self.limited_by.clone()));
        lines.push(("generator CPU", format!("{:.2} s (vCenters and target)", self.generator_cpu_seconds)));
        let mut out = String::new();
        for (name, text) in lines {
            out.push_str(&format!("{name:<15}{text}\n"));
        }
        out + &self.verdict_line()
    }

    fn latency_line(&self) -> String {
        let latency = &self.latency;
        let ms = |micros: u64| format!("{:.1} ms", micros as f64 / 1e3);
        match (latency.count, self.created) {
            (0, _) if self.warm_up.as_ref().is_some_and(|warm_up| warm_up.latency.count > 0) => {
                "-, the run ended during its warm-up".to_owned()
            }
            (0, 0) => "-, nothing was created after the start".to_owned(),
            (0, _) => "-, nothing that was created after the start arrived".to_owned(),
            _ => format!(
                "p50 {}   p90 {}   p99 {}   p99.9 {}   max {}   (creation to receipt, of {} events)",
                ms(latency.p50_us),
                ms(latency.p90_us),
                ms(latency.p99_us),
                ms(latency.p999_us),
                ms(latency.max_us),
                latency.count
            ),
        }
    }

    fn router_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let router = &self.router;
        if let (Some(cpu), Some(rss)) = (router.cpu_seconds, router.rss_peak_bytes) {
            let per_million = router.cpu_seconds_per_million;
            let per_million = per_million.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            let share = self.router_cores().map(|busy| cpu_share(busy, self.machine.cores));
            let share = share.map_or_else(String::new, |share| format!("; {share}"));
            lines.push(("router CPU", format!("{cpu:.2} s, {per_million} for a million events{share}")));
            lines.push(("router memory", format!("{:.1} MB at its peak", rss as f64 / 1e6)));
        }
        if !router.busiest_stage.is_empty() {
            let share = router.busiest_stage_share * 100.0;
            lines.push(("busiest stage", format!("{}, {share:.0} % of its threads", router.busiest_stage)));
        }
        lines
    }

    fn verdict_line(&self) -> String {
        let word = match (self.interrupted, self.passed) {
            (true, _) => "INTERRUPTED",
            (false, true) => "PASSED",
            (false, false) => "FAILED",
        };
        let failures = self.failures.join("; ");
        format!("{word}{}{failures}\n", if failures.is_empty() { "" } else { ": " })
    }
}
