//! The number of events created per second, as a function of time.

use std::f64::consts::TAU;
use std::time::Duration;

use serde::Serialize;

use super::fields::{Fields, decimal, duration};
use super::tree::{YamlData, YamlNode};

/// The highest rate of a workload: 100 times the capacity of one router.
const RATE_MAX: f64 = 50e6;

/// Events per second over all vCenters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rate {
    /// No new events: only the backlog is read.
    #[default]
    None,
    Steady(f64),
    /// A linear change over `time`, then constant at `to`.
    Ramp {
        from: f64,
        to: f64,
        time: Duration,
    },
    /// `peak` during the first `length` of every `every`, otherwise `base`.
    Burst {
        base: f64,
        peak: f64,
        every: Duration,
        length: Duration,
    },
    Sine {
        mean: f64,
        amplitude: f64,
        period: Duration,
    },
    /// As fast as the router reads.
    Unbounded,
}

impl Rate {
    /// Events per second at a time since the start; `None` means as fast as the router reads.
    pub fn at(self, time: Duration) -> Option<f64> {
        let seconds = time.as_secs_f64();
        Some(match self {
            Rate::None => 0.0,
            Rate::Steady(rate) => rate,
            Rate::Ramp { from, to, time } => {
                from + (to - from) * (seconds / time.as_secs_f64().max(1e-3)).min(1.0)
            }
            Rate::Burst { base, peak, every, length } => {
                if seconds % every.as_secs_f64().max(1e-3) < length.as_secs_f64() { peak } else { base }
            }
            Rate::Sine { mean, amplitude, period } => {
                (mean + amplitude * (TAU * seconds / period.as_secs_f64().max(1e-3)).sin()).max(0.0)
            }
            Rate::Unbounded => return None,
        })
    }

    /// The highest rate; `None` means as fast as the router reads.
    pub fn peak(self) -> Option<f64> {
        Some(match self {
            Rate::None => 0.0,
            Rate::Steady(rate) => rate,
            Rate::Ramp { from, to, .. } => from.max(to),
            Rate::Burst { base, peak, .. } => base.max(peak),
            Rate::Sine { mean, amplitude, .. } => mean + amplitude,
            Rate::Unbounded => return None,
        })
    }

    /// Returns true if the rate never changes.
    pub fn is_constant(self) -> bool {
        matches!(self, Rate::None | Rate::Steady(_) | Rate::Unbounded)
    }

    /// Parses a flag: a number, or `unbounded`.
    ///
    /// # Errors
    /// The allowed values.
    pub fn parse(text: &str) -> Result<Rate, String> {
        match text {
            "unbounded" => Ok(Rate::Unbounded),
            text => events_a_second(text)
                .map(Rate::Steady)
                .map_err(|_| format!("must be `unbounded` or events per second, at most {RATE_MAX}")),
        }
    }

    /// Reads a field: a value as in a flag, or `{ramp: {...}}` and the like.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Rate> {
        match fields.node("rate") {
            Some(YamlNode { data: YamlData::Map(_), .. }) => fields.block("rate", read_shape),
            Some(_) => fields.get("rate", Rate::parse),
            None => Some(Rate::None),
        }
    }
}

fn events_a_second(text: &str) -> Result<f64, String> {
    decimal(0.0, RATE_MAX)(text)
}

fn some_time(text: &str) -> Result<Duration, String> {
    let found = duration(text)?;
    if found.is_zero() { Err("must be longer than 0s".to_owned()) } else { Ok(found) }
}

fn read_shape(fields: &mut Fields<'_, '_>) -> Option<Rate> {
    let steady = fields.get("steady", events_a_second).map(Rate::Steady);
    let ramp = fields.block("ramp", |ramp| {
        let (from, to) = (ramp.need("from", events_a_second), ramp.need("to", events_a_second));
        let time = ramp.need("time", duration);
        Some(Rate::Ramp { from: from?, to: to?, time: time? })
    });
    let burst = fields.block("burst", |burst| {
        let (base, peak) = (burst.need("base", events_a_second), burst.need("peak", events_a_second));
        let (every, length) = (burst.need("every", some_time), burst.need("length", duration));
        if every.zip(length).is_some_and(|(every, length)| length > every) {
            burst.wrong("length", "must not be longer than `every`");
        }
        Some(Rate::Burst { base: base?, peak: peak?, every: every?, length: length? })
    });
    let sine = fields.block("sine", |sine| {
        let (mean, amplitude) = (sine.need("mean", events_a_second), sine.need("amplitude", events_a_second));
        let period = sine.need("period", some_time);
        Some(Rate::Sine { mean: mean?, amplitude: amplitude?, period: period? })
    });
    if ["steady", "ramp", "burst", "sine"].iter().all(|shape| fields.node(shape).is_none()) {
        fields.wrong("", "must be a number, `unbounded`, or have one of `steady`, `ramp`, `burst`, `sine`");
    }
    let mut shapes = [steady, ramp, burst, sine].into_iter().flatten();
    let shape = shapes.next();
    if shapes.next().is_some() {
        fields.wrong("", "takes one shape, not several");
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_their_shape() {
        let seconds = Duration::from_secs;
        let check = |rate: Rate, expected: &[(u64, f64)]| {
            for (time, expected) in expected {
                let found = rate.at(seconds(*time)).unwrap();
                assert!((found - expected).abs() < 1e-6, "{rate:?} at {time}: {found}");
            }
        };
        check(Rate::Steady(7.0), &[(0, 7.0), (99, 7.0)]);
        check(
            Rate::Ramp { from: 10.0, to: 20.0, time: seconds(10) },
            &[(0, 10.0), (5, 15.0), (10, 20.0), (60, 20.0)],
        );
        let burst = Rate::Burst { base: 1.0, peak: 9.0, every: seconds(10), length: seconds(2) };
        check(burst, &[(0, 9.0), (1, 9.0), (2, 1.0), (9, 1.0), (10, 9.0)]);
        let sine = Rate::Sine { mean: 10.0, amplitude: 20.0, period: seconds(4) };
        check(sine, &[(0, 10.0), (1, 30.0), (2, 10.0), (3, 0.0)]);
        assert_eq!(Rate::Unbounded.at(seconds(1)), None);
        assert_eq!(Rate::parse("unbounded"), Ok(Rate::Unbounded));
        assert_eq!(Rate::parse("2_000"), Ok(Rate::Steady(2000.0)));
        assert!(Rate::parse("fast").is_err() && Rate::parse("-1").is_err());
    }
}
