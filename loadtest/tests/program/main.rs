//! The tests of `loadtest` as its users have it: a module for each promise, all in one binary.
//!
//! They start the program, and the router that `cargo test --workspace` built beside it. The tests
//! run in parallel threads of one process, in any order; a test must not change what the process
//! shares (environment variables, the working directory).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
/// Shared with the router's own tests, so that a configuration is built in one place.
#[path = "../../../tests/it/common/config.rs"]
#[allow(dead_code, reason = "the router's tests use all of it")]
mod config;
#[path = "../../../tests/it/common/peer.rs"]
mod peer;

mod interrupts;
mod limit_search;
mod report;
mod run;
mod servers;
mod usage;
