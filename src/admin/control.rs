//! The control socket: commands such as `dlq replay` use it to change a running router.
//!
//! It is a Unix socket in the data directory, and only the router's own user and root can open it.
//! HTTP stays read-only. Each connection carries one request, a JSON object on one line. The
//! answers are JSON objects too, one per line, until the router closes the connection:
//!
//! ```text
//! dataDir/control.sock   mode 0600
//!
//!   {"replay": {FILTER}}  ─►  {"replayed": {"letter": 7, "destination": "…", "ended": "…"}}
//!                             …
//!                             {"done": null}
//!   {"replayTo": {"filter": {FILTER}, "destination": "…"}}  ─►  the same
//!   {"drop": {FILTER}}    ─►  {"dropped": 12}
//!                             {"done": null}
//!   {"status": null}      ─►  {"status": {…}}, see `model/shape.rs`
//!                             {"done": null}
//!   {"eventTypes": {…}}   ─►  {"eventType": {…}} for each type, {"done": null}
//!   {"recentEvents": {…}} ─►  {"recentEvent": {…}} for each event, {"done": null}
//!   {"plot": {…}}         ─►  {"plot": [{…}, …]}, {"done": null}
//!   {"tap": {FILTER}}     ─►  {"tapped": {…}} for each event, {"tapCounts": {…}} every second,
//!                             until the client closes its side; {"done": null}
//!   {"reload": {…}}       ─►  {"reloaded": [{"action": "changed", "part": "…"}, …]}
//!                             {"done": null}
//!                             or {"invalid": "…"}, {"done": null}
//!   any request that fails    {"error": "…"} as the last line
//! ```
//!
//! A running router owns its data directory. A socket that it finds there at its start is a
//! leftover, and is replaced.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::model::{EventTypeStatus, Model, Overview, PlotPoint, RecentEventStatus};
use super::replays::RangeReplays;
use super::tap;
use crate::limits::{
    CONTROL_CONNECTIONS_MAX, CONTROL_REQUEST_BYTES_MAX, CONTROL_REQUEST_TIMEOUT, CONTROL_RETRY,
};
use crate::pipeline::observe::tap::{TapCounts, TapFilter, TappedEvent};
use crate::pipeline::replay::{DeadLetters, Replayed};
use crate::settings::changes::Changes;
use crate::state::DeadLetterFilter;
use crate::supervise::{Part, PartKind, Supervisor};

/// The socket's name in the data directory.
const NAME: &str = crate::state::CONTROL_SOCKET;
/// Its name until it has its mode.
const DRAFT: &str = crate::state::CONTROL_SOCKET_DRAFT;
/// The longest socket path that every Unix accepts (`sun_path`), in bytes with the final NUL.
const PATH_BYTES_MAX: usize = 104;

/// A request of a command to the running router.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlRequest {
    /// Deliver these dead letters again.
    Replay(DeadLetterFilter),
    /// Deliver these dead letters to one destination instead of their own.
    ReplayTo { filter: DeadLetterFilter, destination: String },
    /// Delete these dead letters.
    Drop(DeadLetterFilter),
    /// Apply another configuration, or say what that would change.
    Reload(ReloadWhat),
    /// Tell the state of everything.
    Status,
    /// List the event types that were seen, of one source or of all.
    EventTypes { source: Option<String>, samples: bool },
    /// Show the most recent events, of one source or of all, the latest first.
    RecentEvents { source: Option<String>, limit: usize },
    /// Show the plot of a source or of a destination.
    Plot(PlotOf),
    /// Show events as they pass, until the client goes away.
    Tap(TapFilter),
}

/// The owner of a plot, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlotOf {
    Source(String),
    Destination(String),
}

/// The configuration of a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReloadWhat {
    /// Apply the router's own file.
    Apply,
    /// Compare the router's own file with the running configuration.
    DryRun,
    /// Compare this text with the running configuration. Messages refer to it as `name`.
    Compare { name: PathBuf, text: String },
}

