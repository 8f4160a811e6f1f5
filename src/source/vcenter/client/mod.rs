//! The vCenter client: the few calls that reading events takes, and no other part of vSphere's API.
//!
//! It speaks SOAP, or VI/JSON where the configuration and the vCenter want it. Callers do not see
//! which, except in the bytes of a page.
//!
//! ```text
//!            vsphere::api                 transport (hyper, rustls)
//! method ──► envelope or json ──────────► POST /sdk, /sdk/vim25/… ──► vCenter
//!                                               │
//! Element (control calls, bounded tree) ◄──┬────┘   gzip undone, bytes bounded
//! PageBody (pages, untouched)           ◄──┘
//! ```
//!
//! A failed call is a [`CallError`], which says whether the call can have had an effect, and what a
//! person can do about it.
//!
//! INVARIANT: no password, cookie or answer to a login is in any error or `Debug` output.
//! INVARIANT: every call ends: connecting, silence, a wait and the whole answer each have a bound.

mod answer;
mod calls;
mod error;
mod transport;

#[cfg(test)]
mod tests;

pub use calls::{Client, PageRead};
pub use error::CallError;
pub use transport::Options;
