//! Measures the speed of the testbed itself, so that a measured router is never limited by it.
//! There are three measurements: rendering pages, serving pages to a client that discards them, and
//! verifying deliveries.
//!
//! `cargo run --release -p testbed --example throughput [render|serve|verify]`
#![allow(clippy::unwrap_used)]

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use testbed::content::{Examples, Form};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;
use tokio::net::TcpStream;

const EVENTS: u64 = 2_000_000;
const VERIFIED: u64 = 2_000_000;

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    // Processor time instead of elapsed time: other work on the machine then shows only by its use
    // of the caches.
    let line = |round: usize, what: &str, cpu_ns: f64| {
        println!(
            "round {round}: {what:<28} {cpu_ns:>6.0} ns of CPU an event, {:>5.2} M/s a core",
            1e3 / cpu_ns
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 1..=3 {
        if wanted("render") {
            line(round, "render pages", runtime.block_on(render()) / EVENTS as f64);
        }
        if wanted("serve") {
            let (server_ns, client_ns) = serve();
            line(round, "serve pages over HTTP", server_ns / EVENTS as f64);
            line(round, "(the null client reading)", client_ns / EVENTS as f64);
        }
        if wanted("verify") {
            let verified = |what: &str, verifier: Verifier| {
                line(round, what, runtime.block_on(verify(verifier)) / VERIFIED as f64);
            };
            verified("verify batches", Verifier::new());
            verified("verify batches, content", Verifier::comparing(Form::default()));
            verified("verify batches, strict", Verifier::strict());
        }
    }
}

/// Nanoseconds that this thread has spent on a processor.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

async fn start(backlog: u64) -> VCenter {
    VCenter::start(Options { backlog, ..Options::default() }).await.unwrap()
}

async fn render() -> f64 {
    let vcenter = start(EVENTS).await;
    let before = cpu_ns();
    let bytes: usize =
        (0..EVENTS / 1_000).map(|page| vcenter.page(page * 1_000..(page + 1) * 1_000).len()).sum();
    assert!(bytes as u64 > EVENTS * 600);
    cpu_ns() - before
}

/// The CPU nanoseconds of the server and of the client, each on a thread and runtime of its own.
fn serve() -> (f64, f64) {
    let (started, port) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let vcenter = start(EVENTS).await;
            started.send(vcenter.port()).unwrap();
            let before = cpu_ns();
            stopped.await.unwrap();
            assert_eq!(vcenter.counters().events_served, EVENTS);
            cpu_ns() - before
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let port = port.recv().unwrap();
    let client_ns = runtime.block_on(read_all(port));
    stop.send(()).unwrap();
    (server.join().unwrap(), client_ns)
}

/// Reads all pages and discards them; returns the CPU nanoseconds.
async fn read_all(port: u16) -> f64 {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(1 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    // A call as a minimal SOAP request. It keeps the session cookie, and the start of the answer.
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
    let before = cpu_ns();
    for _ in 0..EVENTS / 1_000 {
        let (_, bytes) =
            call("EventHistoryCollector", &collector, "ReadNextEvents", "<maxCount>1000</maxCount>").await;
        assert!(bytes > 600_000);
    }
    cpu_ns() - before
}

/// CPU nanoseconds to verify the bodies that a faultless router makes of a vCenter's events.
async fn verify(verifier: Verifier) -> f64 {
    let vcenter = start(VERIFIED).await;
    verifier.watch(&vcenter);
    let examples = Examples::of(&vcenter).unwrap();
    let now_us = jiff::Timestamp::now().as_microsecond();
    let mut busy = 0.0;
    for page in 0..VERIFIED / 1_000 {
        let mut body = b"[".to_vec();
        for index in page * 1_000..page * 1_000 + 1_000 {
            body.extend(examples.event(index).unwrap());
            body.push(b',');
        }
        body.pop();
        body.push(b']');
        let before = cpu_ns();
        verifier.body(&body, now_us);
        busy += cpu_ns() - before;
    }
    let report = verifier.report();
    assert!(report.is_complete() && report.total.unique == VERIFIED && report.total.out_of_order == 0);
    busy
}
