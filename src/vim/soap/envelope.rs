//! The bodies of the requests: text written into text, every value escaped.

use std::fmt::Write;

use quick_xml::escape::{escape, partial_escape};

use super::model::{EventFilterSpec, MoRef, Recursion};
use super::time::format_us;
use super::version::Version;

/// Begins a SOAP envelope whose body is the call of one method on one object.
pub(super) struct Call {
    method: &'static str,
    xml: String,
}

impl Call {
    pub fn new(method: &'static str, this: &MoRef) -> Call {
        let mut call = Call { method, xml: String::with_capacity(1 << 10) };
        call.raw(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><",
        );
        call.raw(method);
        call.raw(" xmlns=\"urn:vim25\">");
        call.moref("_this", this);
        call
    }

    /// The envelope, closed.
    pub fn finish(mut self) -> String {
        self.raw("</");
        self.raw(self.method);
        self.raw("></soapenv:Body></soapenv:Envelope>");
        self.xml
    }

    fn raw(&mut self, xml: &str) {
        self.xml.push_str(xml);
    }

    fn open(&mut self, name: &str) {
        self.raw("<");
        self.raw(name);
        self.raw(">");
    }

    fn close(&mut self, name: &str) {
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        self.raw(&partial_escape(value));
        self.close(name);
    }

    pub fn number(&mut self, name: &str, value: u32) {
        self.open(name);
        write!(self.xml, "{value}").expect("a String takes what fits in memory");
        self.close(name);
    }

    pub fn flag(&mut self, name: &str, value: bool) {
        self.text(name, if value { "true" } else { "false" });
    }

    pub fn moref(&mut self, name: &str, value: &MoRef) {
        self.raw("<");
        self.raw(name);
        self.raw(" type=\"");
        self.raw(&escape(&*value.kind));
        self.raw("\">");
        self.raw(&partial_escape(&*value.id));
        self.close(name);
    }

    /// An EventFilterSpec, its elements in the schema's order (the server insists on it).
    pub fn filter(&mut self, spec: &EventFilterSpec, root: &MoRef, version: &Version) {
        self.open("filter");
        let (entity, recursion) = match &spec.entity {
            Some((entity, recursion)) => (entity, *recursion),
            None => (root, Recursion::All),
        };
        self.open("entity");
        self.moref("entity", entity);
        self.text("recursion", recursion.as_str());
        self.close("entity");
        if spec.begin_us.is_some() || spec.end_us.is_some() {
            self.open("time");
            for (name, us) in [("beginTime", spec.begin_us), ("endTime", spec.end_us)] {
                if let Some(us) = us {
                    self.text(name, &format_us(us));
                }
            }
            self.close("time");
        }
        if !spec.users.is_empty() {
            self.open("userName");
            self.flag("systemUser", false);
            for user in &spec.users {
                self.text("userList", user);
            }
            self.close("userName");
        }
        self.flag("disableFullMessage", false);
        for event_type in &spec.event_types {
            self.text("eventTypeId", event_type);
        }
        if let Some(count) = spec.max_count.filter(|_| version.has_max_count()) {
            self.number("maxCount", count);
        }
        if spec.delayed_init && version.has_delayed_init() {
            self.flag("delayedInit", true);
        }
        self.close("filter");
    }

    /// A PropertyFilterSpec for properties of one object.
    pub fn property_filter(&mut self, name: &str, object: &MoRef, paths: &[&str]) {
        self.open(name);
        self.open("propSet");
        self.text("type", &object.kind);
        self.flag("all", false);
        for path in paths {
            self.text("pathSet", path);
        }
        self.close("propSet");
        self.open("objectSet");
        self.moref("obj", object);
        self.flag("skip", false);
        self.close("objectSet");
        self.close(name);
    }

    pub fn wait_options(&mut self, max_wait_seconds: u32) {
        self.open("options");
        self.number("maxWaitSeconds", max_wait_seconds);
        self.close("options");
    }

    pub fn empty(&mut self, name: &str) {
        self.open(name);
        self.close(name);
    }
}

/// Whether XML 1.0 can carry this text at all: it has no way to write most control characters.
pub(super) fn is_sendable(text: &str) -> bool {
    text.chars().all(|char| matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..))
}

#[cfg(test)]
mod tests {
    use super::super::element::Element;
    use super::*;

    #[test]
    fn every_character_of_a_password_arrives() {
        let password = "$#\"'\\:%&<>]]>\t\r\n ü\u{1F511}&amp;";
        let mut call = Call::new("Login", &MoRef::new("Session\"Manager", "a<b"));
        call.text("password", password);
        let root = Element::parse(call.finish().as_bytes()).unwrap();
        let login = root.at(&["Body", "Login"]).unwrap();
        assert_eq!(login.child("password").unwrap().text, password);
        let this = login.child("_this").unwrap();
        assert_eq!((&*this.kind, &*this.text), ("Session\"Manager", "a<b"));
        assert!(is_sendable(password) && !is_sendable("a\u{1}") && !is_sendable("\u{ffff}"));
    }

    #[test]
    fn a_filter_is_in_the_schemas_order_and_fits_the_version() {
        let spec = EventFilterSpec {
            entity: None,
            begin_us: Some(0),
            end_us: Some(1_500_000),
            users: vec!["CORP\\a&b".to_string()],
            event_types: vec!["VmPoweredOnEvent".to_string(), "com.vmware.<x>".to_string()],
            max_count: Some(1),
            delayed_init: true,
        };
        let check = |version: &Version, expected: &[&str]| {
            let mut call = Call::new("CreateCollectorForEvents", &MoRef::new("EventManager", "EventManager"));
            call.filter(&spec, &MoRef::new("Folder", "group-d1"), version);
            let root = Element::parse(call.finish().as_bytes()).unwrap();
            let filter = root.at(&["Body", "CreateCollectorForEvents", "filter"]).unwrap();
            let names: Vec<_> = filter.children.iter().map(|child| &*child.name).collect();
            assert_eq!(names, expected);
            assert_eq!(filter.at(&["entity", "recursion"]).unwrap().text, "all");
            assert_eq!(filter.at(&["time"]).unwrap().text_of("endTime"), "1970-01-01T00:00:01.5Z");
            assert_eq!(filter.at(&["userName"]).unwrap().text_of("userList"), "CORP\\a&b");
        };
        let head = ["entity", "time", "userName", "disableFullMessage", "eventTypeId", "eventTypeId"];
        check(&Version::for_api("6.0"), &head);
        check(&Version::for_api("7.0"), &[&head[..], &["maxCount"]].concat());
        check(&Version::for_api("9.1.0.0"), &[&head[..], &["maxCount", "delayedInit"]].concat());
    }
}
