//! The signature of a body: an HMAC-SHA256 in a header, as GitHub and others send it.

use std::sync::Arc;

use hmac::{KeyInit, Mac, SimpleHmac};
use hyper::HeaderMap;
use sha2::Sha256;

use super::settings::Signature;
use crate::config::SecretError;
use crate::net::listener::FromFiles;

/// The check of signatures. The secret is read again when its file changes.
pub(super) struct Signatures {
    settings: Signature,
    secret: FromFiles<Arc<str>, SecretError>,
}

impl Signatures {
    /// `setting` is the path of the setting, for messages.
    pub fn new(setting: &str, settings: &Signature) -> Result<Self, SecretError> {
        let files = settings.secret.path().map(ToOwned::to_owned).into_iter().collect();
        let secret = settings.secret.clone();
        let secret = FromFiles::new(setting, files, move || secret.read())?;
        Ok(Signatures { settings: settings.clone(), secret })
    }

    /// Returns true if the headers have a signature that could be right, so that the body is worth
    /// reading.
    pub fn is_present(&self, headers: &HeaderMap) -> bool {
        self.given(headers).is_some()
    }

    /// Returns true if the headers have the signature of `body`. The time that this takes does not
    /// depend on the difference.
    pub fn admit(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(given) = self.given(headers) else { return false };
        let secret = self.secret.current();
        let mac = SimpleHmac::<Sha256>::new_from_slice(secret.as_bytes());
        mac.expect("HMAC takes keys of any length").chain_update(body).verify_slice(&given).is_ok()
    }

    fn given(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        let mut values = headers.get_all(&*self.settings.header).iter();
        // Of two signatures one could be forged.
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let text = value.to_str().ok()?.trim().strip_prefix(self.settings.prefix())?;
        self.settings.encoding.decode(text).filter(|signature| signature.len() == 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::declare::defaults;
    use crate::source::webhook::settings::SignatureEncoding;

    fn admits(settings: &Signature, header: &str, value: &str, body: &[u8]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(
            hyper::header::HeaderName::from_bytes(header.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
        Signatures::new("signature", settings).unwrap().admit(&headers, body)
    }

    #[test]
    fn githubs_own_example_is_admitted() {
        // GitHub documentation, "Validating webhook deliveries", "Testing".
        let settings = Signature { secret: Secret::inline("It's a Secret to Everybody"), ..defaults() };
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check = |value: &str, body: &[u8], expected: bool| {
            assert_eq!(admits(&settings, "x-hub-signature-256", value, body), expected, "{value}");
        };
        check(right, b"Hello, World!", true);
        check(right, b"Hello, World?", false);
        check(&right.to_uppercase().replace("SHA256", "sha256"), b"Hello, World!", true);
        check(right.trim_start_matches("sha256="), b"Hello, World!", false);
        check(&right[..right.len() - 2], b"Hello, World!", false);
        check("sha256=", b"Hello, World!", false);
        assert!(!admits(&settings, "x-other", right, b"Hello, World!"));
    }

    #[test]
    fn a_sender_may_use_base64_without_a_prefix() {
        let settings = Signature {
            secret: Secret::inline("It's a Secret to Everybody"),
            header: "Signature".into(),
            prefix: Some(String::new()),
            encoding: SignatureEncoding::Base64,
        };
        let right = "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=";
        assert!(admits(&settings, "signature", right, b"Hello, World!"));
        assert!(!admits(&settings, "signature", &right.replace('d', "e"), b"Hello, World!"));
    }
}
