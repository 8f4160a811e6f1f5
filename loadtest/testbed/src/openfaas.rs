//! The HTTP API of the OpenFaaS gateway, with functions that verify the events they receive. Tests
//! deploy and remove functions and make them fail.
//!
//! - `GET /system/functions[?namespace=NS]`, `GET /system/namespaces`: behind basic authentication,
//!   as in the gateway.
//! - `POST /function/NAME[.NS][/PATH]`: runs the function and returns its answer; 404 if there is
//!   none.
//! - `POST /async-function/NAME[.NS]`: answers 202 and `X-Call-Id`. The function runs later, in the
//!   order of arrival per worker, and its result goes to `X-Callback-Url`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cert::{Certificate, Tls};
use crate::limits::{ASYNC_QUEUE_MAX, RECORDS_MAX};
use crate::net::{Body, Connection, Dropped, Handler, Hosted, StartError, answer, read_body};
use crate::sink::{Behavior, BehaviorPlan, InFlight, Received};
use crate::sync::lock;
use crate::vcenter::wall_us;
use crate::verify::Verifier;

/// The namespace of functions without one.
pub const DEFAULT_NAMESPACE: &str = "openfaas-fn";
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");

/// A function to deploy.
#[derive(Clone, Default)]
pub struct Function {
    pub name: String,
    /// Empty for [`DEFAULT_NAMESPACE`].
    pub namespace: String,
    /// The router reads the annotation `topic`.
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Verifies the events that the function receives.
    pub verifier: Option<Arc<Verifier>>,
}

impl Function {
    /// A function that subscribes to these topics (a comma list).
    pub fn new(name: &str, topics: &str) -> Function {
        let annotations = BTreeMap::from([("topic".to_owned(), topics.to_owned())]);
        Function { name: name.to_owned(), annotations, ..Function::default() }
    }

    fn full_name(&self) -> String {
        let namespace = if self.namespace.is_empty() { DEFAULT_NAMESPACE } else { &self.namespace };
        format!("{}.{namespace}", self.name)
    }
}

/// A gateway to start. `..GatewayOptions::default()` gives one over HTTP on a free port, with user
/// `admin` and password `secret`.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    pub port: u16,
    pub tls: Option<Certificate>,
    /// User and password of `/system`; `None` leaves it open.
    pub auth: Option<(String, String)>,
    /// Functions that run at once for `/async-function`.
    pub workers: usize,
}

impl Default for GatewayOptions {
    fn default() -> GatewayOptions {
        GatewayOptions { port: 0, tls: None, auth: Some(("admin".into(), "secret".into())), workers: 1 }
    }
}

struct DeployedFunction {
    function: Function,
    behaviors: Mutex<BehaviorPlan>,
    records: Mutex<Vec<Received>>,
    invocations: AtomicU64,
    in_flight: AtomicU64,
    in_flight_peak: AtomicU64,
}

impl DeployedFunction {
    /// Runs the function: records and verifies the request. Returns the behaviour of the answer.
    fn run(&self, path: &str, headers: &HeaderMap, body: &Bytes) -> Behavior {
        let behavior = lock(&self.behaviors).take();
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let taken = behavior.takes();
        if taken && let Some(verifier) = &self.function.verifier {
            verifier.body(body, wall_us());
        }
        let mut records = lock(&self.records);
        if records.len() < RECORDS_MAX {
            let (path, headers, body) = (path.to_owned(), headers.clone(), body.clone());
            records.push(Received { path, headers, body, taken });
        }
        behavior
    }
}

struct AsyncCall {
    function: Arc<DeployedFunction>,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

struct GatewayState {
    auth: Option<HeaderValue>,
    functions: Mutex<BTreeMap<String, Arc<DeployedFunction>>>,
    /// Behaviour of `/system`; a status other than 2xx replaces the answer.
    system: Mutex<BehaviorPlan>,
    system_calls: AtomicU64,
    queue: mpsc::Sender<AsyncCall>,
}

/// A handle on a running gateway; clones share it.
#[derive(Clone)]
pub struct Gateway {
    hosted: Arc<Hosted<GatewayState>>,
    /// Ends the async functions with the last handle.
    _workers: Arc<JoinSet<()>>,
}

impl Gateway {
    /// # Errors
    /// The port is taken.
    pub async fn start(options: GatewayOptions) -> Result<Gateway, StartError> {
        let (queue, jobs) = mpsc::channel(ASYNC_QUEUE_MAX);
        let auth = options.auth.and_then(|(user, password)| {
            let credentials = base64(format!("{user}:{password}").as_bytes());
            HeaderValue::from_str(&format!("Basic {credentials}")).ok()
        });
        let state = GatewayState {
            auth,
            functions: Mutex::default(),
            system: Mutex::default(),
            system_calls: AtomicU64::new(0),
            queue,
        };
        let tls = options.tls.map(|certificate| Tls::new(certificate, true)).transpose()?;
        let hosted = Hosted::start(options.port, tls, Arc::new(state)).await?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let jobs = Arc::new(tokio::sync::Mutex::new(jobs));
        let mut workers = JoinSet::new();
        for _ in 0..options.workers.max(1) {
            workers.spawn(run_async_calls(Arc::clone(&jobs), client.clone()));
        }
        Ok(Gateway { hosted: Arc::new(hosted), _workers: Arc::new(workers) })
    }

