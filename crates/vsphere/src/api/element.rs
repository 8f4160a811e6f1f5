//! The tree of an answer to a control call: names without prefixes, text, children.
//!
//! Pages of events never come here; `decode` reads them.
//!
//! INVARIANT: the parser reads no document type declaration, resolves no entity but XML's own five,
//! and bounds elements by the size of the answer, attributes of a tag and depth. The caller bounds
//! the bytes.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::decode::excerpt;
use crate::limits::{ATTRIBUTES_MAX, XML_DEPTH_MAX, control_elements_max};

/// An XML element. Prefixes, comments and processing instructions are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The local name.
    pub name: String,
    /// The local part of `xsi:type`; empty if absent.
    pub class: String,
    /// The plain `type` attribute, the type of a managed object reference; empty if absent.
    pub kind: String,
    /// The element's own text, with references resolved.
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// Parses the root element of `bytes`. The error gives the place and the reason.
    pub fn parse(bytes: &[u8]) -> Result<Element, String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        let mut reader = Reader::from_str(text);
        let elements_max = control_elements_max(bytes.len());
        // The elements from the root down to the innermost one that is not closed yet.
        let mut open: Vec<Element> = Vec::new();
        let mut elements = 0;
        loop {
            let event = reader
                .read_event()
                .map_err(|error| format!("at byte {}: {error}", reader.error_position()))?;
            match event {
                Event::Start(start) => {
                    elements += 1;
                    if elements > elements_max || open.len() >= XML_DEPTH_MAX {
                        return Err(format!(
                            "more than {elements_max} elements or nested deeper than {XML_DEPTH_MAX}"
                        ));
                    }
                    open.push(begin(&start)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    // An empty element that is the root is the whole document.
                    let element = begin(&start)?;
                    match open.last_mut() {
                        Some(parent) if elements <= elements_max => parent.children.push(element),
                        Some(_) => return Err(format!("more than {elements_max} elements")),
                        None => return Ok(element),
                    }
                }
                Event::End(_) => {
                    // quick-xml has checked that the names match.
                    let Some(done) = open.pop() else {
                        return Err("an end tag without a start tag".to_string());
                    };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => return Ok(done),
                    }
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text.xml10_content());
                    } else if !text.xml10_content().trim().is_empty() {
                        return Err("text before the first element".to_string());
                    }
                }
                Event::CData(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text.into_inner());
                    }
                }
                Event::GeneralRef(reference) => {
                    // Character references first, then XML's five entities.
                    let Some(element) = open.last_mut() else { continue };
                    match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                        Some(char) => element.text.push(char),
                        None => {
                            let name = reference.into_inner();
                            let value = quick_xml::escape::resolve_predefined_entity(&name)
                                .ok_or_else(|| format!("unknown entity `&{};`", excerpt(&name)))?;
                            element.text.push_str(value);
                        }
                    }
                }
                Event::DocType(_) => {
                    return Err("a document type declaration, which SOAP forbids".to_string());
                }
                Event::Eof => return Err("the document ends inside an element".to_string()),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            }
        }
    }

    /// The children with this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first element at the end of this path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The trimmed text of the first child with this name; empty if there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }
}

/// An element with its name and type attributes, without content.
fn begin(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut element = Element { name: start.local_name().as_ref().to_string(), ..Element::default() };
    for (count, attribute) in start.attributes().enumerate() {
        if count == ATTRIBUTES_MAX {
            return Err(format!("a tag of more than {ATTRIBUTES_MAX} attributes"));
        }
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.local_name().as_ref() == "type" {
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .map_err(|error| error.to_string())?;
            match attribute.key.prefix() {
                Some(_) => element.class = value.rsplit(':').next().unwrap_or_default().to_string(),
                None => element.kind = value.into_owned(),
            }
        }
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_prefix_and_text_its_escapes() {
        let root = Element::parse(
            b"<?xml version=\"1.0\"?><!-- c --><s:a xmlns:s='u' type='M' x:type='v:T'><b> 1 &lt;&#x41;&amp; </b><b/><![CDATA[<]]></s:a>\n",
        )
        .unwrap();
        assert_eq!((&*root.name, &*root.class, &*root.kind, &*root.text), ("a", "T", "M", "<"));
        assert_eq!(root.text_of("b"), "1 <A&");
        assert_eq!(root.children("b").count(), 2);
        assert!(root.at(&["b", "c"]).is_none());
    }

    #[test]
    fn malformed_answers_name_the_problem() {
        let check = |xml: &str, part: &str| {
            let error = Element::parse(xml.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{xml}: {error}");
        };
        check("", "ends inside");
        check("<a><b></a>", "at byte");
        check("<a>", "ends inside");
        check("hello", "text before");
        check("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document type");
        check("<a>&x;</a>", "unknown entity");
        check(&"<a>".repeat(200), "deeper than");
        check(&format!("<a>{}</a>", "<b/>".repeat(8_000)), "elements");
        let attributes: String = (0..65).map(|i| format!(" a{i}=''")).collect();
        check(&format!("<a{attributes}/>"), "attributes");
        assert!(Element::parse(b"<a>\xff</a>").unwrap_err().contains("UTF-8"));
    }
}
