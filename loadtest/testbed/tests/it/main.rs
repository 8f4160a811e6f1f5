//! The tests of the synthetic vCenter and of the verifying targets, as their clients see them: a
//! module for each promise, all in one binary.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::single_range_in_vec_init, reason = "lists of one run of keys are meant")]

mod common;
#[path = "../../../../tests/it/common/peer.rs"]
#[allow(dead_code, reason = "the router's tests use all of it")]
mod peer;

mod clients;
mod content;
mod sink;
mod targets;
mod troubles;
mod vcenter;
mod vijson;
