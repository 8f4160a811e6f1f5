//! Configuration: how a setting is declared, read, checked, documented and written.
//!
//! ```text
//!             tree            check            setting
//! file text ───────► tree ───────────► values ─────────► a struct of settings ─────────► file text
//!                  with lines     ▲               ▲                             yaml
//!                                 └─── tables ────┴── declare ──► describe: schema and manual
//! ```
//!
//! The parts of the router declare their settings with [`declare`], and `settings` composes them.
//!
//! INVARIANT: no error or warning contains a value of the file, except for names.

pub(crate) mod check;
pub(crate) mod declare;
pub(crate) mod describe;
pub mod event_names;
mod field;
pub(crate) mod format;
pub(crate) mod found;
mod line_at;
mod misplaced;
pub(crate) mod problem;
pub(crate) mod scalar;
mod secret;
mod setting;
pub(crate) mod tree;
pub(crate) mod yaml;

pub use problem::{ConfigErrors, Problem, Warning};
pub use secret::{SECRET_FILE_BYTES_MAX, Secret, SecretError};
pub use tree::FILE_BYTES_MAX;

pub(crate) use field::{Block, Field, FieldType, Member};
pub(crate) use found::{CheckedMap, Value};
pub(crate) use setting::Group;
pub(crate) use yaml::Fields;