/// A reload that somebody waits for.
#[derive(Debug)]
pub struct ReloadRequest {
    pub what: ReloadWhat,
    pub answer: oneshot::Sender<Result<Changes, ReloadRefusal>>,
}

/// The reason why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefusal {
    /// The configuration has these errors.
    Invalid(String),
    /// The router could not apply it.
    Failed(String),
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlAnswer {
    Replayed(Replayed),
    Dropped(u64),
    Reloaded(Changes),
    /// The errors of a configuration. Nothing has changed.
    Invalid(String),
    Status(Box<Overview>),
    EventType(Box<EventTypeStatus>),
    RecentEvent(Box<RecentEventStatus>),
    /// The oldest point first.
    Plot(Vec<PlotPoint>),
    Tapped(Box<TappedEvent>),
    TapCounts(TapCounts),
    Done,
    Error(String),
}

/// The control socket cannot be used, or the router refused the request.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot {doing} the control socket `{path}`: {cause}")]
    Socket { doing: &'static str, path: PathBuf, cause: io::Error },
    #[error("the router at `{0}` closed the connection before its last answer; check that it still runs")]
    CutOff(PathBuf),
    #[error("cannot read an answer of the router at `{path}`: {cause}; use the command of its own release")]
    Foreign { path: PathBuf, cause: serde_json::Error },
    #[error("the router refused the request: {0}")]
    Refused(String),
}

/// A path of the socket that is short enough for the operating system, however long the path of its
/// directory is. It is valid while the directory is held open.
struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

fn socket_path(dir: &Path, name: &str) -> io::Result<SocketPath> {
    let path = dir.join(name);
    if path.as_os_str().len() < PATH_BYTES_MAX {
        return Ok(SocketPath { path, _directory: None });
    }
    let directory = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
    Ok(SocketPath { path, _directory: Some(directory) })
}

/// The parts of the router that carry out requests: those of the control socket, and those of the
/// operator's page.
#[derive(Clone)]
pub struct Orders {
    /// The dead letters of the running pipeline.
    pub letters: DeadLetters,
    /// Gets the requests to reload; the receiver serves one after the other.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Replays of a range for the page. A command starts its own.
    pub replays: RangeReplays,
    pub model: Model,
}

