//! Publishes the messages of one partition in order.
//!
//! ```text
//! several messages ─► atomic batch ── committed ────────────► all stored
//!                          └─ refused, or unknown ─┐
//! one message ─────────────────────────────────────┴─► one by one, each after the last one's ack
//! ```
//!
//! A batch is all or nothing. The server refuses one that contains a copy of a stored message, so a
//! batch whose outcome is unknown is repeated message by message, and the stream drops each copy by
//! itself. The same path serves every other refusal, because it tells which message is at fault.
//!
//! INVARIANT: one batch or message of a partition is under way at a time, and no message follows
//! one that is not stored, except one that can never be stored.

use std::time::Duration;

use async_nats::header::{NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE};
use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::answer::{self, Stored};
use super::message::EventMessage;
use super::settings::NatsConfig;
use crate::cluster::Connection;
use crate::limits::NATS_DELIVERY_MAX;
use crate::processor::client::target_failure;
use crate::processor::{Blame, Failure};

/// The failures of some events, by their place in the request.
pub(super) type Fates = Vec<(usize, Failure)>;

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Held while messages of this partition are under way.
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// True if the outcome of the last batch or message is unknown. The next events may be copies.
    is_in_doubt: bool,
}

/// The reason why a message or batch is not known to be stored.
enum Unstored {
    /// The stream or the server refused it.
    Refused(Failure),
    /// No answer came.
    Unknown(Failure),
}

impl Partition {
    /// Publishes `group`, and returns the failures. Begins no message after `until`.
    pub async fn publish(
        &self,
        connection: &Connection,
        client: &Client,
        settings: &NatsConfig,
        group: &[EventMessage],
        until: Instant,
    ) -> Fates {
        let Ok(mut turn) = timeout_at(until, self.turn.lock()).await else {
            return all(group, &too_slow(settings));
        };
        let mut client = client.clone();
        // Try all at once.
        if group.len() > 1 && !turn.is_in_doubt {
            // Cleared at the end: a request that is dropped half way leaves its mark.
            turn.is_in_doubt = true;
            match publish_batch(&client, settings, group).await {
                Ok(()) => {
                    turn.is_in_doubt = false;
                    return Fates::new();
                }
                Err(Unstored::Refused(failure)) => {
                    tracing::debug!(reason = failure.reason, "a batch of events is published one by one");
                }
                Err(Unstored::Unknown(failure)) => {
                    connection.discard().await;
                    client = match connection.client().await {
                        Ok(client) => client,
                        Err(_) => return all(group, &failure),
                    };
                }
            }
        }
        // Publish one by one.
        turn.is_in_doubt = true;
        let mut fates = Fates::new();
        for (n, message) in group.iter().enumerate() {
            let published = match Instant::now() < until {
                true => publish_one(&client, settings, message).await,
                false => Err(Unstored::Refused(too_slow(settings))),
            };
            let failure = match published {
                Ok(_) => continue,
                Err(Unstored::Refused(failure)) if failure.blame == Blame::Event => {
                    let reason = format!("{}: {}", message.name, failure.reason);
                    fates.push((
                        message.at,
                        Failure { is_certain: true, ..Failure::new(Blame::Event, reason) },
                    ));
                    continue;
                }
                Err(Unstored::Refused(failure)) => failure,
                Err(Unstored::Unknown(failure)) => {
                    connection.discard().await;
                    failure
                }
            };
            fates.extend(all(&group[n..], &failure));
            return fates;
        }
        turn.is_in_doubt = false;
        fates
    }
}

fn all(group: &[EventMessage], failure: &Failure) -> Fates {
    group.iter().map(|message| (message.at, failure.clone())).collect()
}

/// Publishes one message, and waits for its acknowledgement.
async fn publish_one(
    client: &Client,
    settings: &NatsConfig,
    message: &EventMessage,
) -> Result<Stored, Unstored> {
    let EventMessage { subject, headers, payload, .. } = message;
    request(client, settings, subject, headers.clone(), payload.clone()).await
}

/// Publishes several messages as one atomic batch, and waits for the acknowledgement of the last.
async fn publish_batch(
    client: &Client,
    settings: &NatsConfig,
    group: &[EventMessage],
) -> Result<(), Unstored> {
    let id = Uuid::new_v4().simple().to_string();
    let Some((last, before)) = group.split_last() else { return Ok(()) };
    let headers = |message: &EventMessage, n: usize| {
        let mut headers = message.headers.clone();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, (n + 1).to_string());
        headers
    };
    let send = async {
        for (n, message) in before.iter().enumerate() {
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            client.publish_with_headers(subject, headers(message, n), payload).await?;
        }
        Ok::<_, async_nats::PublishError>(())
    };
    match timeout(settings.timeout, send).await {
        Ok(Ok(())) => {}
        // Nothing is stored without the last message.
        Ok(Err(error)) => return Err(Unstored::Refused(target_failure(error.to_string()))),
        Err(_) => return Err(Unstored::Unknown(no_answer(settings, settings.timeout))),
    }
    let mut commit = headers(last, before.len());
    commit.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
    let stored = request(client, settings, &last.subject, commit, last.payload.clone()).await?;
    // A server that knows no batches stores the messages one by one, perhaps not all.
    match stored.batch {
        Some((by, count)) if by == id && count == group.len() as u64 => Ok(()),
        _ => {
            let reason = "the server stored no batch; it must be of version 2.12.8 or later".to_owned();
            Err(Unstored::Refused(target_failure(reason)))
        }
    }
}

/// Sends a message, and waits for the answer of the stream.
async fn request(
    client: &Client,
    settings: &NatsConfig,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<Stored, Unstored> {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(settings.timeout));
    let sent = client.send_request(subject.to_owned(), request);
    // The library's own limit begins after the message is in its queue.
    let answered = match timeout(2 * settings.timeout, sent).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => {
            return Err(match error.kind() {
                RequestErrorKind::NoResponders => Unstored::Refused(target_failure(format!(
                    "no stream takes the subject {subject}; make it with `event-router log init`"
                ))),
                RequestErrorKind::TimedOut => Unstored::Unknown(no_answer(settings, settings.timeout)),
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    Unstored::Refused(target_failure(format!("cannot publish to {subject}: {error}")))
                }
                RequestErrorKind::Other => Unstored::Unknown(target_failure(format!(
                    "the connection to {} was lost before the acknowledgement",
                    settings.servers.join(", ")
                ))),
            });
        }
        Err(_) => return Err(Unstored::Unknown(no_answer(settings, 2 * settings.timeout))),
    };
    answer::read(&settings.stream, &answered.payload).map_err(Unstored::Refused)
}

fn too_slow(settings: &NatsConfig) -> Failure {
    target_failure(format!(
        "stream {} took longer than {} s for a request; the server may be overloaded",
        settings.stream,
        NATS_DELIVERY_MAX.as_secs()
    ))
}

fn no_answer(settings: &NatsConfig, waited: Duration) -> Failure {
    target_failure(format!(
        "stream {} gave no acknowledgement within {} ms; the server may be overloaded or without a leader, or the user may not publish to the subject",
        settings.stream,
        waited.as_millis()
    ))
}
