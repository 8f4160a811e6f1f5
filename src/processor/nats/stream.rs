//! The stream of events, the stream of dead letters and the bucket of routers' state: how they are
//! made, and what is wrong with those that exist.
//!
//! INVARIANT: only [`make`] creates anything, and nothing here changes what exists. A stream that
//! was made by mistake, with one replica or without a limit, would look like the right one.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::{Client, HeaderMap, Request, RequestErrorKind};

use super::settings::{NatsConfig, PartitionBy};
use crate::cluster::Connection;
use crate::cluster::make::{self, find_stream, inspect_bucket, make_bucket, within};
use crate::config::declare::Words;
use crate::limits::NATS_SYSTEM_WAIT;
use crate::net::TlsError;
use crate::processor::Failure;
use crate::processor::client::target_failure;

/// The oldest version that drops copies within atomic batches correctly.
const VERSION_MIN: (i64, i64, i64) = (2, 12, 8);
/// The time for which the stream knows the ids of its messages.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Share of the stream's size that the dead letters get.
const LETTERS_SHARE: i64 = 8;
const PARTITIONS_KEY: &str = "event-router-partitions";
const PARTITION_BY_KEY: &str = "event-router-partition-by";
/// A name that no stream has, since names have no dots.
const NO_STREAM: &str = "no.stream";

/// The size of the streams to make.
#[derive(Clone, Copy, Debug)]
pub struct StreamSize {
    pub replicas: usize,
    pub bytes_max: i64,
}

/// The findings of an inspection.
#[derive(Debug, Default)]
pub struct StreamReport {
    /// Defects, each with the remedy.
    pub problems: Vec<String>,
    /// Facts that could not be found out.
    pub unknown: Vec<String>,
    /// Facts in order.
    pub good: Vec<String>,
}

impl StreamReport {
    /// Adds what [`inspect_bucket`] found.
    pub fn add_bucket(&mut self, (defects, state): (Vec<String>, String)) {
        if defects.is_empty() {
            self.good.push(state);
        }
        self.problems.extend(defects);
    }

    pub(super) fn into_answer(self, settings: &NatsConfig) -> Result<String, Failure> {
        if self.problems.is_empty() {
            let all: Vec<_> = self.good.into_iter().chain(self.unknown).collect();
            return Ok(all.join("; "));
        }
        Err(target_failure(format!("stream {}: {}", settings.stream, self.problems.join("; "))))
    }
}

/// Makes the streams and the bucket of `settings` that do not exist. Returns a line for each.
pub async fn make(settings: &NatsConfig, size: StreamSize) -> Result<Vec<String>, Failure> {
    let connection = Connection::new(settings.link()).map_err(|error| cannot(settings, &error))?;
    let context = jetstream::new(connection.client().await?);
    let mut lines = Vec::new();
    for wanted in [events(settings, size), letters(settings, size)] {
        let name = wanted.name.clone();
        if find_stream(&context, &name, settings.timeout).await.map_err(target_failure)?.is_some() {
            lines.push(format!("stream {name} exists and stays as it is; `log check` inspects it"));
            continue;
        }
        within(settings.timeout, context.create_stream(wanted))
            .await
            .map_err(target_failure)?
            .map_err(|error| target_failure(format!("cannot make the stream {name}: {error}")))?;
        lines.push(format!("made the stream {name}"));
    }
    let made = make_bucket(&connection, &settings.bucket(), size.replicas, settings.timeout).await;
    lines.push(made.map_err(target_failure)?);
    Ok(lines)
}

/// Inspects the server, the streams and the bucket of `settings` over a connection of its own.
pub async fn examine(settings: &NatsConfig) -> Result<StreamReport, Failure> {
    let connection = Connection::new(settings.link()).map_err(|error| cannot(settings, &error))?;
    inspect(settings, &connection).await
}

