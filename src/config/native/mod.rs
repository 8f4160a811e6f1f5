//! The native format: builds a [`Config`] from checked values, and checks rules that involve
//! several fields.

mod references;

use std::path::{Path, PathBuf};

use super::Secret;
use super::check::{Env, TableReader, Unknown};
use super::found::CheckedMap;
use super::keys;
use super::model::*;
use super::problem::Problems;
use super::reference::reference;
use super::scalar;
use super::tree::Node;
use crate::event::{EventTime, Extensions, Payload};
use crate::outside;

/// Statuses that `retry.statuses` never turned against an event.
const TARGET_STATUSES: [u16; 5] = [408, 429, 502, 503, 504];

/// Builds the configuration in a file of the native format. It is meaningless if `problems` has
/// errors afterwards.
pub(super) fn build(root: &Node, env: Env<'_>, problems: &mut Problems) -> Config {
    let mut reader = TableReader { problems, env: Some(env), unknown: Unknown::Refuse };
    let found = reader.block(root, &keys::ROOT, "", root.line);
    let mut builder = NativeBuilder { env, problems };
    let sources: Vec<SourceConfig> =
        found.blocks("sources").iter().map(|found| builder.source(found)).collect();
    let processors: Vec<ProcessorConfig> =
        found.blocks("processors").iter().map(|found| builder.processor(found)).collect();
    builder.distinct_names(found.blocks("sources"), "source");
    builder.distinct_names(found.blocks("processors"), "processor");
    builder.dead_letter_processors(found.blocks("processors"), &processors);
    let routes = builder.routes(&found, &sources, &processors);
    if found.flag("ephemeral") && found.is_given("dataDir") {
        let message = "`ephemeral: true` and `dataDir` exclude each other; keep one";
        builder.problems.error(found.line_of("ephemeral"), "", message);
    }
    Config {
        format: ConfigFormat::Native,
        state: match found.maybe_path("dataDir") {
            _ if found.flag("ephemeral") => StateLocation::Ephemeral,
            Some(dir) => StateLocation::Dir(dir),
            None => StateLocation::Dir(default_data_dir(env)),
        },
        admin: builder.admin(found.block("admin")),
        sources,
        processors,
        routes,
        memory_bytes: usize::try_from(found.size("memoryMax")).unwrap_or(usize::MAX),
        shutdown_timeout: found.duration("shutdownTimeout"),
        checkpoint_interval: found.duration("checkpointInterval"),
        dead_letters: dead_letters(found.block("deadLetters")),
        log: log(found.block("log")),
    }
}

/// `$STATE_DIRECTORY`, else `/var/lib/event-router` if it is writable, else `./event-router-data`.
pub(super) fn default_data_dir(env: Env<'_>) -> PathBuf {
    // systemd separates several directories by colons; use the first one.
    let given = env("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next().map(PathBuf::from));
    if let Some(dir) = given.filter(|dir| !dir.as_os_str().is_empty()) {
        return dir;
    }
    let system = PathBuf::from("/var/lib/event-router");
    let existing = if system.is_dir() { &*system } else { Path::new("/var/lib") };
    if is_writable(existing) { system } else { "event-router-data".into() }
}

/// Returns true if a file can be created in `dir`. Mode bits would not tell of a read-only mount.
fn is_writable(dir: &Path) -> bool {
    let probe = dir.join(format!(".event-router-probe-{}", std::process::id()));
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe).is_ok();
    created && std::fs::remove_file(&probe).is_ok()
}

struct NativeBuilder<'a> {
    env: Env<'a>,
    problems: &'a mut Problems,
}

