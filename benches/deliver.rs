//! The cost of delivery, measured in four variants: one POST for each event through the CloudEvents
//! processor, compared with a bare hyper client that sends the same bytes; batches; a whole
//! pipeline (decoder, engine, store); and lanes in front of a function that takes 20 ms.
//!
//! The variants take turns, round after round, against one loopback server that answers at once.
//! Other load on the machine therefore affects all of them alike. The table shows the median of the
//! rounds with the spread, and the share of the bare client's rate in the same round. The ratios at
//! the end are promises, each with its goal.
//!
//! `cargo bench --bench deliver`

#[path = "../tests/it/common/pages.rs"]
mod pages;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_router::app::pipeline_settings;
use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::event::{Batch, Category, Record, Selection, SourceInfo, Span};
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::{
    BatchSlice, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use event_router::settings::{
    self, CloudEventsConfig as Settings, Config, ContentMode, HttpClient, Ordering, Proxy, StateLocation,
};
use event_router::state::Store;
use event_router::supervise::Supervisor;
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// Requests in flight: the default concurrency of a destination.
const LANES: usize = 32;
const EVENTS: usize = 1_000;
/// Many short rounds: other load changes from second to second, and only a short round hits all
/// variants alike.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(500);
/// Pages for the whole pipeline: as many events as a POST of 5 us would deliver in a round.
const PAGES: i32 = 100;
/// VMs that the events of the lanes are about. There are more VMs than lanes, so no lane idles.
const ENTITIES: i32 = 64;
/// The response time of the slow function.
const SLOW: Duration = Duration::from_millis(20);

const BARE: &str = "bare hyper connection";
const STRUCTURED: &str = "processor, structured";
const BATCHED: &str = "processor, batched by 100";
const WHOLE: &str = "whole pipeline, structured";

type Done = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

fn main() {
    // `cargo test --benches` only checks that the program runs.
    let test = !std::env::args().any(|arg| arg == "--bench");
    let (rounds, time) = if test { (1, Duration::from_millis(50)) } else { (ROUNDS, ROUND) };
    let server = serve();
    let address = server.address;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let batch = batch();
    let made = |key: i32| pages::Made { class: "VmPoweredOnEvent", vm: key % ENTITIES };
    let pages: Vec<Bytes> = (0..if test { 10 } else { PAGES })
        .map(|page| pages::render(page * EVENTS as i32..(page + 1) * EVENTS as i32, made))
        .collect();
    let processor = |mode| Arc::new(processor(address, "", mode));
    let structured = processor(ContentMode::Structured);
    let binary = processor(ContentMode::Binary);
    let batched = processor(ContentMode::Batched);
    let body = rendered(&batch, 0);
    let pooled = legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();

    // The work of one lane: POSTs until the deadline, counted in events.
    let lane = |name: &'static str, until: Instant| -> Done {
        let (batch, body, pooled) = (Arc::clone(&batch), body.clone(), pooled.clone());
        match name {
            BARE => Box::pin(bare(address, body, until)),
            "bare hyper-util pool" => Box::pin(bare_pool(address, pooled, body, until)),
            STRUCTURED => Box::pin(through_processor(Arc::clone(&structured), batch, 1, until)),
            "processor, binary" => Box::pin(through_processor(Arc::clone(&binary), batch, 1, until)),
            _ => Box::pin(through_processor(Arc::clone(&batched), batch, 100, until)),
        }
    };
    let variants = [BARE, "bare hyper-util pool", STRUCTURED, "processor, binary", BATCHED, WHOLE];
    let mut rates = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for (variant, rates) in variants.iter().zip(&mut rates) {
            if *variant == WHOLE {
                let run = Run { pages: &pages, path: "", ordering: Ordering::None, lanes: LANES, time };
                rates.push(runtime.block_on(pipeline_rate(address, run)));
                continue;
            }
            let started = Instant::now();
            let lanes: Vec<_> = (0..LANES).map(|_| runtime.spawn(lane(variant, started + time))).collect();
            let events: u64 = lanes.into_iter().map(|lane| runtime.block_on(lane).expect("a lane")).sum();
            rates.push(events as f64 / started.elapsed().as_secs_f64());
        }
    }
    // The table: the median of each variant, and its share of the bare client's rate.
    let length = body.len();
    println!(
        "{LANES} lanes, {length} bytes per event, {rounds} rounds of {} ms, one client thread",
        time.as_millis()
    );
    println!("{:28} {:>12} {:>22} {:>10}", "", "events/s", "spread", "of bare");
    for (variant, variant_rates) in variants.iter().zip(&rates) {
        let mut shares: Vec<f64> =
            variant_rates.iter().zip(&rates[0]).map(|(variant, bare)| variant / bare).collect();
        let mut sorted = variant_rates.clone();
        sorted.sort_by(f64::total_cmp);
        shares.sort_by(f64::total_cmp);
        let (rate, share) = (sorted[sorted.len() / 2], 100.0 * shares[shares.len() / 2]);
        let spread = format!("{:.0} to {:.0}", sorted[0], sorted[sorted.len() - 1]);
        println!("{variant:28} {rate:>12.0} {spread:>22} {share:>8.0} %");
    }
    render(&batch, if test { 1 } else { 2_000 });
    let (one, many) = lanes(&runtime, &server, &pages, if test { time } else { Duration::from_secs(4) });
    // The median ratio of two variants, round by round.
    let of = |variant: &str, base: &str| {
        let rates_of = |name: &str| {
            variants.iter().position(|variant| *variant == name).map_or(&rates[0], |at| &rates[at])
        };
        let mut ratios: Vec<f64> =
            rates_of(variant).iter().zip(rates_of(base)).map(|(variant, base)| variant / base).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    goal("one POST per event, share of the bare rate", of(STRUCTURED, BARE), 0.75);
    goal("batched, ratio to one POST per event", of(BATCHED, STRUCTURED), 10.0);
    goal("32 lanes, ratio to one lane", many / one, 25.0);
}

