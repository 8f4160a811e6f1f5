//! A CloudEvents target over HTTP/1.1 and HTTP/2 (with prior knowledge, or TLS) that verifies
//! accepted events and misbehaves on demand.
//!
//! ```text
//! request ──► behaviour: refusal by text, else script, else failing share, else steady
//!                │ taken?
//!                ├── yes: verify, count ──► answer (or lose the answer)
//!                └── no: ──────────────────► answer, hang or reset
//! ```
//!
//! An event counts as taken if the answer is 2xx, or if the answer is lost after the work was done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response};
use memchr::memmem;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cert::{Certificate, Tls};
pub use crate::delay::Delay;
use crate::limits::RECORDS_MAX;
use crate::net::{Body, Connection, Dropped, Handler, Hosted, StartError, answer, hang, read_body};
use crate::sync::lock;
use crate::vcenter::wall_us;
use crate::verify::Verifier;

/// The kind of answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This HTTP status.
    Status(u16),
    /// No answer, ever; the request is not taken.
    Hang,
    /// The connection is reset before the work; the request is not taken.
    Reset,
    /// The connection is reset after the work: the request is taken, but the sender cannot know.
    LoseAnswer,
    /// Status 200 is announced, half of a body follows, then the connection ends: the request is
    /// taken.
    HalfBody,
}

/// The behaviour of a request: its answer and the time until then.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    pub reply: Reply,
    /// Time before the answer.
    pub latency: Delay,
    /// `Retry-After`, as seconds or as an HTTP date.
    pub retry_after: Option<String>,
}

impl Default for Behavior {
    fn default() -> Behavior {
        Behavior { reply: Reply::Status(202), latency: Delay::default(), retry_after: None }
    }
}

impl Behavior {
    pub fn status(status: u16) -> Behavior {
        Behavior { reply: Reply::Status(status), ..Behavior::default() }
    }

    pub fn reply(reply: Reply) -> Behavior {
        Behavior { reply, ..Behavior::default() }
    }

    pub fn latency(latency: impl Into<Delay>) -> Behavior {
        Behavior { latency: latency.into(), ..Behavior::default() }
    }

    /// Returns true if the request is taken, even if the sender does not get the answer.
    pub(crate) fn takes(&self) -> bool {
        match self.reply {
            Reply::Status(status) => (200..300).contains(&status),
            Reply::LoseAnswer | Reply::HalfBody => true,
            Reply::Hang | Reply::Reset => false,
        }
    }

    /// Waits for the delay that was drawn for this request (see [`BehaviorPlan::take`]).
    pub(crate) async fn wait(&self) {
        if let Delay::Fixed(latency) = self.latency
            && !latency.is_zero()
        {
            tokio::time::sleep(latency).await;
        }
    }

    /// Waits for the delay and gives the answer. `body` is used if the answer is a status.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        body: Body,
    ) -> Result<Response<Body>, Dropped> {
        self.wait().await;
        match self.reply {
            Reply::Hang => match hang().await {},
            Reply::Reset | Reply::LoseAnswer => Err(connection.reset()),
            Reply::HalfBody => {
                Ok(answer(200, "text/plain", Body::cut(Bytes::from_static(b"this answer is never whole"))))
            }
            Reply::Status(status) => {
                let mut response = answer(status, "text/plain", body);
                if let Some(after) =
                    self.retry_after.as_ref().and_then(|after| HeaderValue::from_str(after).ok())
                {
                    response.headers_mut().insert(RETRY_AFTER, after);
                }
                Ok(response)
            }
        }
    }
}

/// The behaviours of the requests to come: first the script, then a share that fails, then the
/// steady one.
pub(crate) struct BehaviorPlan {
    steady: Behavior,
    script: VecDeque<(u64, Behavior)>,
    failing: Option<(f64, Behavior)>,
    turn: u64,
    /// Seeded, so that every run draws the same delays.
    random: StdRng,
}

impl Default for BehaviorPlan {
    fn default() -> BehaviorPlan {
        BehaviorPlan {
            steady: Behavior::default(),
            script: VecDeque::new(),
            failing: None,
            turn: 0,
            random: StdRng::seed_from_u64(1),
        }
    }
}

impl BehaviorPlan {
    pub fn set(&mut self, behavior: Behavior) {
        self.steady = behavior;
    }

