//! The attributes of a vCenter event that depend on the configured format, and those that follow
//! from its severity.

use std::io::Write;

use hyper::header::{HeaderMap, HeaderValue};

use super::envelope::Rendering;
use super::settings::{Extensions, IdForm};
use super::text::{header_value, push_escaped, push_member};
use crate::event::{Record, Severity};

/// `type` in the appliance v0.8 is this, the name of the event, and [`TYPE_VERSION`].
const TYPE_PREFIX: &str = "com.vmware.vsphere.";
const TYPE_VERSION: &str = ".v0";

/// The bytes of an id: a UUID, or the digits of a key.
pub(super) type IdBytes = [u8; uuid::fmt::Hyphenated::LENGTH];

impl Extensions {
    /// Returns true if an attribute follows from the severity of an event.
    pub fn needs_severity(&self) -> bool {
        self.severity || self.category
    }
}

impl Rendering<'_> {
    /// The id of the event. An event without a key keeps its UUID.
    pub(super) fn id<'b>(&self, record: &Record, bytes: &'b mut IdBytes) -> &'b str {
        let Some(key) = record.key.filter(|_| self.options.event_id == IdForm::Key) else {
            return record.id.hyphenated().encode_lower(bytes);
        };
        let mut rest = &mut bytes[..];
        write!(rest, "{key}").expect("an i32 has at most 11 characters");
        let left = rest.len();
        std::str::from_utf8(&bytes[..bytes.len() - left]).expect("digits are ASCII")
    }

    /// Appends the `type` that event `i` had in the appliance v0.8.
    pub(super) fn push_type_v08(&self, i: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(TYPE_PREFIX.as_bytes());
        push_escaped(out, self.detail_type(i).as_bytes());
        out.extend_from_slice(TYPE_VERSION.as_bytes());
        out.push(b'"');
    }

    /// The same as a header.
    pub(super) fn type_header_v08(&self, i: usize) -> HeaderValue {
        header_value([TYPE_PREFIX, self.detail_type(i), TYPE_VERSION].concat().as_bytes())
    }

    /// Appends the attributes that follow from the severity of the event.
    pub(super) fn push_severity(&self, record: &Record, out: &mut Vec<u8>) {
        let Some(severity) = self.severity(record) else { return };
        if self.options.extensions.severity {
            push_member(out, "severitytext", severity.text().as_bytes());
            // CloudEvents writes an Integer as a JSON number.
            out.extend_from_slice(format!(",\"severitynumber\":{}", severity.number()).as_bytes());
        }
        if self.options.extensions.category {
            push_member(out, "category", severity.category().as_bytes());
        }
    }

    /// Inserts them as headers.
    pub(super) fn insert_severity(&self, record: &Record, headers: &mut HeaderMap) {
        let Some(severity) = self.severity(record) else { return };
        if self.options.extensions.severity {
            headers.insert("ce-severitytext", HeaderValue::from_static(severity.text()));
            headers.insert("ce-severitynumber", HeaderValue::from(severity.number()));
        }
        if self.options.extensions.category {
            headers.insert("ce-category", HeaderValue::from_static(severity.category()));
        }
    }

    fn severity(&self, record: &Record) -> Option<Severity> {
        self.severities.as_ref()?.of(self.batch, record)
    }
}
