//! The namespace prefixes that are bound at one place of a page.
//!
//! Only the two namespaces of XML Schema matter. A prefix is looked up in time that does not depend
//! on how many are bound, since a server may bind thousands.

use std::collections::BTreeMap;

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
const XSD: &str = "http://www.w3.org/2001/XMLSchema";

/// The namespaces that matter to the decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    Instance,
    Schema,
    Other,
}

/// The prefixes that are bound at one place of a page.
#[derive(Debug)]
pub(super) struct Prefixes<'a> {
    /// A tree, since a server chooses the prefixes: in a table of hashes it could make them
    /// collide.
    bound: BTreeMap<&'a [u8], Namespace>,
    schema_is_xsd: bool,
    /// The bindings of the open elements, to be taken back at their ends: depth, prefix, and the
    /// meaning that the prefix had before.
    undo: Vec<(usize, &'a [u8], Option<Namespace>)>,
}

impl<'a> Prefixes<'a> {
    pub fn new() -> Self {
        Prefixes { bound: BTreeMap::new(), schema_is_xsd: true, undo: Vec::new() }
    }

    /// Binds a prefix until the element at `depth` ends.
    pub fn bind(&mut self, depth: usize, prefix: &'a str, namespace: Namespace) {
        let prefix = prefix.as_bytes();
        let before = self.bound.insert(prefix, namespace);
        self.undo.push((depth, prefix, before));
        self.changed(prefix);
    }

    /// Takes back the bindings of all elements deeper than `depth`.
    pub fn unbind(&mut self, depth: usize) {
        while let Some((_, prefix, before)) = self.undo.pop_if(|(at, ..)| *at > depth) {
            match before {
                Some(namespace) => self.bound.insert(prefix, namespace),
                None => self.bound.remove(prefix),
            };
            self.changed(prefix);
        }
    }

    fn changed(&mut self, prefix: &[u8]) {
        if prefix == b"xsd" {
            self.schema_is_xsd = self.is(prefix, Namespace::Schema);
        }
    }

    /// The namespace that `prefix` is bound to.
    pub fn resolve(&self, prefix: &[u8]) -> Namespace {
        self.bound.get(prefix).map_or_else(|| customary(prefix), |namespace| *namespace)
    }

    /// Returns true if `xsd` is bound to XML Schema.
    #[inline]
    pub fn schema_is_xsd(&self) -> bool {
        self.schema_is_xsd
    }

    /// Returns true if `prefix`, of an attribute, is bound to `namespace`.
    pub fn is(&self, prefix: &[u8], namespace: Namespace) -> bool {
        self.resolve(prefix) == namespace
    }

    /// Returns true if `prefix` is bound to XML Schema's instance namespace.
    pub fn binds_instance(&self, prefix: &[u8]) -> bool {
        self.is(prefix, Namespace::Instance)
    }
}

/// The meaning of an unbound prefix. Like govmomi, this accepts `xsi:type` and `xsd:int` without
/// declarations.
fn customary(prefix: &[u8]) -> Namespace {
    match prefix {
        b"xsi" => Namespace::Instance,
        b"xsd" => Namespace::Schema,
        _ => Namespace::Other,
    }
}

/// The namespace with this name.
pub(super) fn namespace(uri: &str) -> Namespace {
    match uri {
        XSI => Namespace::Instance,
        XSD => Namespace::Schema,
        _ => Namespace::Other,
    }
}