/// Prints a promised ratio beside the measured one.
fn goal(name: &str, ratio: f64, goal: f64) {
    let verdict = if ratio >= goal { "met" } else { "MISSED" };
    println!("{name:50} {ratio:>7.2}, at least {goal:.2}: {verdict}");
}

fn processor(address: SocketAddr, path: &str, mode: ContentMode) -> CloudEvents {
    let http = HttpClient { proxy: Proxy::Direct, ..HttpClient::default() };
    let settings = Settings { mode, http, ..Settings::new(format!("http://{address}/{path}")) };
    let envelope = Envelope::new(EnvelopeOptions::default()).expect("no extensions");
    CloudEvents::new(&settings, envelope).expect("a valid URL")
}

/// Measures the slow function with one request at a time and with [`LANES`], in events per second.
/// Events of each of the [`ENTITIES`] stay in order.
fn lanes(runtime: &tokio::runtime::Runtime, server: &Server, pages: &[Bytes], time: Duration) -> (f64, f64) {
    let rate = |lanes| {
        server.order.lock().expect("no panic").clear();
        let run = Run { pages, path: "slow", ordering: Ordering::Entity, lanes, time };
        let rate = runtime.block_on(pipeline_rate(server.address, run));
        println!("{lanes:>2} lanes to a function of {} ms: {rate:.1} events/s, in order", SLOW.as_millis());
        rate
    };
    (rate(1), rate(LANES))
}

/// One measurement of a pipeline.
struct Run<'a> {
    /// More pages than can be delivered within the time.
    pages: &'a [Bytes],
    /// The path on the server.
    path: &'static str,
    ordering: Ordering,
    lanes: usize,
    time: Duration,
}

/// A processor that counts delivered events.
struct Counting {
    inner: CloudEvents,
    delivered: AtomicU64,
}

