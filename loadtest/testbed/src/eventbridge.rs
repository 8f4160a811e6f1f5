//! AWS EventBridge's `PutEvents`, `ListRules` and `DescribeRule` (protocol awsJson1.1), with the
//! limits and partial failures of the service.
//!
//! A request must have a signature, but the signature is not checked. Tests with a real service or
//! moto check that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cert::{Certificate, Tls};
use crate::content;
use crate::limits::{PUT_EVENTS_BYTES_MAX, PUT_EVENTS_ENTRIES_MAX, RECORDS_MAX};
use crate::net::{Body, Connection, Dropped, Handler, Hosted, StartError, answer, read_body};
use crate::sink::{Behavior, BehaviorPlan, InFlight};
use crate::sync::lock;
use crate::vcenter::wall_us;
use crate::verify::Verifier;

const JSON: &str = "application/x-amz-json-1.1";
const ACCOUNT: &str = "123456789012";

/// A rule of the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// Name of the bus; empty for `default`.
    pub bus: String,
    /// The event pattern, as JSON text.
    pub pattern: String,
    pub enabled: bool,
}

/// An event bus to start. `..EventBusOptions::default()` gives one over HTTP on a free port.
#[derive(Clone, Debug, Default)]
pub struct EventBusOptions {
    pub port: u16,
    pub tls: Option<Certificate>,
    /// Number of rules on one page of `ListRules`; 0 for AWS's 100.
    pub rules_page: usize,
}

/// An entry that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub source: String,
    pub detail_type: String,
    /// JSON text.
    pub detail: String,
    pub bus: String,
    /// `Time` as it came: seconds since 1970, or text.
    pub time: Value,
}

struct BusState {
    verifier: Arc<Verifier>,
    rules: Mutex<Vec<Rule>>,
    rules_page: usize,
    behaviors: Mutex<BehaviorPlan>,
    /// Error codes for the next entries; `None` accepts one.
    entry_errors: Mutex<VecDeque<Option<String>>>,
    entries: Mutex<Vec<Entry>>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicU64,
    in_flight_peak: AtomicU64,
}

/// A handle on a running event bus; clones share it.
#[derive(Clone)]
pub struct EventBus {
    hosted: Arc<Hosted<BusState>>,
}

impl EventBus {
    /// # Errors
    /// The port is taken.
    pub async fn start(options: EventBusOptions, verifier: Arc<Verifier>) -> Result<EventBus, StartError> {
        let state = BusState {
            verifier,
            rules: Mutex::default(),
            rules_page: if options.rules_page == 0 { 100 } else { options.rules_page },
            behaviors: Mutex::default(),
            entry_errors: Mutex::default(),
            entries: Mutex::default(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_peak: AtomicU64::new(0),
        };
        lock(&state.behaviors).set(Behavior::status(200));
        let tls = options.tls.map(|certificate| Tls::new(certificate, true)).transpose()?;
        Ok(EventBus { hosted: Arc::new(Hosted::start(options.port, tls, Arc::new(state)).await?) })
    }

    /// The endpoint to configure.
    pub fn url(&self) -> String {
        self.hosted.origin()
    }

    pub fn port(&self) -> u16 {
        self.hosted.port()
    }

    pub fn tls(&self) -> Option<Tls> {
        self.hosted.tls()
    }

    fn state(&self) -> &BusState {
        &self.hosted.handler
    }

    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.state().verifier
    }

    /// The ARN of a rule on the default bus, as a configuration names it.
    pub fn rule_arn(name: &str) -> String {
        format!("arn:aws:events:eu-central-1:{ACCOUNT}:rule/{name}")
    }

    pub fn set_rules(&self, rules: Vec<Rule>) {
        *lock(&self.state().rules) = rules;
    }

    /// Sets the behaviour of all requests from now on.
    pub fn set(&self, behavior: Behavior) {
        lock(&self.state().behaviors).set(behavior);
    }

    /// Sets the behaviour of the next requests. A status of 4xx or 5xx becomes a typed error:
    /// `ThrottlingException` for 429 and 400, `InternalException` otherwise.
    pub fn next(&self, times: u64, behavior: Behavior) {
        lock(&self.state().behaviors).next(times, behavior);
    }

    /// Applies a behaviour to this share of requests (0 to 1), evenly spread; 0 ends it.
    pub fn fail(&self, share: f64, behavior: Behavior) {
        lock(&self.state().behaviors).fail(share, behavior);
    }

