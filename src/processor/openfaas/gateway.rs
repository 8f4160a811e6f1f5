//! Reads the list of functions from a gateway: `/system/namespaces` and `/system/functions` of the
//! OpenFaaS REST API.

use std::collections::HashMap;

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};

use super::oddities::Oddities;
use super::topics::Function;
use crate::cloudevents::topic::{SEVERITY_TOPICS, Topic};
use crate::config::event_names::topic_advice;
use crate::limits::LISTING_BYTES_MAX;
use crate::net::request;
use crate::processor::client::TargetClient;
use crate::processor::openfaas::settings::OpenFaasConfig as Settings;
use crate::processor::{Blame, Failure};

/// The annotation, `true` or `false`, by which a function chooses `/async-function/` or
/// `/function/`.
pub const ASYNC_ANNOTATION: &str = "async";

/// A function as `/system/functions` describes it. Other members are ignored.
#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// Asks the gateway for all functions of `settings.namespaces`, or of all its namespaces.
///
/// Fails if any namespace cannot be listed; otherwise its functions would seem to have vanished.
/// Problems of single functions are added to `oddities`.
pub async fn functions(
    client: &TargetClient,
    settings: &Settings,
    oddities: &mut Oddities,
) -> Result<Vec<Function>, Failure> {
    let namespaces = match settings.namespaces.as_slice() {
        [] => namespaces(client, settings).await?,
        given => given.to_vec(),
    };
    if namespaces.is_empty() {
        return list(client, settings, None, oddities).await;
    }
    let mut all = Vec::new();
    for namespace in namespaces {
        all.extend(list(client, settings, Some(namespace), oddities).await?);
    }
    Ok(all)
}

/// The gateway's namespaces. Empty if it does not know any; the path of an invocation then contains
/// only the function's name.
async fn namespaces(client: &TargetClient, settings: &Settings) -> Result<Vec<String>, Failure> {
    match get(client, format!("{}/system/namespaces", settings.gateway)).await {
        Ok(body) => {
            let named = parse::<Option<Vec<String>>>(client, "/system/namespaces", body).await?;
            // A provider without namespaces may answer with an empty name.
            Ok(named.unwrap_or_default().into_iter().filter(|name| !name.is_empty()).collect())
        }
        // Gateways before 0.18 and providers without namespaces.
        Err(failure) if matches!(failure.status, Some(404 | 405 | 501)) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

async fn list(
    client: &TargetClient,
    settings: &Settings,
    namespace: Option<String>,
    oddities: &mut Oddities,
) -> Result<Vec<Function>, Failure> {
    let query = namespace.as_ref().map(|name| format!("?namespace={}", encoded(name))).unwrap_or_default();
    let body = get(client, format!("{}/system/functions{query}", settings.gateway)).await?;
    let listed = parse::<Option<Vec<Listed>>>(client, "/system/functions", body).await?;
    let suffix = namespace.map(|name| format!(".{name}")).unwrap_or_default();
    Ok(listed
        .unwrap_or_default()
        .into_iter()
        .filter_map(|f| function(f, &suffix, &settings.topic_annotation, oddities))
        .collect())
}

/// Checks a listed function; `None` if its name is no safe part of a URL. No honest gateway has
/// such a name, and it could redirect the call.
fn function(
    listed: Listed,
    suffix: &str,
    topic_annotation: &str,
    oddities: &mut Oddities,
) -> Option<Function> {
    let name = format!("{}{suffix}", listed.name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if listed.name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        oddities.look(|| {
            Some(format!("the name {name:?} has characters that a URL cannot contain; it is ignored"))
        });
        return None;
    }
    let annotations = listed.annotations.unwrap_or_default();
    let asynchronous = annotations.get(ASYNC_ANNOTATION).and_then(|value| match value.trim() {
        value if value.eq_ignore_ascii_case("true") => Some(true),
        value if value.eq_ignore_ascii_case("false") => Some(false),
        value => {
            oddities.look(|| {
                Some(format!(
                    "{name}: annotation `async` is {value:?}, neither `true` nor `false`; it is ignored"
                ))
            });
            None
        }
    });
    let list = annotations.get(topic_annotation).map_or("", |list| list);
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    for entry in entries.filter(|entry| !SEVERITY_TOPICS.contains(entry)) {
        if !Topic::parse(entry).selects_a_class() {
            oddities.look(|| topic_advice(entry).map(|advice| format!("{name}: the topic {advice}")));
        }
    }
    let topics = Topic::list(list).collect();
    Some(Function { name: name.into(), asynchronous, topics })
}

async fn get(client: &TargetClient, url: String) -> Result<Vec<u8>, Failure> {
    let uri: Uri = url
        .parse()
        .map_err(|_| broken(client, "cannot make a URL of the gateway's and a namespace".into()))?;
    let headers = client.headers();
    let answer = client
        .exchange(request(Method::GET, uri, (*headers).clone(), Bytes::new()), LISTING_BYTES_MAX)
        .await?;
    if answer.status != StatusCode::OK {
        let mut failure = client.refusal(&answer);
        if answer.status == StatusCode::UNAUTHORIZED {
            failure.reason += "; meant are the gateway's own user and password, of its secret `basic-auth`";
        }
        return Err(failure);
    }
    if answer.cut {
        return Err(broken(client, format!("its list of functions exceeds {LISTING_BYTES_MAX} bytes")));
    }
    Ok(answer.body)
}

/// Parses on a blocking thread: 10,000 functions are megabytes of JSON, and would hold up
/// deliveries on the runtime's threads.
async fn parse<T>(client: &TargetClient, what: &str, body: Vec<u8>) -> Result<T, Failure>
where
    T: serde::de::DeserializeOwned + Send + 'static,
{
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&body)).await;
    match parsed {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(client, format!("cannot parse its answer to {what}: {error}"))),
        Err(error) => Err(broken(client, format!("cannot read its answer to {what}: {error}"))),
    }
}

/// A failure of the gateway's own API.
fn broken(client: &TargetClient, what: String) -> Failure {
    let reason = format!("{}: {what}; check `gateway`", client.target());
    Failure::new(Blame::Target, reason)
}

/// Percent-encodes a query value, except for unreserved characters (RFC 3986 §2.3).
fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
