//! TLS, HTTP/2 and proxies of the HTTP client of processors, through the CloudEvents processor; and
//! failures of stdout for the console.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::processors_support::*;
use event_router::processor::blackhole::Blackhole;
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::console::Console;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, ClientCert, ClientTls, CloudEventsConfig as Settings, Proxy, Secret};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn processor(url: &str, tls: ClientTls) -> CloudEvents {
    let mut settings = Settings { http: patient(), ..Settings::new(url) };
    settings.http.tls = tls;
    CloudEvents::new(&settings, envelope()).unwrap()
}

/// A directory with named files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn trusting(&self, authority: &Authority) -> ClientTls {
        ClientTls { ca_files: vec![self.put("ca.pem", &authority.pem)], ..ClientTls::default() }
    }
}

fn ok() -> Vec<Act> {
    vec![answer("200 OK", "", "")]
}

#[tokio::test]
async fn a_ca_file_a_thumbprint_and_insecure_each_admit_a_target() {
    let (files, authority) = (Files::new(), Authority::new());
    let issued = authority.issue("localhost");
    let target = Target::start_tls(issued.server(None), ok()).await;
    let thumbprint = Some(<[u8; 32]>::from(Sha256::digest(&issued.cert_der)));
    for tls in [
        files.trusting(&authority),
        ClientTls { thumbprint, ..ClientTls::default() },
        ClientTls { insecure: true, ..ClientTls::default() },
    ] {
        let outcome = processor(&target.https_url("/"), tls.clone()).deliver(&one()).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{tls:?}: {outcome:?}");
    }
}

/// The outcome of an event for a TLS target with this certificate, when the client trusts
/// `authority`.
async fn outcome_of(issued: &Issued, authority: &Authority) -> DeliveryOutcome {
    let target = Target::start_tls(issued.server(None), ok()).await;
    processor(&target.https_url("/"), Files::new().trusting(authority)).deliver(&one()).await
}

#[tokio::test]
async fn fault_tls_with_another_thumbprint_blames_the_target() {
    let target = Target::start_tls(Authority::new().issue("localhost").server(None), ok()).await;
    let tls = ClientTls { thumbprint: Some([7; 32]), ..ClientTls::default() };
    let outcome = processor(&target.https_url("/"), tls).deliver(&one()).await;
    check_failure(
        outcome,
        Blame::Target,
        None,
        &["not the one that `tls.thumbprint` names", "SHA-256 thumbprint"],
    );
}

#[tokio::test]
async fn fault_tls_for_another_name_blames_the_target() {
    let authority = Authority::new();
    let outcome = outcome_of(&authority.issue("other.example"), &authority).await;
    check_failure(outcome, Blame::Target, None, &["certificate is not for `localhost`"]);
}

#[tokio::test]
async fn fault_tls_with_an_expired_certificate_blames_the_target() {
    let authority = Authority::new();
    let expired = authority.issue_with("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    check_failure(outcome_of(&expired, &authority).await, Blame::Target, None, &["has expired"]);
}

#[tokio::test]
async fn fault_tls_on_a_plain_port_blames_the_target() {
    let target = Target::start(vec![answer("400 Bad Request", "", "")]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let tls = ClientTls { insecure: true, ..ClientTls::default() };
    let outcome = processor(&format!("https://127.0.0.1:{port}/"), tls).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["does not speak TLS", "http://"]);
    drop(target);
}

#[tokio::test]
async fn fault_tls_handshake_that_hangs_ends_within_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut settings = Settings { http: quick(), ..Settings::new(format!("https://127.0.0.1:{port}/")) };
    settings.http.tls.insecure = true;
    let outcome = CloudEvents::new(&settings, envelope()).unwrap().deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["within 250 ms"]);
}

#[tokio::test]
async fn fault_tls_without_a_client_certificate_says_so() {
    let (files, authority, clients) = (Files::new(), Authority::new(), Authority::new());
    let target = Target::start_tls(authority.issue("localhost").server(Some(&clients)), ok()).await;
    let tls = files.trusting(&authority);
    let outcome = processor(&target.https_url("/"), tls.clone()).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["refuses our certificate", "`tls.certFile`"]);

    let ours = clients.issue("router");
    let client_cert = Some(ClientCert {
        cert_file: files.put("cert.pem", &ours.cert_pem),
        key_file: files.put("key.pem", &ours.key_pem),
    });
    let outcome = processor(&target.https_url("/"), ClientTls { client_cert, ..tls }).deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
}

