//! The bucket in which nodes keep their records: how it is made, and what is wrong with one that
//! exists.
//!
//! INVARIANT: only [`make_bucket`] creates anything, and nothing here changes what exists.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode, kv};
use tokio::time::timeout;

use super::Connection;

/// Replicas that survive the loss of one server.
pub const REPLICAS_MIN: usize = 3;
/// Size of the bucket: a lease and a checkpoint of 1 MiB for each of 64 sources.
const BUCKET_BYTES: i64 = 64 << 20;

/// Makes a bucket unless it exists. Returns a line for people. `limit`: the time for each answer.
///
/// # Errors
/// Returns the reason in words.
pub async fn make_bucket(
    connection: &Connection,
    bucket: &str,
    replicas: usize,
    limit: Duration,
) -> Result<String, String> {
    let context = context(connection).await?;
    if find_stream(&context, &stream_of(bucket), limit).await?.is_some() {
        return Ok(format!("bucket {bucket} exists and stays as it is; `log check` inspects it"));
    }
    let wanted = kv::Config {
        bucket: bucket.to_owned(),
        description: "state of event-router".to_owned(),
        history: 1,
        max_bytes: BUCKET_BYTES,
        storage: StorageType::File,
        num_replicas: replicas,
        ..kv::Config::default()
    };
    within(limit, context.create_key_value(wanted))
        .await?
        .map_err(|error| format!("cannot make the bucket {bucket}: {error}"))?;
    Ok(format!("made the bucket {bucket}"))
}

/// Inspects a bucket. Returns its defects, each with the remedy, and what is in order.
///
/// # Errors
/// Returns the reason in words if it cannot be inspected.
pub async fn inspect_bucket(
    connection: &Connection,
    bucket: &str,
    limit: Duration,
) -> Result<(Vec<String>, String), String> {
    let context = context(connection).await?;
    let name = stream_of(bucket);
    match find_stream(&context, &name, limit).await? {
        None => {
            Ok((vec![format!("{name} does not exist; make it with `event-router log init`")], String::new()))
        }
        Some(config) => Ok((defects(&config), format!("{name} with {} replicas", config.num_replicas))),
    }
}

/// The differences between a stream of messages or records and one that loses nothing.
pub fn defects(config: &StreamConfig) -> Vec<String> {
    let mut defects = Vec::new();
    let name = &config.name;
    let mut expect = |is_right: bool, text: String| {
        if !is_right {
            defects.push(format!("{name} {text}"));
        }
    };
    expect(
        config.num_replicas >= REPLICAS_MIN,
        format!(
            "has {} replicas, and the loss of a server loses events; use {REPLICAS_MIN}",
            config.num_replicas
        ),
    );
    expect(config.storage == StorageType::File, "is in memory; it must have file storage".into());
    expect(config.retention == RetentionPolicy::Limits, "must have the retention `limits`".into());
    expect(
        config.discard == DiscardPolicy::New,
        "drops old messages when it is full; it must have `discard: new`".into(),
    );
    expect(config.max_age.is_zero(), "drops old messages; remove its `max_age`".into());
    expect(!config.sealed, "is sealed and takes no messages".into());
    expect(!config.no_ack, "acknowledges no messages; remove `no_ack`".into());
    defects
}

/// The configuration of a stream; `None` if it does not exist.
pub async fn find_stream(
    context: &Context,
    name: &str,
    limit: Duration,
) -> Result<Option<StreamConfig>, String> {
    match within(limit, context.get_stream(name)).await? {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(format!("cannot look at the stream {name}: {error}")),
        },
    }
}

/// Waits for an answer of JetStream.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    timeout(limit, work).await.map_err(|_| {
        format!(
            "JetStream gave no answer within {} ms; the cluster may have no leader, or the user may not use `$JS.API`",
            limit.as_millis()
        )
    })
}

/// The stream behind a bucket.
fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

async fn context(connection: &Connection) -> Result<Context, String> {
    let client = connection.client().await.map_err(|error| error.to_string())?;
    Ok(jetstream::new(client))
}
