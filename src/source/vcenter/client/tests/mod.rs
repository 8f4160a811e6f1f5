//! The client against recorded answers, over real sockets.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use vsphere::api::{About, EventFilterSpec, EventInfo, EventPosition, FaultKind, MoRef, ServiceContent};

use super::*;
use crate::limits::CONTROL_BYTES_MAX;
use crate::net::settings::ClientTls;
use crate::source::vcenter::settings::Protocol;
use vsphere::Wire;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/soap/", $name, ".res.xml"))
    };
}

mod server;
mod silence;
mod tls;

use self::server::{Reply, SILENCE, Server, fault, json, ok, options};

fn content() -> ServiceContent {
    ServiceContent {
        root_folder: MoRef::new("Folder", "group-d1"),
        property_collector: MoRef::new("PropertyCollector", "propertyCollector"),
        session_manager: MoRef::new("SessionManager", "SessionManager"),
        event_manager: MoRef::new("EventManager", "EventManager"),
        about: About {
            full_name: String::new(),
            api_version: String::new(),
            api_type: String::new(),
            instance_uuid: None,
        },
    }
}

fn collector() -> MoRef {
    MoRef::new("EventHistoryCollector", "c1")
}

const VERSIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?><namespaces version="1.0"><namespace><name>urn:vim25</name>
    <version>8.0.3.0</version><priorVersions><version>8.0.2.0</version></priorVersions></namespace></namespaces>"#;

/// A server may repeat a cookie in another form than the one in which it set it.
#[tokio::test]
async fn all_cookies_of_a_login_are_secrets() {
    let cookies = "Set-Cookie: lb=balancer-4711\r\n\
        Set-Cookie: vmware_soap_session=\"52ab%2Bcookie\"\r\n\
        Set-Cookie: vmware_soap_session=second-4712\r\n";
    let said = "of 52ab%2Bcookie, 52ab+cookie, second-4712, balancer-4711.";
    let server = Server::start(vec![
        ok(VERSIONS),
        ok(recorded!("router0.30.RetrieveServiceContent")),
        Reply::Full(200, cookies, recorded!("router0.30.Login").as_bytes().to_vec()),
        Reply::Full(502, "", said.as_bytes().to_vec()),
    ])
    .await;
    let client = server.client();
    let content = client.open().await.unwrap();
    client.login(&content.session_manager, "u", "p").await.unwrap();
    let error = client.read_next_events(&collector(), 7, SILENCE).await.unwrap_err().to_string();
    assert!(error.contains("of …, …, …, …."), "{error}");
}

#[tokio::test]
async fn a_session_from_the_first_call_to_the_last() {
    let cookie = "Set-Cookie: vmware_soap_session=\"abc\"; Path=/; HttpOnly\r\n";
    let server = Server::start(vec![
        ok(VERSIONS),
        ok(recorded!("router0.30.RetrieveServiceContent")),
        Reply::Full(200, cookie, recorded!("router0.30.Login").as_bytes().to_vec()),
        ok(recorded!("router0.30.CurrentTime")),
        ok(recorded!("pyvmomi9.CreateCollectorForEvents")),
        ok(recorded!("pyvmomi9.SetCollectorPageSize")),
        ok(recorded!("pyvmomi9.ReadNextEvents.2")),
        ok(recorded!("pyvmomi9.ReadNextEvents.4")),
        ok(recorded!("pyvmomi9.DestroyCollector")),
        ok(recorded!("router0.30.Logout")),
        ok(recorded!("router0.30.CurrentTime")),
    ])
    .await;
    let client = server.client();
    let content = client.open().await.unwrap();
    assert_eq!(client.version().as_str(), "8.0.3.0");
    assert_eq!(content.root_folder, MoRef::new("Folder", "group-d1"));
    assert_eq!(content.about.instance_uuid.unwrap().to_string(), "cc4db9a9-35d5-5731-a798-7b32a5c23a64");
    assert_eq!((&*content.about.api_version, &*content.about.api_type), ("6.5", "VirtualCenter"));
    client.login(&content.session_manager, "user", "p<&>\"s").await.unwrap();
    assert_eq!(client.current_time_us().await.unwrap(), 1_795_306_948_966_441);
    let spec = EventFilterSpec { begin_us: Some(0), delayed_init: true, ..EventFilterSpec::default() };
    let collector = client.create_collector_for_events(&content, &spec).await.unwrap();
    assert!(collector.id.starts_with("session[09300b81") && collector.kind == "EventHistoryCollector");
    client.set_collector_page_size(&collector, 1).await.unwrap();
    let page = client.read_next_events(&collector, 1_000, SILENCE).await.unwrap().page.unwrap();
    assert_eq!(&page.bytes[..], recorded!("pyvmomi9.ReadNextEvents.2").as_bytes());
    assert!(client.read_next_events(&collector, 1_000, SILENCE).await.unwrap().page.is_none());
    client.destroy_collector(&collector).await.unwrap();
    client.logout(&content.session_manager).await.unwrap();
    client.current_time_us().await.unwrap();

    assert!(server.request(0).0.starts_with("GET /sdk/vimServiceVersions.xml HTTP/1.1"));
    let (head, body) = server.request(2);
    assert!(head.contains("urn:vim25/8.0.3.0") && !head.contains("cookie"), "{head}");
    assert!(body.contains("<password>p&lt;&amp;&gt;\"s</password>"), "{body}");
    assert!(server.request(3).0.contains("cookie: vmware_soap_session=\"abc\"\r\n"));
    let (_, body) = server.request(4);
    assert!(
        body.contains("<delayedInit>true</delayedInit>") && body.contains("<disableFullMessage>false<"),
        "{body}"
    );
    assert!(!server.request(10).0.contains("cookie"), "the session ended with its logout");
}