/// Inspects the server, the streams and the bucket. Nothing is stored.
pub(super) async fn inspect(settings: &NatsConfig, connection: &Connection) -> Result<StreamReport, Failure> {
    let client = connection.client().await?;
    let mut report = StreamReport::default();
    // Look at the server.
    let version = client.server_info().version;
    let (major, minor, patch) = VERSION_MIN;
    if client.is_server_compatible(major, minor, patch) {
        report.good.push(format!("server {version}"));
    } else {
        report.problems.push(format!(
            "the server has version {version}; upgrade it to {major}.{minor}.{patch} or later"
        ));
    }
    sync_interval(&client, &mut report).await;
    // Look at the streams and the bucket.
    let context = jetstream::new(client.clone());
    let names = [settings.stream.clone(), settings.letters()];
    for (n, name) in names.iter().enumerate() {
        match find_stream(&context, name, settings.timeout).await.map_err(target_failure)? {
            None => {
                report.problems.push(format!("{name} does not exist; make it with `event-router log init`"))
            }
            Some(config) => {
                let found = defects(settings, &config, n == 0);
                if found.is_empty() {
                    report.good.push(format!("{name} with {} replicas", config.num_replicas));
                }
                report.problems.extend(found);
            }
        }
    }
    let bucket = inspect_bucket(connection, &settings.bucket(), settings.timeout).await;
    report.add_bucket(bucket.map_err(target_failure)?);
    // Try to publish.
    if report.problems.is_empty() {
        may_publish(settings, &client, &mut report).await;
    }
    Ok(report)
}

fn cannot(settings: &NatsConfig, error: &TlsError) -> Failure {
    target_failure(format!("{}: {error}", settings.servers.join(", ")))
}

fn events(settings: &NatsConfig, size: StreamSize) -> StreamConfig {
    let metadata = HashMap::from([
        (PARTITIONS_KEY.to_owned(), settings.partitions.to_string()),
        (PARTITION_BY_KEY.to_owned(), settings.partition_by.word().to_owned()),
    ]);
    StreamConfig {
        name: settings.stream.clone(),
        description: Some("events of event-router".to_owned()),
        subjects: vec![format!("{}.*.*", settings.subject)],
        allow_atomic_publish: true,
        metadata,
        ..limited(size.bytes_max, size.replicas)
    }
}

fn letters(settings: &NatsConfig, size: StreamSize) -> StreamConfig {
    StreamConfig {
        name: settings.letters(),
        description: Some("dead letters of event-router".to_owned()),
        subjects: vec![format!("{}-letters.>", settings.subject)],
        ..limited((size.bytes_max / LETTERS_SHARE).max(1), size.replicas)
    }
}

/// A stream that keeps its messages until it is full, and then refuses new ones.
fn limited(bytes_max: i64, replicas: usize) -> StreamConfig {
    StreamConfig {
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: replicas,
        max_bytes: bytes_max,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_age: Duration::ZERO,
        duplicate_window: DUPLICATE_WINDOW,
        ..StreamConfig::default()
    }
}

/// The differences between an existing stream and one that loses nothing.
fn defects(settings: &NatsConfig, config: &StreamConfig, is_events: bool) -> Vec<String> {
    let mut defects = make::defects(config);
    let name = &config.name;
    let mut expect = |is_right: bool, text: String| {
        if !is_right {
            defects.push(format!("{name} {text}"));
        }
    };
    expect(config.max_bytes > 0, "has no limit on its size, and can fill the disk; set `max_bytes`".into());
    expect(config.max_messages <= 0, "has a limit on messages; remove its `max_msgs`".into());
    expect(
        config.max_messages_per_subject <= 0,
        "drops messages by subject; remove `max_msgs_per_subject`".into(),
    );
    expect(
        config.duplicate_window >= DUPLICATE_WINDOW,
        format!(
            "forgets message ids after {} s; set `duplicate_window` to {} s",
            config.duplicate_window.as_secs(),
            DUPLICATE_WINDOW.as_secs()
        ),
    );
    if !is_events {
        return defects;
    }
    let subject = format!("{}.*.*", settings.subject);
    let wider = format!("{}.>", settings.subject);
    expect(
        config.subjects.contains(&subject) || config.subjects.contains(&wider),
        format!("does not have the subject {subject}; check `subject`"),
    );
    expect(config.allow_atomic_publish, "does not allow atomic batches; set `allow_atomic`".into());
    let partitions = config.metadata.get(PARTITIONS_KEY);
    expect(
        partitions.is_some_and(|number| *number == settings.partitions.to_string()),
        format!(
            "was made for {} partitions, and `partitions` is {}",
            partitions.map_or("no", String::as_str),
            settings.partitions
        ),
    );
    let by = config.metadata.get(PARTITION_BY_KEY).and_then(|word| PartitionBy::parse(word));
    expect(
        by == Some(settings.partition_by),
        format!(
            "was made for partitions by {}, and `partitionBy` is `{}`",
            by.map_or("nothing", PartitionBy::word),
            settings.partition_by.word()
        ),
    );
    defects
}

