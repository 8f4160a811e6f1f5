//! The protocol of the vSphere API: calls and typed faults, which SOAP and VI/JSON share, and the
//! SOAP envelopes around them.
//!
//! Answers have the form in which the recorded servers write them:
//!
//! ```text
//! <soapenv:Envelope …><soapenv:Body>
//!   <METHODResponse xmlns="urn:vim25"> … </METHODResponse>  or  <soapenv:Fault>…</soapenv:Fault>
//! </soapenv:Body></soapenv:Envelope>
//! ```

use super::xml::{self, Node, XmlError, escaped};

pub(crate) const ENVELOPE_OPEN: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<soapenv:Envelope xmlns:soapenc=\"http://schemas.xmlsoap.org/soap/encoding/\" ",
    "xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" ",
    "xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" ",
    "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n<soapenv:Body>\n"
);
pub(crate) const ENVELOPE_CLOSE: &str = "\n</soapenv:Body>\n</soapenv:Envelope>";

/// A call: method, receiver, arguments. VI/JSON makes the same tree of arguments as SOAP.
pub(crate) struct Call {
    pub method: String,
    pub this_type: String,
    pub this: String,
    pub arguments: Node,
}

/// Reads the call in a SOAP envelope.
///
/// # Errors
/// The bytes are not XML, or have no method in a Body.
pub(crate) fn parse_soap_call(bytes: &[u8]) -> Result<Call, Fault> {
    let parsed = xml::parse(bytes).and_then(|mut envelope| {
        let body = envelope.children.iter_mut().find(|child| child.name == "Body");
        match body.and_then(|body| body.children.pop()) {
            Some(method) => Ok(method),
            None => xml::parse(b"no method in a Body"),
        }
    });
    let method = parsed.map_err(|error: XmlError| Fault::new("InvalidRequest", &error.to_string()))?;
    let this = method.child("_this");
    Ok(Call {
        this_type: this.and_then(|this| this.reference_type.clone()).unwrap_or_default(),
        this: this.map(|this| this.text.trim().to_owned()).unwrap_or_default(),
        method: method.name.clone(),
        arguments: method,
    })
}

/// A typed fault of the vSphere API, in no protocol's form yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub(crate) kind: String,
    pub(crate) message: String,
    /// Fields of the fault, as XML.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(kind: &str, message: &str) -> Fault {
        Fault { kind: kind.into(), message: message.into(), detail: String::new() }
    }

    fn with(mut self, detail: String) -> Fault {
        self.detail = detail;
        self
    }

    pub(crate) fn invalid_login() -> Fault {
        Fault::new("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")
    }

    pub(crate) fn not_authenticated(call: &Call) -> Fault {
        Fault::new("NotAuthenticated", "The session is not authenticated.").with(format!(
            "<object type=\"{}\">{}</object><privilegeId>System.View</privilegeId>",
            escaped(&call.this_type),
            escaped(&call.this)
        ))
    }

    pub(crate) fn not_found(kind: &str, id: &str) -> Fault {
        let message = format!(
            "The object 'vim.{kind}:{id}' has already been deleted or has not been completely created"
        );
        Fault::new("ManagedObjectNotFound", &message).with(format!(
            "<obj type=\"{}\">{}</obj>",
            escaped(kind),
            escaped(id)
        ))
    }

    pub(crate) fn method_not_found(call: &Call) -> Fault {
        let message = format!("{}:{} does not implement: {}", call.this_type, call.this, call.method);
        Fault::new("MethodNotFound", &message).with(format!(
            "<receiver type=\"{}\">{}</receiver><method>{}</method>",
            escaped(&call.this_type),
            escaped(&call.this),
            escaped(&call.method)
        ))
    }

    pub(crate) fn invalid_argument(property: &str) -> Fault {
        Fault::new("InvalidArgument", &format!("A specified parameter was not correct: {property}"))
            .with(format!("<invalidProperty>{}</invalidProperty>", escaped(property)))
    }

    /// A field that the type does not have: from a request of a later release, or a mistake.
    pub(crate) fn unexpected_element(name: &str, kind: &str) -> Fault {
        Fault::new(
            "InvalidRequest",
            &format!("Unexpected element tag \"{name}\" seen while parsing object of type \"{kind}\""),
        )
    }

    pub(crate) fn invalid_property(name: &str) -> Fault {
        Fault::new("InvalidProperty", "").with(format!("<name>{}</name>", escaped(name)))
    }

    /// The whole SOAP answer, to be sent with HTTP status 500.
    pub(crate) fn soap_envelope(&self) -> Vec<u8> {
        let Fault { kind, message, detail } = self;
        let message = escaped(message);
        format!(
            "{ENVELOPE_OPEN}<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>{message}</faultstring>\
             <detail><{kind}Fault xmlns=\"urn:vim25\" xsi:type=\"{kind}\">{detail}</{kind}Fault></detail>\
             </soapenv:Fault>{ENVELOPE_CLOSE}"
        )
        .into_bytes()
    }
}

/// Writes an answer; `body` writes the contents of `<METHODResponse>`.
pub(crate) fn write_soap_answer(out: &mut Vec<u8>, method: &str, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(ENVELOPE_OPEN.as_bytes());
    out.push(b'<');
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"Response xmlns=\"urn:vim25\">");
    body(out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"Response>");
    out.extend_from_slice(ENVELOPE_CLOSE.as_bytes());
}

/// The API versions that this server supports, for the negotiation with clients.
pub(crate) const VERSIONS: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<!-- synthetic vCenter -->\n<namespaces version=\"1.0\">",
    "<namespace><name>urn:vim25</name><version>8.0.2.0</version><priorVersions>",
    "<version>8.0.1.0</version><version>8.0.0.1</version><version>7.0.3.2</version><version>7.0</version>",
    "<version>6.7.3</version><version>6.7</version><version>6.5</version><version>6.0</version><version>5.5</version>",
    "<version>2.5u2</version><version>2.5</version></priorVersions></namespace>",
    "<namespace><name>urn:vim2</name><version>2.0</version></namespace></namespaces>"
);
/// `about.apiVersion`.
pub(crate) const API_VERSION: &str = "8.0.2.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_calls_of_real_clients() {
        let govmomi = br#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><ReadNextEvents xmlns="urn:vim25"><_this type="EventHistoryCollector">session[a]b</_this><maxCount>100</maxCount></ReadNextEvents></Body></Envelope>"#;
        let call = parse_soap_call(govmomi).unwrap();
        assert_eq!((call.method.as_str(), call.this.as_str()), ("ReadNextEvents", "session[a]b"));
        assert_eq!(call.arguments.text_of("maxCount"), Some("100"));
        assert_eq!(parse_soap_call(b"<a/>").err().unwrap().kind, "InvalidRequest");
        assert_eq!(parse_soap_call(b"GET").err().unwrap().kind, "InvalidRequest");
    }

    #[test]
    fn faults_are_escaped_and_typed() {
        let text = String::from_utf8(Fault::not_found("Folder", "<x>").soap_envelope()).unwrap();
        assert!(
            text.contains("xsi:type=\"ManagedObjectNotFound\"><obj type=\"Folder\">&lt;x&gt;</obj>"),
            "{text}"
        );
    }
}
