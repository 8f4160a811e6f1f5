//! The pipeline carries events from a source's pages to the targets.
//!
//! ```text
//!  page ─► parse ─► enrich ─► order ─► route ─► deliver ─► settle ─► checkpoint
//! ```
//!
//! Every stage is a struct with a pure `step`. Threads and channels belong to [`run`] and to the
//! actors that it starts.

mod control;
pub mod core;
mod core_thread;
pub mod deliver;
pub mod destination;
mod drain;
mod driver;
pub mod enrich;
pub mod exit;
mod inbox;
pub mod level;
pub mod observe;
pub mod order;
pub mod parse;
mod refusals;
pub mod reload;
pub mod replay;
pub mod route;
pub mod run;
pub mod seen;
pub mod settings;
pub mod settle;
#[cfg(test)]
mod simulation;
mod sources;
pub mod storage;
pub mod undecided;
mod upkeep;
