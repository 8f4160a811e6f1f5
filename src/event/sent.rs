//! Events as their vCenter sent them, for destinations with `payload: xml` or `payload: vijson`.
//!
//! The batch keeps the raw page only if a destination needs it, and a raw event is cut out of it.

use std::borrow::Cow;

use memchr::memmem;
use vsphere::Decoded;
use vsphere::decode::{Spelling, decode_event};

use super::{Batch, Record};

impl Batch {
    /// The raw event: an XML element or a JSON object, distinguished by the first byte.
    fn sent(&self, record: &Record) -> Option<&[u8]> {
        self.raw_page.get(record.raw.range()).filter(|sent| !sent.is_empty())
    }

    /// Returns true if [`Batch::sent_as_xml`] returns an element.
    pub fn was_sent_as_xml(&self, record: &Record) -> bool {
        self.sent(record).is_some_and(|sent| sent[0] == b'<')
    }

    /// The element that vCenter sent, with its namespace prefixes declared. `None` if it was not
    /// kept, or was sent as JSON.
    pub fn sent_as_xml(&self, record: &Record) -> Option<Cow<'_, [u8]>> {
        self.sent(record).filter(|sent| sent[0] == b'<').map(with_prefixes)
    }

    /// The event in vSphere's own JSON: as sent, or rendered from XML. `None` if it was not kept.
    pub fn sent_as_vijson(&self, record: &Record) -> Option<Cow<'_, [u8]>> {
        let sent = self.sent(record)?;
        if sent[0] == b'{' {
            return Some(Cow::Borrowed(sent));
        }
        let mut decoded = Decoded::default();
        decode_event(&with_prefixes(sent), Spelling::ViJson, &mut decoded).ok()?;
        // The event comes first in the arena, and its names follow.
        decoded.arena.truncate(decoded.records.first()?.data.range().end);
        Some(Cow::Owned(decoded.arena))
    }
}

/// Adds the namespace declarations that `element` needs to be parsed alone. On the page, the SOAP
/// envelope declares the prefixes `xsi` and `xsd`.
fn with_prefixes(element: &[u8]) -> Cow<'_, [u8]> {
    let head = &element[..memchr::memchr(b'>', element).unwrap_or(element.len())];
    let lacks = |prefix: &str, declaration: &str| {
        memmem::find(element, prefix.as_bytes()).is_some()
            && memmem::find(head, declaration.as_bytes()).is_none()
    };
    let (xsi, xsd) = (lacks("xsi:", "xmlns:xsi="), lacks("xsd:", "xmlns:xsd="));
    let Some(name_end) = element.iter().position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'>' | b'/'))
    else {
        return Cow::Borrowed(element);
    };
    if !xsi && !xsd {
        return Cow::Borrowed(element);
    }
    let mut whole = Vec::with_capacity(element.len() + 128);
    whole.extend_from_slice(&element[..name_end]);
    if xsi {
        whole.extend_from_slice(b" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"");
    }
    if xsd {
        whole.extend_from_slice(b" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"");
    }
    whole.extend_from_slice(&element[name_end..]);
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xml_element_that_declares_its_prefixes_is_left_alone() {
        for raw in [
            "<returnval><key>1</key></returnval>",
            r#"<returnval xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="EventEx"/>"#,
            r#"<returnval xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="EventEx"></returnval>"#,
        ] {
            assert!(
                matches!(with_prefixes(raw.as_bytes()), Cow::Borrowed(same) if same == raw.as_bytes()),
                "{raw}"
            );
        }
    }
}
