//! Measurements during a run: the router's process and metrics, this process, and the machine.

pub mod admin;
pub mod machine;
pub mod process;
pub mod prometheus;
pub mod sample;
