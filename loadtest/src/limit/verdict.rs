//! Selects the run that counts for each rate, and derives the limit from these runs alone.
//!
//! A rate is tried again after a narrow failure, to confirm the answer by a longer run, or if it is
//! half of the limit and was tried before. One of the runs is decisive: the longest, and among
//! equally long ones the last. Text, tables, charts and the case's figures in JSON use decisive
//! runs only. The list of all tries marks them.
//!
//! INVARIANT: a limit is below every rate whose decisive run failed.

use super::figures::{CaseFigures, Purpose, Step};

impl CaseFigures {
    /// Marks the decisive runs and derives the limit from them. Called after each run.
    pub fn settle(&mut self) {
        for at in 0..self.steps.len() {
            self.steps[at].decides = is_decisive(&self.steps, at);
        }
        let fails = self.decisive_runs().find(|step| !step.holds).map(|step| step.offered_rate);
        let held = self.decisive_runs().take_while(|step| step.holds).last();
        let (limit, confirmed) =
            (held.map(|step| step.offered_rate), held.is_some_and(|step| step.purpose == Purpose::Confirm));
        (self.limit, self.fails_at, self.confirmed) = (limit, fails, confirmed);
    }

    /// The decisive run of each rate, sorted by rate.
    pub fn decisive_runs(&self) -> impl DoubleEndedIterator<Item = &Step> + Clone {
        let mut runs: Vec<&Step> = self.steps.iter().filter(|step| step.decides).collect();
        runs.sort_by(|a, b| a.offered_rate.total_cmp(&b.offered_rate));
        runs.into_iter()
    }

    fn decisive_run(&self, rate: f64) -> Option<&Step> {
        self.steps.iter().find(|step| step.decides && step.offered_rate == rate)
    }

    /// The run at the limit.
    pub fn at_limit(&self) -> Option<&Step> {
        self.decisive_run(self.limit?)
    }

    /// The run at half of the limit.
    pub fn at_half(&self) -> Option<&Step> {
        self.decisive_run(self.limit? / 2.0)
    }

    /// The run at the lowest rate that failed.
    pub fn first_failure(&self) -> Option<&Step> {
        self.decisive_run(self.fails_at?)
    }
}

/// Returns true if no other run of the same rate outweighs this one.
fn is_decisive(steps: &[Step], at: usize) -> bool {
    let is_long = |step: &Step| step.purpose == Purpose::Confirm;
    let this = &steps[at];
    steps.iter().enumerate().all(|(other_at, other)| {
        other.offered_rate != this.offered_rate || (is_long(this), at) >= (is_long(other), other_at)
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn case(tries: &[(Purpose, f64, bool)]) -> CaseFigures {
        let steps = tries.iter().map(|(purpose, rate, holds)| Step {
            purpose: *purpose,
            offered_rate: *rate,
            holds: *holds,
            ..Step::default()
        });
        let mut case = CaseFigures { steps: steps.collect(), ..CaseFigures::default() };
        case.settle();
        case
    }

    #[test]
    fn the_longest_run_decides_and_then_the_last() {
        use Purpose::{Again, Confirm, Half, Search};
        let check = |tries: &[(Purpose, f64, bool)], limit, fails_at, confirmed| {
            let case = case(tries);
            assert_eq!(
                (case.limit, case.fails_at, case.confirmed),
                (limit, fails_at, confirmed),
                "{tries:?}"
            );
        };
        check(&[], None, None, false);
        check(&[(Search, 10.0, true), (Search, 20.0, false)], Some(10.0), Some(20.0), false);
        // A repetition outweighs the previous run.
        check(&[(Search, 10.0, false), (Again, 10.0, true)], Some(10.0), None, false);
        // A longer run outweighs both.
        let longer = [(Search, 10.0, true), (Search, 20.0, true), (Confirm, 20.0, false)];
        check(&longer, Some(10.0), Some(20.0), false);
        check(&[&longer[..], &[(Confirm, 10.0, true)]].concat(), Some(10.0), Some(20.0), true);
        // A rate that held above a failure does not count.
        check(
            &[(Search, 10.0, false), (Search, 20.0, true), (Search, 5.0, true)],
            Some(5.0),
            Some(10.0),
            false,
        );
        // A failure at half of the limit counts.
        check(
            &[(Search, 4.0, true), (Confirm, 20.0, true), (Half, 10.0, false)],
            Some(4.0),
            Some(10.0),
            false,
        );
    }

    #[test]
    fn named_runs_are_the_decisive_runs_of_their_rates() {
        use Purpose::{Again, Confirm, Half, Search};
        let case = case(&[
            (Search, 20.0, true),
            (Search, 40.0, true),
            (Search, 80.0, false),
            (Again, 80.0, false),
            (Confirm, 40.0, true),
            (Half, 20.0, true),
        ]);
        let purposes: Vec<Purpose> = case.decisive_runs().map(|step| step.purpose).collect();
        assert_eq!(purposes, [Half, Confirm, Again]);
        let named = [case.at_half(), case.at_limit(), case.first_failure()].map(Option::unwrap);
        assert!(named.into_iter().eq(case.decisive_runs()));
    }

    #[test]
    fn no_limit_is_above_a_failed_rate() {
        let mut random = StdRng::seed_from_u64(17);
        for _ in 0..2_000 {
            let tries: Vec<(Purpose, f64, bool)> = (0..random.random_range(0..12))
                .map(|_| {
                    use Purpose::{Again, Confirm, Half, Search};
                    let purpose = [Search, Again, Confirm, Half][random.random_range(0..4)];
                    (purpose, f64::from(random.random_range(1..6)), random.random_bool(0.6))
                })
                .collect();
            let case = case(&tries);
            let rates: Vec<f64> = case.decisive_runs().map(|step| step.offered_rate).collect();
            assert!(rates.windows(2).all(|pair| pair[0] < pair[1]), "one run a rate: {tries:?}");
            for (_, rate, _) in &tries {
                assert!(rates.contains(rate), "a run for every rate: {tries:?}");
            }
            let failed = case.decisive_runs().filter(|step| !step.holds).map(|step| step.offered_rate);
            assert!(case.limit.is_none_or(|limit| failed.into_iter().all(|rate| limit < rate)), "{tries:?}");
        }
    }
}
