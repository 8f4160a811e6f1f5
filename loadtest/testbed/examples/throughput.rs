//! What the testbed itself can do, so that a measured router is never the testbed's shadow:
//! pages served to a client that reads and forgets, and deliveries verified.
//!
//! `cargo run --release -p testbed --example throughput`
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;
use tokio::net::TcpStream;

const EVENTS: u64 = 5_000_000;

fn main() {
    // Server and client on one thread: the figure is the cost of both together, on one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 1..=3 {
        let (seconds, bytes) = runtime.block_on(serve());
        let rate = EVENTS as f64 / seconds;
        println!(
            "round {round}: serve  {rate:>10.0} events/s, {:.0} bytes each, {:.0} ns each (server and null client)",
            bytes as f64 / EVENTS as f64,
            seconds * 1e9 / EVENTS as f64
        );
        for strict in [false, true] {
            let seconds = runtime.block_on(verify(strict));
            let rate = EVENTS as f64 / seconds;
            let mode = if strict { "strict" } else { "fast  " };
            println!(
                "round {round}: verify {rate:>10.0} events/s ({mode}), {:.0} ns each",
                seconds * 1e9 / EVENTS as f64
            );
        }
    }
}

async fn serve() -> (f64, u64) {
    let vcenter = VCenter::start(Options { backlog: EVENTS, ..Options::default() }).await.unwrap();
    let stream = TcpStream::connect(("127.0.0.1", vcenter.port())).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(1 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut cookie = String::new();
    let mut call = async |kind: &str, id: &str, method: &str, arguments: &str| {
        let body = format!(
            "<E><Body><{method}><_this type=\"{kind}\">{id}</_this>{arguments}</{method}></Body></E>"
        );
        let request = hyper::Request::post("/sdk").header("host", "a").header("cookie", &cookie);
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut answer = client.send_request(request).await.unwrap();
        if let Some(new) = answer.headers().get("set-cookie") {
            cookie = new.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        let mut bytes = 0;
        let mut first = Bytes::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let data = frame.unwrap().into_data().unwrap();
            bytes += data.len() as u64;
            if first.is_empty() {
                first = data;
            }
        }
        (String::from_utf8_lossy(&first[..first.len().min(1_000)]).into_owned(), bytes)
    };
    let login = "<userName>administrator@vsphere.local</userName><password>VMware1!</password>";
    call("SessionManager", "SessionManager", "Login", login).await;
    let (answer, _) = call("EventManager", "EventManager", "CreateCollectorForEvents", "<filter/>").await;
    let from = answer.find("EventHistoryCollector\">").unwrap() + 23;
    let collector = answer[from..from + answer[from..].find('<').unwrap()].to_owned();
    let before = Instant::now();
    let mut total = 0;
    for _ in 0..EVENTS / 1_000 {
        let (_, bytes) =
            call("EventHistoryCollector", &collector, "ReadNextEvents", "<maxCount>1000</maxCount>").await;
        total += bytes;
    }
    assert_eq!(vcenter.counters().events_served, EVENTS);
    (before.elapsed().as_secs_f64(), total)
}

async fn verify(strict: bool) -> f64 {
    let vcenter = VCenter::start(Options { backlog: EVENTS, ..Options::default() }).await.unwrap();
    let verifier = Arc::new(if strict { Verifier::strict() } else { Verifier::new() });
    verifier.watch(&vcenter);
    let filler = "\"UserName\":\"LAB\\\\svc-automation\",\"Datacenter\":{\"Name\":\"DC-FRA-01\",\"Datacenter\":{\"Type\":\"Datacenter\",\"Value\":\"datacenter-3\"}},".repeat(6);
    let mut busy = 0.0;
    for page in 0..EVENTS / 1_000 {
        let events: Vec<String> = (page * 1_000..page * 1_000 + 1_000)
            .map(|index| {
                let fact = vcenter.fact(index).unwrap();
                let created = jiff::Timestamp::from_microsecond(fact.created_us).unwrap();
                format!(
                    "{{\"id\":\"{}\",\"source\":\"{}\",\"specversion\":\"1.0\",\"type\":\"com.vmware.event.router/event\",\"subject\":\"{}\",\"time\":\"{created}\",\"data\":{{\"Key\":{},\"ChainId\":{},\"CreatedTime\":\"{created}\",{filler}\"Template\":false}},\"datacontenttype\":\"application/json\"}}",
                    fact.id, vcenter.url(), fact.class, fact.key, fact.key
                )
            })
            .collect();
        let body = format!("[{}]", events.join(","));
        let before = Instant::now();
        verifier.body(body.as_bytes(), 0);
        busy += before.elapsed().as_secs_f64();
    }
    let report = verifier.report();
    assert!(report.is_complete() && report.total.unique == EVENTS && report.total.out_of_order == 0);
    busy
}
