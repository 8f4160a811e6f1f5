//! Faults of the server behind the processor `nats`, and of the router that publishes to it. After
//! all of them the stream has every event once, in the order of reading.

use std::time::Duration;

use serde_json::Value;
use testbed::vcenter::{Options, Pace};

use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::wait_until;
use crate::nats_support::{NatsServer, command, config};

const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: u64 = 600;

enum Fault {
    /// `kill -9` of the server: connections close, and answers are lost.
    ServerKilled,
    /// A server that hangs: answers time out.
    ServerHangs,
    /// `kill -9` of the router: it publishes again what it does not know to be stored.
    RouterKilled,
}

/// The keys in the stream, in order.
fn keys(stack: &Stack, server: &NatsServer) -> Vec<i32> {
    let key = |payload: &[u8]| {
        let data: Value = serde_json::from_slice(payload).unwrap();
        data["Key"].as_i64().unwrap() as i32
    };
    let messages = stack.runtime.block_on(server.messages("events"));
    messages.iter().map(|message| key(&message.payload)).collect()
}

/// Hangs the server until the router has taken notice.
fn hang(server: &mut NatsServer, router: &Router) {
    let retried = || router.metric("event_router_destination_retried_events_total", "log");
    let before = retried();
    server.signal("STOP");
    assert!(wait_until(LIMIT, || retried() > before), "no time-out: {}", router.stderr().text());
    server.signal("CONT");
}

#[test]
fn fault_killed_and_hanging_servers_lose_no_event_and_keep_the_order() {
    use Fault::{RouterKilled, ServerHangs, ServerKilled};
    let faults = [ServerKilled, ServerHangs, RouterKilled, ServerHangs, ServerKilled];
    let Some(mut server) = NatsServer::start("") else { return };
    let total = (faults.len() as u64 + 1) * EVENTS;
    let options = Options { pace: Pace::Rate(1_500.0), total: Some(total), ..Options::default() };
    let stack = Stack::new(options, [""; 0]);
    let config = config(&stack, &server);
    let file = stack.write(&config).display().to_string();
    let init = ["log", "init", "--max-bytes", "64MiB", "--replicas", "1", "--config", &file];
    let (code, told) = command(&init);
    assert_eq!(code, Some(0), "{told}");
    let mut router = stack.start(&config);
    let count = |server: &NatsServer| stack.runtime.block_on(server.count("events"));
    for (n, fault) in (0..).zip(faults) {
        let came = wait_until(LIMIT, || count(&server) >= n * EVENTS + EVENTS / 2);
        assert!(came, "{} events: {}", count(&server), router.stderr().text());
        match fault {
            ServerKilled => server.restart(),
            ServerHangs => hang(&mut server, &router),
            RouterKilled => router.restart(),
        }
    }
    let came = wait_until(LIMIT, || count(&server) >= total);
    assert!(came, "{} of {total} events: {}", count(&server), router.stderr().text());
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    let created: Vec<i32> =
        (0..stack.vcenter.produced()).map(|index| stack.vcenter.fact(index).unwrap().key).collect();
    let keys = keys(&stack, &server);
    assert_eq!(keys.len(), created.len(), "no event is lost, and none is stored twice");
    assert!(keys == created, "the stream has the order of reading");
}
