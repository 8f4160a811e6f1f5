//! What changes a running router: a Unix socket in the data directory that only the router's own user and root can open. HTTP stays read-only.
//!
//! ```text
//! dataDir/control.sock  0600   one request a connection, a JSON object on one line; answers are JSON objects, one a line, until the router closes
//!
//!   {"replay": {FILTER}}  ─►  {"replayed": {"letter": 7, "destination": "…", "ended": "delivered"}} … {"done": null}
//!   {"drop": {FILTER}}    ─►  {"dropped": 12} {"done": null}
//!                             {"error": "…"} instead of what is left, where it fails
//! ```
//!
//! A router that runs owns its data directory, so a socket that is there at its start belongs to nobody and is replaced.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::limits::{
    CONTROL_CONNECTIONS_MAX, CONTROL_REQUEST_BYTES_MAX, CONTROL_REQUEST_TIMEOUT, CONTROL_RETRY,
};
use crate::pipeline::replay::{DeadLetters, Replayed};
use crate::state::DeadLetterFilter;

/// The socket's name in the data directory.
const NAME: &str = "control.sock";
/// Bytes of a path that every Unix takes for a socket (`sun_path`), its end included.
const PATH_BYTES_MAX: usize = 104;

/// What a command line asks a running router for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlRequest {
    /// Deliver these dead letters once more.
    Replay(DeadLetterFilter),
    /// Drop these dead letters.
    Drop(DeadLetterFilter),
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlAnswer {
    Replayed(Replayed),
    Dropped(u64),
    Done,
    Error(String),
}

/// Why there is no socket, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot {doing} the control socket `{path}`: {cause}")]
    Socket { doing: &'static str, path: PathBuf, cause: io::Error },
    #[error("the router at `{0}` closed the connection before its last answer; it may have stopped")]
    CutOff(PathBuf),
    #[error("the router at `{path}` answered what this release does not know: {cause}")]
    Foreign { path: PathBuf, cause: serde_json::Error },
    #[error("the router says: {0}")]
    Refused(String),
}

/// A path of the socket that the operating system takes, however long the directory's is; it holds while the file is open.
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

/// A served control socket. Dropping it ends every connection and removes the socket.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens the socket in the data directory `dir`, which this process must own, and serves it. To be called within a tokio runtime.
    pub fn serve(dir: &Path, letters: DeadLetters) -> Result<Self, ControlError> {
        let path = dir.join(NAME);
        let (listener, owner) =
            bind(dir).map_err(|cause| ControlError::Socket { doing: "open", path: path.clone(), cause })?;
        let task = tokio::spawn(accept(listener, owner, letters));
        Ok(ControlSocket { path, task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // One that stays is replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// The socket and its owner. Under its name it is never there with more rights than it shall have: it gets them under another.
fn bind(dir: &Path) -> io::Result<(UnixListener, u32)> {
    let (path, fresh) = (dir.join(NAME), dir.join("control.sock.new"));
    for old in [&path, &fresh] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&socket_path(dir, "control.sock.new")?.path)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &path)?;
    Ok((listener, fs::metadata(&path)?.uid()))
}

async fn accept(listener: UnixListener, owner: u32, letters: DeadLetters) {
    let seats = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            // The file's mode says the same, unless somebody changed it.
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| [owner, 0].contains(&peer.uid())) => {
                let letters = letters.clone();
                connections.spawn(async move {
                    serve(stream, letters).await;
                    drop(seat);
                });
            }
            Ok(_) => tracing::warn!("another user than the router's wanted to control it, and may not"),
            Err(error) => {
                tracing::warn!(%error, "the control socket takes no connection");
                tokio::time::sleep(CONTROL_RETRY).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: UnixStream, letters: DeadLetters) {
    let (read, mut write) = stream.into_split();
    // Unbounded: what is in it was begun under the replays' own budget.
    let (answers, mut lines) = mpsc::unbounded_channel();
    // Owns what it writes to, so that the writer ends with the last answer.
    let answer = async move {
        let last = match request(read).await {
            Ok(request) => match carry_out(request, &letters, &answers).await {
                Ok(()) => ControlAnswer::Done,
                Err(error) => ControlAnswer::Error(error.to_string()),
            },
            Err(error) => ControlAnswer::Error(error),
        };
        let _ = answers.send(last);
    };
    // Owns what it reads from: when nobody listens any more, `carry_out` notices and begins no more.
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
        Err(_) => Err("no request came".into()),
        Ok(Err(error)) => Err(format!("the request cannot be read: {error}")),
        Ok(Ok(_)) => {
            serde_json::from_str(&line).map_err(|error| format!("the request is not understood: {error}"))
        }
    }
}

async fn carry_out(
    request: ControlRequest,
    letters: &DeadLetters,
    answers: &mpsc::UnboundedSender<ControlAnswer>,
) -> Result<(), crate::pipeline::replay::ReplayError> {
    match request {
        ControlRequest::Replay(filter) => {
            tracing::info!(which = %filter, "dead letters are replayed, as somebody asks");
            letters.replay(&filter, |replayed| answers.send(ControlAnswer::Replayed(replayed)).is_ok()).await
        }
        ControlRequest::Drop(filter) => {
            let dropped = letters.remove(&filter).await?;
            tracing::warn!(which = %filter, dropped, "dead letters were dropped, as somebody asked");
            let _ = answers.send(ControlAnswer::Dropped(dropped));
            Ok(())
        }
    }
}

/// The control socket of the router that runs on a data directory, from another process.
pub struct ControlClient {
    stream: BlockingStream,
    path: PathBuf,
}

impl ControlClient {
    /// `None` where no router runs on `dir`.
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

    /// Sends the request, gives every answer but the last to `each`.
    pub fn ask(
        mut self,
        request: &ControlRequest,
        mut each: impl FnMut(ControlAnswer),
    ) -> Result<(), ControlError> {
        let path = self.path.clone();
        let failed = |doing| move |cause| ControlError::Socket { doing, path: path.clone(), cause };
        let mut line = serde_json::to_vec(request)
            .map_err(|cause| ControlError::Foreign { path: self.path.clone(), cause })?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(failed.clone()("write to"))?;
        let mut reader = BufReader::new(&mut self.stream as &mut dyn Read);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).map_err(failed.clone()("read from"))? == 0 {
                return Err(ControlError::CutOff(self.path));
            }
            let answer = serde_json::from_str(&line)
                .map_err(|cause| ControlError::Foreign { path: self.path.clone(), cause })?;
            match answer {
                ControlAnswer::Done => return Ok(()),
                ControlAnswer::Error(message) => return Err(ControlError::Refused(message)),
                answer => each(answer),
            }
        }
    }
}
