//! Writes a [`Config`] as a file of the native format. Loading that file gives the same
//! configuration.

mod process;

use self::process::{dead_letters_of, log_of};
use super::model::*;
use super::scalar::{percent_encode, show_duration, show_size};
use super::yaml::{self, Fields, Notes, Out};
use super::{Secret, SecretError, keys};
use crate::event::{EventTime, Extensions, Payload};

/// Writes the file, with `dataDir` only if `with_state` is true. Secrets in files stay there;
/// others are written out.
///
/// # Errors
/// A header or proxy secret is in a file that cannot be read. Only configurations that were built
/// in code can have such a secret.
pub(super) fn write(config: &Config, with_state: bool, notes: &Notes) -> Result<String, SecretError> {
    Ok(yaml::write(&root(config, with_state)?, &keys::ROOT, notes))
}

fn some<T>(value: Option<T>, out: impl FnOnce(T) -> Out) -> Out {
    value.map_or(Out::Nothing, out)
}

fn text(value: impl Into<String>) -> Out {
    Out::Text(value.into())
}

fn flag(value: bool) -> Out {
    text(value.to_string())
}

fn path(value: &std::path::Path) -> Out {
    text(value.display().to_string())
}

fn secret(
    key: &'static str,
    file_key: &'static str,
    secret: &Secret,
) -> Result<(&'static str, Out), SecretError> {
    Ok(match secret.path() {
        Some(file) => (file_key, path(file)),
        None => (key, text(&*secret.read()?)),
    })
}

fn root(config: &Config, with_state: bool) -> Result<Fields, SecretError> {
    let Config {
        format: _,
        state,
        admin,
        sources,
        processors,
        routes,
        memory_bytes,
        shutdown_timeout,
        checkpoint_interval,
        dead_letters,
        log,
    } = config;
    let (data_dir, ephemeral) = match state {
        StateLocation::Dir(dir) if with_state => (path(dir), false),
        StateLocation::Dir(_) => (Out::Nothing, false),
        StateLocation::Ephemeral => (Out::Nothing, true),
    };
    let all = RouteConfig::all(sources, processors);
    let is_default = matches!(&routes[..], [one] if *one == all);
    let routes = if is_default { Out::Nothing } else { Out::Maps(routes.iter().map(route).collect()) };
    Ok(vec![
        ("apiVersion", text(keys::API_VERSION)),
        ("dataDir", data_dir),
        ("ephemeral", flag(ephemeral)),
        ("admin", Out::Map(admin_of(admin)?)),
        ("sources", Out::Maps(sources.iter().map(source).collect::<Result<_, _>>()?)),
        ("processors", Out::Maps(processors.iter().map(processor).collect::<Result<_, _>>()?)),
        ("routes", routes),
        ("memoryMax", text(show_size(*memory_bytes as u64))),
        ("shutdownTimeout", text(show_duration(*shutdown_timeout))),
        ("checkpointInterval", text(show_duration(*checkpoint_interval))),
        ("deadLetters", Out::Map(dead_letters_of(dead_letters))),
        ("log", Out::Map(log_of(log))),
    ])
}

fn admin_of(admin: &Admin) -> Result<Fields, SecretError> {
    let Admin { bind_address, auth, tls } = admin;
    Ok(vec![
        ("bindAddress", text(bind_address.as_deref().unwrap_or("none"))),
        ("auth", auth_of(auth)?),
        (
            "tls",
            some(tls.as_ref(), |tls| {
                Out::Map(vec![("certFile", path(&tls.cert_file)), ("keyFile", path(&tls.key_file))])
            }),
        ),
    ])
}

fn auth_of(auth: &Auth) -> Result<Out, SecretError> {
    Ok(match auth {
        Auth::None => Out::Nothing,
        Auth::Basic { username, password } => {
            Out::Map(vec![("username", text(username)), secret("password", "passwordFile", password)?])
        }
        Auth::Bearer { token } => Out::Map(vec![secret("token", "tokenFile", token)?]),
    })
}

