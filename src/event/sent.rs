//! An event as its vCenter sent it, where the batch kept the page: for destinations that want
//! `payload: xml` or `payload: vijson`.

use std::borrow::Cow;

use memchr::memmem;
use vsphere::Decoded;
use vsphere::decode::{Spelling, decode_event};

use super::{Batch, Record};

impl Batch {
    /// The element or the JSON object that vCenter sent; their first bytes tell them apart.
    fn sent(&self, record: &Record) -> Option<&[u8]> {
        self.raw_page.get(record.raw.range()).filter(|sent| !sent.is_empty())
    }

    /// Whether [`Batch::sent_as_xml`] has an element.
    pub fn was_sent_as_xml(&self, record: &Record) -> bool {
        self.sent(record).is_some_and(|sent| sent[0] == b'<')
    }

    /// The element that vCenter sent, with the prefixes that it uses declared; `None` where it was
    /// not kept, or sent as JSON.
    pub fn sent_as_xml(&self, record: &Record) -> Option<Cow<'_, [u8]>> {
        self.sent(record).filter(|sent| sent[0] == b'<').map(with_prefixes)
    }

    /// The event in vSphere's own JSON, as it was sent or rendered from XML; `None` where it was not
    /// kept.
    pub fn sent_as_vijson(&self, record: &Record) -> Option<Cow<'_, [u8]>> {
        let sent = self.sent(record)?;
        if sent[0] == b'{' {
            return Some(Cow::Borrowed(sent));
        }
        let mut decoded = Decoded::default();
        decode_event(&with_prefixes(sent), Spelling::ViJson, &mut decoded).ok()?;
        // The event comes first in the arena; names of it follow.
        decoded.arena.truncate(decoded.records.first()?.data.range().end);
        Some(Cow::Owned(decoded.arena))
    }
}

/// `element` with the namespace declarations that it lost when it was taken out of its page, so that
/// it can be parsed alone: the prefixes `xsi` and `xsd` are declared on the SOAP envelope.
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