#[tokio::test]
async fn unusable_tls_files_fail_the_start() {
    let (files, authority) = (Files::new(), Authority::new());
    let (ours, others) = (authority.issue("a"), authority.issue("b"));
    let refused = |tls: ClientTls, part: &str| {
        let settings = Settings {
            http: event_router::settings::HttpClient { tls, ..patient() },
            ..Settings::new("https://localhost/")
        };
        let error = CloudEvents::new(&settings, envelope()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let ca = |path: PathBuf| ClientTls { ca_files: vec![path], ..ClientTls::default() };
    refused(ca(files.0.path().join("missing.pem")), "missing.pem");
    refused(ca(files.put("empty.pem", "")), "holds no certificate");
    let client_cert = Some(ClientCert {
        cert_file: files.put("cert.pem", &ours.cert_pem),
        key_file: files.put("key.pem", &others.key_pem),
    });
    refused(ClientTls { client_cert, ..files.trusting(&authority) }, "belong together");
}

#[tokio::test]
async fn a_changed_ca_file_is_used_without_a_restart() {
    let (files, before, after) = (Files::new(), Authority::new(), Authority::new());
    let target = Target::start_tls(after.issue("localhost").server(None), ok()).await;
    let tls = files.trusting(&before);
    let processor = processor(&target.https_url("/"), tls);
    check_failure(processor.deliver(&one()).await, Blame::Target, None, &["name its CA"]);
    files.put("ca.pem", &format!("{}{}", before.pem, after.pem));
    processor.check_files_now();
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    // A half-written file does not replace a good one.
    files.put("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    processor.check_files_now();
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    // A CA that was taken out is no longer trusted, and its connections are not used again.
    files.put("ca.pem", &before.pem);
    processor.check_files_now();
    check_failure(processor.deliver(&one()).await, Blame::Target, None, &["name its CA"]);
}

/// Without waiting for the periodic look at the files.
#[tokio::test]
async fn ca_files_are_read_again_when_a_certificate_is_refused() {
    let (files, before, after) = (Files::new(), Authority::new(), Authority::new());
    let target = Target::start_tls(after.issue("localhost").server(None), ok()).await;
    let processor = processor(&target.https_url("/"), files.trusting(&before));
    check_failure(processor.deliver(&one()).await, Blame::Target, None, &["name its CA"]);
    // Another length: the size also shows a change, where the time of a file is coarse.
    files.put("ca.pem", &format!("{}{}", after.pem, "\n".repeat(9)));
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
}

#[tokio::test]
async fn a_changed_client_certificate_is_used_without_a_restart() {
    let (files, authority) = (Files::new(), Authority::new());
    let (before, after) = (Authority::new(), Authority::new());
    // The server accepts only the new certificate. Each answer ends its connection, so that each
    // request shows one.
    let bye = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = authority.issue("localhost").server(Some(&after));
    let target = Target::start_tls(server, vec![Act::SayAndClose(bye.into())]).await;
    let put = |issued: &Issued| ClientCert {
        cert_file: files.put("cert.pem", &issued.cert_pem),
        key_file: files.put("key.pem", &issued.key_pem),
    };
    let client_cert = Some(put(&before.issue("router")));
    let processor =
        processor(&target.https_url("/"), ClientTls { client_cert, ..files.trusting(&authority) });
    check_failure(processor.deliver(&one()).await, Blame::Target, None, &["refuses our certificate"]);
    // A longer name: the size also shows the change, where the time of files is coarse.
    put(&after.issue("router-with-a-new-certificate"));
    processor.check_files_now();
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    // Half of a change does not replace a good pair.
    files.put("cert.pem", &before.issue("another-router").cert_pem);
    processor.check_files_now();
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
}

#[tokio::test]
async fn a_closed_connection_is_not_used_again() {
    let bye = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let target = Target::start(vec![Act::SayAndClose(bye.into())]).await;
    let processor = processor(&target.url("/"), ClientTls::default());
    for _ in 0..5 {
        let outcome = processor.deliver(&one()).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    }
    assert_eq!((target.seen().len(), target.connections()), (5, 5));
}

#[tokio::test]
async fn a_connection_with_a_partly_read_answer_is_not_used_again() {
    let long = "x".repeat(event_router::limits::ANSWER_BYTES_MAX * 4);
    let target = Target::start(vec![answer("200 OK", "", &long), answer("200 OK", "", "short")]).await;
    let processor = processor(&target.url("/"), ClientTls::default());
    for _ in 0..3 {
        let outcome = processor.deliver(&one()).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    }
    assert_eq!((target.seen().len(), target.connections()), (3, 2));
}

#[tokio::test]
async fn parallel_requests_open_connections_and_later_ones_share_them() {
    let target = Target::start(ok()).await;
    let processor = Arc::new(processor(&target.url("/"), ClientTls::default()));
    for _ in 0..10 {
        let lanes: Vec<_> = (0..8)
            .map(|_| {
                let processor = Arc::clone(&processor);
                tokio::spawn(async move { processor.deliver(&one()).await })
            })
            .collect();
        for lane in lanes {
            let outcome = lane.await.unwrap();
            assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
        }
    }
    assert_eq!(target.seen().len(), 80);
    assert!(target.connections() <= 8, "{} connections", target.connections());
}

/// A server of hyper's that counts requests by HTTP version.
async fn counting_server(tls: Option<rustls::ServerConfig>) -> (SocketAddr, Arc<Mutex<Vec<hyper::Version>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, versions) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let (seen, tls) = (Arc::clone(&versions), tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls))));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, tls) = (Arc::clone(&seen), tls.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    seen.lock().unwrap().push(request.version());
                    async {
                        Ok::<_, io::Error>(hyper::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
                    }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = match tls {
                    Some(tls) => {
                        server
                            .serve_connection(TokioIo::new(tls.accept(stream).await.unwrap()), service)
                            .await
                    }
                    None => server.serve_connection(TokioIo::new(stream), service).await,
                };
            });
        }
    });
    (address, versions)
}

