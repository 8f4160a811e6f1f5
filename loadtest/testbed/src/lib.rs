//! A synthetic vCenter, and targets that verify the events they receive. Everything listens on
//! 127.0.0.1 and is deterministic from a seed.
//!
//! A leaf crate: it knows vSphere's protocols and CloudEvents, but not the router. `demo`, the
//! tests and the load generator use it.
//!
//! ```text
//!                  SOAP,               Cloud-    sink::Sink
//! vcenter::VCenter ─────► tested part ───────► openfaas::Gateway
//!       │          VI/JSON             Events    eventbridge::EventBus
//!       │                                          │ deliveries
//!       └──────────── truth::Truth ─────────► verify::Verifier ──► verify::Report
//! ```
//!
//! # Example
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use testbed::sink::{Behavior, Sink, SinkOptions};
//! use testbed::vcenter::{Options, Pace, Trouble, VCenter};
//! use testbed::verify::Verifier;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { backlog: 10_000_000, pace: Pace::Rate(5_000.0), ..Options::default() };
//! let vcenter = VCenter::start(options).await?; // administrator@vsphere.local, VMware1!
//! let sink = Sink::start(SinkOptions::default(), Arc::new(Verifier::new())).await?;
//! sink.verifier().watch(&vcenter); // by source URL, or by its port should the host name differ
//!
//! // Point the router's source at `vcenter.url()` (…/sdk), and its CloudEvents processor at
//! // `sink.url()`. Meanwhile, make trouble with calls, events, sessions and the target:
//! vcenter.trouble("ReadNextEvents", 1, Trouble::CutBody); // or LoseAnswer, Delay, Reset, …
//! vcenter.hide_next(10, Some(Duration::from_secs(5))); // visible late, behind the cursors
//! vcenter.kill_sessions(); // or destroy_collectors, forbid_next, restore, restart().await, …
//! sink.next(3, Behavior::status(503)); // or outage().await, fail(0.1, behavior), …
//! vcenter.append(100);
//! vcenter.set_pace(Pace::Idle);
//!
//! // Key, createdTime, entity, and the id that the CloudEvent must have.
//! let fact = vcenter.fact(0).ok_or("no event")?;
//! assert!(!sink.verifier().has(&vcenter.url(), fact.index));
//! // Nothing was delivered here. The report counts missing, repeated, late and other events.
//! let report = sink.verifier().report();
//! assert!(report.total.missing > 10_000_000 && !report.is_complete());
//! assert_eq!(vcenter.counters().calls_of("Login"), 0);
//! vcenter.stop().await;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod cert;
pub mod content;
mod delay;
pub mod eventbridge;
pub mod limits;
mod net;
pub mod openfaas;
mod pool;
mod scan;
pub mod sink;
mod sync;
mod tally;
pub mod truth;
pub mod vcenter;
pub mod verify;

pub use net::StartError;
