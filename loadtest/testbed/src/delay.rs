//! The time that a target takes for an answer: always the same, or drawn from a distribution.

use std::time::Duration;

use rand::Rng;
use serde::Serialize;

/// Largest drawn delay, as a multiple of p99. A log-normal distribution has no end, but a test must
/// have one.
const TAIL_MAX: f64 = 10.0;
/// Standard deviations from the median of a normal distribution to its 99th percentile.
const P99_SIGMAS: f64 = 2.326_347_9;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Delay {
    Fixed(Duration),
    /// Uniformly distributed between the two.
    Between(Duration, Duration),
    /// Log-normal, as the answers of most servers are: most are fast, some are very slow.
    Percentiles {
        p50: Duration,
        p99: Duration,
    },
}

impl Default for Delay {
    fn default() -> Delay {
        Delay::Fixed(Duration::ZERO)
    }
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Delay {
        Delay::Fixed(delay)
    }
}

impl Delay {
    pub fn draw(&self, random: &mut impl Rng) -> Duration {
        match *self {
            Delay::Fixed(delay) => delay,
            Delay::Between(from, to) => from + to.saturating_sub(from).mul_f64(random.random()),
            Delay::Percentiles { p50, p99 } => {
                // Box and Muller: one normal deviate from two uniform ones, the first of which is
                // never 0.
                let (first, second): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
                let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
                let spread = p99.as_secs_f64() / p50.as_secs_f64().max(1e-9);
                let factor = (spread.max(1.0).ln() / P99_SIGMAS * normal).exp();
                p50.mul_f64(factor.min(TAIL_MAX * spread.max(1.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn drawn_delays_have_the_requested_distribution() {
        let ms = Duration::from_millis;
        let mut random = StdRng::seed_from_u64(1);
        let mut drawn = |delay: Delay| {
            let mut all: Vec<Duration> = (0..10_000).map(|_| delay.draw(&mut random)).collect();
            all.sort_unstable();
            (all[0], all[5_000], all[9_900], all[9_999])
        };
        assert_eq!(drawn(Delay::Fixed(ms(7))), (ms(7), ms(7), ms(7), ms(7)));
        let (least, half, _, most) = drawn(Delay::Between(ms(10), ms(20)));
        assert!(least >= ms(10) && most <= ms(20) && half > ms(14) && half < ms(16), "{half:?}");
        let (_, half, p99, most) = drawn(Delay::Percentiles { p50: ms(10), p99: ms(100) });
        assert!(half > ms(9) && half < ms(11) && p99 > ms(85) && p99 < ms(115), "{half:?} {p99:?}");
        assert!(most <= ms(1000), "{most:?}");
    }
}
