//! Tests of the memory that requests take.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Bytes;
use futures_util::{poll, stream};
use tokio::sync::mpsc;

use super::*;
use crate::config::Secret;
use crate::config::declare::defaults;
use crate::event::testing::source;
use crate::limits::{WEBHOOK_MEMORY_SHARE, WEBHOOK_REQUEST_SHARE};
use crate::memory::Budget;
use crate::net::settings::Auth;
use crate::queue;
use crate::source::ClockOffsets;
use crate::source::push::PushedRequest;
use crate::source::webhook::settings::Signature;

const MIB: usize = 1 << 20;
/// The default of `memory.max` for events.
const MEMORY: usize = 24 * MIB;

/// A server without a listener, with its queue of requests and the global budget.
struct World {
    server: Arc<Server>,
    queued: mpsc::Receiver<PushedRequest>,
    budget: Budget,
    /// Keep the router running.
    _stop: watch::Sender<bool>,
}

impl World {
    fn new(signature: Option<Signature>) -> Self {
        let budget = Budget::new(MEMORY);
        let (begins, _) = mpsc::channel(1);
        let (pages, _) = queue::bounded(1);
        let intake = Intake::new(0, budget.clone(), begins, pages, Arc::new(ClockOffsets::default()));
        let (push, queued) = PushHandle::testing(source());
        let (stop, stopped) = watch::channel(false);
        let settings = Webhook { signature, ..Webhook::new("127.0.0.1:0") };
        let signatures = settings.signature.as_ref().map(|of| Signatures::new("signature", of).unwrap());
        let server = Server {
            name: "hooks".into(),
            settings,
            guard: Guard::new("auth", &Auth::None).unwrap(),
            signatures,
            mapper: None,
            bucket: None,
            status: Arc::default(),
            room: RequestRoom::new(MEMORY),
            intake,
            push,
            stop: stopped,
            refused_lines: Mutex::default(),
        };
        World { server: Arc::new(server), queued, budget, _stop: stop }
    }

    /// A request whose body arrives through the sender.
    fn request(&self, length: Option<usize>) -> (mpsc::UnboundedSender<Bytes>, Answering) {
        let (sender, mut chunks) = mpsc::unbounded_channel::<Bytes>();
        let chunks = stream::poll_fn(move |context| {
            chunks.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>))
        });
        let mut request = Request::post("/").header("content-type", "application/cloudevents+json");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        if self.server.settings.signature.is_some() {
            request = request.header("x-hub-signature-256", format!("sha256={}", "0".repeat(64)));
        }
        let request = request.body(Body::from_stream(chunks)).unwrap();
        (sender, Box::pin(answer(State(Arc::clone(&self.server)), request)))
    }

    /// Answers the next request in the queue.
    fn store(&mut self) {
        let request = self.queued.try_recv().expect("a request waits to be stored");
        request.answer.send(Ok(())).expect("its client waits");
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn event(data_bytes: usize) -> Bytes {
    let data = "x".repeat(data_bytes);
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"{data}"}}"#).into()
}

#[tokio::test(start_paused = true)]
async fn slow_senders_keep_nobody_out() {
    let mut world = World::new(None);
    let mut slow = Vec::new();
    for length in [Some(MIB), None].repeat(20) {
        let (sender, mut answering) = world.request(length);
        sender.send(Bytes::from_static(b"{")).unwrap();
        assert!(poll!(&mut answering).is_pending());
        slow.push((sender, answering));
    }
    assert!(world.server.room.used() < 100 << 10, "{} bytes for 40 bytes", world.server.room.used());
    let (sender, mut answering) = world.request(None);
    sender.send(event(100 << 10)).unwrap();
    drop(sender);
    assert!(poll!(&mut answering).is_pending(), "it is on its way to the disk");
    world.store();
    assert_eq!(answering.await.status(), StatusCode::ACCEPTED);
    drop(slow);
    assert_eq!((world.server.room.used(), world.budget.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_request_takes_no_more_than_its_share_while_it_arrives() {
    let world = World::new(None);
    let (large, mut answering) = world.request(Some(MIB));
    large.send(vec![b' '; 900 << 10].into()).unwrap();
    assert!(poll!(&mut answering).is_pending());
    assert!(world.server.room.used() <= MEMORY / WEBHOOK_MEMORY_SHARE / WEBHOOK_REQUEST_SHARE);
    // Another large one waits for its turn, but not for long.
    let (second, refused) = world.request(Some(MIB));
    second.send(vec![b' '; 900 << 10].into()).unwrap();
    assert_eq!(refused.await.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(answering);
    let (second, mut answering) = world.request(Some(MIB));
    second.send(vec![b' '; 900 << 10].into()).unwrap();
    assert!(poll!(&mut answering).is_pending());
    drop(second);
    assert_eq!(answering.await.status(), StatusCode::BAD_REQUEST, "its turn has come");
    assert_eq!(world.server.room.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn queued_events_keep_their_share_when_the_client_goes() {
    let mut world = World::new(None);
    let (sender, mut answering) = world.request(None);
    sender.send(event(100 << 10)).unwrap();
    drop(sender);
    assert!(poll!(&mut answering).is_pending());
    drop(answering);
    let held = [world.server.room.used(), world.budget.used()];
    assert!(held.iter().all(|bytes| (300 << 10..800 << 10).contains(bytes)), "{held:?}");
    drop(world.queued.try_recv().expect("it is made durable all the same"));
    assert_eq!((world.server.room.used(), world.budget.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_the_right_signature_takes_nothing_of_the_global_budget() {
    let world = World::new(Some(Signature { secret: Secret::inline("s"), ..defaults() }));
    let (sender, mut answering) = world.request(None);
    for _ in 0..9 {
        sender.send(vec![b' '; 100 << 10].into()).unwrap();
        assert!(poll!(&mut answering).is_pending());
        assert_eq!(world.budget.used(), 0);
    }
    drop(sender);
    assert_eq!(answering.await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((world.server.room.used(), world.budget.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_request_is_charged() {
    let world = World::new(None);
    let (_sender, mut answering) = world.request(None);
    let mut request = Request::post("/").header("ce-specversion", "1.0");
    for n in 0..50 {
        request = request.header(format!("ce-x{n}"), "x".repeat(600));
    }
    let request = request.body(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())).unwrap();
    let mut binary: Answering = Box::pin(answer(State(Arc::clone(&world.server)), request));
    assert!(poll!(&mut answering).is_pending() && poll!(&mut binary).is_pending());
    assert!(world.server.room.used() >= 30 << 10, "{}", world.server.room.used());
}

/// Short events take more memory than their text.
#[test]
fn the_charge_of_a_body_covers_its_events() {
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    for events in [1, 30, 1_000] {
        let body = format!("[{}]", vec![event; events].join(","));
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        event::batched(body.as_bytes(), 1_000, &mut batch).unwrap();
        let charged = RequestForm::Batched.memory_bytes(body.len(), 1_000);
        assert!(batch.size() + body.len() <= charged + 1_024, "{events}: {} of {charged}", batch.size());
    }
}
