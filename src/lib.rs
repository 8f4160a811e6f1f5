//! The vCenter Event Router: every event of many vCenters, delivered at least once with a stable id.
//!
//! ```text
//!  source            pipeline (threads, bounded channels, one Batch = one page)                      processor
//! ┌─────────┐ page  ┌───────┐   ┌────────┐   ┌───────┐   ┌───────┐   ┌───────┐   ┌─────────┐  HTTP  ┌───────────┐
//! │ vCenter │──────►│ parse │──►│ enrich │──►│ order │──►│ route │──►│ batch │──►│ deliver │───────►│ OpenFaaS… │
//! └────▲────┘ bytes └───────┘   └────────┘   │ dedup │   └───────┘   └───────┘   └────┬────┘        └───────────┘
//!      │                                     └───────┘                    failed for good│  acknowledged
//!      │  checkpoint (never past an unsettled event)   ┌────────┐      ┌──────────────┐  │
//!      └───────────────────────────────────────────────│ settle │◄─────│ dead letters │◄─┘
//!                                                      └────────┘      └──────────────┘
//! ```
//!
//! [`source`] reads pages, [`pipeline`] decodes, orders, routes and settles them, [`processor`] delivers, and [`state`] keeps what
//! must survive a crash. [`event`] is what flows. Dependencies point one way, which `tests/it/tidy.rs` holds:
//!
//! ```text
//! cli → app → admin → pipeline → source | processor | state → cloudevents → net → telemetry → config → event → memory, clock, limits
//! ```
//!
//! `docs/architecture.md` follows one page's bytes from the socket to the checkpoint.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cloudevents;
pub mod config;
pub mod event;
pub mod limits;
pub mod memory;
pub mod net;
pub mod pipeline;
pub mod processor;
pub mod queue;
pub mod source;
pub mod state;
pub mod telemetry;
