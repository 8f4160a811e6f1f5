//! The key-value bucket of a cluster: records that are replaced only by revision.
//!
//! ```text
//! get   $JS.API.STREAM.MSG.GET.KV_BUCKET  {"last_by_subj":"$KV.BUCKET.KEY"}   the leader answers
//! put   $KV.BUCKET.KEY   Nats-Expected-Last-Subject-Sequence: REVISION        0: no record yet
//! ```
//!
//! Both are plain requests with a deadline. The watches of the client library can end without a
//! word after a restart of the server, so nothing here relies on them.
//!
//! INVARIANT: a put replaces the named revision, or nothing. A put without an answer may still be
//! applied.

use std::sync::Arc;

use async_nats::{HeaderMap, Request, RequestErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::connection::Connection;
use crate::limits::KV_ANSWER_MAX;

/// The stream has another last message for the subject.
const WRONG_LAST_SEQUENCE: u64 = 10_071;
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;
/// No message has the subject.
const NO_MESSAGE: u64 = 10_037;
const OPERATION: &str = "KV-Operation";

/// One bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    connection: Arc<Connection>,
    name: String,
}

/// A key as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// 0 for a key that was never written.
    pub revision: u64,
    /// `None` for a key that was never written or was deleted.
    pub value: Option<Bytes>,
}

/// A request to the bucket failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key has another revision than the one to replace.
    #[error("the record was changed by another node")]
    Changed,
    /// The outcome is unknown. The text has the reason.
    #[error("{0}")]
    Unknown(String),
}

#[derive(Deserialize)]
struct PutAnswer {
    error: Option<KvRefusal>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct GetAnswer {
    error: Option<KvRefusal>,
    message: Option<StoredMessage>,
}

#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct InfoAnswer {
    error: Option<KvRefusal>,
    state: Option<InfoState>,
}

#[derive(Deserialize)]
struct InfoState {
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct KvRefusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Bucket {
    pub fn new(connection: Arc<Connection>, name: &str) -> Self {
        Bucket { connection, name: name.to_owned() }
    }

    /// The last value of `key`, from the leader of the bucket.
    pub async fn get(&self, key: &str) -> Result<Slot, KvError> {
        let body = json!({"last_by_subj": self.subject(key)}).to_string();
        let to = format!("$JS.API.STREAM.MSG.GET.KV_{}", self.name);
        let answer: GetAnswer = self.ask(&to, HeaderMap::new(), body.into()).await?;
        match answer {
            GetAnswer { message: Some(message), .. } => {
                let decoded = |text: &str| STANDARD.decode(text).map_err(|_| self.odd("is no base64"));
                let headers = decoded(&message.hdrs)?;
                let is_deleted = String::from_utf8_lossy(&headers).contains(OPERATION);
                let value = if is_deleted { None } else { Some(decoded(&message.data)?.into()) };
                Ok(Slot { revision: message.seq, value })
            }
            GetAnswer { error: Some(error), .. } if error.err_code == NO_MESSAGE => Ok(Slot::default()),
            GetAnswer { error: Some(error), .. } => Err(self.failed(&error)),
            GetAnswer { .. } => Err(self.odd("has no message")),
        }
    }

    /// Replaces revision `replaces` of `key`; 0 creates the key. Returns the new revision.
    pub async fn put(&self, key: &str, replaces: u64, value: Bytes) -> Result<u64, KvError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, replaces.to_string());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, format!("KV_{}", self.name));
        let answer: PutAnswer = self.ask(&self.subject(key), headers, value).await?;
        match answer {
            PutAnswer { error: Some(error), .. }
                if [WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_CONSTANT].contains(&error.err_code) =>
            {
                Err(KvError::Changed)
            }
            PutAnswer { error: Some(error), .. } => Err(self.failed(&error)),
            PutAnswer { seq: Some(revision @ 1..), .. } => Ok(revision),
            PutAnswer { .. } => Err(self.odd("has no revision")),
        }
    }

    /// The keys that begin with `prefix`, which ends with a dot, sorted. Deleted ones are included.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        let body = json!({"subjects_filter": format!("{}>", self.subject(prefix))}).to_string();
        let to = format!("$JS.API.STREAM.INFO.KV_{}", self.name);
        let answer: InfoAnswer = self.ask(&to, HeaderMap::new(), body.into()).await?;
        match answer {
            InfoAnswer { error: Some(error), .. } => Err(self.failed(&error)),
            InfoAnswer { state: Some(state), .. } => {
                let start = self.subject("");
                let keys = state.subjects.into_keys();
                Ok(keys.filter_map(|subject| subject.strip_prefix(&start).map(str::to_owned)).collect())
            }
            InfoAnswer { .. } => Err(self.odd("has no state")),
        }
    }

    /// Sends a request, and reads its answer.
    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<T, KvError> {
        let client = self.connection.client().await.map_err(|error| KvError::Unknown(error.to_string()))?;
        let request = Request::new().headers(headers).payload(payload).timeout(Some(KV_ANSWER_MAX));
        let sent = client.send_request(subject.to_owned(), request);
        let answered = match timeout(KV_ANSWER_MAX, sent).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(
                    self.unknown("does not exist or has no leader; make it with `event-router log init`")
                );
            }
            Ok(Err(_)) | Err(_) => {
                // The connection may be dead without a sign of it.
                self.connection.discard().await;
                let waited = format!(
                    "gave no answer within {} ms; the server may be overloaded or without a leader, or the user may not use `{subject}`",
                    KV_ANSWER_MAX.as_millis()
                );
                return Err(self.unknown(&waited));
            }
        };
        serde_json::from_slice(&answered.payload).map_err(|_| self.odd("is no JSON"))
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    fn failed(&self, error: &KvRefusal) -> KvError {
        self.unknown(&format!("refused a request: {} ({})", error.description, error.err_code))
    }

    fn odd(&self, reason: &str) -> KvError {
        self.unknown(&format!("gave an answer that {reason}"))
    }

    fn unknown(&self, reason: &str) -> KvError {
        KvError::Unknown(format!("bucket {} {reason}", self.name))
    }
}
