//! The webhook source under every fault of its clients, of its target and of the store.
//!
//! In each row a healthy client sends events beside the fault. All of its events are accepted and
//! delivered, each once; a request with the fault is accepted as a whole or not at all.

use std::collections::BTreeSet;

use crate::common::hooks::{Hooks, event};
use crate::common::{seed, until};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const EVENTS: u32 = 30;

/// A request of one event, cut in two.
fn request(id: &str) -> (String, String) {
    let body = event(id).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    (head, rest.to_owned())
}

async fn connect(hooks: &Hooks) -> TcpStream {
    TcpStream::connect(hooks.address).await.unwrap()
}

/// Sends the healthy client's events, one a request.
async fn healthy(hooks: &Hooks, ids: std::ops::Range<u32>) {
    for id in ids {
        assert_eq!(hooks.post([id]).await.status(), 202, "{id}");
    }
}

/// Waits until the healthy client's events and `more` are delivered, and asserts that nothing else
/// is.
async fn finish(mut hooks: Hooks, more: &[&str]) {
    let expected: BTreeSet<String> =
        (0..EVENTS).map(|id| id.to_string()).chain(more.iter().map(|id| (*id).to_owned())).collect();
    until("all are delivered", || hooks.receiver.ids().len() >= expected.len()).await;
    assert!(hooks.stop().await, "all are settled");
    let ids = hooks.receiver.ids();
    assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(ids.len(), expected.len(), "none came twice: {ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_half_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::start(dir.path(), |_| ()).await;
    for id in ["a", "b", "c"] {
        let mut client = connect(&hooks).await;
        client.write_all(request(id).0.as_bytes()).await.unwrap();
        drop(client);
    }
    healthy(&hooks, 0..EVENTS).await;
    finish(hooks, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_clients_that_hang() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::start(dir.path(), |webhook| webhook.connections_max = 20).await;
    // More than there are connections: in the head, in the body, and before the first byte.
    let mut hanging = Vec::new();
    for n in 0..45 {
        let mut client = connect(&hooks).await;
        match n % 3 {
            0 => client.write_all(request("x").0.as_bytes()).await.unwrap(),
            1 => client.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap(),
            _ => {}
        }
        hanging.push(client);
    }
    healthy(&hooks, 0..EVENTS).await;
    drop(hanging);
    finish(hooks, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_lost_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::start(dir.path(), |_| ()).await;
    healthy(&hooks, 0..EVENTS / 2).await;
    // The client is gone before the answer, and repeats the request until it sees one.
    for _ in 0..5 {
        let mut client = connect(&hooks).await;
        let (head, rest) = request("lost");
        client.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        // Closes it with a reset.
        client.set_zero_linger().unwrap();
    }
    let mut client = connect(&hooks).await;
    let (head, rest) = request("lost");
    client.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    healthy(&hooks, EVENTS / 2..EVENTS).await;
    finish(hooks, &["lost"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_garbage_instead_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::start(dir.path(), |_| ()).await;
    let mut random = seed::random();
    for _ in 0..20 {
        let mut client = connect(&hooks).await;
        let garbage: Vec<u8> = (0..random.random_range(1..5_000)).map(|_| random.random()).collect();
        // The router may close the connection at any byte.
        let _ = client.write_all(&garbage).await;
    }
    healthy(&hooks, 0..EVENTS).await;
    finish(hooks, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_target_refuses_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |_| ()).await;
    for status in [503, 500, 404, 302] {
        hooks.receiver.answer(status);
        let first = hooks.metric("event_router_source_requests_total", Some("accepted")) as u32;
        healthy(&hooks, first..(first + EVENTS / 4).min(EVENTS)).await;
    }
    assert!(hooks.receiver.ids().is_empty());
    let sent = hooks.metric("event_router_source_requests_total", Some("accepted")) as u32;
    healthy(&hooks, sent..EVENTS).await;
    // A restart does not lose what was accepted.
    hooks.restart().await;
    hooks.receiver.answer(200);
    finish(hooks, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_address_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |_| ()).await;
    hooks.stop().await;
    let taken = tokio::net::TcpListener::bind(hooks.address).await.unwrap();
    let failed = |reason: &str| reason.contains("cannot listen") && reason.contains("`bindAddress`");
    hooks.start_without_waiting();
    until("the source says so", || hooks.failure().is_some_and(|reason| failed(&reason))).await;
    drop(taken);
    until("it listens in the end", || hooks.failure().is_none() && hooks.is_up()).await;
    healthy(&hooks, 0..EVENTS).await;
    finish(hooks, &[]).await;
}