    /// `http://127.0.0.1:PORT`, as a processor's address.
    pub fn url(&self) -> String {
        self.hosted.origin()
    }

    pub fn port(&self) -> u16 {
        self.hosted.port()
    }

    pub fn tls(&self) -> Option<Tls> {
        self.hosted.tls()
    }

    fn state(&self) -> &GatewayState {
        &self.hosted.handler
    }

    /// Deploys or replaces a function.
    pub fn deploy(&self, function: Function) {
        let deployed = DeployedFunction {
            behaviors: Mutex::default(),
            records: Mutex::default(),
            invocations: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_peak: AtomicU64::new(0),
            function,
        };
        lock(&deployed.behaviors).set(Behavior::status(200));
        lock(&self.state().functions).insert(deployed.function.full_name(), Arc::new(deployed));
    }

    /// Removes a function. Calls in flight end as before.
    pub fn remove(&self, name: &str) {
        lock(&self.state().functions).remove(&full_name(name));
    }

    /// Sets the behaviour of a function from now on. Does nothing if there is no such function.
    pub fn set(&self, name: &str, behavior: Behavior) {
        self.with(name, |function| lock(&function.behaviors).set(behavior));
    }

    /// Sets the behaviour of a function's next calls.
    pub fn next(&self, name: &str, times: u64, behavior: Behavior) {
        self.with(name, |function| lock(&function.behaviors).next(times, behavior));
    }

    /// Applies a behaviour to this share of a function's calls.
    pub fn fail(&self, name: &str, share: f64, behavior: Behavior) {
        self.with(name, |function| lock(&function.behaviors).fail(share, behavior));
    }

    /// Sets the behaviour of the next calls to `/system`, e.g. `Behavior::status(500)`.
    pub fn next_system(&self, times: u64, behavior: Behavior) {
        lock(&self.state().system).next(times, behavior);
    }

    /// Requests to a function, in the order of their arrival (the first 10,000).
    pub fn received(&self, name: &str) -> Vec<Received> {
        self.with(name, |function| lock(&function.records).clone()).unwrap_or_default()
    }

    /// Number of times that a function ran.
    pub fn invocations(&self, name: &str) -> u64 {
        self.with(name, |function| function.invocations.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Most calls of a function that were open at once.
    pub fn in_flight_peak(&self, name: &str) -> u64 {
        self.with(name, |function| function.in_flight_peak.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Number of calls to `/system` so far.
    pub fn system_calls(&self) -> u64 {
        self.state().system_calls.load(Ordering::Relaxed)
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&DeployedFunction) -> T) -> Option<T> {
        let function = self.state().find(name)?;
        Some(act(&function))
    }

    /// Closes the port: connections are refused until [`Gateway::resume`].
    pub async fn outage(&self) {
        self.hosted.stop().await;
    }

    /// # Errors
    /// The port was taken meanwhile.
    pub async fn resume(&self) -> Result<(), StartError> {
        self.hosted.restart().await
    }
}

fn full_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.{DEFAULT_NAMESPACE}") }
}

impl Handler for GatewayState {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (parts, body) = request.into_parts();
        let body = read_body(body).await?;
        let path = parts.uri.path();
        if path == "/healthz" {
            return Ok(answer(200, "text/plain", Body::full("OK")));
        }
        if path.starts_with("/system/") {
            return self.system(&parts.method, path, parts.uri.query(), &parts.headers, &connection).await;
        }
        // A function's path is `/function/NAME/PATH`: only the name selects the function.
        let (asynchronous, name) =
            match (path.strip_prefix("/function/"), path.strip_prefix("/async-function/")) {
                (Some(name), _) => (false, name),
                (_, Some(name)) => (true, name),
                _ => return Ok(answer(404, "text/plain", Body::full("404 page not found"))),
            };
        let name = name.split('/').next().unwrap_or_default();
        let Some(function) = self.find(name) else {
            let message = format!("error finding function {}: not found", full_name(name));
            return Ok(answer(404, "text/plain", Body::full(message)));
        };
        // A synchronous call runs here; an asynchronous one joins the queue and is answered at
        // once.
        let call_id = Uuid::new_v4().to_string();
        let mut response = if asynchronous {
            self.enqueue(
                AsyncCall { function, path: path.to_owned(), headers: parts.headers, body },
                &call_id,
            )
        } else {
            let _open = InFlight::enter(&function.in_flight, &function.in_flight_peak);
            let behavior = function.run(path, &parts.headers, &body);
            behavior.answer(&connection, Body::full("ok")).await?
        };
        if let Ok(call_id) = HeaderValue::from_str(&call_id) {
            response.headers_mut().insert(CALL_ID, call_id);
        }
        Ok(response)
    }
}

impl GatewayState {
    fn find(&self, name: &str) -> Option<Arc<DeployedFunction>> {
        lock(&self.functions).get(&full_name(name)).cloned()
    }

