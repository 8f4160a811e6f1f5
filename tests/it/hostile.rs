//! A vCenter, or a proxy that claims to be one, sends small answers that become large. The router
//! stays within its memory, and another vCenter loses nothing.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use testbed::vcenter::{Options, VCenter};

use crate::common::config::Section;
use crate::common::stack::Stack;
use crate::common::wait_until;

const LIMIT: Duration = Duration::from_secs(300);
/// Events of the vCenter that is not hostile, and those of one burst.
const EVENTS: u64 = 6_000;
const BURST: u64 = 1_000;
/// The memory that the router may use while it reads pages of up to 64 MiB.
const RSS_KIB_MAX: u64 = 256 << 10;

const HEAD: &str = r#"<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><ReadNextEventsResponse xmlns="urn:vim25">"#;
const TAIL: &str = "</ReadNextEventsResponse></e:Body></e:Envelope>";

fn page(events: &str) -> String {
    [HEAD, events, TAIL].concat()
}

fn event(members: &str) -> String {
    format!(r#"<returnval xsi:type="VmReconfiguredEvent"><key>1</key>{members}</returnval>"#)
}

/// Pages in SOAP, each small in gzip.
fn soap_pages() -> Vec<String> {
    let device = r#"<deviceChange><device xsi:type="VirtualMachineConfigSpec"/></deviceChange>"#;
    let prefixes: String = (0..60).map(|i| format!(r#" xmlns:p{i}="urn:x""#)).collect();
    let broken = "<returnval><key>1</kez></returnval>";
    vec![
        page(&event(&format!("<configSpec>{}</configSpec>", device.repeat(40_000)))),
        page(&event(&"<a/>".repeat(1 << 20))),
        page(&event(&format!("<userName>{}</userName>", ">".repeat(12 << 20)))),
        page(&" ".repeat(65 << 20)),
        page(&event(&format!("<x{prefixes}>").repeat(100))),
        page(&event(&"<x>".repeat(1 << 20))),
        page(&broken.repeat(1_000)),
        page(&"<returnval></returnval>".repeat(200_000)),
    ]
}

/// Pages in VI/JSON.
fn json_pages() -> Vec<String> {
    let device = r#"{"device":{"_typeName":"VirtualMachineConfigSpec"}},"#.repeat(50_000);
    vec![
        format!(
            r#"[{{"_typeName":"VmReconfiguredEvent","key":1,"configSpec":{{"deviceChange":[{}{{}}]}}}}]"#,
            device
        ),
        format!(r#"[{{"key":1,"a":[{}0]}}]"#, "0,".repeat(2 << 20)),
        format!(r#"[{{"key":1,"a":[{}0]}}]"#, r#"{"a":0},"#.repeat(1 << 19)),
        format!(r#"[{{"key":1,"a":{}0{}}}]"#, "[".repeat(1 << 20), "]".repeat(1 << 20)),
        format!("[{}{{}}]", "{},".repeat(1 << 20)),
        format!(r#"[{{"userName":"{}"}}]"#, "<".repeat(12 << 20)),
    ]
}

/// Events that each have a minute of its own, in the years to come.
fn scattered(json: bool, call: u64) -> String {
    let event = |i: u64| {
        let number = call * 1_000 + i;
        let minute = number.wrapping_mul(2_654_435_761) % 500_000_000;
        let time = jiff::Timestamp::from_second(1_900_000_000 + minute as i64 * 60).unwrap();
        match json {
            true => format!(r#"{{"_typeName":"VmPoweredOnEvent","key":{number},"createdTime":"{time}"}}"#),
            false => format!(
                r#"<returnval xsi:type="VmPoweredOnEvent"><key>{number}</key><createdTime>{time}</createdTime></returnval>"#
            ),
        }
    };
    let events: Vec<String> = (0..1_000).map(event).collect();
    if json { format!("[{}]", events.join(",")) } else { page(&events.concat()) }
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

/// A proxy that passes every call on, and puts hostile pages in the place of events.
struct Hostile {
    vcenter: String,
    client: reqwest::Client,
    soap: Vec<Bytes>,
    json: Vec<Bytes>,
    /// Pages that were sent, of each protocol.
    sent: [AtomicUsize; 2],
    calls: AtomicU64,
}

impl Hostile {
    /// Starts it, and returns its address.
    async fn start(vcenter: String) -> (Arc<Self>, String) {
        let compressed = |pages: Vec<String>| pages.iter().map(|page| gzip(page)).collect();
        let hostile = Arc::new(Hostile {
            vcenter,
            client: reqwest::Client::new(),
            soap: compressed(soap_pages()),
            json: compressed(json_pages()),
            sent: Default::default(),
            calls: AtomicU64::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&hostile));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (hostile, format!("http://{address}/sdk"))
    }

    /// The next page. Between any two hostile ones comes one with scattered times.
    fn page(&self, json: bool) -> Bytes {
        let sent = self.sent[usize::from(json)].fetch_add(1, Relaxed);
        let pages = if json { &self.json } else { &self.soap };
        match sent % 2 {
            0 => pages[sent / 2 % pages.len()].clone(),
            _ => gzip(&scattered(json, self.calls.fetch_add(1, Relaxed))),
        }
    }

    /// True if each page was sent at least twice.
    fn is_through(&self) -> bool {
        let through = |json: usize, pages: usize| self.sent[json].load(Relaxed) >= 4 * pages;
        through(0, self.soap.len()) && through(1, self.json.len())
    }
}

async fn answer(State(hostile): State<Arc<Hostile>>, request: axum::extract::Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
    let json = path.ends_with("/ReadNextEvents");
    if json || memchr::memmem::find(&body, b"<ReadNextEvents").is_some() {
        return Response::builder()
            .header(header::CONTENT_ENCODING, "gzip")
            .body(hostile.page(json).into())
            .unwrap();
    }
    let origin: Uri = hostile.vcenter.parse().unwrap();
    let url = format!("http://{}{path}", origin.authority().unwrap());
    let mut headers = head.headers;
    headers.remove(header::HOST);
    headers.remove(header::ACCEPT_ENCODING);
    let sent = hostile.client.request(head.method, url).headers(headers).body(body).send().await;
    let Ok(answer) = sent else {
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).unwrap();
    };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != header::TRANSFER_ENCODING && name != header::CONTENT_LENGTH {
            response = response.header(name, value);
        }
    }
    response.body(answer.bytes().await.unwrap_or_default().into()).unwrap()
}

#[test]
fn a_hostile_vcenter_takes_no_more_than_its_memory_and_another_one_loses_nothing() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let (hostile, url) = stack.runtime.block_on(async {
        let behind = VCenter::start(Options::default()).await.unwrap();
        let started = Hostile::start(behind.url()).await;
        // It lives as long as the test.
        std::mem::forget(behind);
        started
    });
    let Options { user, password, .. } = Options::default();
    let source =
        |name: &str, protocol: &str| Section::vcenter(name, &url, &user, &password).set("protocol", protocol);
    let config = stack
        .config()
        .source(source("hostile-soap", "soap"))
        .source(source("hostile-json", "vijson"))
        .processor(Section::default().set("name", "hole").set("type", "blackhole"))
        .route("good", &["vc"], &["target-0"])
        .route("bad", &["hostile-soap", "hostile-json"], &["hole"]);
    let mut router = stack.start(&config);
    let target = &stack.targets[0];
    for burst in 1..=EVENTS / BURST {
        stack.vcenter.append(BURST);
        target.wait_for(burst * BURST, LIMIT);
    }
    let through = wait_until(LIMIT, || hostile.is_through());
    assert!(through, "{:?}: {}", hostile.sent, router.stderr().text());
    stack.vcenter.append(BURST);
    target.wait_for(EVENTS + BURST, LIMIT);
    let report = target.report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.total.unique, EVENTS + BURST, "{report:?}");
    assert!(router.running(), "{}", router.stderr().text());
    let rss = router.peak_rss_kib();
    eprintln!("peak of the memory: {rss} KiB, pages sent: {:?}", hostile.sent);
    assert!(rss < RSS_KIB_MAX, "{rss} KiB");
    // A restart takes no more: the state is bounded as well.
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    router.restart();
    stack.vcenter.append(BURST);
    target.wait_for(EVENTS + 2 * BURST, LIMIT);
    let rss = router.peak_rss_kib();
    assert!(rss < RSS_KIB_MAX, "{rss} KiB after a restart");
}
