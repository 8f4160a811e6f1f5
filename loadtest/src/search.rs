//! Searches for the highest rate that holds. Doubles the rate until one fails, then halves the gap
//! (as a ratio) until it is small.
//!
//! The search is pure: it proposes a rate and gets the outcome. Outcomes may contradict each other,
//! because a machine has hiccups and a long try may fail where a short one held. The lowest failed
//! rate counts, and the highest rate below it that held.

/// The highest rate to try: a hundred times the capacity of one router.
pub const RATE_MAX: f64 = 50e6;
/// The lowest rate to try.
const RATE_MIN: f64 = 1.0;
/// Factor to the next rate while none has failed …
const UP: f64 = 2.0;
/// … and while none has held. A first rate that is too high is usually far too high.
const DOWN: f64 = 4.0;

#[derive(Clone, Debug)]
pub struct Search {
    from: f64,
    max: f64,
    /// The search ends when the ratio of the lowest failed rate to the highest held rate is at most
    /// this.
    near: f64,
    tried: Vec<(f64, bool)>,
}

impl Search {
    /// Starts a search at the rate `from`, with no rate above `max`. `precision` is the largest
    /// relative error of the answer: 0.05 is 5 %.
    pub fn new(from: f64, max: f64, precision: f64) -> Search {
        let max = max.clamp(RATE_MIN, RATE_MAX);
        Search { from: from.clamp(RATE_MIN, max), max, near: 1.0 + precision, tried: Vec::new() }
    }

    /// The highest rate that held, below all that failed.
    pub fn holds(&self) -> Option<f64> {
        let fails = self.fails().unwrap_or(f64::INFINITY);
        let held = self.tried.iter().filter(|(rate, held)| *held && *rate < fails);
        held.map(|(rate, _)| *rate).max_by(f64::total_cmp)
    }

    /// The lowest rate that failed.
    pub fn fails(&self) -> Option<f64> {
        let failed = self.tried.iter().filter(|(_, held)| !held);
        failed.map(|(rate, _)| *rate).min_by(f64::total_cmp)
    }

    /// The rate to try next; `None` at the end of the search.
    pub fn next(&self) -> Option<f64> {
        match (self.holds(), self.fails()) {
            (None, None) => Some(round(self.from)),
            (Some(holds), None) => (holds < self.max).then(|| round(holds * UP).min(self.max)),
            (None, Some(fails)) => (fails > RATE_MIN).then(|| round(fails / DOWN).max(RATE_MIN)),
            (Some(holds), Some(fails)) => {
                let middle = round((holds * fails).sqrt());
                (fails / holds > self.near && middle > holds && middle < fails).then_some(middle)
            }
        }
    }

    pub fn record(&mut self, rate: f64, holds: bool) {
        self.tried.push((rate, holds));
    }
}

/// Rounds to three digits, which are easy to compare.
pub fn round(rate: f64) -> f64 {
    if rate < 1.0 {
        return rate;
    }
    let unit = 10f64.powf(rate.log10().floor() - 2.0).max(1.0);
    (rate / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for the capacity `limit`. Returns the answer and the number of tries.
    fn find(from: f64, max: f64, limit: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(from, max, 0.05);
        let mut tries = 0;
        while let Some(rate) = search.next() {
            assert!((RATE_MIN..=max).contains(&rate), "{rate}");
            search.record(rate, rate <= limit);
            tries += 1;
            assert!(tries < 50, "no end: {search:?}");
        }
        (search.holds(), tries)
    }

    #[test]
    fn the_answer_is_just_below_the_limit() {
        for limit in [3.0, 170.0, 20_000.0, 20_001.0, 312_345.0, 4_000_000.0] {
            for from in [10.0, 2_000.0, 20_000.0] {
                let (found, tries) = find(from, RATE_MAX, limit);
                let found = found.unwrap();
                // Below 100, only whole numbers can be tried.
                let enough = (limit / 1.06).min(limit - 1.0);
                assert!(found <= limit && found >= enough, "{limit} from {from}: {found}");
                assert!(tries <= 25, "{limit} from {from}: {tries} tries");
            }
        }
    }

    #[test]
    fn the_search_ends_at_its_bound_and_at_a_router_that_delivers_nothing() {
        assert_eq!(find(100.0, 1_000.0, 1e9), (Some(1_000.0), 5));
        assert_eq!(find(5_000.0, 1_000.0, 1e9), (Some(1_000.0), 1));
        assert_eq!(find(1_000.0, RATE_MAX, 0.5), (None, 6));
    }

    #[test]
    fn a_later_failure_outweighs_an_earlier_success() {
        let mut search = Search::new(100.0, RATE_MAX, 0.05);
        for (rate, holds) in [(100.0, true), (200.0, false), (141.0, true), (168.0, true), (183.0, true)] {
            assert_eq!(search.next(), Some(rate));
            search.record(rate, holds);
        }
        assert_eq!(search.next(), Some(191.0));
        search.record(191.0, false);
        assert_eq!((search.next(), search.holds()), (None, Some(183.0)));
        search.record(183.0, false);
        assert_eq!((search.next(), search.holds()), (Some(175.0), Some(168.0)));
    }

    #[test]
    fn rates_have_three_digits() {
        for (rate, expected) in [(1.0, 1.0), (17.6, 18.0), (1234.4, 1230.0), (987_654.0, 988_000.0)] {
            assert_eq!(round(rate), expected);
        }
    }
}