fn source(source: &SourceConfig) -> Result<Fields, SecretError> {
    let SourceConfig { name, kind: SourceKind::Vcenter(vcenter) } = source;
    let Vcenter {
        sdk_url,
        username,
        password,
        tls,
        start_at,
        filter,
        page_events,
        poll_interval,
        max_calls_per_second,
        overlap,
        sweep,
        timeouts,
        protocol,
        import_checkpoint,
    } = vcenter;
    let EventFilter { event_types, users, entity } = filter;
    let entity = entity.as_ref().map(|EntityFilter { kind, id, recursion }| {
        let recursion = match recursion {
            Recursion::All => "all",
            Recursion::Children => "children",
            Recursion::SelfOnly => "self",
        };
        Out::Map(vec![("type", text(kind)), ("id", text(id)), ("recursion", text(recursion))])
    });
    let sweep = match sweep {
        None => vec![("enabled", flag(false))],
        Some(Sweep { interval, window }) => {
            vec![("interval", text(show_duration(*interval))), ("window", text(show_duration(*window)))]
        }
    };
    Ok(vec![
        ("name", text(name)),
        ("type", text("vcenter")),
        ("address", text(sdk_url)),
        ("username", text(username)),
        secret("password", "passwordFile", password)?,
        ("tls", tls_of(tls)),
        (
            "startAt",
            text(match start_at {
                StartAt::Now => "now".into(),
                StartAt::Beginning => "beginning".into(),
                StartAt::At(at) => jiff::Timestamp::from_microsecond(*at).unwrap_or_default().to_string(),
                StartAt::Ago(ago) => show_duration(*ago),
            }),
        ),
        (
            "filter",
            Out::Map(vec![
                ("eventTypes", Out::Words(event_types.clone())),
                ("users", Out::Words(users.clone())),
                ("entity", entity.unwrap_or(Out::Nothing)),
            ]),
        ),
        ("pageSize", text(page_events.to_string())),
        ("pollInterval", text(show_duration(*poll_interval))),
        ("maxCallsPerSecond", text(max_calls_per_second.to_string())),
        ("overlap", text(show_duration(*overlap))),
        ("sweep", Out::Map(sweep)),
        (
            "timeouts",
            Out::Map(vec![
                ("connect", text(show_duration(timeouts.connect))),
                ("call", text(show_duration(timeouts.call))),
                ("wait", text(show_duration(timeouts.wait))),
            ]),
        ),
        (
            "protocol",
            text(match protocol {
                Protocol::Auto => "auto",
                Protocol::Soap => "soap",
                Protocol::ViJson => "vijson",
            }),
        ),
        ("importCheckpoint", some(import_checkpoint.as_deref(), path)),
    ])
}

fn tls_of(tls: &ClientTls) -> Out {
    let ClientTls { insecure, ca_files, thumbprint, client_cert } = tls;
    let hex = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Out::Map(vec![
        ("insecure", flag(*insecure)),
        ("caFile", Out::Words(ca_files.iter().map(|file| file.display().to_string()).collect())),
        ("thumbprint", some(thumbprint.as_ref(), |bytes| text(hex(bytes)))),
        ("certFile", some(client_cert.as_ref(), |cert| path(&cert.cert_file))),
        ("keyFile", some(client_cert.as_ref(), |cert| path(&cert.key_file))),
    ])
}

fn http_of(http: &HttpClient) -> Result<Fields, SecretError> {
    let HttpClient { tls, timeout, connect_timeout, proxy, proxy_tls } = http;
    let proxy = match proxy {
        Proxy::Environment => "environment".into(),
        Proxy::Direct => "none".into(),
        Proxy::Url { url, auth: Auth::Basic { username, password } } => {
            let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
            format!("{scheme}://{}:{}@{host}", percent_encode(username), percent_encode(&password.read()?))
        }
        Proxy::Url { url, .. } => url.clone(),
    };
    Ok(vec![
        ("tls", tls_of(tls)),
        ("timeout", text(show_duration(*timeout))),
        ("connectTimeout", text(show_duration(*connect_timeout))),
        ("proxy", text(proxy)),
        ("proxyTls", tls_of(proxy_tls)),
    ])
}

fn reference_of(reference: &Reference) -> Out {
    let Reference { api_version, kind, name, namespace } = reference;
    Out::Map(vec![
        ("apiVersion", text(api_version)),
        ("kind", text(kind)),
        ("name", text(name)),
        ("namespace", some(namespace.as_ref(), text)),
    ])
}

