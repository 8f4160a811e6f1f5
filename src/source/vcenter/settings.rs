//! The settings of a vCenter: its address and credentials, the events to ask for, and how to read
//! them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::declare::*;
use crate::config::event_names::filter_advice;
use crate::config::{Secret, SecretError, scalar};
use crate::limits;
use crate::net::settings::{ClientTls, warn_clear_text};

settings! {
    /// The event history of a vCenter. A read-only user is sufficient.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Vcenter in "vcenter" {
        /// SDK URL of the vCenter; `vc1.example` is short for `https://vc1.example/sdk`. It becomes
        /// the attribute `source` of the events.
        pub sdk_url: String =
            key("address", text(&SDK_URL)).required().also(&["url", "host", "server"]);
        /// User, such as `ro@vsphere.local`.
        pub username: String = key("username", TEXT).required().also(&["user"]);
        pub password: Secret =
            key("password", SECRET).doc("Password of the user."),
            key("passwordFile", SECRET_FILE).doc("File with the password, read again at each login.");
        /// Certificates to accept; and a client certificate, for a proxy in front of the vCenter
        /// that asks for one.
        pub tls: ClientTls = key("tls", block::<ClientTls>());
        /// Time from which to read if there is no checkpoint yet, by vCenter's clock.
        pub start_at: StartAt = key("startAt", text(&START_AT)).or("now");
        /// Events to ask vCenter for. Other events never reach the router.
        pub filter: EventFilter = key("filter", block::<EventFilter>());
        /// Events per read. vCenter's own maximum is 1,000.
        pub page_events: usize =
            key("pageSize", whole(1, 1_000)).or_number(limits::PAGE_EVENTS as u64);
        /// The longest pause after a page that was not full. It is shorter while many events
        /// arrive, but at least 1 ms for each source. The first event after an idle time is read at
        /// once.
        pub poll_interval: Duration =
            key("pollInterval", duration(1, MINUTE)).or("20ms").also(&["interval", "minInterval"]);
        /// The most vSphere API calls per second. Lower it to spare a vCenter while the router
        /// catches up. The default is no limit in practice, because reads run one after another,
        /// and an idle vCenter gets about nine calls a minute.
        pub max_calls_per_second: u32 = key("maxCallsPerSecond", whole(1, 10_000)).or("10000");
        /// Time before the position from which a restarted router reads again. Events that were
        /// read before are recognized and dropped.
        pub overlap: Duration = key("overlap", duration(SECOND, DAY)).or("2m");
        /// Periodic second read that finds late events.
        pub sweep: Option<Sweep> = key("sweep", block::<Sweep>());
        /// Time-outs of calls.
        pub timeouts: VcenterTimeouts = key("timeouts", block::<VcenterTimeouts>());
        /// Protocol to the vCenter. Events, ids and positions are the same with each.
        pub protocol: Protocol = key("protocol", one_of::<Protocol>()).or("soap");
        /// Checkpoint file of the old router (`cp-HOST.json`). It is imported once, if the router
        /// has no position for this source yet. A missing file is no error.
        pub import_checkpoint: Option<PathBuf> = key("importCheckpoint", PATH);
    }
    rules [FieldRule::ExactlyOne(&["password", "passwordFile"])];
    check |found, problems| warn_clear_text(found.text("address"), true, found, "address", problems);
}

impl Vcenter {
    /// A vCenter with every other setting at its default.
    pub fn new(sdk_url: impl Into<String>, username: impl Into<String>, password: Secret) -> Self {
        Vcenter { sdk_url: sdk_url.into(), username: username.into(), password, ..defaults() }
    }
}

static SDK_URL: TextFormat = TextFormat {
    allowed: "the address of a vCenter, `https://HOST/sdk`",
    check: |text| match scalar::sdk_url(text) {
        Ok(sdk) if sdk.credentials_dropped => {
            Err("must not carry credentials; put them into `username` and `password`".into())
        }
        Ok(sdk) => Ok(sdk.url),
        Err(message) => Err(message.into()),
    },
    any_scalar: false,
};

/// The start of a source that has no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At vCenter's current time.
    #[default]
    Now,
    /// At the oldest event that vCenter keeps.
    Beginning,
    /// At this time, in microseconds since 1970 UTC.
    At(i64),
    /// This long before vCenter's current time.
    Ago(Duration),
}

static START_AT: TextFormat = TextFormat {
    allowed: "`now`, `beginning`, a time such as `2025-11-22T02:00:00Z`, or an age such as `2h`",
    check: |text| start_at(text).map(|_| text.into()).ok_or_else(|| START_AT.must()),
    any_scalar: false,
};

/// Parses `startAt`.
pub(crate) fn start_at(text: &str) -> Option<StartAt> {
    match text {
        "now" => Some(StartAt::Now),
        "beginning" => Some(StartAt::Beginning),
        _ => scalar::duration(text)
            .map(StartAt::Ago)
            .or_else(|| text.parse::<jiff::Timestamp>().ok().map(|at| StartAt::At(at.as_microsecond()))),
    }
}

