//! A workload in one line, for tables and reports: every setting that influences a figure.

use testbed::vcenter::Mix;

use super::{Delay, ErrorKind, MIXES, Rate, Shape, Workload};

impl Workload {
    /// The setup: vCenters, target, delivery.
    pub fn setup(&self) -> String {
        let target = &self.target;
        let scheme = |https: bool| if https { "HTTPS" } else { "HTTP" };
        let shape = match target.shape {
            Shape::Openfaas => format!("openfaas x {}", target.functions),
            shape => shape.name().to_owned(),
        };
        // Always shown: the sources, the target and its order.
        let mut parts = vec![
            format!(
                "{} vCenter{} over {}",
                self.vcenters,
                plural(self.vcenters as usize),
                scheme(self.https)
            ),
            format!("{shape} over {}", scheme(target.https)),
            format!("ordering {}", target.ordering.name()),
            if target.spill { "spilling to disk" } else { "blocking" }.to_owned(),
        ];
        // Shown only if they differ from the defaults.
        parts.extend(target.concurrency.map(|concurrency| format!("concurrency {concurrency}")));
        parts.extend(match target.delay {
            Delay::Fixed(time) if time.is_zero() => None,
            Delay::Fixed(time) => Some(format!("the target takes {time:?}")),
            Delay::Between(from, to) => Some(format!("the target takes {from:?} to {to:?}")),
            Delay::Percentiles { p50, p99 } => {
                Some(format!("the target takes {p50:?} (p50) to {p99:?} (p99)"))
            }
        });
        parts.extend(target.errors.as_ref().map(|errors| {
            let how = match errors.kind {
                ErrorKind::Status(status) => format!("with status {status}"),
                other => format!("by {}", other.name()),
            };
            format!("{} % of requests fail {how}", errors.share * 100.0)
        }));
        if self.mix != Mix::Steady {
            let named = MIXES.iter().find(|(_, mix)| *mix == self.mix);
            parts.push(format!("events of {}", named.map_or("a mix of its own", |(name, _)| name)));
        }
        if !self.troubles.is_empty() {
            let count = self.troubles.len();
            parts.push(format!("{count} kind{} of trouble", plural(count)));
        }
        let own = &self.router;
        let settings = own.settings.iter().chain(&own.source).chain(&own.processor);
        let settings: Vec<String> = settings.map(|(key, value)| format!("{key}: {value}")).collect();
        if !settings.is_empty() {
            parts.push(format!("the router with {}", settings.join(", ")));
        }
        parts.join(", ")
    }

    /// The load: the number of events and their rate.
    pub fn offered(&self) -> String {
        let mut parts = Vec::new();
        if self.backlog > 0 {
            parts.push(format!("{} events in the backlog", self.backlog));
        }
        let rate = match self.rate {
            Rate::None => return parts.join(""),
            Rate::Steady(rate) => format!("{rate} events/s"),
            Rate::Ramp { from, to, time } => format!("{from} to {to} events/s within {time:?}"),
            Rate::Burst { base, peak, every, length } => {
                format!("{base} events/s, and {peak} for {length:?} of every {every:?}")
            }
            Rate::Sine { mean, amplitude, period } => {
                format!("{mean} events/s, plus or minus {amplitude} in waves of {period:?}")
            }
            Rate::Unbounded => "events as fast as they are read".to_owned(),
        };
        parts.push(rate);
        parts.extend(self.events.map(|events| format!("at most {events} events")));
        parts.extend(self.duration.map(|duration| format!("for {duration:?}")));
        parts.join(", ")
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