#[tokio::test]
async fn http2_is_spoken_where_tls_negotiates_it() {
    let (files, authority) = (Files::new(), Authority::new());
    let mut config = authority.issue("localhost").server(None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (address, versions) = counting_server(Some(config)).await;
    let url = format!("https://localhost:{}/", address.port());
    let processor = processor(&url, files.trusting(&authority));
    for _ in 0..3 {
        let outcome = processor.deliver(&one()).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    }
    assert_eq!(*versions.lock().unwrap(), [hyper::Version::HTTP_2; 3]);
}

#[tokio::test]
async fn http2_with_prior_knowledge_needs_no_tls() {
    use event_router::net::{Version, target_uri};
    use event_router::processor::client::TargetClient;
    let (address, versions) = counting_server(None).await;
    let uri = target_uri(&format!("http://{address}/")).unwrap();
    for (version, expected) in
        [(Version::Http2, hyper::Version::HTTP_2), (Version::Auto, hyper::Version::HTTP_11)]
    {
        let client = TargetClient::new(&uri, &patient(), version, &Auth::None, &[]).unwrap();
        client.deliver(uri.clone(), hyper::HeaderMap::new(), bytes::Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(versions.lock().unwrap().pop(), Some(expected));
    }
}

fn proxied(url: &str, proxy: &str) -> CloudEvents {
    let mut settings = Settings { http: patient(), ..Settings::new(url) };
    settings.http.proxy = Proxy::Url {
        url: proxy.to_string(),
        auth: Auth::Basic { username: "u".into(), password: Secret::inline("p") },
    };
    settings.http.tls.insecure = true;
    CloudEvents::new(&settings, envelope()).unwrap()
}

#[tokio::test]
async fn a_proxy_forwards_plain_http() {
    let proxy = Target::start(ok()).await;
    let outcome = proxied("http://target.example/hook", &proxy.url("")).deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let seen = proxy.seen().remove(0);
    assert_eq!(seen.line(), "POST http://target.example/hook HTTP/1.1");
    assert_eq!(seen.header("proxy-authorization"), Some("Basic dTpw"));
}

#[tokio::test]
async fn a_proxy_tunnels_https() {
    let target = Target::start_tls(Authority::new().issue("target.example").server(None), ok()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (proxy, to) = (listener.local_addr().unwrap(), target.address);
    let asked = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        String::from_utf8(head).unwrap()
    });
    let outcome = proxied("https://target.example/hook", &format!("http://{proxy}")).deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("CONNECT target.example:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic dTpw\r\n"), "{asked}");
    let seen = target.seen().remove(0);
    assert_eq!((seen.line(), seen.header("proxy-authorization")), ("POST /hook HTTP/1.1", None));
}

