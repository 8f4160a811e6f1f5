//! The control calls that reading a vCenter's events takes. Requests are rendered and answers are
//! parsed here; the caller sends the bytes.
//!
//! ```text
//!         ┌► envelope (SOAP) ──┐
//!  Call ──┤                    ├─► bytes to send
//!         └► json (VI/JSON) ───┘
//!
//!  answer ──► Element ──► MoRef, EventPosition, Fault, …  both encodings become one bounded tree
//! ```
//!
//! Pages of events are not parsed here: they go to [`decode`](crate::decode).

pub mod call;
pub mod element;
pub mod envelope;
mod fault;
pub mod json;
mod model;
mod time;
mod version;

pub use element::Element;
pub use fault::{Fault, FaultKind};
pub use model::{About, EventFilterSpec, EventInfo, EventPosition, MoRef, Recursion, ServiceContent, Update};
pub use time::{format_us, parse_us};
pub use version::Version;

/// Reads `body` as every kind of answer to a control call, for fuzzing.
#[doc(hidden)]
pub fn read_as_anything(body: &[u8]) {
    let _ = (json::fault(body), json::release(body));
    for element in Element::parse(body).into_iter().chain(json::response("Any", body)) {
        let read = (Fault::of(&element), MoRef::of(&element), EventPosition::of(&element));
        let _ =
            (read, Version::negotiate(&element), Version::for_api(&element.text), parse_us(&element.text));
    }
}
