//! A synthetic vCenter, and targets that verify what they receive: everything on 127.0.0.1, deterministic from a seed.
//!
//! A leaf crate: it knows vSphere's wire and CloudEvents, not the router. `demo`, the tests and the load generator use it.
//!
//! ```text
//! vcenter::VCenter ──SOAP──► (what is tested) ──CloudEvents──► sink::Sink, openfaas::Gateway, eventbridge::EventBus
//!        │                                                                 │
//!        └────────────────────── truth::Truth ──────────────────────► verify::Verifier
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
//! let vcenter = VCenter::start(options).await?; // user administrator@vsphere.local, password VMware1!
//! let sink = Sink::start(SinkOptions::default(), Arc::new(Verifier::new())).await?;
//! sink.verifier().watch(&vcenter); // by source URL, or by its port should the host name differ
//!
//! // Point the router's source at `vcenter.url()` (…/sdk) and its CloudEvents processor at `sink.url()`. Meanwhile:
//! vcenter.trouble("ReadNextEvents", 1, Trouble::CutBody); // or LoseAnswer, Delay, Reset, Status(503), Html, Fault, …
//! vcenter.hide_next(10, Some(Duration::from_secs(5))); // visible late, behind the cursors
//! vcenter.kill_sessions(); // destroy_collectors, forbid_next, duplicate_next, restore, set_next_key, restart().await …
//! sink.next(3, Behavior::status(503)); // or outage().await, resume().await, fail(0.1, Behavior::reply(Reply::Reset)) …
//! vcenter.append(100);
//! vcenter.set_pace(Pace::Idle);
//!
//! let fact = vcenter.fact(0).ok_or("no event")?; // key, createdTime, the id its CloudEvent must have, entity
//! assert!(!sink.verifier().has(&vcenter.url(), fact.index));
//! let report = sink.verifier().report(); // missing, duplicates, wrong_ids, out_of_order, latency …; serde-able
//! assert!(report.total.missing > 10_000_000 && !report.is_complete()); // nothing was delivered here
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
