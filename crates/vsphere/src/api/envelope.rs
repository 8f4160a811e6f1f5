//! SOAP request bodies: a [`Call`] written as text, with every value escaped.

use quick_xml::escape::{escape, partial_escape};

use super::call::{Argument, Call, Members};
use super::model::MoRef;

/// Wraps `call` in a SOAP envelope.
pub fn envelope(call: &Call) -> String {
    let mut xml = String::with_capacity(1 << 10);
    xml.push_str(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><",
    );
    xml.push_str(call.method);
    xml.push_str(" xmlns=\"urn:vim25\">");
    reference(&mut xml, "_this", &call.this);
    members(&mut xml, &call.arguments);
    close(&mut xml, call.method);
    xml.push_str("</soapenv:Body></soapenv:Envelope>");
    xml
}

fn members(xml: &mut String, members: &Members) {
    for (name, value) in &members.0 {
        argument(xml, name, value);
    }
}

fn argument(xml: &mut String, name: &str, value: &Argument) {
    match value {
        Argument::Text(text) => element(xml, name, &partial_escape(&**text)),
        Argument::Number(number) => element(xml, name, &number.to_string()),
        Argument::Flag(flag) => element(xml, name, if *flag { "true" } else { "false" }),
        Argument::Reference(value) => reference(xml, name, value),
        Argument::Object(_, inner) => {
            open(xml, name);
            members(xml, inner);
            close(xml, name);
        }
        Argument::List(items) => items.iter().for_each(|item| argument(xml, name, item)),
    }
}

fn element(xml: &mut String, name: &str, escaped: &str) {
    open(xml, name);
    xml.push_str(escaped);
    close(xml, name);
}

fn reference(xml: &mut String, name: &str, value: &MoRef) {
    xml.push('<');
    xml.push_str(name);
    xml.push_str(" type=\"");
    xml.push_str(&escape(&*value.kind));
    xml.push_str("\">");
    xml.push_str(&partial_escape(&*value.id));
    close(xml, name);
}

fn open(xml: &mut String, name: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
}

fn close(xml: &mut String, name: &str) {
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

/// Returns true if XML 1.0 can carry this text. It cannot represent most control characters.
pub fn is_sendable(text: &str) -> bool {
    text.chars().all(|char| matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..))
}

#[cfg(test)]
mod tests {
    use super::super::call::event_filter;
    use super::super::element::Element;
    use super::super::model::EventFilterSpec;
    use super::super::version::Version;
    use super::*;

    #[test]
    fn every_character_of_a_password_arrives() {
        let password = "$#\"'\\:%&<>]]>\t\r\n ü\u{1F511}&amp;";
        let call = Call::new("Login", &MoRef::new("Session\"Manager", "a<b")).text("password", password);
        let root = Element::parse(envelope(&call).as_bytes()).unwrap();
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
            let filter = event_filter(&spec, &MoRef::new("Folder", "group-d1"), version);
            let manager = MoRef::new("EventManager", "EventManager");
            let call = Call::new("CreateCollectorForEvents", &manager).with("filter", filter);
            let root = Element::parse(envelope(&call).as_bytes()).unwrap();
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