#[tokio::test]
async fn a_server_without_a_version_list_is_asked_for_its_version() {
    let server = Server::start(vec![
        Reply::Full(404, "", b"not found".to_vec()),
        ok(recorded!("router0.30.RetrieveServiceContent")),
    ])
    .await;
    let client = server.client();
    client.open().await.unwrap();
    assert_eq!(client.version().as_str(), "6.5");
    assert!(server.request(1).0.contains("urn:vim25/6.0"));
}

#[tokio::test]
async fn properties_and_updates_are_read() {
    let latest = recorded!("pyvmomi9.WaitForUpdatesEx.3");
    let property = recorded!("pyvmomi9.Fetch-latestEvent").replace(
        "EventManager</obj>",
        "EventManager</obj><propSet><name>latestEvent</name><val xsi:type=\"EventEx\"><key>-7</key>\
         <createdTime>1970-01-01T00:00:01Z</createdTime></val></propSet>",
    );
    let missing = recorded!("pyvmomi9.Fetch-latestEvent").replace(
        "EventManager</obj>",
        "EventManager</obj><missingSet><path>latestEvent</path><fault><fault xsi:type=\"X\"/></fault></missingSet>",
    );
    let broken = property.replace("</createdTime>", "</createdTime><fullFormattedMessage>\u{2}</val>");
    let info = recorded!("govmomi0.24.RetrieveProperties-description")
        .replace("RetrievePropertiesResponse", "RetrievePropertiesExResponse")
        .replace("<returnval><obj", "<returnval><objects><obj")
        .replace("</propSet></returnval>", "</propSet></objects></returnval>");
    let server = Server::start(vec![
        ok(&property),
        ok(&broken),
        ok(recorded!("pyvmomi9.Fetch-latestEvent")),
        ok(&missing),
        ok(&info),
        ok(recorded!("pyvmomi9.CreatePropertyCollector")),
        ok(recorded!("pyvmomi9.CreateFilter")),
        ok(recorded!("pyvmomi9.WaitForUpdatesEx.2")),
        ok(latest),
        ok(recorded!("govmomi0.24.DestroyPropertyCollector")),
        ok(recorded!("pyvmomi9.QueryEvents")),
    ])
    .await;
    let client = server.client();
    let content = content();
    for what in ["a whole event", "one that is not well-formed"] {
        let found = client.latest_event(&content).await.unwrap();
        assert_eq!(found, Some(EventPosition { key: -7, created_us: 1_000_000 }), "{what}");
    }
    assert_eq!(client.latest_event(&content).await.unwrap(), None);
    assert_eq!(client.latest_event(&content).await.unwrap(), None);
    let info = client.event_info(&content).await.unwrap();
    assert_eq!((info[0].event_type(), &*info[0].category), ("UserLoginSessionEvent", "info"));
    assert!(info.len() > 20);
    let watcher = client.create_property_collector(&content).await.unwrap();
    assert_eq!(watcher.kind, "PropertyCollector");
    let filter = client.create_filter(&watcher, &collector(), &["latestPage"]).await.unwrap();
    assert_eq!(filter.kind, "PropertyFilter");
    let wait = Duration::from_secs(60);
    assert_eq!(client.wait_for_updates(&watcher, "", wait).await.unwrap(), None);
    let update = client.wait_for_updates(&watcher, "-", wait).await.unwrap().unwrap();
    assert_eq!((&*update.version, update.latest.unwrap().key), ("-", 38));
    client.destroy_property_collector(&watcher).await.unwrap();
    let spec = EventFilterSpec { max_count: Some(10), ..EventFilterSpec::default() };
    assert!(client.query_events(&content, &spec).await.unwrap().is_some());
    assert!(server.request(8).1.contains("<maxWaitSeconds>60</maxWaitSeconds>"));
    assert!(server.request(6).1.contains("<pathSet>latestPage</pathSet>"));
}

