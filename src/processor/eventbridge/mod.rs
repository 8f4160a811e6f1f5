//! AWS EventBridge: puts an event on a bus if a rule of that bus wants it.
//!
//! ```text
//! ListRules ── every 5 min ── RuleSet ── watch ──► routing (one destination per bus)
//!                                                       │
//! PutEvents ◄── calls of at most 10 entries ◄── deliver ┘
//!     └── answer, entry by entry ──► DeliveryOutcome
//! ```
//!
//! The fields of an entry: DetailType is the subject, Source the SDK URL, Detail the structured
//! CloudEvent, Time its time.
//!
//! After a failed refresh, the last good rules stay in use. A refresh also fails if a configured
//! rule does not exist: without it, its events would be dropped silently.

mod blame;
mod credentials;
pub mod pack;
pub mod rules;
mod selector;
pub mod settings;
mod transport;

pub use selector::BusSelector;

use std::ops::Range;
use std::sync::{Arc, Once};
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use tokio::sync::{Mutex, OnceCell, watch};

use rules::RuleSet;
use transport::SdkTransport;

use super::refresh::{self, Registry};
use super::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits, Selector,
};
use crate::cloudevents::Envelope;
use crate::limits::PUT_EVENTS_ENTRIES_MAX;
use crate::net::{HttpError, target_uri};
use crate::processor::eventbridge::settings::EventBridgeConfig as Settings;
use crate::supervise::Supervisor;

/// Environment variables that name an endpoint, the more specific one first (AWS SDKs and Tools
/// Reference Guide, service-specific endpoints).
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL"];

/// Puts events on the buses of one region.
#[derive(Debug)]
pub struct EventBridge {
    settings: Settings,
    /// Scheme and host of the endpoint, for messages.
    target: String,
    transport: SdkTransport,
    /// Made at the first use, because finding credentials may need the network.
    client: OnceCell<Client>,
    envelope: Envelope,
    rules: watch::Sender<Arc<RuleSet>>,
    refreshing: Mutex<()>,
    /// Logs only once that stored events wait because their bus is unknown.
    unknown_bus: Once,
}

/// An entry of a PutEvents call.
struct PutEntry {
    detail: String,
    detail_type: String,
    source: String,
    time_us: i64,
}

