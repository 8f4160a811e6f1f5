//! The parts that the nodes of a cluster share: the connection to NATS, and records in JetStream.
//!
//! ```text
//! processor::nats ──► connection ◄── source::nats        both speak to the same servers
//!                      ▲    │
//!                      │    └─► settings: servers, credentials, TLS, names of streams
//! keeper ─► lease     kv ─ make
//!    └─► record ───────┘    a lease is a record that its owner writes at intervals
//! nodes                     who lives, and the even share of leases of each
//! ```
//!
//! Nothing here knows of sources, processors or the pipeline.

pub mod connection;
mod keeper;
mod kv;
mod lease;
pub mod make;
mod nodes;
mod record;
pub mod settings;

pub use self::connection::{Connection, NotConnected};
pub use self::keeper::{Fence, Keeper, LeaseEvent};
pub use self::kv::{Bucket, KvError, Slot};
pub use self::nodes::{NODES_KEY, NodeFacts, NodeTable};
pub use self::record::{LeaseRecord, RecordError, source_key};
