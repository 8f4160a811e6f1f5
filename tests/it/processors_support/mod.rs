//! Helpers of the processor tests: batches, requests, a scripted target, and certificates.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::event::{Batch, Category, Record, Selection, SourceInfo, Span};
use event_router::processor::{BatchSlice, Blame, DeliveryOutcome, DeliveryRequest, Failure, Processor};
use event_router::settings::{HttpClient, Proxy};
use event_router::supervise::Supervisor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

/// Starts the background work of a processor.
pub fn start(processor: &Arc<impl Processor>) {
    Arc::clone(processor).start(&Supervisor::default(), "target");
}

/// A batch of `subjects.len()` events; event `i` has the key `i` and the id `uuid(i)`.
pub fn batch(subjects: &[&str]) -> Arc<Batch> {
    let mut arena = Vec::new();
    let mut put = |text: &str| {
        let start = arena.len();
        arena.extend_from_slice(text.as_bytes());
        Span::new(start, arena.len())
    };
    let records = subjects
        .iter()
        .enumerate()
        .map(|(i, subject)| Record {
            key: Some(i as i32),
            created_us: Some(1_763_769_599_000_000),
            category: if subject.contains('.') { Category::EventEx } else { Category::Event },
            class: put(if subject.contains('.') { "EventEx" } else { subject }),
            subject: put(subject),
            entity: put("VirtualMachine:vm-65"),
            created_text: put("2025-11-21T23:59:59Z"),
            data: put(&format!(r#"{{"Key":{i},"UserName":"root"}}"#)),
            id: id(i),
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

pub fn id(i: usize) -> Uuid {
    Uuid::from_u128(i as u128 + 1)
}

/// All events of `batch` in one request.
pub fn whole(batch: &Arc<Batch>) -> DeliveryRequest {
    request(batch, Selection::first(batch.records.len()), "")
}

/// One event of power-on in a request of its own.
pub fn one() -> DeliveryRequest {
    whole(&batch(&["VmPoweredOnEvent"]))
}

pub fn request(batch: &Arc<Batch>, selection: Selection, function: &str) -> DeliveryRequest {
    DeliveryRequest {
        function: function.into(),
        slices: vec![BatchSlice { batch: Arc::clone(batch), selection }],
        events: selection.len(),
        attempt: 1,
    }
}

pub fn envelope() -> Envelope {
    Envelope::new(EnvelopeOptions::default()).unwrap()
}

/// Time-outs that no busy machine reaches, and no proxy from the environment.
pub fn patient() -> HttpClient {
    HttpClient {
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(20),
        proxy: Proxy::Direct,
        ..HttpClient::default()
    }
}

/// Time-outs that a test can wait for: only for tests of the time-outs themselves.
pub fn quick() -> HttpClient {
    HttpClient {
        timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(250),
        ..patient()
    }
}

/// The failure of an outcome that failed as a whole.
#[track_caller]
pub fn failed(outcome: DeliveryOutcome) -> Failure {
    match outcome {
        DeliveryOutcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

/// Asserts whose fault a failure is, its status and that its reason says all of `parts`.
#[track_caller]
pub fn check_failure(outcome: DeliveryOutcome, blame: Blame, status: Option<u16>, parts: &[&str]) -> Failure {
    let failure = failed(outcome);
    assert_eq!((failure.blame, failure.status), (blame, status), "{}", failure.reason);
    for part in parts {
        assert!(failure.reason.contains(part), "`{part}` is not in `{}`", failure.reason);
    }
    failure
}

/// The reaction of a target to a request that it has read.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes and keeps the connection.
    Say(String),
    /// Waits, then sends these bytes and keeps the connection.
    SayAfter(Duration, String),
    /// Sends these bytes and closes the connection.
    SayAndClose(String),
    /// Sends these bytes and says nothing more.
    SayAndHang(String),
    /// Resets the connection (RST).
    Reset,
}

/// An answer with a body.
pub fn answer(status: &str, headers: &str, body: &str) -> Act {
    Act::Say(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
}

/// A request as the target saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request line and headers, names in lower case as hyper sends them.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// The reaction of a test server to each request.
type Conduct = Arc<Mutex<dyn FnMut(&Seen) -> Act + Send>>;

/// A scripted HTTP/1.1 server on loopback. A drop also ends its connections, sooner or later.
pub struct Target {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    /// Ends the task as soon as it is dropped.
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Target {
    /// One act a request, the last one repeated.
    pub async fn start(script: Vec<Act>) -> Target {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        Self::on(listener, None, following(script))
    }

    pub async fn start_tls(config: rustls::ServerConfig, script: Vec<Act>) -> Target {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        Self::on(listener, Some(config), following(script))
    }

    /// Serves the clients of `listener` until the target is dropped. The listener may live longer.
    pub fn on(
        listener: Arc<TcpListener>,
        tls: Option<rustls::ServerConfig>,
        conduct: impl FnMut(&Seen) -> Act + Send + 'static,
    ) -> Target {
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (conduct, tls): (Conduct, _) =
            (Arc::new(Mutex::new(conduct)), tls.map(|config| TlsAcceptor::from(Arc::new(config))));
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            async move {
                let mut open = tokio::task::JoinSet::new();
                loop {
                    let stream = tokio::select! {
                        biased;
                        _ = &mut stopped => break,
                        accepted = listener.accept() => accepted.unwrap().0,
                    };
                    *connections.lock().unwrap() += 1;
                    let (seen, conduct, tls) = (Arc::clone(&seen), Arc::clone(&conduct), tls.clone());
                    open.spawn(async move {
                        match tls {
                            None => follow(stream, &conduct, &seen).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    follow(stream, &conduct, &seen).await;
                                }
                            }
                        }
                    });
                }
                open.shutdown().await;
            }
        });
        Target { address, seen, connections, stop, task }
    }

    /// Stops the target. Returns when its connections have ended, so that none of them reaches the
    /// next target on the same address.
    pub async fn end(self) {
        let Target { stop, task, .. } = self;
        drop(stop);
        task.await.unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// With a name that the certificates of [`Authority::issue`] are for.
    pub fn https_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

/// One act a request, the last one repeated.
fn following(mut script: Vec<Act>) -> impl FnMut(&Seen) -> Act + Send + 'static {
    move |_| if script.len() > 1 { script.remove(0) } else { script[0].clone() }
}

/// Streams of which a script may be followed.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn follow(mut stream: impl Wire, conduct: &Conduct, seen: &Mutex<Vec<Seen>>) {
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut unread).await {
        let act = (conduct.lock().unwrap())(&request);
        seen.lock().unwrap().push(request);
        match act {
            Act::Say(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::SayAfter(wait, text) => {
                tokio::time::sleep(wait).await;
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::SayAndClose(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::SayAndHang(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                std::future::pending::<()>().await;
            }
            Act::Reset => {
                stream.tcp().set_zero_linger().unwrap();
                return;
            }
        }
    }
}

/// Reads one request with a `Content-Length` or none; `None` at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<Seen> {
    let mut more = async |unread: &mut Vec<u8>| stream.read_buf(unread).await.is_ok_and(|n| n > 0);
    let end = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if !more(unread).await {
            return None;
        }
    };
    let head = String::from_utf8(unread[..end].to_vec()).unwrap();
    let seen = Seen { head, body: Vec::new() };
    let length: usize = seen.header("content-length").map_or(0, |value| value.parse().unwrap());
    while unread.len() < end + length {
        if !more(unread).await {
            return None;
        }
    }
    let body = unread[end..end + length].to_vec();
    unread.drain(..end + length);
    Some(Seen { body, ..seen })
}

/// A listener whose backlog is soon full: 1 is the least that can be asked for.
pub fn narrow_listener() -> Arc<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Arc::new(socket.listen(1).unwrap())
}

/// A port whose backlog is full and not emptied: the kernel drops what else wants to connect.
pub struct Deaf {
    pub address: SocketAddr,
    _listener: Arc<TcpListener>,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    pub async fn new() -> Self {
        Self::of(narrow_listener()).await
    }

    /// From now on until it is dropped nobody accepts at this [`narrow_listener`].
    pub async fn of(listener: Arc<TcpListener>) -> Self {
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the backlog never fills");
        }
        Deaf { address, _listener: listener, _waiting: waiting }
    }
}

/// A certificate authority for one test.
pub struct Authority {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
    pub cert_der: Vec<u8>,
    key_der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("CA {}", Uuid::new_v4()));
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, |_| {})
    }

    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Issued {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert_der: cert.der().to_vec(),
            key_der: key.serialize_der(),
        }
    }
}

impl Issued {
    /// A server with this certificate. With `clients` it asks for certificates that they issued.
    pub fn server(&self, clients: Option<&Authority>) -> rustls::ServerConfig {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key_der.clone()).unwrap();
        builder.with_single_cert(vec![self.cert_der.clone().into()], key).unwrap()
    }
}