/// The target's `tls.insecure` admits no proxy, and the target's certificate is not shown to it.
#[tokio::test]
async fn an_https_proxy_has_certificates_of_its_own() {
    let (files, authority) = (Files::new(), Authority::new());
    let proxy = Target::start_tls(authority.issue("localhost").server(None), ok()).await;
    let mut settings = Settings { http: patient(), ..Settings::new("http://target.example/hook") };
    settings.http.proxy = Proxy::Url { url: proxy.https_url(""), auth: Auth::None };
    settings.http.tls.insecure = true;
    let deliver =
        async |settings: &Settings| CloudEvents::new(settings, envelope()).unwrap().deliver(&one()).await;
    check_failure(deliver(&settings).await, Blame::Target, None, &["not trusted here", "`proxyTls.caFile`"]);
    settings.http.proxy_tls = files.trusting(&authority);
    let outcome = deliver(&settings).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    assert_eq!(proxy.seen()[0].line(), "POST http://target.example/hook HTTP/1.1");
}

#[tokio::test]
async fn fault_proxy_that_refuses_blames_the_target() {
    let proxy = Target::start(vec![answer("407 Proxy Authentication Required", "", "")]).await;
    let outcome = proxied("https://target.example/", &proxy.url("")).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["the proxy http://127.0.0.1", "authorization required"]);
}

#[tokio::test]
async fn fault_407_blames_the_proxy_if_there_is_one() {
    let refusing = Target::start(vec![answer("407 Proxy Authentication Required", "", "")]).await;
    let outcome = proxied("http://target.example/hook", &refusing.url("")).deliver(&one()).await;
    check_failure(outcome, Blame::Target, Some(407), &["check the proxy's credentials"]);
    let direct = Settings { http: patient(), ..Settings::new(refusing.url("/hook")) };
    let outcome = CloudEvents::new(&direct, envelope()).unwrap().deliver(&one()).await;
    check_failure(outcome, Blame::Target, Some(407), &[]);
}

#[test]
fn an_invalid_proxy_fails_the_start() {
    let mut settings = Settings { http: patient(), ..Settings::new("http://target.example/") };
    for (url, part) in [("socks5://127.0.0.1:1", "not an HTTP proxy"), ("::", "cannot use the URL")] {
        settings.http.proxy = Proxy::Url { url: url.into(), auth: Auth::None };
        let error = CloudEvents::new(&settings, envelope()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// A stdout that keeps its bytes, or fails.
#[derive(Clone, Default)]
struct Out {
    lines: Arc<Mutex<Vec<u8>>>,
    fails: Option<io::ErrorKind>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.fails {
            Some(kind) => Err(kind.into()),
            None => {
                self.lines.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_console_writes_one_event_per_line() {
    let out = Out::default();
    let console = Console::over(envelope(), Box::new(out.clone()));
    assert!(matches!(
        console.deliver(&whole(&batch(&["AEvent", "BEvent"]))).await,
        DeliveryOutcome::Delivered
    ));
    assert!(matches!(console.deliver(&one()).await, DeliveryOutcome::Delivered));
    let text = String::from_utf8(out.lines.lock().unwrap().clone()).unwrap();
    let subjects: Vec<String> = text
        .split_terminator('\n')
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["subject"].as_str().unwrap().to_string()
        })
        .collect();
    assert_eq!(subjects, ["AEvent", "BEvent", "VmPoweredOnEvent"]);
}

#[tokio::test]
async fn fault_closed_stdout_blames_the_target() {
    let out = Out { fails: Some(io::ErrorKind::BrokenPipe), ..Out::default() };
    let outcome = Console::over(envelope(), Box::new(out)).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["closed by its reader"]);
}

#[tokio::test]
async fn the_blackhole_takes_everything() {
    assert!(matches!(Blackhole.deliver(&one()).await, DeliveryOutcome::Delivered));
}