    pub fn next(&mut self, times: u64, behavior: Behavior) {
        if times > 0 {
            self.script.push_back((times, behavior));
        }
    }

    pub fn fail(&mut self, share: f64, behavior: Behavior) {
        self.failing = (share > 0.0).then_some((share, behavior));
    }

    /// The behaviour of the next request, with its delay drawn.
    pub fn take(&mut self) -> Behavior {
        let mut behavior = self.choose();
        behavior.latency = Delay::Fixed(behavior.latency.draw(&mut self.random));
        behavior
    }

    fn choose(&mut self) -> Behavior {
        if let Some((left, behavior)) = self.script.front_mut() {
            let behavior = behavior.clone();
            *left -= 1;
            if *left == 0 {
                self.script.pop_front();
            }
            return behavior;
        }
        if let Some((share, behavior)) = &self.failing {
            self.turn += 1;
            // Evenly spread, not by chance: request n fails if n * share passes a whole number.
            let before = ((self.turn - 1) as f64 * share).floor();
            if (self.turn as f64 * share).floor() > before {
                return behavior.clone();
            }
        }
        self.steady.clone()
    }
}

/// A request that was kept for a test.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// True if the request succeeded, even if its sender did not get the answer.
    pub taken: bool,
}

/// A target to start. `..SinkOptions::default()` gives one over HTTP on a free port that accepts
/// everything.
#[derive(Clone, Debug, Default)]
pub struct SinkOptions {
    /// 0 for a free port.
    pub port: u16,
    pub tls: Option<Certificate>,
    /// Keeps the first 10,000 requests.
    pub keep: bool,
}

struct SinkState {
    verifier: Arc<Verifier>,
    behaviors: Mutex<BehaviorPlan>,
    /// Answers to requests whose body contains a text; they take precedence over the other
    /// behaviours.
    refusals: Mutex<Vec<(String, Behavior)>>,
    /// Set if there is no script, failing share or refusal, so that the hot path takes no lock.
    plain: AtomicBool,
    keep: bool,
    records: Mutex<Vec<Received>>,
    requests: AtomicU64,
    taken: AtomicU64,
    in_flight: AtomicU64,
    in_flight_peak: AtomicU64,
}

/// A handle on a running target; clones share it. Dropping the last one stops the target.
#[derive(Clone)]
pub struct Sink {
    hosted: Arc<Hosted<SinkState>>,
}

impl Sink {
    /// # Errors
    /// The port is taken.
    pub async fn start(options: SinkOptions, verifier: Arc<Verifier>) -> Result<Sink, StartError> {
        let state = Arc::new(SinkState {
            verifier,
            behaviors: Mutex::default(),
            refusals: Mutex::default(),
            plain: AtomicBool::new(true),
            keep: options.keep,
            records: Mutex::default(),
            requests: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_peak: AtomicU64::new(0),
        });
        let tls = options.tls.map(|certificate| Tls::new(certificate, true)).transpose()?;
        Ok(Sink { hosted: Arc::new(Hosted::start(options.port, tls, state).await?) })
    }

    /// `http://127.0.0.1:PORT/`
    pub fn url(&self) -> String {
        format!("{}/", self.hosted.origin())
    }

    pub fn port(&self) -> u16 {
        self.hosted.port()
    }

    /// The TLS settings with the CA that a client must trust, for HTTPS.
    pub fn tls(&self) -> Option<Tls> {
        self.hosted.tls()
    }

