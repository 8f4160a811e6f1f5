//! Records and leases in a bucket of a real server: replaced only by revision, also over a restart
//! of the server, and owned by one node at a time.

use std::sync::Arc;
use std::time::Duration;

use event_router::cluster::{Bucket, Connection, Keeper, KvError, LeaseEvent, Slot};
use event_router::processor::nats::settings::NatsConfig;
use event_router::processor::nats::stream::{StreamSize, make};
use tokio::time::timeout;

use crate::nats_support::NatsServer;

const LIMIT: Duration = Duration::from_secs(60);
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// The bucket of `server`, over a connection of its own.
async fn bucket(server: &NatsServer) -> Bucket {
    let settings = NatsConfig::new([server.url()]);
    make(&settings, StreamSize { replicas: 1, bytes_max: 1 << 20 }).await.expect("a server with JetStream");
    let connection = Connection::new(settings.link()).expect("no TLS files");
    Bucket::new(Arc::new(connection), &settings.bucket())
}

fn slot(revision: u64, value: &'static str) -> Slot {
    Slot { revision, value: Some(value.into()) }
}

/// The next change of a lease.
async fn next(keeper: &mut Keeper) -> LeaseEvent {
    timeout(LIMIT, keeper.next()).await.expect("the lease changes")
}

async fn kept(keeper: &mut Keeper, contents: &'static str) {
    keeper.set_contents(contents.into());
    while next(keeper).await != LeaseEvent::Kept(contents.into()) {}
}

#[tokio::test]
async fn a_record_is_replaced_by_its_revision_alone() {
    let Some(mut server) = NatsServer::start("") else { return };
    let bucket = bucket(&server).await;
    assert_eq!(bucket.get("reader.vc1").await, Ok(Slot::default()));
    assert_eq!(bucket.put("reader.vc1", 0, "one".into()).await, Ok(1));
    assert_eq!(bucket.put("reader.vc1", 0, "other".into()).await, Err(KvError::Changed));
    assert_eq!(bucket.put("reader.vc2", 0, "two".into()).await, Ok(2));
    assert_eq!(bucket.put("reader.vc1", 2, "other".into()).await, Err(KvError::Changed));
    assert_eq!(bucket.put("reader.vc1", 1, "three".into()).await, Ok(3));
    assert_eq!(bucket.get("reader.vc1").await, Ok(slot(3, "three")));
    assert_eq!(bucket.keys("reader.").await, Ok(vec!["reader.vc1".to_owned(), "reader.vc2".to_owned()]));
    assert_eq!(bucket.keys("worker.").await, Ok(Vec::new()));
    // A restart of the server costs a few requests at most.
    server.restart();
    let again = async {
        loop {
            match bucket.get("reader.vc1").await {
                Err(KvError::Unknown(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                found => break found,
            }
        }
    };
    assert_eq!(timeout(LIMIT, again).await.expect("the server is back"), Ok(slot(3, "three")));
    // A record that a person has deleted.
    let client = async_nats::connect(server.url()).await.unwrap();
    let store = async_nats::jetstream::new(client).get_key_value("events-state").await.unwrap();
    store.delete("reader.vc1").await.unwrap();
    assert_eq!(bucket.get("reader.vc1").await, Ok(Slot { revision: 4, value: None }));
    assert_eq!(bucket.put("reader.vc1", 4, "five".into()).await, Ok(5));
}

#[tokio::test]
async fn a_lease_outlives_its_server_and_goes_to_the_next_node_with_its_contents() {
    let Some(mut server) = NatsServer::start("") else { return };
    let bucket = bucket(&server).await;
    let keeper = |node: &str| Keeper::new(bucket.clone(), "reader.vc1".into(), node, RENEW_EVERY);
    let (mut first, mut second) = (keeper("a"), keeper("b"));
    assert_eq!(next(&mut first).await, LeaseEvent::Acquired("".into()));
    assert!(first.fence().is_open());
    kept(&mut first, "position 1").await;
    // The server is away for less than a lease.
    server.restart();
    kept(&mut first, "position 2").await;
    assert!(first.fence().is_open());
    // The first node gives it up, and acts no more from that moment on.
    first.want(false);
    assert!(!first.fence().is_open());
    let (released, acquired) = tokio::join!(next(&mut first), next(&mut second));
    assert_eq!(released, LeaseEvent::Released);
    assert_eq!(acquired, LeaseEvent::Acquired("position 2".into()));
    kept(&mut second, "position 3").await;
    // The second node stops without a word, for longer than a lease.
    first.want(true);
    assert_eq!(next(&mut first).await, LeaseEvent::Acquired("position 3".into()));
    assert!(!second.fence().is_open());
    assert_eq!(second.owner(), Some("b"), "it has not looked");
    let deposed = loop {
        match next(&mut second).await {
            LeaseEvent::Kept(_) => {}
            event => break event,
        }
    };
    assert_eq!(deposed, LeaseEvent::Deposed { by: Some("a".into()) });
}
