//! The promises of a webhook source: an answer `202` means that the events are durable; everything
//! else is refused with the reason, and loses nothing that was accepted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::common::hooks::{Hooks, Receiver, event};
use crate::common::router::Router;
use crate::common::{free_address, repeat_until, seed, until};
use event_router::settings::{Auth, Secret, ServerTls, Signature, SignatureEncoding};
use rand::Rng;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_every_content_mode_are_delivered_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |webhook| webhook.path = "/events".into()).await;
    let post = || hooks.client.post(hooks.url("/events"));
    let structured = post().header("content-type", "application/cloudevents+json; charset=utf-8");
    let answer = structured.body(event("1").to_string()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.text().await.unwrap(), "");
    let binary = post()
        .header("ce-specversion", "1.0")
        .header("ce-id", "2")
        .header("ce-source", "/test")
        .header("ce-type", "test.event")
        .header("ce-extra", "x%20y")
        .header("content-type", "text/plain")
        .body("hello");
    assert_eq!(binary.send().await.unwrap().status(), StatusCode::ACCEPTED);
    let batch = json!([event("3"), event("4")]).to_string();
    let batched = post().header("content-type", "application/cloudevents-batch+json").body(batch);
    assert_eq!(batched.send().await.unwrap().status(), StatusCode::ACCEPTED);
    until("all are delivered", || hooks.receiver.taken().len() == 4).await;
    let mut taken = hooks.receiver.taken();
    taken.sort_by_key(|event| event["id"].as_str().unwrap().to_owned());
    assert_eq!(taken[0], event("1"));
    let text = &taken[1];
    assert_eq!(
        (&text["data"], &text["datacontenttype"], &text["extra"]),
        (&json!("hello"), &json!("text/plain"), &json!("x y"))
    );
    assert_eq!((&taken[2], &taken[3]), (&event("3"), &event("4")));
    assert!(hooks.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_request_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |webhook| {
        (webhook.path, webhook.body_bytes_max, webhook.events_max) = ("/events".into(), 1 << 10, 3);
    })
    .await;
    let cloudevents = "application/cloudevents+json";
    let batch = "application/cloudevents-batch+json";
    let large = json!([event(&"x".repeat(2_000))]).to_string();
    let many = json!([event("1"), event("2"), event("3"), event("4")]).to_string();
    for (method, path, media, body, status, part) in [
        (Method::POST, "/", cloudevents, "{}", 404, "POST them to `/events`"),
        (Method::GET, "/events", cloudevents, "", 405, "only POST"),
        (Method::POST, "/events", "application/json", "{}", 415, "needs a `mapping`"),
        (Method::POST, "/events", cloudevents, "{}", 400, "`specversion` is missing"),
        (Method::POST, "/events", cloudevents, "[", 400, "not valid JSON"),
        (Method::POST, "/events", batch, &*large, 413, "raise `bodyMax`"),
        (Method::POST, "/events", batch, &*many, 413, "more than 3 events"),
    ] {
        let request = hooks.client.request(method, hooks.url(path)).header("content-type", media);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let got = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!(got == status && text.contains(part) && text.ends_with('\n'), "{path} {media}: {got} {text}");
    }
    // Without a length the bound holds as well.
    let mut stream = TcpStream::connect(hooks.address).await.unwrap();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: {cloudevents}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("800\r\n{}\r\n", " ".repeat(0x800));
    stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // A head of any size would take memory before anybody looks at it.
    let endless = hooks.client.post(hooks.url("/events")).header("x-large", "x".repeat(64 << 10));
    assert_eq!(endless.send().await.unwrap().status(), 431);
    let zipped = hooks.client.post(hooks.url("/events")).header("content-type", cloudevents);
    assert_eq!(zipped.header("content-encoding", "gzip").body("x").send().await.unwrap().status(), 415);
    // A sender asks for permission (CloudEvents HTTP webhook, "Abuse protection").
    let ask = hooks.client.request(Method::OPTIONS, hooks.url("/events"));
    let answer = ask.header("webhook-request-origin", "sender.example").send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        (header("webhook-allowed-origin"), header("webhook-allowed-rate"), header("allow")),
        ("sender.example".into(), "*".into(), "POST, OPTIONS".into())
    );
    assert!(hooks.stop().await);
    assert!(hooks.receiver.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_requests_with_the_credentials_and_the_signature_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "first-token\n").unwrap();
    let hooks = Hooks::start(dir.path(), |webhook| {
        webhook.auth = Auth::Bearer { token: Secret::file(&token) };
        webhook.signature = Some(Signature {
            secret: Secret::inline("signing-secret"),
            header: "X-Signature".into(),
            prefix: Some("v1=".into()),
            encoding: SignatureEncoding::Hex,
        });
    })
    .await;
    let body = event("1").to_string();
    let signature = |body: &str| {
        use hmac::{KeyInit, Mac, SimpleHmac};
        let mac = SimpleHmac::<sha2::Sha256>::new_from_slice(b"signing-secret").unwrap();
        let bytes = mac.chain_update(body).finalize().into_bytes();
        format!("v1={}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let send = async |token: &str, signature: &str| {
        let request = hooks.client.post(hooks.url("/")).body(body.clone());
        let request = request.header("content-type", "application/cloudevents+json").bearer_auth(token);
        request.header("x-signature", signature).send().await.unwrap()
    };
    let right = signature(&body);
    let refused = send("wrong-token", &right).await;
    assert_eq!(refused.status(), 401);
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert_eq!(send("first-token", &signature("other")).await.status(), 401);
    assert_eq!(send("first-token", "v1=00").await.status(), 401);
    assert_eq!(send("first-token", &right).await.status(), 202);
    std::fs::write(&token, "second-token\n").unwrap();
    assert_eq!(send("first-token", &right).await.status(), 401);
    assert_eq!(send("second-token", &right).await.status(), 202);
    until("it is delivered", || hooks.receiver.ids() == ["1"]).await;
    assert_eq!(hooks.metric("event_router_source_requests_total", Some("unauthorized")), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_over_https_are_taken_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    // Writes a new certificate, and returns a client that trusts no other.
    let issue = || {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([root]).build().unwrap()
    };
    let client = issue();
    let tls = ServerTls { cert_file: cert_file.clone(), key_file: key_file.clone() };
    let hooks = Hooks::start(dir.path(), |webhook| webhook.tls = Some(tls)).await;
    let send = |client: &Client, id: &str| {
        let request = client.post(format!("https://{}/", hooks.address)).body(event(id).to_string());
        request.header("content-type", "application/cloudevents+json").send()
    };
    assert_eq!(send(&client, "1").await.unwrap().status(), 202);
    let renewed = issue();
    assert_eq!(send(&renewed, "2").await.unwrap().status(), 202, "the new certificate needs no restart");
    assert!(send(&Client::new(), "3").await.is_err(), "the client does not trust it");
    let plain = hooks.client.post(hooks.url("/")).body(event("4").to_string());
    assert!(plain.header("content-type", "application/cloudevents+json").send().await.is_err());
    until("both are delivered", || hooks.receiver.ids() == ["1", "2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_too_fast_is_asked_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::start(dir.path(), |webhook| webhook.rate = Some(2)).await;
    // The request is let in, and its events are paid off.
    assert_eq!(hooks.post(0..100).await.status(), 202);
    let refused = hooks.post(100..101).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((45..=50).contains(&wait), "{wait}");
    assert!(refused.text().await.unwrap().contains("`rateLimit`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_accepted_and_not_delivered_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |webhook| webhook.dedup_events = 100).await;
    assert_eq!(hooks.post([1, 2, 1]).await.status(), 202);
    assert_eq!(hooks.post([2]).await.status(), 202);
    until("both are delivered", || hooks.receiver.ids() == ["1", "2"]).await;
    assert_eq!(hooks.metric("event_router_source_copies_dropped_total", None), 2);
    hooks.restart().await;
    assert_eq!(hooks.post([1, 2, 3]).await.status(), 202);
    until("the new one is delivered", || hooks.receiver.ids() == ["1", "2", "3"]).await;
    // The window has a bound.
    assert_eq!(hooks.post(10..110).await.status(), 202);
    assert_eq!(hooks.post([1]).await.status(), 202);
    until("it counts as new", || hooks.receiver.ids().last().unwrap() == "1").await;
    assert!(hooks.stop().await);
    assert_eq!(hooks.receiver.ids().len(), 104);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_inbox_refuses_until_it_has_room_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let adjust = |config: &mut event_router::settings::Config| config.memory_bytes = 4 << 20;
    let mut hooks = Hooks::start_with(dir.path(), |webhook| webhook.inbox_bytes_max = 1 << 20, adjust).await;
    hooks.receiver.answer(503);
    let (mut accepted, mut random) = (Vec::new(), seed::random());
    // Text that does not compress.
    let mut filler =
        || -> String { (0..2_000).map(|_| char::from(random.random_range(b'!'..b'~'))).collect() };
    let refused = loop {
        let ids = accepted.len() as u32..accepted.len() as u32 + 100;
        let events: Vec<Value> = ids
            .clone()
            .map(|id| {
                let mut event = event(&id.to_string());
                event["data"] = filler().into();
                event
            })
            .collect();
        let request = hooks.client.post(hooks.url("/")).body(Value::from(events).to_string());
        let answer =
            request.header("content-type", "application/cloudevents-batch+json").send().await.unwrap();
        match answer.status().as_u16() {
            202 => accepted.extend(ids),
            503 => break answer,
            other => panic!("{other}"),
        }
        assert!(accepted.len() < 100_000, "the inbox is never full");
    };
    assert!(refused.headers().contains_key("retry-after"));
    let text = refused.text().await.unwrap();
    assert!(text.contains("raise `inboxMax`"), "{text}");
    assert!(accepted.len() >= 300, "{} were accepted", accepted.len());
    // A restart with the target still down loses nothing.
    hooks.restart().await;
    hooks.receiver.answer(200);
    until("all are delivered", || hooks.receiver.ids().len() >= accepted.len()).await;
    until("there is room", || hooks.metric("event_router_source_inbox_bytes", None) < 1 << 19).await;
    assert_eq!(hooks.post([1_000_000]).await.status(), 202);
    until("the new one comes", || hooks.receiver.ids().last().unwrap() == "1000000").await;
    assert!(hooks.stop().await);
    let unique: BTreeSet<String> = hooks.receiver.ids().into_iter().collect();
    assert_eq!(unique.len(), accepted.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_requests_in_progress_finish() {
    let dir = tempfile::tempdir().unwrap();
    let mut hooks = Hooks::start(dir.path(), |_| ()).await;
    let body = event("1").to_string();
    let mut slow = TcpStream::connect(hooks.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(10);
    slow.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    // A second request shows that the first one has begun: it came later.
    assert_eq!(hooks.post([2]).await.status(), 202);
    let client = async {
        // New connections are refused once the listener is closed.
        let peer = slow.peer_addr().unwrap();
        repeat_until("the listener closes", async || TcpStream::connect(peer).await.is_err()).await;
        slow.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (_, answer) = futures_util::future::join(hooks.stop(), client).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    // It is delivered, or waits in the inbox for the next start.
    if hooks.receiver.ids().len() < 2 {
        hooks.start_again().await;
        until("it is delivered", || hooks.receiver.ids().len() == 2).await;
    }
}

/// Rounds of the test below; `scripts/kill-webhook` runs more.
const ROUNDS: usize = 8;
const SENDERS: usize = 8;

#[test]
fn accepted_events_survive_kill_nine_again_and_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rounds = seed::rounds(ROUNDS);
    let mut random = seed::random();
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::default());
    let (admin, listen) = (free_address(), free_address());
    let target = runtime.block_on(receiver.start());
    let config = format!(
        "apiVersion: event-router/v1\ndataDir: {}\nadmin: {{bindAddress: '{admin}'}}\ncheckpointInterval: 50ms\n\
         sources: [{{name: hooks, type: webhook, bindAddress: '{listen}'}}]\n\
         processors: [{{name: target, type: cloudevents, url: '{target}'}}]\n",
        dir.path().join("data").display()
    );
    let mut router = Router::start(dir.path(), admin, &config);
    // Each sender repeats an event until it is accepted.
    let (next, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            runtime.spawn(async move {
                let client = Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
                let mut accepted = Vec::new();
                while !stop.load(Relaxed) {
                    let id = next.fetch_add(1, Relaxed).to_string();
                    loop {
                        let request = client.post(format!("http://{listen}/")).body(event(&id).to_string());
                        let request = request.header("content-type", "application/cloudevents+json");
                        match request.send().await {
                            Ok(answer) if answer.status() == 202 => break,
                            // The router is dead or just starts.
                            _ => tokio::time::sleep(Duration::from_millis(5)).await,
                        }
                    }
                    accepted.push(id);
                }
                accepted
            })
        })
        .collect();
    for _ in 0..rounds {
        let before = next.load(Relaxed);
        let wait = random.random_range(20..200);
        assert!(crate::common::wait_until(Duration::from_secs(60), || next.load(Relaxed) >= before + wait));
        router.kill();
        router.restart();
    }
    stop.store(true, Relaxed);
    let accepted: BTreeSet<String> =
        senders.into_iter().flat_map(|sender| runtime.block_on(sender).unwrap()).collect();
    assert_eq!(accepted.len() as u32, next.load(Relaxed), "every event was accepted in the end");
    let delivered = || receiver.ids().into_iter().collect::<BTreeSet<String>>();
    let came = crate::common::wait_until(Duration::from_secs(60), || delivered().is_superset(&accepted));
    let missing: Vec<_> = accepted.difference(&delivered()).cloned().collect();
    assert!(came, "accepted and not delivered: {missing:?}");
    seed::tried(rounds, "kill -9 of a webhook under load");
    let twice = receiver.ids().len() - delivered().len();
    println!("{} events over {rounds} kills, {twice} delivered twice", accepted.len());
    assert_eq!(router.terminate(Duration::from_secs(60)).code(), Some(0), "{}", router.stderr().text());
}