    /// Fails the next entries with these codes (`ThrottlingException`, `InternalFailure`,
    /// `MalformedDetail`, …); `None` accepts one.
    pub fn fail_entries(&self, codes: &[Option<&str>]) {
        lock(&self.state().entry_errors).extend(codes.iter().map(|code| code.map(str::to_owned)));
    }

    /// Entries that were accepted, in order (the first 10,000).
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.state().entries).clone()
    }

    pub fn accepted(&self) -> u64 {
        self.state().accepted.load(Ordering::Relaxed)
    }

    /// Number of entries that failed.
    pub fn rejected(&self) -> u64 {
        self.state().rejected.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.state().requests.load(Ordering::Relaxed)
    }

    pub fn in_flight_peak(&self) -> u64 {
        self.state().in_flight_peak.load(Ordering::Relaxed)
    }

    /// Closes the port: connections are refused until [`EventBus::resume`].
    pub async fn outage(&self) {
        self.hosted.stop().await;
    }

    /// # Errors
    /// The port was taken meanwhile.
    pub async fn resume(&self) -> Result<(), StartError> {
        self.hosted.restart().await
    }
}

impl Handler for BusState {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (parts, body) = request.into_parts();
        let _open = InFlight::enter(&self.in_flight, &self.in_flight_peak);
        let body = read_body(body).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        // A client without credentials gets the same answer as from AWS.
        if !parts
            .headers
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"))
        {
            return Ok(error(403, "MissingAuthenticationTokenException", "Missing Authentication Token"));
        }
        let behavior = lock(&self.behaviors).take();
        // A scripted failure of the whole request.
        if let crate::sink::Reply::Status(status) = behavior.reply
            && status >= 400
        {
            behavior.wait().await;
            let code = if matches!(status, 400 | 429) { "ThrottlingException" } else { "InternalException" };
            return Ok(error(status, code, "on demand"));
        }
        if !behavior.takes() {
            return behavior.answer(&connection, Body::Full(None)).await;
        }
        // The operation itself, answered with the latency that the behaviour asks for.
        match self.carry_out(&parts.headers, &body) {
            Ok(result) => {
                let mut response = behavior.answer(&connection, Body::full(result.to_string())).await?;
                response
                    .headers_mut()
                    .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(JSON));
                Ok(response)
            }
            Err((code, message)) => Ok(error(400, code, &message)),
        }
    }
}

fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    answer(status, JSON, Body::full(json!({"__type": code, "message": message}).to_string()))
}

impl BusState {
    fn carry_out(&self, headers: &HeaderMap, body: &Bytes) -> Result<Value, (&'static str, String)> {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let request: Value = serde_json::from_slice(body)
            .map_err(|error| ("SerializationException", format!("not JSON: {error}")))?;
        match target {
            "AWSEvents.PutEvents" => self.put_events(&request),
            "AWSEvents.ListRules" => self.list_rules(&request),
            "AWSEvents.DescribeRule" => self.describe_rule(&request),
            _ => Err(("UnknownOperationException", format!("unknown operation `{target}`"))),
        }
    }

    fn put_events(&self, request: &Value) -> Result<Value, (&'static str, String)> {
        let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        // AWS checks the number and the total size of entries before any of them.
        if entries.is_empty() || entries.len() > PUT_EVENTS_ENTRIES_MAX {
            let message = format!(
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length \
                 between 1 and {PUT_EVENTS_ENTRIES_MAX}"
            );
            return Err(("ValidationException", message));
        }
        if entries.iter().map(entry_bytes).sum::<usize>() > PUT_EVENTS_BYTES_MAX {
            let message = "Total size of the entries in the request is over the limit.".to_owned();
            return Err(("ValidationException", message));
        }
        let now_us = wall_us();
        let mut failed = 0;
        // Each entry succeeds or fails by itself; the router must send the failed ones again.
        let results: Vec<Value> = entries
            .iter()
            .map(|entry| match self.put(entry, now_us) {
                Ok(()) => json!({"EventId": Uuid::new_v4().to_string()}),
                Err((code, message)) => {
                    failed += 1;
                    json!({"ErrorCode": code, "ErrorMessage": message})
                }
            })
            .collect();
        Ok(json!({"FailedEntryCount": failed, "Entries": results}))
    }