impl EventBridge {
    pub fn new(settings: &Settings, envelope: Envelope) -> Result<Self, HttpError> {
        let mut settings = settings.clone();
        // Like every AWS SDK, take an endpoint from the environment. The old configuration formats
        // have no key for a VPC endpoint.
        settings.endpoint = settings.endpoint.or_else(|| {
            ENDPOINT_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()))
        });
        // The SDK knows AWS's own host. This URL is used for messages and for choosing a proxy.
        let aws = format!("https://events.{}.amazonaws.com", settings.region);
        let endpoint = target_uri(settings.endpoint.as_deref().unwrap_or(&aws))?;
        let transport = SdkTransport::new(&settings.http, &endpoint)?;
        let rules = RuleSet::unread(&settings.region, envelope.options(), &settings.buses);
        Ok(EventBridge {
            settings,
            target: transport.target(),
            transport,
            client: OnceCell::new(),
            envelope,
            rules: watch::Sender::new(Arc::new(rules)),
            refreshing: Mutex::new(()),
            unknown_bus: Once::new(),
        })
    }

    /// The rules of all buses. The generation is 0 until they were read once.
    pub fn rules(&self) -> watch::Receiver<Arc<RuleSet>> {
        self.rules.subscribe()
    }

    /// Reads the rules of all buses once. After a failure of any bus, the last good rules stay.
    pub async fn refresh(&self) -> Result<(), Failure> {
        // The lock prevents older rules from replacing newer ones.
        let _one = self.refreshing.lock().await;
        let client = self.client().await;
        let known = Arc::clone(&self.rules.borrow());
        let mut buses = Vec::with_capacity(known.buses.len());
        for (bus, known) in self.settings.buses.iter().zip(&known.buses) {
            buses.push(rules::read(client, &self.target, bus, known).await?);
        }
        let read = RuleSet { buses, ..RuleSet::clone(&known) };
        if known.generation > 0 && *known == read {
            return Ok(());
        }
        let rules: usize = read.buses.iter().map(|bus| bus.rules.len()).sum();
        tracing::info!(target_host = self.target, buses = read.buses.len(), rules, "event rules changed");
        self.rules.send_replace(Arc::new(RuleSet { generation: known.generation + 1, ..read }));
        Ok(())
    }

    async fn client(&self) -> &Client {
        let make = async || {
            let sdk = credentials::sdk_config(&self.settings, &self.transport).await;
            let mut config = aws_sdk_eventbridge::config::Builder::from(&sdk);
            config.set_endpoint_url(self.settings.endpoint.clone());
            Client::from_conf(config.build())
        };
        self.client.get_or_init(make).await
    }

    /// Renders the events of a request.
    fn entries(&self, request: &DeliveryRequest) -> Vec<PutEntry> {
        let mut entries = Vec::with_capacity(request.events);
        for slice in &request.slices {
            let rendering = self.envelope.open(&slice.batch);
            for i in slice.selection.iter() {
                let mut detail = Vec::with_capacity(rendering.size_hint(i));
                rendering.structured(i, &mut detail);
                entries.push(PutEntry {
                    // The decoder writes valid UTF-8 only, so nothing is ever replaced.
                    detail: String::from_utf8(detail)
                        .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()),
                    detail_type: rendering.detail_type(i).to_string(),
                    source: rendering.source(i).to_string(),
                    time_us: rendering.time_us(i),
                });
            }
        }
        entries
    }

    fn buses(&self) -> impl Iterator<Item = &str> {
        self.settings.buses.iter().map(|bus| &*bus.name)
    }

    /// The bus that a request names.
    ///
    /// An event that was stored when only one bus was configured names none. If several are
    /// configured now, it waits, since a wrong bus would accept it as well.
    fn bus(&self, named: &str) -> Result<&str, Failure> {
        if !named.is_empty() {
            let found = self.buses().find(|bus| *bus == named);
            return found.ok_or_else(|| {
                let reason = format!("there is no bus `{named}` in the configuration; add it to `buses`");
                Failure::new(Blame::Event, reason)
            });
        }
        rules::unnamed(self.buses()).ok_or_else(|| {
            let buses = self.buses().collect::<Vec<_>>().join("`, `");
            let reason = format!(
                "this event was stored before there was a second bus, so it may be for any of `{buses}`; configure only its bus until the stored events are delivered"
            );
            self.unknown_bus.call_once(
                || tracing::error!(target_host = self.target, reason, "stored events wait: their bus is unknown"),
            );
            Failure::new(Blame::Target, reason)
        })
    }

    async fn put(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        let bus = match self.bus(&request.function) {
            Ok(bus) => bus,
            Err(failure) => return DeliveryOutcome::Failed(failure),
        };
        // Refuse entries that are too large, and divide the others into calls.
        let limit = self.settings.entry_bytes_max;
        let entries = self.entries(request);
        let sizes: Vec<usize> =
            entries.iter().map(|e| pack::entry_bytes(&e.source, &e.detail_type, &e.detail)).collect();
        let mut each: Vec<Option<Failure>> =
            sizes.iter().map(|size| (*size > limit).then(|| too_large(*size, limit))).collect();
        for call in pack::calls(&sizes, limit) {
            let stop = self.call(bus, &entries, call.clone(), &mut each).await;
            // If the target cannot take events now, further calls would fail as well, or lose the
            // order.
            if let Some(failure) = stop {
                each[call.end..]
                    .iter_mut()
                    .filter(|event| event.is_none())
                    .for_each(|event| *event = Some(failure.clone()));
                break;
            }
        }
        match each.first() {
            Some(Some(first))
                if each.iter().all(|event| event.as_ref().is_some_and(|f| f.blame == Blame::Target)) =>
            {
                // The target is to blame for every failure, so the request failed as a whole.
                DeliveryOutcome::Failed(first.clone())
            }
            _ => DeliveryOutcome::of_each(each),
        }
    }

    /// Makes one call and stores the result of each entry in `each`. Returns a failure if further
    /// calls would fail alike.
    async fn call(
        &self,
        bus: &str,
        entries: &[PutEntry],
        call: Range<usize>,
        each: &mut [Option<Failure>],
    ) -> Option<Failure> {
        match self.put_events(bus, &entries[call.clone()]).await {
            Ok(results) => {
                for (event, result) in each[call.clone()].iter_mut().zip(results) {
                    *event = result;
                }
                each[call].iter().flatten().find(|failure| failure.blame == Blame::Target).cloned()
            }
            // AWS does not say which of several entries is invalid, so send each one alone.
            Err(failure) if failure.blame != Blame::Target && call.len() > 1 => {
                for at in call.clone() {
                    match self.put_events(bus, &entries[at..=at]).await {
                        Ok(mut results) => each[at] = results.pop().flatten(),
                        Err(failure) if failure.blame == Blame::Target => {
                            each[at..call.end].fill(Some(failure.clone()));
                            return Some(failure);
                        }
                        Err(failure) => each[at] = Some(failure),
                    }
                }
                None
            }
            Err(failure) => {
                each[call].fill(Some(failure.clone()));
                (failure.blame == Blame::Target).then_some(failure)
            }
        }
    }

    /// Calls PutEvents once. The results are in the order of `entries`.
    async fn put_events(&self, bus: &str, entries: &[PutEntry]) -> Result<Vec<Option<Failure>>, Failure> {
        let built = entries.iter().map(|entry| {
            PutEventsRequestEntry::builder()
                .event_bus_name(bus)
                .source(&entry.source)
                .detail_type(&entry.detail_type)
                .detail(&entry.detail)
                .time(
                    DateTime::from_nanos(i128::from(entry.time_us) * 1_000).unwrap_or(DateTime::from_secs(0)),
                )
                .build()
        });
        let sent = self.client().await.put_events().set_entries(Some(built.collect())).send().await;
        let answer = sent.map_err(|error| blame::of_call(&self.target, &error))?;
        let results = answer.entries();
        if results.len() != entries.len() {
            // Results cannot be assigned to entries, so none of them is acknowledged.
            let reason =
                format!("{} answered {} results for {} events", self.target, results.len(), entries.len());
            return Err(Failure::new(Blame::Target, reason));
        }
        let failure = |code: &str, message: Option<&str>| blame::of_entry(code, message.unwrap_or_default());
        Ok(results
            .iter()
            .map(|entry| entry.error_code().map(|code| failure(code, entry.error_message())))
            .collect())
    }

    async fn reach(&self) -> Result<String, Failure> {
        let client = self.client().await;
        let (mut rules, buses) = (0, self.settings.buses.len());
        let known = Arc::clone(&self.rules.borrow());
        for (bus, known) in self.settings.buses.iter().zip(&known.buses) {
            if bus.forward_all {
                let described = client.describe_event_bus().name(&bus.name).send().await;
                described.map_err(|error| blame::of_call(&self.target, &error))?;
            } else {
                rules += rules::read(client, &self.target, bus, known).await?.rules.len();
            }
        }
        Ok(format!(
            "{} has the {buses} configured buses, with {rules} rules that events can match",
            self.target
        ))
    }
}

