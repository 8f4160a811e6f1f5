//! What is measured while a run goes on: the router's process, its own metrics, this process, the machine.

pub mod admin;
pub mod machine;
pub mod process;
pub mod prometheus;
pub mod sample;