impl FieldValue for StartAt {
    fn of(value: &Value) -> Option<Self> {
        // The placeholder of a wrong text, which was reported, is empty.
        String::of(value).map(|text| start_at(&text).unwrap_or_default())
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(match self {
            StartAt::Now => "now".into(),
            StartAt::Beginning => "beginning".into(),
            StartAt::At(at) => jiff::Timestamp::from_microsecond(*at).unwrap_or_default().to_string(),
            StartAt::Ago(ago) => scalar::show_duration(*ago),
        }))
    }
}

settings! {
    /// An event must match all given fields. vCenter itself applies the filter (EventFilterSpec).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EventFilter in "filter", with defaults {
        /// Class names (`VmPoweredOnEvent`, subclasses included) and event type ids
        /// (`com.vmware.vc.HA.…`). Default: all.
        pub event_types: Vec<String> = key("eventTypes", FieldType::List(&TEXT));
        /// Users that caused the event, as events name them (`VSPHERE.LOCAL\Administrator`).
        /// Default: all.
        pub users: Vec<String> = key("users", FieldType::List(&TEXT));
        /// Object that the events are about. Default: the whole inventory.
        pub entity: Option<EntityFilter> = key("entity", maybe::<EntityFilter>());
    }
    check |found, problems| {
        for advice in found.texts("eventTypes").iter().filter_map(|name| filter_advice(name)) {
            problems.warn(found.line_of("eventTypes"), &found.path_of("eventTypes"), advice);
        }
    };
}

settings! {
    /// A vSphere object. The URL in the vSphere Client shows its type and id:
    /// `…ClusterComputeResource:domain-c8…`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EntityFilter in "filter.entity" {
        /// Type, such as `ClusterComputeResource`.
        pub kind: String = key("type", TEXT).required();
        /// Id, such as `domain-c8`.
        pub id: String = key("id", TEXT).required().also(&["value"]);
        /// Objects to include.
        pub recursion: Recursion = key("recursion", one_of::<Recursion>()).or("all");
    }
}

words! {
    pub enum Recursion {
        /// the object and everything below it
        All = "all",
        /// its children, without the object itself
        Children = "children",
        /// only the object itself
        SelfOnly = "self",
    }
}

settings! {
    /// vCenter can commit an event late, behind events that were already read. A sweep reads the
    /// last minutes again and finds it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sweep in "sweep", with defaults {
        /// Time between two sweeps.
        pub interval: Duration = key("interval", duration(SECOND, HOUR)).or("1m");
        /// Time span that a sweep reads again. It finds events that are at most `window` less
        /// `interval` late.
        pub window: Duration = key("window", duration(SECOND, HOUR)).or("2m");
    }
    switch ENABLED;
    check |found, problems| {
        let (interval, window) = (found.duration("interval"), found.duration("window"));
        if window <= interval {
            let message = format!(
                "a sweep every {} that reads the last {} misses late events in between; make `window` longer than `interval`",
                scalar::show_duration(interval),
                scalar::show_duration(window)
            );
            problems.warn(found.line_of("window"), &found.path_of("window"), message);
        }
    };
}

impl Sweep {
    /// The longest delay between creation and visibility at which an event is still found: the
    /// window less the time until the next sweep.
    pub fn late(&self) -> Duration {
        self.window.checked_sub(self.interval).filter(|late| !late.is_zero()).unwrap_or(self.window)
    }
}

settings! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VcenterTimeouts in "timeouts", with defaults {
        /// Time for TCP and TLS.
        pub connect: Duration = key("connect", duration(100, 10 * MINUTE)).or("10s");
        /// The longest silence during a call. An answer that keeps arriving may take up to ten
        /// minutes. Page reads have a shorter limit: 10s, or four times the usual silence. After
        /// each time-out that limit doubles, and the page becomes smaller.
        pub call: Duration = key("call", duration(SECOND, 10 * MINUTE)).or("1m");
        /// The longest time that one call waits for new events. vCenter then answers that there are
        /// none, and the router calls again.
        pub wait: Duration = key("wait", duration(SECOND, MINUTE)).or("1m");
    }
}

words! {
    pub enum Protocol {
        /// SOAP, which every vCenter supports and the router decodes fastest
        Soap = "soap",
        /// VI/JSON, of vCenter 8.0 U1 and later
        ViJson = "vijson",
        /// VI/JSON if the vCenter offers it (8.0 U2 and later) and no processor wants `payload:
        /// xml`, else SOAP
        Auto = "auto",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times() {
        let check = |text: &str, expected: Option<StartAt>| assert_eq!(start_at(text), expected, "{text}");
        check("now", Some(StartAt::Now));
        check("beginning", Some(StartAt::Beginning));
        check("2h", Some(StartAt::Ago(Duration::from_secs(7_200))));
        check("2025-11-22T02:00:00.5+02:00", Some(StartAt::At(1_763_769_600_500_000)));
        check("yesterday", None);
        check("2025-11-22", None);
    }
}
