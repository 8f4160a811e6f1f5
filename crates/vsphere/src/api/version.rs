//! The version of the vSphere API to use.
//!
//! A server lists its versions in `vimServiceVersions.xml`, and a client names the one it wants in
//! each SOAPAction. The version decides which classes the server sends: an event class that is
//! newer than the version arrives as its nearest older base class. The client therefore asks for
//! the newest version that both sides know.

use super::element::Element;

/// The versions that this client knows, newest first (pyvmomi 9.1's registry of `vim25`).
const KNOWN: &[&str] = &[
    "9.1.1.0", "9.1.0.0", "9.0.0.0", "8.0.3.1", "8.0.3.0", "8.0.2.0", "8.0.1.0", "8.0.0.2", "8.0.0.1",
    "8.0.0.0", "7.0.3.2", "7.0.3.1", "7.0.3.0", "7.0.2.1", "7.0.2.0", "7.0.1.1", "7.0.1.0", "7.0.0.2",
    "7.0.0.0", "7.0", "6.9.1", "6.8.7", "6.7.3", "6.7.2", "6.7.1", "6.7", "6.5", "6.0", "5.5", "5.1", "5.0",
    "4.1", "4.0",
];

/// The version for a server that lists none: old enough for every vCenter still in use.
const OLDEST_USEFUL: &str = "6.0";

/// The first release with VI/JSON, vCenter 8.0 U1.
const OLDEST_JSON: &str = "8.0.1.0";

/// A version of the vSphere API, `8.0.3.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Default for Version {
    fn default() -> Self {
        Version(OLDEST_USEFUL.to_string())
    }
}

impl Version {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the SOAPAction header.
    pub fn soap_action(&self) -> String {
        format!("urn:vim25/{}", self.0)
    }

    /// The versions that VI/JSON supports, newest first. VI/JSON came with vCenter 8.0 U1.
    pub fn json_releases() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().copied().filter(|known| numbers(known) >= numbers(OLDEST_JSON))
    }

    /// The release for a VI/JSON server without negotiation: `hello` came one release after
    /// VI/JSON.
    pub fn oldest_json() -> Version {
        Version(OLDEST_JSON.to_string())
    }

    /// The release that a VI/JSON server has chosen.
    pub fn chosen(release: String) -> Version {
        Version(release)
    }

    /// Returns true if this version is at least `dotted`, compared number by number.
    pub fn at_least(&self, dotted: &str) -> bool {
        numbers(&self.0) >= numbers(dotted)
    }

    /// `EventFilterSpec.delayedInit` exists (pyvmomi's registry: since 8.0.3.0).
    pub fn has_delayed_init(&self) -> bool {
        self.at_least("8.0.3.0")
    }

    /// `EventFilterSpec.maxCount` exists (pyvmomi's registry: since 6.5).
    pub fn has_max_count(&self) -> bool {
        self.at_least("6.5")
    }

    /// The newest version that both sides know; if there is none, the server's own.
    pub fn negotiate(service_versions: &Element) -> Option<Version> {
        let namespace = service_versions
            .children("namespace")
            .find(|namespace| namespace.text_of("name") == "urn:vim25")?;
        let own = namespace.text_of("version");
        let prior = namespace.child("priorVersions");
        // The server's list is its own version and the earlier ones that it still supports.
        let offered = |version: &str| {
            own == version
                || prior
                    .is_some_and(|prior| prior.children("version").any(|offer| offer.text.trim() == version))
        };
        KNOWN
            .iter()
            .copied()
            .find(|known| offered(known))
            .or((!own.is_empty()).then_some(own))
            .map(|version| Version(version.to_string()))
    }

    /// The newest known version for a server of this `AboutInfo.apiVersion`. It serves servers that
    /// have no `vimServiceVersions.xml`.
    pub fn for_api(api_version: &str) -> Version {
        let server = numbers(api_version);
        let known = KNOWN.iter().copied().find(|known| numbers(known) <= server);
        Version(known.unwrap_or(OLDEST_USEFUL).to_string())
    }
}

/// The first four numbers of a dotted version; a part that is not a number counts as 0.
fn numbers(dotted: &str) -> [u32; 4] {
    let mut numbers = [0; 4];
    for (number, part) in numbers.iter_mut().zip(dotted.split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: &str, prior: &[&str], expected: Option<&str>) {
        let prior: String = prior.iter().map(|version| format!("<version>{version}</version>")).collect();
        let xml = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <namespaces version="1.0">
              <namespace><name>urn:vim2</name><version>9.9</version></namespace>
              <namespace><name>urn:vim25</name><version>{own}</version><priorVersions>{prior}</priorVersions></namespace>
            </namespaces>"#
        );
        let root = Element::parse(xml.as_bytes()).unwrap();
        assert_eq!(Version::negotiate(&root).as_ref().map(Version::as_str), expected, "{own} {prior}");
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        check("8.0.3.0", &["8.0.2.0", "7.0.3.2", "6.0"], Some("8.0.3.0"));
        check("10.0.0.0", &["9.1.0.0", "8.0.3.0"], Some("9.1.0.0"));
        check("6.5", &["6.0", "5.5"], Some("6.5"));
        check("m1234", &["5.5", "6.7.3"], Some("6.7.3"));
        check("10.0.0.0", &[], Some("10.0.0.0"));
        check("", &[], None);
    }

    #[test]
    fn a_server_without_a_list_gets_its_api_version() {
        let check = |api: &str, expected: &str| assert_eq!(Version::for_api(api).as_str(), expected, "{api}");
        check("8.0.3.0", "8.0.3.0");
        check("8.0.9.9", "8.0.3.1");
        check("6.7", "6.7");
        check("42", "9.1.1.0");
        check("1.0", "6.0");
        check("", "6.0");
    }

    #[test]
    fn known_versions_are_sorted() {
        assert!(KNOWN.is_sorted_by(|newer, older| numbers(newer) >= numbers(older)));
        assert!(
            Version("8.0.3.0".into()).has_delayed_init() && !Version("8.0.2.0".into()).has_delayed_init()
        );
        let json: Vec<_> = Version::json_releases().collect();
        assert!(json.first() == KNOWN.first() && json.last() == Some(&OLDEST_JSON));
        assert!(Version("10.0.0.0".into()).has_delayed_init() && Version::default().at_least("6.0"));
    }
}
