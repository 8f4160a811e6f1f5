//! The client: the few calls that reading a vCenter's events takes, and nothing else of vSphere's API. It speaks SOAP, or VI/JSON where the configuration
//! and the vCenter want it; nobody above it sees which, but for the bytes of a page.
//!
//! ```text
//!         ┌► envelope ┐
//!  call ──┤           ├─► transport (http, rustls) ─────► vCenter /sdk, /sdk/vim25/…
//!         └► json ────┘                                      │
//!  Element (control calls, bounded tree) ◄──┐                │
//!  PageBody (pages, untouched)           ◄──┴── transport ◄──┘   gzip undone, bytes bounded
//! ```
//!
//! What fails is a [`SoapError`] that says whether the call can have had an effect, and what a person can do about it.
//!
//! INVARIANT: no password, cookie or answer to a login is in any error or `Debug` output.
//! INVARIANT: every call ends: connecting, the whole call and a wait each have a time-out.

mod call;
mod client;
mod element;
mod envelope;
mod error;
mod json;
mod model;
mod time;
mod tls;
mod transport;
mod version;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use element::Element;
pub use error::{Fault, FaultKind, SoapError};
pub use model::{About, EventFilterSpec, EventInfo, EventMark, MoRef, Recursion, ServiceContent, Update};
pub use time::{format_us, parse_us};
pub use tls::{Identity, Trust};
pub use transport::Options;
pub use version::Version;

/// Reads `body` as every kind of answer to a control call, as far as it can be that: for fuzzing, which has no server to answer.
#[doc(hidden)]
pub fn read_as_anything(body: &[u8]) {
    let _ = (json::fault(body), json::release(body));
    for element in Element::parse(body).into_iter().chain(json::response("Any", body)) {
        let read = (Fault::of(&element), MoRef::of(&element), EventMark::of(&element));
        let _ =
            (read, Version::negotiate(&element), Version::for_api(&element.text), parse_us(&element.text));
    }
}