/// Sends a message that the stream must refuse: it is meant for another stream. The refusal shows
/// that the user may publish, and that the stream answers.
async fn may_publish(settings: &NatsConfig, client: &Client, report: &mut StreamReport) {
    let subject = format!("{}.check.0", settings.subject);
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, NO_STREAM);
    let request = Request::new().headers(headers).timeout(Some(settings.timeout));
    match client.send_request(subject.clone(), request).await {
        Ok(_) => report.good.push("may publish".to_owned()),
        Err(error) => report.problems.push(match error.kind() {
            RequestErrorKind::TimedOut => {
                format!("nothing answers on {subject}; allow the user to publish to it")
            }
            _ => format!("cannot publish to {subject}: {error}"),
        }),
    }
}

/// Asks the system account whether the server syncs each write to the disk. Only a user of that
/// account gets an answer.
async fn sync_interval(client: &Client, report: &mut StreamReport) {
    let request = Request::new().payload("{}".into()).timeout(Some(NATS_SYSTEM_WAIT));
    let answered = client.send_request("$SYS.REQ.SERVER.PING.JSZ", request).await;
    let always = answered.ok().and_then(|message| syncs_always(&message.payload));
    match always {
        Some(true) => report.good.push("`sync_interval: always`".to_owned()),
        Some(false) => report.problems.push(
            "the server syncs its disk only now and then, and a power failure loses events; set `sync_interval: always` in its `jetstream` block".to_owned(),
        ),
        None => report.unknown.push(
            "cannot see `sync_interval`, which only users of the system account can; it must be `always` at each server".to_owned(),
        ),
    }
}

/// Reads the answer of a server about its JetStream.
fn syncs_always(payload: &[u8]) -> Option<bool> {
    let answer: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let config = answer.get("data")?.get("config")?;
    Some(config.get("sync_always").and_then(serde_json::Value::as_bool).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: StreamSize = StreamSize { replicas: 3, bytes_max: 1 << 30 };

    #[test]
    fn a_stream_as_it_is_made_has_no_defects() {
        let settings = NatsConfig::new(["nats://nats:4222"]);
        assert_eq!(defects(&settings, &events(&settings, SIZE), true), [""; 0]);
        assert_eq!(defects(&settings, &letters(&settings, SIZE), false), [""; 0]);
    }

    #[test]
    fn every_defect_is_told_with_its_remedy() {
        let settings = NatsConfig::new(["nats://nats:4222"]);
        let check = |change: &dyn Fn(&mut StreamConfig), part: &str| {
            let mut config = events(&settings, SIZE);
            change(&mut config);
            let found = defects(&settings, &config, true);
            assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
        };
        check(&|config| config.num_replicas = 1, "has 1 replicas");
        check(&|config| config.storage = StorageType::Memory, "in memory");
        check(&|config| config.retention = RetentionPolicy::Interest, "retention");
        check(&|config| config.discard = DiscardPolicy::Old, "`discard: new`");
        check(&|config| config.max_age = Duration::from_secs(60), "`max_age`");
        check(&|config| config.max_bytes = -1, "`max_bytes`");
        check(&|config| config.max_messages = 5, "`max_msgs`");
        check(&|config| config.max_messages_per_subject = 5, "`max_msgs_per_subject`");
        check(&|config| config.duplicate_window = Duration::from_secs(60), "after 60 s");
        check(&|config| config.subjects = vec!["other.>".into()], "events.*.*");
        check(&|config| config.allow_atomic_publish = false, "`allow_atomic`");
        check(&|config| config.no_ack = true, "`no_ack`");
        check(&|config| config.sealed = true, "sealed");
        check(&|config| drop(config.metadata.remove(PARTITIONS_KEY)), "for no partitions");
        check(&|config| drop(config.metadata.insert(PARTITIONS_KEY.into(), "8".into())), "for 8 partitions");
        check(&|config| drop(config.metadata.remove(PARTITION_BY_KEY)), "by nothing");
    }

    #[test]
    fn the_sync_interval_is_read_from_the_answer_of_the_system_account() {
        let check =
            |payload: &str, expected| assert_eq!(syncs_always(payload.as_bytes()), expected, "{payload}");
        check(r#"{"data":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#, Some(true));
        check(r#"{"data":{"config":{"sync_interval":120000000000}}}"#, Some(false));
        check(r#"{"error":{"code":500}}"#, None);
        check("", None);
    }
}
