//! Requests as a small tree, and text written safely into answers.
//!
//! Requests have a few hundred bytes. Pages of events never pass through here.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// Largest depth. A filter spec with traversals reaches about 12, more than any other request.
const DEPTH_MAX: usize = 64;

/// The request is not XML, or is nested too deeply.
#[derive(Debug, thiserror::Error)]
#[error("request is not well-formed XML: {0}")]
pub(crate) struct XmlError(String);

/// An element: local name, the two attributes that the vSphere API uses, text and children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub name: String,
    /// `type`: the managed object type of a reference.
    pub reference_type: Option<String>,
    /// `xsi:type`, without its prefix.
    pub xsi_type: Option<String>,
    pub text: String,
    pub children: Vec<Node>,
}

impl Node {
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.text_of(name).map(str::trim), Some("true" | "1"))
    }

    /// Writes the children and text back as XML, with the prefixes that our envelope declares.
    pub fn write_inner(&self, out: &mut Vec<u8>) {
        if self.children.is_empty() {
            escape(out, &self.text);
        }
        for child in &self.children {
            out.push(b'<');
            out.extend_from_slice(child.name.as_bytes());
            if let Some(kind) = &child.xsi_type {
                out.extend_from_slice(b" xsi:type=\"");
                if matches!(
                    kind.as_str(),
                    "string" | "int" | "long" | "boolean" | "double" | "dateTime" | "short"
                ) {
                    out.extend_from_slice(b"xsd:");
                }
                escape(out, kind);
                out.push(b'"');
            }
            if let Some(kind) = &child.reference_type {
                out.extend_from_slice(b" type=\"");
                escape(out, kind);
                out.push(b'"');
            }
            out.push(b'>');
            child.write_inner(out);
            out.extend_from_slice(b"</");
            out.extend_from_slice(child.name.as_bytes());
            out.push(b'>');
        }
    }
}

/// Parses a document and returns its root.
///
/// # Errors
/// The document is not well-formed, is deeper than 64 elements, or has no root.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, XmlError> {
    let mut reader = NsReader::from_reader(bytes);
    // The open elements, below a root that collects the document's own.
    let mut open: Vec<Node> = vec![Node::default()];
    loop {
        let event = reader.read_event().map_err(|error| XmlError(error.to_string()))?;
        match event {
            Event::Start(start) => {
                if open.len() > DEPTH_MAX {
                    return Err(XmlError(format!("more than {DEPTH_MAX} elements deep")));
                }
                open.push(node_of(&reader, &start)?);
            }
            Event::Empty(start) => {
                let node = node_of(&reader, &start)?;
                close(&mut open, node)?;
            }
            Event::End(_) => {
                let node = open.pop().ok_or_else(|| XmlError("end without start".into()))?;
                close(&mut open, node)?;
            }
            Event::Text(text) => {
                if let Some(node) = open.last_mut() {
                    node.text.push_str(text.as_ref());
                }
            }
            Event::CData(data) => {
                if let Some(node) = open.last_mut() {
                    node.text.push_str(data.as_ref());
                }
            }
            Event::GeneralRef(reference) => {
                // Only the five entities of XML are known, because a DTD is refused.
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    Ok(None) => match reference.as_ref() {
                        "lt" => '<',
                        "gt" => '>',
                        "amp" => '&',
                        "apos" => '\'',
                        "quot" => '"',
                        _ => return Err(XmlError("unknown entity".into())),
                    },
                    Err(error) => return Err(XmlError(error.to_string())),
                };
                if let Some(node) = open.last_mut() {
                    node.text.push(character);
                }
            }
            Event::DocType(_) => return Err(XmlError("a DTD is refused".into())),
            Event::Eof => break,
            _ => {}
        }
    }
    if open.len() != 1 {
        return Err(XmlError("ends inside an element".into()));
    }
    open.pop().and_then(|mut top| top.children.pop()).ok_or_else(|| XmlError("no element".into()))
}

/// Parses elements without a root, with the prefixes that our envelope declares. Returns their
/// parent.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_fragment(elements: &str) -> Result<Node, XmlError> {
    let prefixes = format!("xmlns:xsi=\"{XSI}\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"");
    parse(format!("<r {prefixes}>{elements}</r>").as_bytes())
}

/// Adds a finished element to its parent.
fn close(open: &mut [Node], node: Node) -> Result<(), XmlError> {
    let parent = open.last_mut().ok_or_else(|| XmlError("end without start".into()))?;
    parent.children.push(node);
    Ok(())
}

/// An element with its name and its two attributes.
fn node_of(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Node, XmlError> {
    let mut node = Node { name: start.local_name().as_ref().to_owned(), ..Node::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| XmlError(error.to_string()))?;
        let (space, local) = reader.resolver().resolve_attribute(attribute.key);
        if local.as_ref() != "type" {
            continue;
        }
        let value = attribute.value.into_owned();
        if matches!(space, ResolveResult::Bound(space) if space.as_ref() == XSI) {
            let value = value.rsplit_once(':').map_or(value.as_str(), |(_, local)| local);
            node.xsi_type = Some(value.to_owned());
        } else {
            node.reference_type = Some(value);
        }
    }
    Ok(node)
}

/// Appends text with XML's five reserved characters escaped.
pub(crate) fn escape(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&apos;"),
            byte => out.push(byte),
        }
    }
}

/// Escaped text, for `format!`.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_references_and_entities() {
        let node = parse(
            br#"<?xml version="1.0"?><s:E xmlns:s="x" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
            <a type="Folder">group-d1</a><b i:type="n:Spec">&lt;&#x41;&amp;<![CDATA[<z>]]></b><c/></s:E>"#,
        )
        .unwrap();
        assert_eq!(node.name, "E");
        assert_eq!(node.child("a").unwrap().reference_type.as_deref(), Some("Folder"));
        assert_eq!(node.child("b").unwrap().xsi_type.as_deref(), Some("Spec"));
        assert_eq!(node.text_of("b"), Some("<A&<z>"));
        assert!(node.child("c").is_some());
    }

    #[test]
    fn malformed_xml_is_refused() {
        let deep = "<a>".repeat(100);
        for bytes in [
            "",
            "hello",
            "<a>",
            "<a></b>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a>&x;</a>",
            deep.as_str(),
        ] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
