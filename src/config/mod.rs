//! Configuration: a file in one of three formats becomes one validated [`Config`]. Read at the start, before anything flows.
//!
//! INVARIANT: whoever holds a [`Config`] need not check it again, and cannot make it print a secret.

mod model;
mod secret;

pub use model::*;
pub use secret::{SECRET_FILE_BYTES_MAX, Secret, SecretError};
