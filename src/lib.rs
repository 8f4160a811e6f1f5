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
//! The modules in flow order: [`source`] reads pages, [`vim`] decodes them, [`event`] is what flows, [`pipeline`] orders, routes and settles,
//! [`processor`] delivers; [`http`] has the connections of both ends. Dependencies point one way: `cli → pipeline → {source, processor, durable} → {vim, event} → {http, config}`.

pub mod admin;
pub mod app;
pub mod cli;
pub mod cloudevents;
pub mod config;
pub mod event;
pub mod limits;
pub mod memory;
pub mod net;
pub mod pipeline;
pub mod processor;
pub mod source;
pub mod state;
pub mod telemetry;