#[test]
fn an_eventex_is_named_by_its_type_id() {
    let info = |key: &str, full_format: &str| EventInfo {
        key: key.to_string(),
        description: String::new(),
        category: String::new(),
        full_format: full_format.to_string(),
    };
    assert_eq!(info("EventEx", "com.vmware.x|Text {a|b}").event_type(), "com.vmware.x");
    assert_eq!(info("EventEx", "no bar").event_type(), "EventEx");
    assert_eq!(info("VmPoweredOnEvent", "a|b").event_type(), "VmPoweredOnEvent");
}

#[tokio::test]
async fn faults_are_typed_and_a_missing_object_counts_as_destroyed() {
    let server = Server::start(vec![
        fault(recorded!("pyvmomi9.fault-InvalidLogin-Login")),
        fault(recorded!("pyvmomi9.fault-NotAuthenticated-ReadNextEvents")),
        fault(recorded!("pyvmomi9.fault-ManagedObjectNotFound-ReadNextEvents")),
        fault(recorded!("pyvmomi9.fault-ManagedObjectNotFound-ReadNextEvents")),
        fault(recorded!("pyvmomi9.fault-InvalidState-CreateCollectorForEvents")),
    ])
    .await;
    let client = server.client();
    let check = |error: CallError, kind: FaultKind| assert_eq!(error.fault(), Some(kind), "{error}");
    let content = content();
    let refused = client.login(&content.session_manager, "user", "hunter2").await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    check(refused, FaultKind::InvalidLogin);
    check(client.read_next_events(&collector(), 1, SILENCE).await.unwrap_err(), FaultKind::NotAuthenticated);
    check(
        client.read_next_events(&collector(), 1, SILENCE).await.unwrap_err(),
        FaultKind::ManagedObjectNotFound,
    );
    client.destroy_collector(&collector()).await.unwrap();
    let spec = EventFilterSpec::default();
    check(client.create_collector_for_events(&content, &spec).await.unwrap_err(), FaultKind::InvalidState);
}

#[tokio::test]
async fn answers_that_are_not_vcenters_are_distinguished() {
    let page = recorded!("pyvmomi9.ReadNextEvents.2");
    let cut_in_body =
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", &page.as_bytes()[..1_500]].concat();
    let cut_at_end = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &page.as_bytes()[..1_500]].concat();
    let cut_in_chunk =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n", &page.as_bytes()[..1_500], b"\r\n"]
            .concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(page.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let html = b"<html><body>Bad Gateway</body></html>".to_vec();
    let server = Server::start(vec![
        Reply::Raw(cut_in_body),
        Reply::Raw(cut_at_end),
        Reply::Raw(cut_in_chunk),
        Reply::Full(200, "Content-Encoding: gzip\r\n", gzip[..gzip.len() / 2].to_vec()),
        Reply::Raw(Vec::new()),
        Reply::Full(503, "", b"no healthy upstream".to_vec()),
        Reply::Full(200, "", html.clone()),
        Reply::Full(200, "", Vec::new()),
        Reply::Full(302, "Location: https://other/sdk\r\n", Vec::new()),
        ok("<Envelope><Body><OtherResponse/></Body></Envelope>"),
        ok("<!DOCTYPE a [<!ENTITY b 'c'>]><Envelope><Body/></Envelope>"),
        Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (64 << 20) + 1).into_bytes()),
        Reply::Full(200, "Content-Encoding: gzip\r\n", gzip),
    ])
    .await;
    let client = server.client();
    let collector = collector();
    for what in ["content-length", "end of connection", "chunk", "gzip", "nothing"] {
        let error = client.read_next_events(&collector, 1_000, SILENCE).await.unwrap_err();
        assert!(matches!(error, CallError::Lost { method: "ReadNextEvents", .. }), "{what}: {error}");
    }
    for (what, part) in [
        (
            "503",
            "HTTP 503 without an answer of the vSphere API: \"no healthy upstream\"; the vCenter's service is starting or down",
        ),
        (
            "html",
            "HTTP 200 without an answer of the vSphere API: \"<html><body>Bad Gateway</body></html>\"; is this a vCenter's address",
        ),
        ("empty", "HTTP 200 without an answer of the vSphere API; is this"),
        (
            "redirect",
            "HTTP 302 without an answer of the vSphere API: \"https://other/sdk\"; the address redirects",
        ),
        ("other method", "without an answer of the vSphere API"),
        ("doctype", "document type declaration"),
    ] {
        let error = client.read_next_events(&collector, 1_000, SILENCE).await.unwrap_err().to_string();
        assert!(error.contains(part), "{what}: {error}");
    }
    let error = client.read_next_events(&collector, 1_000, SILENCE).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    let whole = client.read_next_events(&collector, 1_000, SILENCE).await.unwrap().page.unwrap();
    assert_eq!(&whole.bytes[..], page.as_bytes());
    assert_eq!(server.requests.lock().unwrap().len(), 13, "no read was repeated");
}