impl Processor for Counting {
    fn request_limits(&self) -> RequestLimits {
        self.inner.request_limits()
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async move {
            let outcome = self.inner.deliver(request).await;
            assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
            self.delivered.fetch_add(request.events as u64, Relaxed);
            outcome
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        self.inner.check()
    }
}

/// Events per second of a whole pipeline with one destination and its store on disk, from XML pages
/// to answered POSTs.
async fn pipeline_rate(address: SocketAddr, run: Run<'_>) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let vcenter = settings::Vcenter::new("https://vc/sdk", "u", settings::Secret::inline("p"));
    let sources =
        vec![settings::SourceConfig { name: "vc".into(), kind: settings::SourceKind::Vcenter(vcenter) }];
    let delivery = settings::DeliveryPolicy {
        ordering: run.ordering,
        concurrency: run.lanes,
        ..settings::DeliveryPolicy::default()
    };
    let kind = settings::ProcessorKind::Blackhole(Default::default());
    let processors = vec![settings::ProcessorConfig { name: "a".into(), kind, delivery }];
    let config = Config::new(StateLocation::Dir(dir.path().into()), sources, processors);
    let inner = processor(address, run.path, ContentMode::Structured);
    let counting = Arc::new(Counting { inner, delivered: AtomicU64::new(0) });
    let pipeline = Pipeline::start(Parts {
        settings: pipeline_settings::pipeline(&config),
        processors: vec![Arc::clone(&counting) as Arc<dyn Processor>],
        store: Store::open(dir.path()).expect("a store"),
        parse_threads: 1,
        spools: true,
        positions: None,
        supervisor: Supervisor::default(),
    })
    .expect("a pipeline");
    let intake = pipeline.intake(0);
    let start = pages::begin(&intake).await;
    let pages = async {
        for (number, page) in run.pages.iter().enumerate() {
            pages::push(&intake, &start, number as u64, page.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    let measured = async {
        // Measure only after the first page has come through.
        while counting.delivered.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (started, before) = (Instant::now(), counting.delivered.load(Relaxed));
        tokio::time::sleep(run.time).await;
        let delivered = counting.delivered.load(Relaxed);
        assert!(delivered < (run.pages.len() * EVENTS) as u64, "there were events left to deliver");
        (delivered - before) as f64 / started.elapsed().as_secs_f64()
    };
    let rate = tokio::select! {
        () = pages => unreachable!("it never returns"),
        rate = measured => rate,
    };
    drop(intake);
    pipeline.drain(Duration::ZERO).await.expect("the store closes");
    rate
}

/// Measures the envelope alone: a page rendered into reused memory, and the part of its cost that
/// is the copy of the data.
fn render(batch: &Batch, pages: usize) {
    let envelope = Envelope::new(EnvelopeOptions::default()).expect("no extensions");
    let mut out = Vec::with_capacity(EVENTS * 2_048);
    let mut per_event = |each: &dyn Fn(usize, &mut Vec<u8>)| {
        let started = Instant::now();
        for _ in 0..pages {
            out.clear();
            (0..EVENTS).for_each(|i| each(i, &mut out));
            std::hint::black_box(&out);
        }
        started.elapsed().as_nanos() as f64 / (pages * EVENTS) as f64
    };
    let rendering = envelope.open(batch);
    let whole = per_event(&|i, out| rendering.structured(i, out));
    let copy = per_event(&|i, out| out.extend_from_slice(batch.bytes(batch.records[i].data)));
    println!("envelope: {whole:.0} ns per event, of which {copy:.0} ns copy the data");
}

/// For each entity, the key of the latest event that the slow function has received.
type Order = Arc<Mutex<HashMap<String, i64>>>;

struct Server {
    address: SocketAddr,
    order: Order,
}

/// Starts a server on a thread of its own. It reads each request and answers 202, at once or, at
/// `/slow`, after [`SLOW`]. There it also checks the order.
fn serve() -> Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket option");
    let address = listener.local_addr().expect("an address");
    let order = Order::default();
    let seen = Arc::clone(&order);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    Server { address, order }
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    order: Order,
) -> Result<hyper::Response<Empty<Bytes>>, hyper::Error> {
    if request.uri().path() == "/slow" {
        let body = request.into_body().collect().await?.to_bytes();
        let event: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let entity = event["data"]["Vm"]["Vm"]["Value"].as_str().expect("a VM").to_owned();
        let key = event["data"]["Key"].as_i64().expect("a key");
        let before = order.lock().expect("no panic").insert(entity, key);
        assert!(before.is_none_or(|before| before < key), "{key} after {before:?}");
        tokio::time::sleep(SLOW).await;
    } else {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
    }
    let mut answer = hyper::Response::new(Empty::new());
    *answer.status_mut() = hyper::StatusCode::ACCEPTED;
    Ok(answer)
}

fn post(body: Bytes) -> hyper::Request<Full<Bytes>> {
    let mut request = hyper::Request::new(Full::new(body));
    *request.method_mut() = hyper::Method::POST;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json; charset=UTF-8"));
    *request.headers_mut() = headers;
    request
}

/// The minimum that hyper needs: one connection for each lane, no pool, no time-out.
async fn bare(address: SocketAddr, body: Bytes, until: Instant) -> u64 {
    let stream = TcpStream::connect(address).await.expect("the server");
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let host = HeaderValue::from_str(&address.to_string()).expect("an address");
    let mut sent = 0;
    while Instant::now() < until {
        let mut request = post(body.clone());
        request.headers_mut().insert(HOST, host.clone());
        sender.ready().await.expect("a connection");
        let answer = sender.send_request(request).await.expect("an answer");
        assert!(answer.status().is_success());
        answer.into_body().collect().await.expect("a body");
        sent += 1;
    }
    sent
}

/// The usual client of a program: hyper-util's pool.
async fn bare_pool(
    address: SocketAddr,
    client: legacy::Client<legacy::connect::HttpConnector, Full<Bytes>>,
    body: Bytes,
    until: Instant,
) -> u64 {
    let uri: hyper::Uri = format!("http://{address}/").parse().expect("a URL");
    let mut sent = 0;
    while Instant::now() < until {
        let mut request = post(body.clone());
        *request.uri_mut() = uri.clone();
        let answer = client.request(request).await.expect("an answer");
        assert!(answer.status().is_success());
        answer.into_body().collect().await.expect("a body");
        sent += 1;
    }
    sent
}

/// POSTs through the processor, `events` in each request.
async fn through_processor(
    processor: Arc<CloudEvents>,
    batch: Arc<Batch>,
    events: usize,
    until: Instant,
) -> u64 {
    let (mut sent, mut next) = (0, 0);
    while Instant::now() < until {
        let selection: Selection = (next..next + events).collect();
        next = (next + events) % EVENTS;
        let slices = vec![BatchSlice { batch: Arc::clone(&batch), selection }];
        let request = DeliveryRequest { function: "".into(), slices, events, attempt: 1 };
        let outcome = processor.deliver(&request).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
        sent += events as u64;
    }
    sent
}

/// A page of events of the usual size.
fn batch() -> Arc<Batch> {
    let mut arena = Vec::new();
    let mut put = |text: &str| {
        let start = arena.len();
        arena.extend_from_slice(text.as_bytes());
        Span::new(start, arena.len())
    };
    let named = |name: &str, kind: &str, id: &str| {
        format!(r#"{{"Name":"{name}","{kind}":{{"Type":"{kind}","Value":"{id}"}}}}"#)
    };
    let (datacenter, cluster) =
        (named("DC0", "Datacenter", "datacenter-2"), named("DC0_C0", "ComputeResource", "domain-c28"));
    let (host, vm) =
        (named("DC0_C0_H0", "HostSystem", "host-34"), named("DC0_C0_RP0_VM0", "VirtualMachine", "vm-65"));
    let records = (0..EVENTS)
        .map(|i| Record {
            key: Some(i as i32),
            created_us: Some(1_763_769_599_000_000),
            category: Category::Event,
            class: put("VmPoweredOnEvent"),
            subject: put("VmPoweredOnEvent"),
            entity: put("VirtualMachine:vm-65"),
            created_text: put("2025-11-21T23:59:59Z"),
            data: put(&format!(
                concat!(
                    r#"{{"Key":{i},"ChainId":{i},"CreatedTime":"2025-11-21T23:59:59Z","UserName":"VSPHERE.LOCAL\\Administrator","#,
                    r#""Datacenter":{datacenter},"ComputeResource":{cluster},"Host":{host},"Vm":{vm},"Ds":null,"Net":null,"Dvs":null,"#,
                    r#""FullFormattedMessage":"DC0_C0_RP0_VM0 on host DC0_C0_H0 in DC0 is powered on","ChangeTag":"","Template":false}}"#
                ),
                i = i,
                datacenter = datacenter,
                cluster = cluster,
                host = host,
                vm = vm
            )),
            id: Uuid::from_u128(i as u128),
            ..Record::default()
        })
        .collect();
    let source = SourceInfo {
        index: 0,
        name: "vc1".into(),
        url: "https://vc1.example/sdk".into(),
        instance_uuid: Uuid::nil(),
        api_version: "8.0.2.0".into(),
    };
    Arc::new(Batch { produced_us: 1_763_769_600_000_000, ..Batch::new(Arc::new(source), 0, arena, records) })
}

fn rendered(batch: &Batch, i: usize) -> Bytes {
    let envelope = Envelope::new(EnvelopeOptions::default()).expect("no extensions");
    let mut body = Vec::new();
    envelope.open(batch).structured(i, &mut body);
    body.into()
}
