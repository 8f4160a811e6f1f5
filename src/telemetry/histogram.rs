//! Histograms of durations with weights.
//!
//! The recorder of the `metrics` crate keeps each sample until the next scrape, which takes memory
//! without bound while nobody scrapes, and has no weights. These histograms count in fixed buckets
//! instead. [`render`] writes them in the text format of Prometheus, all of them from the start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The histograms of this process, by metric and by the value of their label.
static ALL: Mutex<BTreeMap<(&'static str, String), Histogram>> = Mutex::new(BTreeMap::new());

/// The declaration of a histogram with one label.
#[derive(Debug)]
pub struct HistogramMetric {
    pub name: &'static str,
    pub help: &'static str,
    pub label: &'static str,
    /// Upper ends of the buckets, in seconds, ascending.
    pub buckets: &'static [f64],
}

/// One series. Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Series>);

#[derive(Debug)]
struct Series {
    metric: &'static HistogramMetric,
    /// One for each bucket, and one for durations above the last.
    counts: Box<[AtomicU64]>,
    /// The sum in seconds: the bits of an `f64`, which does not wrap.
    seconds: AtomicU64,
}

impl Histogram {
    /// The series of `metric` for one value of its label. The same series for the same value.
    pub fn of(metric: &'static HistogramMetric, value: &str) -> Self {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let counts = (0..=metric.buckets.len()).map(|_| AtomicU64::new(0)).collect();
            Histogram(Arc::new(Series { metric, counts, seconds: AtomicU64::new(0) }))
        };
        all.entry((metric.name, value.to_owned())).or_insert_with(new).clone()
    }

    /// The counts so far.
    pub fn counts(&self) -> HistogramCounts {
        let Series { metric, counts, .. } = &*self.0;
        let counts = counts.iter().map(|count| count.load(Relaxed)).collect();
        HistogramCounts { buckets: metric.buckets, counts }
    }

    /// Records `count` durations of the same length.
    pub fn record(&self, duration: Duration, count: u64) {
        let Series { metric, counts, seconds } = &*self.0;
        let at = metric.buckets.partition_point(|end| *end < duration.as_secs_f64());
        counts[at].fetch_add(count, Relaxed);
        let more = |sum: u64| Some((f64::from_bits(sum) + duration.as_secs_f64() * count as f64).to_bits());
        // It always has a next value.
        let _ = seconds.fetch_update(Relaxed, Relaxed, more);
    }
}

/// The counts of a histogram at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramCounts {
    buckets: &'static [f64],
    counts: Vec<u64>,
}

impl HistogramCounts {
    /// The durations that were recorded since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let before = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        HistogramCounts { buckets: self.buckets, counts: counts.collect() }
    }

    /// The duration in seconds that the share `q` of all durations does not exceed, interpolated
    /// within a bucket; `None` if there are none. Above the last bucket it is the end of that.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = (all as f64 * q).max(1.0);
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= wanted {
                let begin = if at == 0 { 0.0 } else { self.buckets[at - 1] };
                let end = self.buckets.get(at).copied().unwrap_or(begin);
                return Some(begin + (end - begin) * (wanted - below as f64) / *count as f64);
            }
            below += count;
        }
        None
    }
}

/// Appends all histograms to a page in the text format of Prometheus.
pub fn render(page: &mut String) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = "";
    for ((name, value), Histogram(series)) in &*all {
        let HistogramMetric { help, label, buckets, .. } = series.metric;
        if std::mem::replace(&mut last, name) != *name {
            // A string takes any text.
            let _ = writeln!(page, "\n# HELP {name} {help}\n# TYPE {name} histogram");
        }
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let mut count = 0;
        for (end, bucket) in buckets.iter().map(f64::to_string).chain(["+Inf".into()]).zip(&series.counts) {
            count += bucket.load(Relaxed);
            let _ = writeln!(page, "{name}_bucket{{{label}=\"{value}\",le=\"{end}\"}} {count}");
        }
        let seconds = f64::from_bits(series.seconds.load(Relaxed));
        let _ = writeln!(page, "{name}_sum{{{label}=\"{value}\"}} {seconds}");
        let _ = writeln!(page, "{name}_count{{{label}=\"{value}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static METRIC: HistogramMetric =
        HistogramMetric { name: "test_seconds", help: "a test", label: "destination", buckets: &[0.5, 2.0] };

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let counts = |counts: [u64; 3]| HistogramCounts { buckets: &[0.5, 2.0], counts: counts.to_vec() };
        let check = |of: [u64; 3], q: f64, expected: Option<f64>| {
            assert_eq!(counts(of).since(&counts([0, 1, 0])).quantile(q), expected, "{of:?} {q}");
        };
        check([0, 1, 0], 0.5, None);
        check([4, 1, 0], 0.5, Some(0.25));
        check([4, 1, 0], 1.0, Some(0.5));
        check([2, 3, 0], 0.75, Some(1.25));
        check([0, 1, 7], 0.5, Some(2.0));
    }

    #[test]
    fn buckets_count_weights_and_a_series_without_samples_is_shown() {
        let histogram = Histogram::of(&METRIC, "a\"b");
        Histogram::of(&METRIC, "quiet");
        for (millis, count) in [(500, 3), (501, 1), (2_000, 1), (60_000, 10)] {
            Histogram::of(&METRIC, "a\"b").record(Duration::from_millis(millis), count);
        }
        histogram.record(Duration::ZERO, 0);
        let mut page = String::new();
        render(&mut page);
        let its: Vec<&str> = page.lines().filter(|line| line.starts_with("test_seconds")).collect();
        let expected = [
            r#"test_seconds_bucket{destination="a\"b",le="0.5"} 3"#,
            r#"test_seconds_bucket{destination="a\"b",le="2"} 5"#,
            r#"test_seconds_bucket{destination="a\"b",le="+Inf"} 15"#,
            r#"test_seconds_sum{destination="a\"b"} 604.001"#,
            r#"test_seconds_count{destination="a\"b"} 15"#,
            r#"test_seconds_bucket{destination="quiet",le="0.5"} 0"#,
        ];
        assert_eq!(its[..6], expected, "{page}");
        assert_eq!(page.matches("# TYPE test_seconds histogram").count(), 1);
    }
}