#[tokio::test]
async fn a_gzip_bomb_costs_no_more_than_its_bound() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..=CONTROL_BYTES_MAX >> 20 {
        gzip.write_all(&zeros).unwrap();
    }
    let server =
        Server::start(vec![Reply::Full(200, "Content-Encoding: gzip\r\n", gzip.finish().unwrap())]).await;
    let error = server.client().current_time_us().await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { limit: CONTROL_BYTES_MAX, .. }), "{error}");
}

#[tokio::test]
async fn vijson_goes_to_the_path_of_object_and_method_with_the_session_in_a_header() {
    let reference =
        |kind: &str| serde_json::json!({"_typeName": "ManagedObjectReference", "type": kind, "value": kind});
    let content = serde_json::json!({
        "_typeName": "ServiceContent",
        "rootFolder": reference("Folder"),
        "propertyCollector": reference("PropertyCollector"),
        "sessionManager": reference("SessionManager"),
        "eventManager": reference("EventManager"),
        "about": {"_typeName": "AboutInfo", "fullName": "VMware vCenter Server 8.0.3", "apiType": "VirtualCenter", "apiVersion": "8.0.3.0"},
    });
    let session = "vmware-api-session-id: 52ab\r\nSet-Cookie: vmware_soap_session=x\r\n";
    let fault = r#"{"_typeName":"NotAuthenticated","faultMessage":[{"message":"The session is gone."}]}"#;
    let server = Server::start(vec![
        json(200, "", r#"{"api_release":"8.0.3.0"}"#),
        json(200, "", &content.to_string()),
        json(200, session, r#"{"_typeName":"UserSession","key":"k"}"#),
        json(200, "", r#"[{"_typeName":"VmPoweredOnEvent","key":1}]"#),
        json(204, "", ""),
        json(200, "", "[]"),
        json(500, "", fault),
        json(200, "", r#"[{"_typeName":"EventEx","arguments":[{"key":"a"}]"#),
        json(200, "", "<html>Bad Gateway</html>"),
    ])
    .await;
    let client = server.client_of("http", tls::insecure(), Protocol::Auto);
    let opened = client.open().await.unwrap();
    assert_eq!((client.wire(), client.version().as_str()), (Wire::ViJson, "8.0.3.0"));
    assert_eq!(opened.about.api_type, "VirtualCenter");
    client.login(&opened.session_manager, "u", "p\u{1}").await.unwrap();
    let page = client.read_next_events(&collector(), 7, SILENCE).await.unwrap().page.unwrap();
    assert_eq!(&page.bytes[..], br#"[{"_typeName":"VmPoweredOnEvent","key":1}]"#);
    assert_eq!(client.read_next_events(&collector(), 7, SILENCE).await.unwrap().page, None, "nothing");
    assert_eq!(client.read_next_events(&collector(), 7, SILENCE).await.unwrap().page, None, "an empty list");
    for expected in [
        "vCenter answered NotAuthenticated: The session is gone.",
        "the answer was lost: it ends before",
        "HTTP 200 without an answer of the vSphere API: \"<html>Bad",
    ] {
        let error = client.read_next_events(&collector(), 7, SILENCE).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    let (hello, body) = server.request(0);
    assert!(hello.starts_with("POST /api/vcenter/system?action=hello HTTP/1.1"), "{hello}");
    assert!(body.starts_with(r#"{"api_releases":["9."#) && body.ends_with(r#""8.0.1.0"]}"#), "{body}");
    let (login, body) = server.request(2);
    assert!(
        login.starts_with("POST /sdk/vim25/8.0.3.0/SessionManager/SessionManager/Login HTTP/1.1"),
        "{login}"
    );
    assert!(!login.contains("vmware-api-session-id"), "{login}");
    assert!(body.contains(r#""password":"p\u0001""#), "what SOAP cannot carry: {body}");
    let (read, body) = server.request(3);
    let path = "POST /sdk/vim25/8.0.3.0/EventHistoryCollector/c1/ReadNextEvents HTTP/1.1";
    assert!(read.starts_with(path), "{read}");
    let read = read.to_lowercase();
    assert!(read.contains("vmware-api-session-id: 52ab") && !read.contains("cookie:"), "{read}");
    assert_eq!(body, r#"{"maxCount":7}"#);
}

#[tokio::test]
async fn only_a_complete_answer_lets_a_connection_be_used_again() {
    let whole = ok(recorded!("router0.30.CurrentTime"));
    let too_large = Reply::Full(200, "", vec![b' '; CONTROL_BYTES_MAX + 1]);
    let server = Server::start(vec![whole.clone(), whole.clone(), too_large, whole]).await;
    let client = server.client();
    for _ in 0..2 {
        client.current_time_us().await.unwrap();
    }
    let error = client.current_time_us().await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    client.current_time_us().await.unwrap();
    let connections = server.connections.load(Ordering::Relaxed);
    assert_eq!((connections, server.requests.lock().unwrap().len()), (2, 4));
}

#[tokio::test]
async fn a_proxy_forwards_http_and_says_why_it_opens_no_tunnel() {
    let refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    let server = Server::start(vec![ok(VERSIONS), Reply::Raw(refusal)]).await;
    let proxy = format!("http://127.0.0.1:{}", server.port);
    let (username, password) = ("u".to_string(), crate::config::Secret::inline("p"));
    let auth = crate::net::settings::Auth::Basic { username, password };
    let through = crate::net::settings::Proxy::Url { url: proxy.clone(), auth };
    let get = async |url: &str| {
        let options = options(url.to_string(), tls::insecure());
        let transport = transport::Transport::through(&through, url.parse().unwrap(), &options).unwrap();
        transport.get("GET", "/vimServiceVersions.xml", CONTROL_BYTES_MAX).await
    };
    assert_eq!(get("http://vcenter.example/sdk").await.unwrap().body, VERSIONS);
    let (head, _) = server.request(0);
    assert!(head.starts_with("GET http://vcenter.example/sdk/vimServiceVersions.xml HTTP/1.1"), "{head}");
    for line in ["host: vcenter.example", "proxy-authorization: Basic dTpw"] {
        assert!(head.lines().any(|found| found == line), "{head}");
    }
    let error = get("https://vcenter.example/sdk").await.err().unwrap();
    assert!(matches!(error, CallError::Connect { .. }), "{error:?}");
    let refused = format!("cannot connect to vcenter.example:443: the proxy {proxy} refuses a connection");
    assert!(error.to_string().contains(&refused), "{error}");
    assert!(server.request(1).0.starts_with("CONNECT vcenter.example:443 HTTP/1.1"));
}

#[tokio::test]
async fn the_error_for_an_address_without_a_vcenter_names_the_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let check = async |url: String, part: &str| {
        let error = Client::new(&options(url, tls::insecure())).unwrap().open().await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. } | CallError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(format!("http://127.0.0.1:{port}/sdk"), "connection refused").await;
    // A label of 64 characters: no resolver asks anyone for it.
    check(format!("http://{}.invalid/sdk", "a".repeat(64)), "cannot be resolved").await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 this port speaks plain HTTP\r\n\r\n").await.unwrap();
    });
    check(format!("https://127.0.0.1:{port}/sdk"), "does not speak TLS on this port").await;
}
