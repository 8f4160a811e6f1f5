//! The vCenter Event Router reads the events of one or many vCenters. It delivers each event, at
//! least once and under a stable id, to functions and other CloudEvents targets.
//!
//! ```text
//!  source        pipeline: threads and bounded channels, a Batch is a page           processor
//! ┌─────────┐    ┌───────┐   ┌────────┐   ┌───────┐   ┌───────┐   ┌─────────┐    ┌───────────┐
//! │ vCenter │───►│ parse │──►│ enrich │──►│ order │──►│ route │──►│  batch  │───►│ OpenFaaS… │
//! └────▲────┘    └───────┘   └────────┘   │ dedup │   └───────┘   │ deliver │    └───────────┘
//!      │                                  └───────┘               └────┬────┘
//!      │                                             failed for good   │   acknowledged
//!      │                                 ┌────────┐   ┌──────────────┐ │
//!      └────────── checkpoint ◄──────────│ settle │◄──│ dead letters │◄┘
//!        never past an unsettled event   └────────┘   └──────────────┘
//! ```
//!
//! [`source`] reads pages of events. [`pipeline`] decodes, orders and routes them, and settles each
//! event once every destination has taken it. [`processor`] delivers. [`state`] keeps everything
//! that must survive a crash. [`event`] defines the batches and records that flow between them.
//!
//! Dependencies point one way; `tests/it/tidy.rs` enforces it:
//!
//! ```text
//! cli → app → admin → settings → pipeline → source | processor | state → cluster → cloudevents
//!     → net → supervise → telemetry → config → event → outside → redact → memory, clock, limits
//! ```
//!
//! `docs/architecture.md` follows one page's bytes from the socket to the checkpoint.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cloudevents;
pub mod cluster;
pub mod config;
pub mod event;
pub mod limits;
pub mod memory;
pub mod net;
pub mod outside;
pub mod pipeline;
pub mod processor;
pub mod queue;
pub mod redact;
pub mod settings;
pub mod source;
pub mod state;
pub mod supervise;
pub mod telemetry;
