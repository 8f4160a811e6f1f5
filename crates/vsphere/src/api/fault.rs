//! Faults: a vCenter's refusal of a call, in SOAP or in VI/JSON.

use super::element::Element;
use crate::limits::FAULT_CHARS_MAX;

/// A fault, from either encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The fault's class, `ManagedObjectNotFound`; empty if the fault has no detail.
    pub class: String,
    /// `faultstring`, or the first `faultMessage`.
    pub message: String,
}

/// The faults that the router handles specially.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The user or password is wrong, or the password has expired. Retrying soon locks the account.
    InvalidLogin,
    /// The session has expired.
    NotAuthenticated,
    /// The object, such as a collector or a filter, no longer exists.
    ManagedObjectNotFound,
    /// For CreateCollectorForEvents: the session has too many collectors.
    InvalidState,
    NoPermission,
    MethodNotFound,
    /// This server does not have the property.
    InvalidProperty,
    /// WaitForUpdatesEx was cancelled.
    RequestCanceled,
    Other,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = if self.class.is_empty() { "fault" } else { &self.class };
        match self.message.is_empty() {
            true => write!(f, "vCenter answered {class}"),
            false => write!(f, "vCenter answered {class}: {}", self.message),
        }?;
        match self.kind {
            FaultKind::InvalidLogin => f.write_str("; check `username` and `password`"),
            FaultKind::NoPermission => {
                f.write_str("; grant the user the role Read-only on the vCenter's root, propagated")
            }
            _ => Ok(()),
        }
    }
}

impl Fault {
    /// The fault in a SOAP envelope, if there is one.
    pub fn of(envelope: &Element) -> Option<Fault> {
        let fault = envelope.at(&["Body", "Fault"])?;
        let detail = fault.child("detail").and_then(|detail| detail.children.first());
        // The class is the `xsi:type` of the detail, or else its element name without `Fault`.
        let class = detail.map_or(String::new(), |detail| match detail.class.is_empty() {
            false => detail.class.clone(),
            true => detail.name.strip_suffix("Fault").unwrap_or(&detail.name).to_string(),
        });
        Some(Fault::new(class, fault.text_of("faultstring").to_string()))
    }

    /// A fault of `class`, an unqualified name such as `InvalidLogin`.
    pub fn new(class: String, message: String) -> Fault {
        let kind = match &*class {
            "InvalidLogin" | "PasswordExpired" => FaultKind::InvalidLogin,
            "NotAuthenticated" => FaultKind::NotAuthenticated,
            "ManagedObjectNotFound" => FaultKind::ManagedObjectNotFound,
            "InvalidState" => FaultKind::InvalidState,
            "NoPermission" => FaultKind::NoPermission,
            "MethodNotFound" => FaultKind::MethodNotFound,
            "InvalidProperty" => FaultKind::InvalidProperty,
            "RequestCanceled" => FaultKind::RequestCanceled,
            _ => FaultKind::Other,
        };
        let kept = |text: String| match text.char_indices().nth(FAULT_CHARS_MAX) {
            Some((end, _)) => text[..end].to_string(),
            None => text,
        };
        Fault { kind, class: kept(class), message: kept(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_faults_have_their_kind() {
        let check = |xml: &str, kind: FaultKind, text: &str| {
            let fault = Fault::of(&Element::parse(xml.as_bytes()).unwrap()).unwrap();
            assert_eq!(fault.kind, kind);
            assert_eq!(fault.to_string(), text);
        };
        macro_rules! recorded {
            ($name:literal) => {
                include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../../tests/fixtures/soap/pyvmomi9.fault-",
                    $name,
                    ".res.xml"
                ))
            };
        }
        check(
            recorded!("InvalidLogin-Login"),
            FaultKind::InvalidLogin,
            "vCenter answered InvalidLogin: Login failure; check `username` and `password`",
        );
        check(
            recorded!("NotAuthenticated-ReadNextEvents"),
            FaultKind::NotAuthenticated,
            "vCenter answered NotAuthenticated",
        );
        check(
            recorded!("InvalidState-CreateCollectorForEvents"),
            FaultKind::InvalidState,
            "vCenter answered InvalidState: Too many event collectors to create",
        );
        check(
            recorded!("MethodNotFound-LogUserEvent"),
            FaultKind::MethodNotFound,
            "vCenter answered MethodNotFound: EventManager:EventManager does not implement: LogUserEvent",
        );
        let gone = Element::parse(recorded!("ManagedObjectNotFound-ReadNextEvents").as_bytes()).unwrap();
        assert_eq!(Fault::of(&gone).unwrap().kind, FaultKind::ManagedObjectNotFound);
        check(
            "<E><Body><Fault><faultstring>odd</faultstring><detail><FooFault/></detail></Fault></Body></E>",
            FaultKind::Other,
            "vCenter answered Foo: odd",
        );
        let long = Fault::new("A".repeat(5_000), "b".repeat(5_000));
        assert_eq!((long.class.len(), long.message.len()), (FAULT_CHARS_MAX, FAULT_CHARS_MAX));
        check("<E><Body><Fault/></Body></E>", FaultKind::Other, "vCenter answered fault");
    }
}