    /// Accepts one entry, or returns the error code and message of its result.
    fn put(&self, entry: &Value, now_us: i64) -> Result<(), (String, String)> {
        let result = self.check(entry);
        match &result {
            Ok(()) => self.accepted.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.rejected.fetch_add(1, Ordering::Relaxed),
        };
        result?;
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let around = content::EntryFields {
            source: entry["Source"].as_str().unwrap_or_default(),
            detail_type: entry["DetailType"].as_str().unwrap_or_default(),
            time_us: entry["Time"].as_f64().map(|seconds| (seconds * 1e6) as i64),
        };
        self.verifier.entry(text("Detail").as_bytes(), around, now_us);
        let mut entries = lock(&self.entries);
        if entries.len() < RECORDS_MAX {
            entries.push(Entry {
                source: text("Source"),
                detail_type: text("DetailType"),
                detail: text("Detail"),
                bus: text("EventBusName"),
                time: entry["Time"].clone(),
            });
        }
        Ok(())
    }

    fn check(&self, entry: &Value) -> Result<(), (String, String)> {
        if let Some(code) = lock(&self.entry_errors).pop_front().flatten() {
            return Err((code, "on demand".into()));
        }
        for name in ["Source", "DetailType", "Detail"] {
            if entry[name].as_str().is_none_or(str::is_empty) {
                return Err((
                    "InvalidArgument".into(),
                    format!("Parameter {name} is not valid. Reason: {name} is a required argument."),
                ));
            }
        }
        let detail = entry["Detail"].as_str().unwrap_or_default();
        match serde_json::from_str::<Value>(detail) {
            Ok(Value::Object(_)) => Ok(()),
            _ => Err(("MalformedDetail".into(), "Detail is malformed.".into())),
        }
    }

    fn list_rules(&self, request: &Value) -> Result<Value, (&'static str, String)> {
        let bus = bus_of(request["EventBusName"].as_str().unwrap_or_default());
        let prefix = request["NamePrefix"].as_str().unwrap_or_default();
        let rules = lock(&self.rules);
        let chosen: Vec<Value> = rules
            .iter()
            .filter(|rule| bus_of(&rule.bus) == bus && rule.name.starts_with(prefix))
            .map(describe)
            .collect();
        let from = match request["NextToken"].as_str() {
            None => 0,
            Some(token) => token
                .parse::<usize>()
                .map_err(|_| ("ValidationException", format!("unknown token `{token}`")))?,
        };
        let limit =
            request["Limit"].as_u64().map_or(self.rules_page, |limit| self.rules_page.min(limit as usize));
        let end = (from + limit).min(chosen.len());
        let page = chosen.get(from..end).unwrap_or_default();
        let mut result = json!({"Rules": page});
        if end < chosen.len() {
            result["NextToken"] = json!(end.to_string());
        }
        Ok(result)
    }

    fn describe_rule(&self, request: &Value) -> Result<Value, (&'static str, String)> {
        let name = request["Name"].as_str().unwrap_or_default();
        let bus = bus_of(request["EventBusName"].as_str().unwrap_or_default());
        let rules = lock(&self.rules);
        rules.iter().find(|rule| rule.name == name && bus_of(&rule.bus) == bus).map(describe).ok_or_else(
            || ("ResourceNotFoundException", format!("Rule {name} does not exist on EventBus {bus}.")),
        )
    }
}

/// The name of a bus that is given by ARN, by name, or not at all.
fn bus_of(bus: &str) -> &str {
    match bus.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => "default",
    }
}

fn describe(rule: &Rule) -> Value {
    let bus = bus_of(&rule.bus);
    let path = if bus == "default" { rule.name.clone() } else { format!("{bus}/{}", rule.name) };
    json!({
        "Name": rule.name,
        "Arn": EventBus::rule_arn(&path),
        "EventPattern": rule.pattern,
        "State": if rule.enabled { "ENABLED" } else { "DISABLED" },
        "EventBusName": bus,
    })
}

/// The size of an entry by AWS's formula (EventBridge user guide, "Calculating PutEvents event
/// entry size").
fn entry_bytes(entry: &Value) -> usize {
    let text = |name: &str| entry[name].as_str().map_or(0, str::len);
    let time = if entry["Time"].is_null() { 0 } else { 14 };
    let resources = entry["Resources"]
        .as_array()
        .map_or(0, |resources| resources.iter().filter_map(Value::as_str).map(str::len).sum());
    time + text("Source") + text("DetailType") + text("Detail") + resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_entry_follows_the_user_guide() {
        let entry = json!({"Time": 1, "Source": "ab", "DetailType": "cde", "Detail": "{\"ä\":1}", "Resources": ["x", "yz"]});
        assert_eq!(entry_bytes(&entry), 14 + 2 + 3 + 8 + 3);
    }

    #[test]
    fn buses_are_named_three_ways() {
        for (bus, expected) in
            [("", "default"), ("own", "own"), ("arn:aws:events:eu-central-1:1:event-bus/own", "own")]
        {
            assert_eq!(bus_of(bus), expected);
        }
    }
}