impl NativeBuilder<'_> {
    fn admin(&mut self, found: &CheckedMap) -> Admin {
        let bind_address = Some(found.text("bindAddress").to_owned()).filter(|address| address != "none");
        let auth = found.maybe_block("auth").map(auth).unwrap_or_default();
        let tls = found.maybe_block("tls").map(|tls| ServerTls {
            cert_file: tls.text("certFile").into(),
            key_file: tls.text("keyFile").into(),
        });
        if auth == Auth::None && bind_address.as_deref().is_some_and(|address| !is_loopback(address)) {
            let message = "everybody who reaches this address can read metrics and statistics; set `auth`";
            self.problems.warn(found.line_of("bindAddress"), &found.path_of("bindAddress"), message);
        }
        Admin { bind_address, auth, tls }
    }

    fn source(&mut self, found: &CheckedMap) -> SourceConfig {
        let tls = found.maybe_block("tls").map(|tls| self.tls(tls)).unwrap_or_default();
        let sdk_url = found.text("address").to_owned();
        self.clear_text(&sdk_url, true, found, "address");
        let filter = |filter: &CheckedMap| EventFilter {
            event_types: filter.texts("eventTypes"),
            users: filter.texts("users"),
            entity: filter.maybe_block("entity").map(|entity| EntityFilter {
                kind: entity.text("type").into(),
                id: entity.text("id").into(),
                recursion: match entity.text("recursion") {
                    "self" => Recursion::SelfOnly,
                    "children" => Recursion::Children,
                    _ => Recursion::All,
                },
            }),
        };
        let vcenter = Vcenter {
            tls,
            start_at: scalar::start_at(found.text("startAt")).unwrap_or_default(),
            filter: found.maybe_block("filter").map(filter).unwrap_or_default(),
            page_events: found.whole("pageSize"),
            poll_interval: found.duration("pollInterval"),
            max_calls_per_second: found.whole("maxCallsPerSecond"),
            overlap: found.duration("overlap"),
            sweep: found.maybe_block("sweep").filter(|sweep| sweep.flag("enabled")).map(|sweep| Sweep {
                interval: sweep.duration("interval"),
                window: sweep.duration("window"),
            }),
            timeouts: found.maybe_block("timeouts").map_or_else(VcenterTimeouts::default, |timeouts| {
                VcenterTimeouts {
                    connect: timeouts.duration("connect"),
                    call: timeouts.duration("call"),
                    wait: timeouts.duration("wait"),
                }
            }),
            protocol: match found.text("protocol") {
                "auto" => Protocol::Auto,
                "vijson" => Protocol::ViJson,
                _ => Protocol::Soap,
            },
            import_checkpoint: found.maybe_path("importCheckpoint"),
            ..Vcenter::new(sdk_url, found.text("username"), found.secret("password"))
        };
        SourceConfig { name: found.text("name").into(), kind: SourceKind::Vcenter(vcenter) }
    }

    fn processor(&mut self, found: &CheckedMap) -> ProcessorConfig {
        let mut delivery = self.delivery(found);
        let kind = match found.variant {
            "cloudevents" => ProcessorKind::CloudEvents(self.cloudevents(found, &mut delivery.extensions)),
            "openfaas" => ProcessorKind::OpenFaas(self.openfaas(found)),
            "eventbridge" => ProcessorKind::EventBridge(self.eventbridge(found)),
            "console" => ProcessorKind::Console,
            _ => ProcessorKind::Blackhole,
        };
        let one_by_one = match &kind {
            ProcessorKind::CloudEvents(target) => target.mode != ContentMode::Batched,
            ProcessorKind::OpenFaas(_) => true,
            _ => false,
        };
        if one_by_one && found.is_given("batch") {
            let message = "has no effect: this type and mode send one event per request";
            self.problems.warn(found.line_of("batch"), &found.path_of("batch"), message);
        }
        ProcessorConfig { name: found.text("name").into(), kind, delivery }
    }

    fn cloudevents(&mut self, found: &CheckedMap, extensions: &mut Extensions) -> CloudEventsConfig {
        let auth = found.maybe_block("auth").map(auth).unwrap_or_default();
        let reference =
            found.maybe_block("ref").map(|found| reference(found, "url", self.env, self.problems));
        let secret_url = self.secret_url(found);
        let url = match (found.maybe_text("url"), (self.env)("K_SINK")) {
            _ if found.is_given("urlFile") => {
                secret_url.as_ref().map(|(_, url)| url.clone()).unwrap_or_default()
            }
            (Some(url), _) => url.to_owned(),
            (None, _) if reference.is_some() => String::new(),
            (None, Some(sink)) => {
                self.ce_overrides(found, extensions);
                scalar::http_url(&sink).unwrap_or_else(|message| {
                    self.problems.error(found.line, &found.path_of("url"), format!("`$K_SINK` {message}"));
                    String::new()
                })
            }
            (None, None) => {
                let message = "`url` is missing, and `$K_SINK` is not set";
                self.problems.error(found.line, &found.path, message);
                String::new()
            }
        };
        self.clear_text(&url, auth != Auth::None, found, "url");
        let headers = found.map("headers").iter();
        let carries_auth = |name: &str| name.eq_ignore_ascii_case("authorization");
        if auth != Auth::None && found.map("headers").iter().any(|(name, _)| carries_auth(name)) {
            let message = "`Authorization` and `auth` exclude each other; keep one";
            self.problems.error(found.line_of("headers"), &found.path_of("headers"), message);
        }
        CloudEventsConfig {
            url: if secret_url.is_some() { outside::secret_name(&url) } else { url },
            secret_url: secret_url.map(|(secret, _)| secret),
            reference,
            mode: match found.text("mode") {
                "binary" => ContentMode::Binary,
                "batched" => ContentMode::Batched,
                _ => ContentMode::Structured,
            },
            auth,
            headers: headers.map(|(name, value)| (name.clone(), Secret::inline(&**value))).collect(),
            http: self.http(found),
        }
    }

    /// Applies Knative's `K_CE_OVERRIDES`, `{"extensions": {"name": "value"}}`. Extensions in the
    /// file have precedence.
    fn ce_overrides(&mut self, found: &CheckedMap, extensions: &mut Extensions) {
        #[derive(serde::Deserialize)]
        struct Overrides {
            #[serde(default)]
            extensions: std::collections::BTreeMap<String, String>,
        }
        let Some(text) = (self.env)("K_CE_OVERRIDES").filter(|text| !text.trim().is_empty()) else { return };
        match serde_json::from_str::<Overrides>(&text) {
            Ok(overrides) => {
                for (name, value) in overrides.extensions {
                    if let Err(message) = scalar::check_extension(&name, &value) {
                        let message = format!("an extension of `$K_CE_OVERRIDES` {message}");
                        self.problems.error(found.line, &found.path, message);
                    } else if extensions.fixed.iter().all(|(own, _)| *own != name) {
                        extensions.fixed.push((name, value));
                    }
                }
            }
            Err(_) => {
                let message = "`$K_CE_OVERRIDES` is not an object with `extensions`";
                self.problems.error(found.line, &found.path, message);
            }
        }
    }

    fn openfaas(&mut self, found: &CheckedMap) -> OpenFaasConfig {
        let gateway = found.text("gateway").to_owned();
        let auth = found.maybe_block("auth").map(auth).unwrap_or_default();
        self.clear_text(&gateway, auth != Auth::None, found, "gateway");
        let content_type = found.text("contentType");
        if !scalar::is_header_value(content_type) {
            let message = "has characters that a header cannot contain";
            self.problems.error(found.line_of("contentType"), &found.path_of("contentType"), message);
        }
        if found.is_given("authOnInvoke") && auth == Auth::None {
            let (line, path) = (found.line_of("authOnInvoke"), found.path_of("authOnInvoke"));
            self.problems.warn(line, &path, "has no effect without `auth`");
        }
        OpenFaasConfig {
            auth,
            auth_on_invoke: found.flag("authOnInvoke"),
            asynchronous: found.flag("async"),
            callback_url: found.maybe_text("callbackUrl").map(Into::into),
            content_type: Some(content_type.to_owned()).filter(|text| !text.is_empty()),
            topic_annotation: found.text("topicAnnotation").into(),
            namespaces: found.texts("namespaces"),
            refresh_interval: found.duration("refreshInterval"),
            vanished_grace: found.duration("vanishedGrace"),
            http: self.http(found),
            ..OpenFaasConfig::new(gateway)
        }
    }

    fn eventbridge(&mut self, found: &CheckedMap) -> EventBridgeConfig {
        let aws_auth = |auth: &CheckedMap| match auth.maybe_text("profile") {
            Some(profile) => AwsAuth::Profile(profile.into()),
            None => AwsAuth::AccessKey {
                access_key_id: auth.text("accessKeyId").into(),
                secret_access_key: auth.secret("secretAccessKey"),
                session_token: auth.maybe_secret("sessionToken"),
            },
        };
        let defaults = EventBridgeConfig::new(found.text("region"));
        let mut buses = Vec::new();
        for bus in found.blocks("buses") {
            if bus.flag("forwardAll") && bus.is_given("rules") {
                let message = "`forwardAll` and `rules` exclude each other; keep one";
                self.problems.error(bus.line_of("rules"), &bus.path, message);
            }
            buses.push(EventBus {
                name: bus.text("name").into(),
                rules: bus.texts("rules"),
                forward_all: bus.flag("forwardAll"),
            });
        }
        self.distinct_names(found.blocks("buses"), "bus");
        EventBridgeConfig {
            auth: found.maybe_block("auth").map(aws_auth).unwrap_or_default(),
            assume_role: found.maybe_block("assumeRole").map(|role| AssumeRole {
                role_arn: role.text("roleArn").into(),
                external_id: role.maybe_text("externalId").map(Into::into),
                session_name: role.text("sessionName").into(),
            }),
            endpoint: found.maybe_text("endpoint").map(Into::into),
            buses: if buses.is_empty() { defaults.buses } else { buses },
            refresh_interval: found.duration("refreshInterval"),
            entry_bytes_max: found.size("entryBytesMax") as usize,
            http: self.http(found),
            ..EventBridgeConfig::new(found.text("region"))
        }
    }

    fn http(&mut self, found: &CheckedMap) -> HttpClient {
        HttpClient {
            tls: self.tls(found.block("tls")),
            timeout: found.duration("timeout"),
            connect_timeout: found.duration("connectTimeout"),
            proxy: scalar::proxy(found.text("proxy")).unwrap_or_default(),
            proxy_tls: self.tls(found.block("proxyTls")),
        }
    }

    fn tls(&mut self, found: &CheckedMap) -> ClientTls {
        let insecure = found.flag("insecure");
        if insecure && found.is_given("thumbprint") {
            let message = "`insecure` and `thumbprint` exclude each other; keep one";
            self.problems.error(found.line_of("thumbprint"), &found.path, message);
        } else if insecure {
            let instead = "use `caFile` or `thumbprint`";
            self.problems.warn_insecure(found.line_of("insecure"), &found.path_of("insecure"), instead);
        }
        let client_cert = found.maybe_path("certFile").zip(found.maybe_path("keyFile"));
        ClientTls {
            insecure,
            ca_files: found.texts("caFile").into_iter().map(Into::into).collect(),
            thumbprint: found.maybe_text("thumbprint").and_then(scalar::thumbprint),
            client_cert: client_cert.map(|(cert_file, key_file)| ClientCert { cert_file, key_file }),
        }
    }

    /// Warns if credentials would be sent over plain HTTP to another machine.
    fn clear_text(&mut self, url: &str, credentials: bool, found: &CheckedMap, key: &str) {
        let host = scalar::host_of(url);
        let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if credentials && url.starts_with("http://") && !local {
            let message = "sends credentials over plain HTTP; use `https://`";
            self.problems.warn(found.line_of(key), &found.path_of(key), message);
        }
    }

    /// `blame`, or the older `statuses`: the statuses after which an event is tried again; any
    /// other blames the event.
    fn blame(&mut self, retry: &CheckedMap) -> BlameTable {
        if !retry.is_given("statuses") {
            let pairs = retry.map("blame").iter();
            return BlameTable(
                pairs
                    .filter_map(|(status, blame)| {
                        Some((StatusPattern::parse(status)?, RefusalBlame::parse(blame)?))
                    })
                    .collect(),
            );
        }
        self.problems.warn(retry.line_of("statuses"), &retry.path_of("statuses"), "use `blame` instead");
        let listed: Vec<u16> =
            retry.texts("statuses").iter().filter_map(|status| status.parse().ok()).collect();
        let is_targets = |status: &u16| TARGET_STATUSES.contains(status);
        let tried_again = listed.iter().filter(|status| !is_targets(status));
        let mut table: Vec<_> = tried_again
            .map(|status| (StatusPattern::Exactly(*status), RefusalBlame::Evidence))
            .chain(TARGET_STATUSES.map(|status| (StatusPattern::Exactly(status), RefusalBlame::Target)))
            .collect();
        table.extend([3, 4, 5].map(|class| (StatusPattern::Class(class), RefusalBlame::Event)));
        BlameTable(table)
    }

    fn delivery(&mut self, found: &CheckedMap) -> DeliveryPolicy {
        let [extensions, batch, retry, breaker, overflow] =
            ["extensions", "batch", "retry", "breaker", "overflow"].map(|key| found.block(key));
        if retry.duration("backoffMin") > retry.duration("backoffMax") {
            let key = if retry.is_given("backoffMin") { "backoffMin" } else { "backoffMax" };
            let message = "`backoffMin` must not be longer than `backoffMax`";
            self.problems.error(retry.line_of(key), &retry.path, message);
        }
        DeliveryPolicy {
            ordering: match found.text("ordering") {
                "entity" => Ordering::Entity,
                "none" => Ordering::None,
                _ => Ordering::Source,
            },
            time: match found.text("time") {
                "created" => EventTime::Created,
                _ => EventTime::Router,
            },
            payload: match found.text("payload") {
                "vijson" => Payload::ViJson,
                "xml" => Payload::Xml,
                _ => Payload::Pascal,
            },
            extensions: Extensions {
                sequence: extensions.flag("sequence"),
                partitionkey: extensions.flag("partitionkey"),
                vsphereapiversion: extensions.flag("vsphereapiversion"),
                eventclass: extensions.flag("eventclass"),
                fixed: extensions.map("static").to_vec(),
            },
            concurrency: found.whole("concurrency"),
            batch: BatchLimits {
                events: batch.whole("events"),
                bytes: batch.size("bytes") as usize,
                age: batch.duration("age"),
            },
            rate_limit: found.maybe_block("rateLimit").map(|limit| {
                match limit.maybe_decimal("eventsPerSecond") {
                    Some(events) => RateLimit::Events(events),
                    None => RateLimit::Requests(limit.maybe_decimal("requestsPerSecond").unwrap_or(f64::MAX)),
                }
            }),
            retry: Retry {
                attempts: retry.whole("attempts"),
                max_age: retry.duration("maxAge"),
                backoff_min: retry.duration("backoffMin"),
                backoff_max: retry.duration("backoffMax"),
                blame: self.blame(retry),
            },
            breaker: breaker.flag("enabled").then(|| Breaker {
                failures: breaker.whole("failures"),
                success_rate_min: breaker.maybe_decimal("successRateMin").unwrap_or_default(),
                window: breaker.duration("window"),
                probe_interval: breaker.duration("probeInterval"),
            }),
            overflow: Overflow {
                policy: match overflow.text("policy") {
                    "block" => OverflowPolicy::Block,
                    "dropNewest" => OverflowPolicy::DropNewest,
                    "dropOldest" => OverflowPolicy::DropOldest,
                    _ => OverflowPolicy::Spill,
                },
                bytes_max: overflow.size("bytesMax"),
                free_disk_floor: overflow.size("freeDiskFloor"),
            },
            on_refusal: match found.text("onRefusal") {
                "hold" => OnRefusal::Hold,
                _ => OnRefusal::StepAside,
            },
            dead_letter: found.maybe_text("deadLetterTo").map(Into::into),
        }
    }
}

fn auth(found: &CheckedMap) -> Auth {
    // The table of an OpenFaaS gateway has no `token`, since the gateway knows none.
    match (found.maybe_secret("token"), found.maybe_text("username")) {
        (Some(token), _) => Auth::Bearer { token },
        (None, username) => {
            Auth::Basic { username: username.unwrap_or_default().into(), password: found.secret("password") }
        }
    }
}

fn dead_letters(found: &CheckedMap) -> DeadLetterLimits {
    DeadLetterLimits { bytes_max: found.size("bytesMax"), max_age: found.maybe_duration("maxAge") }
}

fn log(found: &CheckedMap) -> Log {
    Log {
        level: match found.text("level") {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: match found.text("format") {
            "json" => LogFormat::Json,
            _ => LogFormat::Human,
        },
        invocations: found.flag("invocations"),
        invocations_per_second: found.maybe_whole("invocationsPerSecond").map(|lines| lines as u32),
    }
}

/// Returns true if only this machine can reach an address to listen on.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