    fn enqueue(&self, mut job: AsyncCall, call_id: &str) -> Response<Body> {
        if let Ok(call_id) = HeaderValue::from_str(call_id) {
            job.headers.insert(CALL_ID, call_id);
        }
        match self.queue.try_send(job) {
            Ok(()) => answer(202, "text/plain", Body::Full(None)),
            Err(_) => answer(500, "text/plain", Body::full("the queue is full")),
        }
    }

    async fn system(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        connection: &Connection,
    ) -> Result<Response<Body>, Dropped> {
        self.system_calls.fetch_add(1, Ordering::Relaxed);
        // The credentials come first, as in the gateway.
        if self.auth.is_some() && headers.get(AUTHORIZATION) != self.auth.as_ref() {
            let mut refused = answer(401, "text/plain", Body::full("invalid credentials"));
            let realm = HeaderValue::from_static("Basic realm=\"Restricted\"");
            refused.headers_mut().insert(WWW_AUTHENTICATE, realm);
            return Ok(refused);
        }
        let behavior = lock(&self.system).take();
        if !behavior.takes() {
            return behavior.answer(connection, Body::full("on demand")).await;
        }
        behavior.wait().await;
        let body = match (method, path) {
            (&Method::GET, "/system/functions") => {
                let namespace = query
                    .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("namespace=")))
                    .filter(|namespace| !namespace.is_empty())
                    .unwrap_or(DEFAULT_NAMESPACE);
                self.list(namespace)
            }
            (&Method::GET, "/system/namespaces") => self.namespaces(),
            _ => return Ok(answer(404, "text/plain", Body::full("404 page not found"))),
        };
        Ok(answer(200, "application/json", Body::full(body.to_string())))
    }

    /// The functions of a namespace, in the gateway's JSON.
    fn list(&self, namespace: &str) -> Value {
        let functions = lock(&self.functions);
        let suffix = format!(".{namespace}");
        functions
            .iter()
            .filter(|(name, _)| name.ends_with(&suffix))
            .map(|(_, deployed)| {
                let function = &deployed.function;
                json!({
                    "name": function.name,
                    "image": format!("example.com/{}:1", function.name),
                    "namespace": namespace,
                    "envProcess": "",
                    "labels": function.labels,
                    "annotations": function.annotations,
                    "replicas": 1,
                    "availableReplicas": 1,
                    "invocationCount": deployed.invocations.load(Ordering::Relaxed),
                })
            })
            .collect()
    }

    /// All namespaces that have a function, and the default one.
    fn namespaces(&self) -> Value {
        let functions = lock(&self.functions);
        let mut names: Vec<String> = functions
            .keys()
            .filter_map(|name| name.rsplit_once('.').map(|(_, namespace)| namespace.to_owned()))
            .chain([DEFAULT_NAMESPACE.to_owned()])
            .collect();
        names.sort();
        names.dedup();
        json!(names)
    }
}

/// A queue worker: runs asynchronous calls, one at a time, and reports to their callback URLs.
async fn run_async_calls(
    jobs: Arc<tokio::sync::Mutex<mpsc::Receiver<AsyncCall>>>,
    client: Client<HttpConnector, Full<Bytes>>,
) {
    loop {
        let job = jobs.lock().await.recv().await;
        let Some(job) = job else { return };
        let _open = InFlight::enter(&job.function.in_flight, &job.function.in_flight_peak);
        let behavior = job.function.run(&job.path, &job.headers, &job.body);
        let connection = Connection::default();
        let status = match behavior.answer(&connection, Body::full("ok")).await {
            Ok(response) => response.status().as_u16(),
            // The worker's connection to the function broke.
            Err(Dropped) => 500,
        };
        if let Some(callback) = job.headers.get("x-callback-url").and_then(|url| url.to_str().ok()) {
            let request = Request::post(callback)
                .header(
                    "x-call-id",
                    job.headers.get(CALL_ID).cloned().unwrap_or(HeaderValue::from_static("")),
                )
                .header("x-function-name", job.function.function.name.as_str())
                .header("x-function-status", status.to_string())
                .body(Full::new(Bytes::from_static(b"ok")));
            if let Ok(request) = request
                && let Err(error) = client.request(request).await
            {
                tracing::debug!(%error, callback, "callback failed");
            }
        }
    }
}

/// Base64 of RFC 4648, with padding. It is used for one header, which does not justify a
/// dependency.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * place) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
