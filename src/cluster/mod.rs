//! The parts that the nodes of a cluster share: the connection to NATS, and records in JetStream.
//!
//! ```text
//! processor::nats ──► connection ◄── source::nats        both speak to the same servers
//!                        │
//!                        └─► settings: servers, credentials, TLS, names of streams
//! ```
//!
//! Nothing here knows of sources, processors or the pipeline.

pub mod connection;
pub mod settings;

pub use self::connection::{Connection, NotConnected};
