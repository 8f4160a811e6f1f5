//! The integration tests: a module for each promise, all in one binary, so that the product and its
//! dependencies are linked once.
//!
//! The tests run in parallel threads of one process, in any order. A test must not change what the
//! whole process shares: environment variables, the working directory, the panic hook, the recorder
//! of metrics, the subscriber of logs. A test that needs such a change starts a process instead:
//! the router ([`common::router`]), or this binary with a single test
//! ([`common::child::ignored_test`]).
//!
//! `tests/allocations.rs` remains a separate binary because it installs a global allocator.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
mod processors_support;

mod admin;
mod check;
mod cli;
mod cluster_failover;
mod cluster_leases;
mod cluster_nemesis;
mod cluster_spread;
mod config;
mod config_broken;
mod config_old;
mod config_passwords;
mod crash;
mod crash_points;
mod data_dir;
mod decode;
mod delivery;
mod deploy;
mod diagnosis;
mod dlq;
mod docs;
mod durable_crash;
mod event_formats;
mod fault_matrix;
mod function_authors;
mod health;
mod host;
mod hostile;
mod init;
mod invocation_log;
mod isolation;
mod monitoring;
mod nats;
mod nats_support;
mod ordering;
mod page;
mod peers;
mod pipeline;
mod power_loss;
mod processors_cloudevents;
mod processors_eventbridge;
mod processors_gateway;
mod processors_http;
mod processors_kubernetes;
mod processors_moto;
mod processors_openfaas;
mod processors_transport;
mod pushed_events;
mod queues;
mod reload;
mod replay;
mod secrets;
mod source;
mod status;
mod supervision;
mod taint;
mod tidy;
mod undecided;
mod upgrade_checkpoint;
mod upgrade_samples;
mod upgrade_state;
mod vcsim;
mod vijson;
mod vijson_payloads;
mod watch;
mod webhook;
mod webhook_examples;