/// The router's side of the socket. Dropping it ends every connection and removes the socket.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens the socket in the data directory `dir` and serves it. This process must own the
    /// directory. Must run within a tokio runtime.
    pub fn serve(dir: &Path, orders: Orders, supervisor: &Supervisor) -> Result<Self, ControlError> {
        let path = dir.join(NAME);
        let listener =
            bind(dir).map_err(|cause| ControlError::Socket { doing: "open", path: path.clone(), cause })?;
        let listener = Arc::new(listener);
        let life = move || {
            let (listener, orders) = (Arc::clone(&listener), orders.clone());
            async move {
                accept(&listener, orders).await;
                ControlFlow::Continue(())
            }
        };
        let part = Part::new(PartKind::Control, "control");
        let task = tokio::spawn(supervisor.clone().restarted(part, life, |_| ()));
        Ok(ControlSocket { path, task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // The next start replaces a socket that could not be removed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds the socket. It gets its mode under a temporary name, so that the real name never has wider
/// rights.
fn bind(dir: &Path) -> io::Result<UnixListener> {
    let (path, fresh) = (dir.join(NAME), dir.join(DRAFT));
    for old in [&path, &fresh] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&socket_path(dir, DRAFT)?.path)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Returns true if a peer with the effective user id `peer` may give orders to a router that runs
/// as `own`: the same user, and root.
fn may_command(peer: u32, own: u32) -> bool {
    [own, 0].contains(&peer)
}

/// Accepts connections of the router's own user and of root, at most [`CONTROL_CONNECTIONS_MAX`] at
/// a time. The user is the effective one of this process. Who owns the socket's file does not
/// matter, since root can give it to another user.
async fn accept(listener: &UnixListener, orders: Orders) {
    let own = rustix::process::geteuid().as_raw();
    let seats = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            // The mode of the file allows the same users, unless somebody changed it.
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| may_command(peer.uid(), own)) => {
                let orders = orders.clone();
                connections.spawn(async move {
                    serve(stream, orders).await;
                    drop(seat);
                });
            }
            Ok(_) => tracing::warn!("refused a control connection of another user"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(CONTROL_RETRY).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection: reads the request, carries it out, writes the answers as they come.
async fn serve(stream: UnixStream, orders: Orders) {
    let (mut read, mut write) = stream.into_split();
    let request = request(&mut read).await;
    if let Ok(ControlRequest::Tap(filter)) = request {
        return tap::serve(read, write, filter, &orders.model).await;
    }
    // Unbounded is safe: the replays' own budget bounds the answers in it, and the model's bounds
    // those about event types and events.
    let (answers, mut lines) = mpsc::unbounded_channel();
    // This future owns the sender, so that the writer below ends after the last answer.
    let answer = async move {
        let last = match request {
            Ok(request) => match carry_out(request, &orders, &answers).await {
                Ok(()) => ControlAnswer::Done,
                Err(error) => ControlAnswer::Error(error),
            },
            Err(error) => ControlAnswer::Error(error),
        };
        let _ = answers.send(last);
    };
    // This future owns the receiver: if the client goes away, `carry_out` notices and starts no
    // more.
    let write = async move {
        while let Some(line) = lines.recv().await {
            let mut line = serde_json::to_vec(&line).unwrap_or_default();
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(answer, write);
}

async fn request(read: impl tokio::io::AsyncRead + Unpin) -> Result<ControlRequest, String> {
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(CONTROL_REQUEST_BYTES_MAX));
    match tokio::time::timeout(CONTROL_REQUEST_TIMEOUT, read.read_line(&mut line)).await {
        Err(_) => Err("no request arrived in time".into()),
        Ok(Err(error)) => Err(format!("cannot read the request: {error}")),
        Ok(Ok(_)) => {
            serde_json::from_str(&line).map_err(|error| format!("cannot parse the request: {error}"))
        }
    }
}

/// Carries out one request. The answers are sent as they come, except the last.
pub(super) async fn carry_out(
    request: ControlRequest,
    Orders { letters, reloads, model, .. }: &Orders,
    answers: &mpsc::UnboundedSender<ControlAnswer>,
) -> Result<(), String> {
    match request {
        ControlRequest::Replay(filter) => {
            tracing::info!(which = %filter, "replaying dead letters on request");
            let tell = |replayed| answers.send(ControlAnswer::Replayed(replayed)).is_ok();
            letters.replay(&filter, None, tell).await.map_err(|error| error.to_string())
        }
        ControlRequest::ReplayTo { filter, destination } => {
            tracing::info!(which = %filter, %destination, "replaying dead letters to another destination on request");
            let tell = |replayed| answers.send(ControlAnswer::Replayed(replayed)).is_ok();
            letters.replay(&filter, Some(&destination), tell).await.map_err(|error| error.to_string())
        }
        ControlRequest::Drop(filter) => {
            let dropped = letters.remove(&filter).await.map_err(|error| error.to_string())?;
            tracing::warn!(which = %filter, dropped, "dropped dead letters on request");
            let _ = answers.send(ControlAnswer::Dropped(dropped));
            Ok(())
        }
        ControlRequest::Status => {
            let _ = answers.send(ControlAnswer::Status(Box::new(model.overview())));
            Ok(())
        }
        ControlRequest::EventTypes { source, samples } => {
            for counted in model.event_types(source.as_deref(), samples) {
                let _ = answers.send(ControlAnswer::EventType(Box::new(counted)));
            }
            Ok(())
        }
        ControlRequest::RecentEvents { source, limit } => {
            for event in model.recent_events(source.as_deref(), limit) {
                let _ = answers.send(ControlAnswer::RecentEvent(Box::new(event)));
            }
            Ok(())
        }
        ControlRequest::Plot(of) => {
            let _ = answers.send(ControlAnswer::Plot(match of {
                PlotOf::Source(name) => model.source_points(&name),
                PlotOf::Destination(name) => model.destination_points(&name),
            }));
            Ok(())
        }
        // It has no last answer, so `serve` carries it out.
        ControlRequest::Tap(_) => Err("cannot watch events here".to_owned()),
        ControlRequest::Reload(what) => {
            let (answer, wait) = oneshot::channel();
            let is_sent = reloads.send(ReloadRequest { what, answer }).await.is_ok();
            let answer = if is_sent { wait.await.ok() } else { None };
            let _ = answers.send(match answer.ok_or("the router stopped")? {
                Ok(changes) => ControlAnswer::Reloaded(changes),
                Err(ReloadRefusal::Invalid(errors)) => ControlAnswer::Invalid(errors),
                Err(ReloadRefusal::Failed(reason)) => return Err(reason),
            });
            Ok(())
        }
    }
}

/// A command's side of the socket.
pub struct ControlClient {
    stream: BlockingStream,
    path: PathBuf,
}

impl ControlClient {
    /// Connects to the router that runs on the data directory `dir`; `None` if there is none.
    pub fn connect(dir: &Path) -> Result<Option<Self>, ControlError> {
        let path = dir.join(NAME);
        let connected = socket_path(dir, NAME).and_then(|socket| BlockingStream::connect(&socket.path));
        match connected {
            Ok(stream) => Ok(Some(ControlClient { stream, path })),
            // A router that was killed leaves its socket behind.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(cause) => Err(ControlError::Socket { doing: "connect to", path, cause }),
        }
    }

    /// A handle that ends a call from another thread: it sees the end of the answers.
    pub fn stopper(&self) -> io::Result<ControlStop> {
        self.stream.try_clone().map(ControlStop)
    }

    /// Sends the request and passes every answer except the last to `each`.
    pub fn ask(
        self,
        request: &ControlRequest,
        mut each: impl FnMut(ControlAnswer),
    ) -> Result<(), ControlError> {
        self.ask_until(request, |answer| {
            each(answer);
            ControlFlow::Continue(())
        })
    }

    /// As [`ControlClient::ask`], until `each` breaks.
    pub fn ask_until(
        mut self,
        request: &ControlRequest,
        mut each: impl FnMut(ControlAnswer) -> ControlFlow<()>,
    ) -> Result<(), ControlError> {
        let path = self.path;
        let mut line = serde_json::to_vec(request)
            .map_err(|cause| ControlError::Foreign { path: path.clone(), cause })?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|cause| ControlError::Socket {
            doing: "write to",
            path: path.clone(),
            cause,
        })?;
        let mut reader = BufReader::new(&mut self.stream as &mut dyn Read);
        loop {
            let mut line = String::new();
            let read = reader.read_line(&mut line).map_err(|cause| ControlError::Socket {
                doing: "read from",
                path: path.clone(),
                cause,
            })?;
            if read == 0 {
                return Err(ControlError::CutOff(path));
            }
            let answer = serde_json::from_str(&line)
                .map_err(|cause| ControlError::Foreign { path: path.clone(), cause })?;
            match answer {
                ControlAnswer::Done => return Ok(()),
                ControlAnswer::Error(message) => return Err(ControlError::Refused(message)),
                answer => {
                    if each(answer).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Ends a call of a [`ControlClient`].
pub struct ControlStop(BlockingStream);

impl ControlStop {
    /// Tells the router that nothing more is wanted. It may send a last answer.
    pub fn finish(&self) {
        // A router that is gone has ended the call already.
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Ends the call at once.
    pub fn stop(&self) {
        // A router that is gone has ended the call already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_routers_user_and_root_may_command() {
        for (peer, own, expected) in
            [(0, 0, true), (0, 1_000, true), (1_000, 1_000, true), (1_001, 1_000, false), (1_000, 0, false)]
        {
            assert_eq!(may_command(peer, own), expected, "peer {peer}, router {own}");
        }
    }
}