    fn state(&self) -> &SinkState {
        &self.hosted.handler
    }

    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.state().verifier
    }

    /// Sets the behaviour of requests from now on, unless something else is scripted.
    pub fn set(&self, behavior: Behavior) {
        self.change_behaviors(|behaviors| behaviors.set(behavior));
    }

    /// Sets the behaviour of the next requests, after those scripted before.
    pub fn next(&self, times: u64, behavior: Behavior) {
        self.change_behaviors(|behaviors| behaviors.next(times, behavior));
    }

    /// Applies a behaviour to this share of requests (0 to 1), evenly spread; 0 ends it.
    pub fn fail(&self, share: f64, behavior: Behavior) {
        self.change_behaviors(|behaviors| behaviors.fail(share, behavior));
    }

    /// Sets the behaviour of every request whose body contains `text`: one entity's events, for
    /// example.
    pub fn refuse(&self, text: &str, behavior: Behavior) {
        lock(&self.state().refusals).push((text.to_owned(), behavior));
        self.change_behaviors(|_| ());
    }

    /// Ends all refusals by text.
    pub fn refuse_nothing(&self) {
        lock(&self.state().refusals).clear();
        self.change_behaviors(|_| ());
    }

    /// Changes the behaviours, and works out if the hot path may skip them.
    fn change_behaviors(&self, change: impl FnOnce(&mut BehaviorPlan)) {
        let mut behaviors = lock(&self.state().behaviors);
        change(&mut behaviors);
        let plain = behaviors.script.is_empty()
            && behaviors.failing.is_none()
            && behaviors.steady == Behavior::default()
            && lock(&self.state().refusals).is_empty();
        self.state().plain.store(plain, Ordering::Release);
    }

    /// Closes the port: connections are refused until [`Sink::resume`].
    pub async fn outage(&self) {
        self.hosted.stop().await;
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub async fn resume(&self) -> Result<(), StartError> {
        self.hosted.restart().await
    }

    /// Number of requests so far, whatever their answer.
    pub fn requests(&self) -> u64 {
        self.state().requests.load(Ordering::Relaxed)
    }

    /// Number of requests that were taken.
    pub fn taken(&self) -> u64 {
        self.state().taken.load(Ordering::Relaxed)
    }

    /// Largest number of requests that were open at once.
    pub fn in_flight_peak(&self) -> u64 {
        self.state().in_flight_peak.load(Ordering::Relaxed)
    }

    /// The requests that were kept, in the order of their arrival.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state().records).clone()
    }
}

/// Counts a request as open while this value lives, even if the connection dies.
pub(crate) struct InFlight<'a>(&'a AtomicU64);

impl<'a> InFlight<'a> {
    /// Counts a request as open, and keeps the peak.
    pub fn enter(open: &'a AtomicU64, peak: &AtomicU64) -> InFlight<'a> {
        peak.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        InFlight(open)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for SinkState {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (parts, body) = request.into_parts();
        let _open = InFlight::enter(&self.in_flight, &self.in_flight_peak);
        let body = read_body(body).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let behavior = self.behavior(&body);
        let taken = behavior.takes();
        if taken {
            self.taken.fetch_add(1, Ordering::Relaxed);
            self.verify(&parts.headers, &body);
        }
        if self.keep {
            let mut records = lock(&self.records);
            if records.len() < RECORDS_MAX {
                let path = parts.uri.path().to_owned();
                records.push(Received { path, headers: parts.headers, body, taken });
            }
        }
        behavior.answer(&connection, Body::Full(None)).await
    }
}

impl SinkState {
    /// The behaviour of this request.
    fn behavior(&self, body: &[u8]) -> Behavior {
        if self.plain.load(Ordering::Acquire) {
            return Behavior::default();
        }
        let refuses = |(text, _): &&(String, Behavior)| memmem::find(body, text.as_bytes()).is_some();
        let refused = lock(&self.refusals).iter().find(refuses).map(|(_, behavior)| behavior.clone());
        refused.unwrap_or_else(|| lock(&self.behaviors).take())
    }

    /// Verifies a binary event by its headers, and any other body as structured.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) {
        let now_us = wall_us();
        let structured = headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/cloudevents"));
        if !structured && headers.contains_key("ce-id") && headers.contains_key("ce-source") {
            self.verifier.binary(headers, body, now_us);
        } else {
            self.verifier.body(body, now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_come_first_and_failures_are_spread() {
        let mut behaviors = BehaviorPlan::default();
        behaviors.set(Behavior::status(200));
        behaviors.next(2, Behavior::status(503));
        behaviors.next(1, Behavior::reply(Reply::Hang));
        behaviors.fail(0.25, Behavior::status(500));
        let replies: Vec<Reply> = (0..11).map(|_| behaviors.take().reply).collect();
        let status = Reply::Status;
        let mut expected = vec![status(503), status(503), Reply::Hang];
        expected.extend([200, 200, 200, 500, 200, 200, 200, 500].map(status));
        assert_eq!(replies, expected);
    }
}
