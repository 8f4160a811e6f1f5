//! Extracts the value, the page or the fault from an answer of vCenter.
//!
//! Small answers become an [`Element`] tree. Pages stay bytes: only their two ends are checked
//! here, and the decoder reads the rest.

use std::fmt::Display;

use bytes::Bytes;
use memchr::memmem;

use super::error::{CallError, Said};
use super::transport::HttpAnswer;
use crate::limits::CONTROL_BYTES_MAX;
use vsphere::Wire;
use vsphere::api::{Element, Fault, FaultKind, json};
use vsphere::decode::array;

/// The requested property; `None` if it is unset or the server lacks it.
pub(super) fn property_of(
    response: Result<Element, CallError>,
    path: &str,
) -> Result<Option<Element>, CallError> {
    let answer = match response {
        Err(error) if error.fault() == Some(FaultKind::InvalidProperty) => return Ok(None),
        answer => answer?,
    };
    let Some(object) = answer.at(&["returnval", "objects"]) else { return Ok(None) };
    if let Some(missing) =
        object.at(&["missingSet", "fault"]).filter(|fault| fault.class == "NotAuthenticated")
    {
        let fault = Fault::new(missing.class.clone(), String::new());
        return Err(CallError::refused("RetrievePropertiesEx", &fault));
    }
    Ok(object
        .children("propSet")
        .find(|set| set.text_of("name") == path)
        .and_then(|set| set.child("val"))
        .cloned())
}

/// The `…Response` element in the answer to a call.
pub(super) fn response(method: &'static str, wire: Wire, answer: &HttpAnswer) -> Result<Element, CallError> {
    let status = answer.status.as_u16();
    let secret = method == "Login";
    let foreign = || CallError::foreign(method, status, &answer.body, secret);
    if wire == Wire::ViJson {
        return match (status, json::fault(&answer.body)) {
            (200 | 204, _) => json::response(method, &answer.body).map_err(|reason| {
                match answer.body.first() == Some(&b'<') {
                    true => foreign(),
                    false => malformed(method, reason),
                }
            }),
            (_, Some(fault)) => Err(CallError::refused(method, &fault)),
            _ => Err(foreign()),
        };
    }
    let envelope = match Element::parse(&answer.body) {
        Ok(root) if root.name == "Envelope" => root,
        Err(reason) if status == 200 && is_envelope(&answer.body) => {
            return Err(malformed(method, reason));
        }
        _ => return Err(foreign()),
    };
    if let Some(fault) = Fault::of(&envelope) {
        return Err(CallError::refused(method, &fault));
    }
    if status != 200 {
        return Err(foreign());
    }
    let body = envelope.children.into_iter().find(|child| child.name == "Body");
    body.and_then(|body| body.children.into_iter().next())
        .filter(|response| response.name.strip_suffix("Response") == Some(method))
        .ok_or_else(|| malformed(method, "not the answer to this call"))
}

/// The page in a SOAP answer; `None` if the collector has no more events.
pub(super) fn soap_page(method: &'static str, answer: HttpAnswer) -> Result<Option<Bytes>, CallError> {
    let body = answer.body;
    if answer.status != 200 || !has_events(&body) {
        let status = answer.status.as_u16();
        if !is_envelope(&body) {
            return Err(CallError::foreign(method, status, &body, false));
        }
        if !is_whole(&body) {
            return Err(cut(method));
        }
        // Only a page of events may be larger.
        if body.len() > CONTROL_BYTES_MAX {
            return Err(CallError::foreign(method, answer.status.as_u16(), &body, false));
        }
        let envelope = Element::parse(&body).map_err(|reason| malformed(method, reason))?;
        if let Some(fault) = Fault::of(&envelope) {
            return Err(CallError::refused(method, &fault));
        }
        let response = envelope.child("Body").and_then(|body| body.children.first());
        return match response {
            Some(response) if status == 200 && response.name.strip_suffix("Response") == Some(method) => {
                Ok(None)
            }
            _ => Err(CallError::foreign(method, status, &body, false)),
        };
    }
    // An answer without a length ends with its connection, so HTTP does not notice if it is cut.
    match is_whole(&body) {
        true => Ok(Some(body)),
        false => Err(cut(method)),
    }
}

/// The page in a VI/JSON answer; `None` if the collector has no more events.
pub(super) fn json_page(method: &'static str, answer: HttpAnswer) -> Result<Option<Bytes>, CallError> {
    let (status, body) = (answer.status.as_u16(), answer.body);
    match (status, body.trim_ascii()) {
        // No list and an empty list both mean no events.
        (204, _) | (200, [] | b"[]" | b"null") => Ok(None),
        (200, [b'[', ..]) => match array::is_whole(&body) {
            true => Ok(Some(body)),
            false => Err(cut(method)),
        },
        _ if body.len() > CONTROL_BYTES_MAX => Err(CallError::foreign(method, status, &body, false)),
        _ => match json::fault(&body) {
            Some(fault) => Err(CallError::refused(method, &fault)),
            None => Err(CallError::foreign(method, status, &body, false)),
        },
    }
}

/// The part of a page that is searched for its head: the envelope's namespaces and the first tags.
const HEAD_BYTES: usize = 4 << 10;

fn has_events(body: &[u8]) -> bool {
    memmem::find(&body[..body.len().min(HEAD_BYTES)], b"returnval").is_some()
}

fn is_envelope(body: &[u8]) -> bool {
    memmem::find(&body[..body.len().min(HEAD_BYTES)], b"Envelope").is_some()
}

fn is_whole(body: &[u8]) -> bool {
    body.trim_ascii_end().ends_with(b"Envelope>")
}

fn cut(method: &'static str) -> CallError {
    CallError::Lost { method, reason: Said::new("it ends before its last element is closed") }
}

pub(super) fn malformed(method: &'static str, reason: impl Display) -> CallError {
    CallError::Malformed { method, reason: Said::new(reason) }
}
