//! The vCenter client: the few calls that reading events needs, and no other part of vSphere's API.
//!
//! It speaks SOAP, or VI/JSON if the configuration and the vCenter allow it. Callers see the
//! difference only in the bytes of a page.
//!
//! ```text
//!            vsphere::api                 transport (hyper, rustls)
//! method ──► envelope or json ──────────► POST /sdk, /sdk/vim25/… ──► vCenter
//!                                               │
//! Element (control calls, bounded tree) ◄──┬────┘   gzip undone, bytes bounded
//! PageBody (pages, untouched)           ◄──┘
//! ```
//!
//! A failed call is a [`CallError`]. Its variant tells the caller if the call can have had an
//! effect, and its message tells the operator what to do.
//!
//! INVARIANT: no password, cookie or answer to a login is in any error or `Debug` output.
//! INVARIANT: every call ends. Connecting, silence, waiting and the whole answer each have a bound.

mod answer;
mod calls;
mod cookies;
mod error;
mod transport;

#[cfg(test)]
mod tests;

pub use calls::{Client, PageRead};
pub use error::{CallError, Said};
pub use transport::Options;