fn too_large(size: usize, limit: usize) -> Failure {
    let reason =
        format!("the event has {size} bytes by AWS's formula, and {limit} are allowed; see `entryBytesMax`");
    Failure::new(Blame::Event, reason)
}

impl Registry for EventBridge {
    fn interval(&self) -> Duration {
        self.settings.refresh_interval
    }

    fn refresh(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        EventBridge::refresh(self)
    }

    fn is_known(&self) -> bool {
        self.rules.borrow().generation > 0
    }

    fn log_failure(&self, reason: String) {
        tracing::warn!(target_host = self.target, reason, "cannot read event rules; keeping the last ones");
    }

    fn log_recovery(&self) {
        tracing::info!(target_host = self.target, "can read event rules again");
    }
}

impl Processor for EventBridge {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits {
            events_max: PUT_EVENTS_ENTRIES_MAX,
            bytes_max: self.settings.entry_bytes_max,
            partial: true,
        }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.put(request))
    }

    fn address(&self, bus: &str) -> Option<String> {
        let bus = if bus.is_empty() { rules::unnamed(self.buses())? } else { bus };
        Some(bus.into())
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(self.reach())
    }

    fn start(self: Arc<Self>, supervisor: &Supervisor, name: &str) {
        refresh::keep_fresh(self, supervisor, name);
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut rules = self.rules();
        Box::pin(async move {
            // An error means that the processor is gone, and nothing is delivered anyway.
            let _ = rules.wait_for(|rules| rules.generation > 0).await;
        })
    }

    fn selector(&self) -> Option<Box<dyn Selector>> {
        Some(Box::new(BusSelector::new(&self.target, self.rules())))
    }
}