fn processor(processor: &ProcessorConfig) -> Result<Fields, SecretError> {
    let ProcessorConfig { name, kind, delivery } = processor;
    let (word, own) = match kind {
        ProcessorKind::CloudEvents(CloudEventsConfig {
            url,
            secret_url,
            reference,
            mode,
            auth,
            headers,
            http,
        }) => {
            let mode = match mode {
                ContentMode::Structured => "structured",
                ContentMode::Binary => "binary",
                ContentMode::Batched => "batched",
            };
            let mut pairs = Vec::with_capacity(headers.len());
            for (name, value) in headers {
                pairs.push((name.clone(), value.read()?.to_string()));
            }
            let url = match secret_url {
                Some(url) => secret("url", "urlFile", url)?,
                None if reference.is_some() => ("url", Out::Nothing),
                None => ("url", text(url)),
            };
            let own = [
                url,
                ("ref", some(reference.as_ref(), reference_of)),
                ("mode", text(mode)),
                ("auth", auth_of(auth)?),
                ("headers", Out::Pairs(pairs)),
            ];
            ("cloudevents", own.into_iter().chain(http_of(http)?).collect())
        }
        ProcessorKind::OpenFaas(openfaas) => {
            let OpenFaasConfig {
                gateway,
                auth,
                auth_on_invoke,
                asynchronous,
                callback_url,
                content_type,
                topic_annotation,
                namespaces,
                refresh_interval,
                vanished_grace,
                http,
            } = openfaas;
            let own = [
                ("gateway", text(gateway)),
                ("auth", auth_of(auth)?),
                ("authOnInvoke", flag(*auth_on_invoke)),
                ("async", flag(*asynchronous)),
                ("callbackUrl", some(callback_url.as_deref(), text)),
                ("contentType", text(content_type.as_deref().unwrap_or_default())),
                ("topicAnnotation", text(topic_annotation)),
                ("namespaces", Out::Words(namespaces.clone())),
                ("refreshInterval", text(show_duration(*refresh_interval))),
                ("vanishedGrace", text(show_duration(*vanished_grace))),
            ];
            ("openfaas", own.into_iter().chain(http_of(http)?).collect())
        }
        ProcessorKind::EventBridge(eventbridge) => {
            let EventBridgeConfig {
                region,
                auth,
                assume_role,
                endpoint,
                buses,
                refresh_interval,
                entry_bytes_max,
                http,
            } = eventbridge;
            let role = assume_role.as_ref().map(|AssumeRole { role_arn, external_id, session_name }| {
                Out::Map(vec![
                    ("roleArn", text(role_arn)),
                    ("externalId", some(external_id.as_deref(), text)),
                    ("sessionName", text(session_name)),
                ])
            });
            let bus = |EventBus { name, rules, forward_all }: &EventBus| {
                let rules = Out::Words(rules.clone());
                vec![("name", text(name)), ("rules", rules), ("forwardAll", flag(*forward_all))]
            };
            let is_default = *buses == EventBridgeConfig::new("").buses;
            let own = [
                ("region", text(region)),
                ("auth", aws_auth(auth)?),
                ("assumeRole", role.unwrap_or(Out::Nothing)),
                ("endpoint", some(endpoint.as_deref(), text)),
                ("buses", if is_default { Out::Nothing } else { Out::Maps(buses.iter().map(bus).collect()) }),
                ("refreshInterval", text(show_duration(*refresh_interval))),
                ("entryBytesMax", text(show_size(*entry_bytes_max as u64))),
            ];
            ("eventbridge", own.into_iter().chain(http_of(http)?).collect())
        }
        ProcessorKind::Console => ("console", Vec::new()),
        ProcessorKind::Blackhole => ("blackhole", Vec::new()),
    };
    let head = [("name", text(name)), ("type", text(word))];
    Ok(head.into_iter().chain(own).chain(delivery_of(delivery)).collect())
}

fn aws_auth(auth: &AwsAuth) -> Result<Out, SecretError> {
    Ok(match auth {
        AwsAuth::DefaultChain => Out::Nothing,
        AwsAuth::Profile(profile) => Out::Map(vec![("profile", text(profile))]),
        AwsAuth::AccessKey { access_key_id, secret_access_key, session_token } => {
            let mut fields = vec![
                ("accessKeyId", text(access_key_id)),
                secret("secretAccessKey", "secretAccessKeyFile", secret_access_key)?,
            ];
            if let Some(token) = session_token {
                fields.push(secret("sessionToken", "sessionTokenFile", token)?);
            }
            Out::Map(fields)
        }
    })
}

