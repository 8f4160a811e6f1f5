//! The command line: one file a subcommand.

pub mod convert;
pub mod schema;
