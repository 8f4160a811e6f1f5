//! Publishes events to a stream of NATS JetStream, one message per event.
//!
//! ```text
//! DeliveryRequest ─► EventMessage of each event ─┬─ partition 3 ─► batch ─► else one by one ─► ack
//!                                                └─ partition 7 ─► …
//! ```
//!
//! The stream has the order of reading within a partition: one batch or message of a partition is
//! under way at a time, and nothing follows a message whose outcome is unknown. The stream drops
//! copies by their message id, so publishing again is always safe.
//!
//! Subjects and headers: [`message`]. Acknowledgements and blame: [`answer`]. Streams are made and
//! inspected in [`stream`], never on the way of an event.

mod answer;
mod message;
mod publish;
pub mod settings;
pub mod stream;

use async_nats::Client;
use futures_util::future::join_all;
use tokio::time::Instant;

use self::message::EventMessage;
use self::publish::{Fates, Partition};
use self::settings::NatsConfig;
use crate::cloudevents::Envelope;
use crate::cluster::{Connection, NotConnected};
use crate::limits::{NATS_BATCH_EVENTS_MAX, NATS_DELIVERY_MAX, NATS_REQUEST_BYTES_MAX};
use crate::memory::Permit;
use crate::net::TlsError;
use crate::processor::client::target_failure;
use crate::processor::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};

/// Publishes to one stream.
#[derive(Debug)]
pub struct Nats {
    settings: NatsConfig,
    envelope: Envelope,
    connection: Connection,
    partitions: Vec<Partition>,
}

impl Nats {
    /// Reads the TLS files, and connects to nothing yet.
    pub fn new(settings: &NatsConfig, envelope: Envelope) -> Result<Self, TlsError> {
        let partitions = (0..settings.partitions).map(|_| Partition::default()).collect();
        let connection = Connection::new(settings.link())?;
        Ok(Nats { settings: settings.clone(), envelope, connection, partitions })
    }

    async fn publish(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        let until = Instant::now() + NATS_DELIVERY_MAX;
        let client = match self.connection.client().await {
            Ok(client) => client,
            Err(error) => return DeliveryOutcome::Failed(error.into()),
        };
        let (messages, _share) = self.messages(request);
        let max_payload = client.max_payload();
        let mut fates: Vec<Option<Failure>> = vec![None; messages.len()];
        // Give up events that the server can never take, and sort the others by partition.
        let mut groups: Vec<Vec<EventMessage>> = vec![Vec::new(); self.partitions.len()];
        for message in messages {
            match too_large(&message, max_payload) {
                Some(failure) => fates[message.at] = Some(failure),
                None => groups[message.partition].push(message),
            }
        }
        let published = groups.iter().zip(&self.partitions).filter(|(group, _)| !group.is_empty());
        let published =
            published.map(|(group, partition)| self.publish_group(partition, &client, group, until));
        for (at, failure) in join_all(published).await.into_iter().flatten() {
            fates[at] = Some(failure);
        }
        DeliveryOutcome::of_each(fates)
    }

    /// Renders the events of a request. The headers, and the copy that the client library makes of
    /// each message, count as memory until the request ends.
    fn messages(&self, request: &DeliveryRequest) -> (Vec<EventMessage>, Permit) {
        let mut messages = Vec::with_capacity(request.events);
        for slice in &request.slices {
            let rendering = self.envelope.open(&slice.batch);
            for i in slice.selection.iter() {
                let at = messages.len();
                messages.push(EventMessage::new(&self.settings, &rendering, slice, i, at));
            }
        }
        let size: usize = messages.iter().map(|message| 2 * message.size()).sum();
        let share = request.slices.first().map(|slice| slice.batch.permit.another(size));
        (messages, share.unwrap_or_default())
    }

    async fn publish_group(
        &self,
        partition: &Partition,
        client: &Client,
        group: &[EventMessage],
        until: Instant,
    ) -> Fates {
        partition.publish(&self.connection, client, &self.settings, group, until).await
    }
}

impl From<NotConnected> for Failure {
    fn from(error: NotConnected) -> Self {
        target_failure(error.to_string())
    }
}

/// The failure of an event that is larger than the server's limit.
fn too_large(message: &EventMessage, max_payload: usize) -> Option<Failure> {
    let size = message.size();
    if size <= max_payload {
        return None;
    }
    let reason = format!(
        "{} has {size} bytes with its headers, and the server takes {max_payload}; raise its `max_payload`",
        message.name
    );
    Some(Failure { is_certain: true, ..Failure::new(Blame::Event, reason) })
}

impl Processor for Nats {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: NATS_BATCH_EVENTS_MAX, bytes_max: NATS_REQUEST_BYTES_MAX, partial: true }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.publish(request))
    }

    fn address(&self, _: &str) -> Option<String> {
        Some(self.connection.target())
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            let report = stream::inspect(&self.settings, &self.connection).await?;
            report.into_answer(&self.settings)
        })
    }
}