fn delivery_of(delivery: &DeliveryPolicy) -> Fields {
    let DeliveryPolicy {
        ordering,
        time,
        payload,
        extensions,
        concurrency,
        batch,
        rate_limit,
        retry,
        breaker,
        overflow,
        on_refusal,
        dead_letter,
    } = delivery;
    let Extensions { sequence, partitionkey, vsphereapiversion, eventclass, fixed } = extensions;
    let Retry { attempts, max_age, backoff_min, backoff_max, blame } = retry;
    let blame = blame.0.iter().map(|(status, blame)| (status.to_string(), blame.word().to_owned()));
    let breaker = match breaker {
        None => vec![("enabled", flag(false))],
        Some(Breaker { failures, success_rate_min, window, probe_interval }) => vec![
            ("failures", text(failures.to_string())),
            ("successRateMin", text(success_rate_min.to_string())),
            ("window", text(show_duration(*window))),
            ("probeInterval", text(show_duration(*probe_interval))),
        ],
    };
    let policy = match overflow.policy {
        OverflowPolicy::Spill => "spill",
        OverflowPolicy::Block => "block",
        OverflowPolicy::DropNewest => "dropNewest",
        OverflowPolicy::DropOldest => "dropOldest",
    };
    let ordering = match ordering {
        Ordering::Source => "source",
        Ordering::Entity => "entity",
        Ordering::None => "none",
    };
    let time = match time {
        EventTime::Router => "router",
        EventTime::Created => "created",
    };
    let payload = match payload {
        Payload::Pascal => "pascal",
        Payload::ViJson => "vijson",
        Payload::Xml => "xml",
    };
    let rate_limit = rate_limit.map(|limit| match limit {
        RateLimit::Events(number) => Out::Map(vec![("eventsPerSecond", text(number.to_string()))]),
        RateLimit::Requests(number) => Out::Map(vec![("requestsPerSecond", text(number.to_string()))]),
    });
    vec![
        ("ordering", text(ordering)),
        ("time", text(time)),
        ("payload", text(payload)),
        (
            "extensions",
            Out::Map(vec![
                ("sequence", flag(*sequence)),
                ("partitionkey", flag(*partitionkey)),
                ("vsphereapiversion", flag(*vsphereapiversion)),
                ("eventclass", flag(*eventclass)),
                ("static", Out::Pairs(fixed.clone())),
            ]),
        ),
        ("concurrency", text(concurrency.to_string())),
        (
            "batch",
            Out::Map(vec![
                ("events", text(batch.events.to_string())),
                ("bytes", text(show_size(batch.bytes as u64))),
                ("age", text(show_duration(batch.age))),
            ]),
        ),
        ("rateLimit", rate_limit.unwrap_or(Out::Nothing)),
        (
            "retry",
            Out::Map(vec![
                ("attempts", text(attempts.to_string())),
                ("maxAge", text(show_duration(*max_age))),
                ("backoffMin", text(show_duration(*backoff_min))),
                ("backoffMax", text(show_duration(*backoff_max))),
                ("blame", Out::Pairs(blame.collect())),
            ]),
        ),
        ("breaker", Out::Map(breaker)),
        (
            "overflow",
            Out::Map(vec![
                ("policy", text(policy)),
                ("bytesMax", text(show_size(overflow.bytes_max))),
                ("freeDiskFloor", text(show_size(overflow.free_disk_floor))),
            ]),
        ),
        ("onRefusal", text(on_refusal.word())),
        ("deadLetterTo", some(dead_letter.as_deref(), text)),
    ]
}

fn route(route: &RouteConfig) -> Fields {
    let RouteConfig { name, sources, pattern, line: _, processors } = route;
    vec![
        ("name", text(name)),
        ("sources", Out::Words(sources.clone())),
        ("pattern", some(pattern.clone(), Out::Json)),
        ("processors", Out::Words(processors.clone())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_configuration_is_read_as_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["vc1.example".into()]).unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert_file, key.cert.pem()).unwrap();
        std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
        let text = include_str!("../../tests/data/everything.yaml")
            .replace("CERT.pem", &cert_file.display().to_string())
            .replace("KEY.pem", &key_file.display().to_string())
            .replace("hunter2", "'$${p}''\"#: %'");
        let load = |text: &str| {
            let (mut config, _) = super::super::load_str(text, "written".as_ref())
                .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            config.routes.iter_mut().for_each(|route| route.line = 0);
            config
        };
        let config = load(&text.replace("user:'$${p}''\"#: %'@", "user:p%40@"));
        let written = write(&config, true, &Vec::new()).unwrap();
        assert_eq!(load(&written), config, "{written}");
    }
}
