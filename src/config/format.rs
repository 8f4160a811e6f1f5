//! Formats of text and of maps of text. The common ones are here; a part of the router declares
//! its own beside its settings.

use serde_json::{Value, json};

use super::scalar;

/// The format of a text.
#[derive(Debug)]
pub(crate) struct TextFormat {
    /// Completes "must be …".
    pub allowed: &'static str,
    /// Returns the text in its normal form, or an error message about it.
    pub check: fn(&str) -> Result<String, String>,
    /// True if YAML may call it a number or a flag, such as `0123`.
    pub any_scalar: bool,
}

/// The format of a map of names to text.
#[derive(Debug)]
pub(crate) struct MapFormat {
    /// Completes "must be …".
    pub allowed: &'static str,
    /// True if the values are secrets, which must not be shown where they stand in a wrong place.
    pub has_secrets: bool,
    /// Checks a name and its value.
    pub check: fn(&str, &str) -> Result<(), String>,
    /// The JSON schema of the map, from the schema of a text.
    pub schema: fn(Value) -> Value,
}

/// The longest name in bytes, which is also Kubernetes' limit. Names are labels of metrics.
const NAME_BYTES_MAX: usize = 253;

/// Any text that is not empty.
pub(crate) static ANY_TEXT: TextFormat = TextFormat {
    allowed: "text that is not empty",
    check: |text| not_empty(text, ANY_TEXT.allowed),
    any_scalar: true,
};

/// Any text.
pub(crate) static MAY_BE_EMPTY: TextFormat =
    TextFormat { allowed: "text", check: |text| Ok(text.into()), any_scalar: true };

pub(crate) static NAME_TEXT: TextFormat = TextFormat {
    allowed: "a name of 1 to 253 characters, without `/`, `#`, line breaks or spaces around it",
    check: |text| {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.trim() == text
            && !text.contains(char::is_control)
            // `/` separates a processor from its function or bus, `#` a spool from its lanes.
            && !text.contains(['/', '#']);
        if fits { Ok(text.into()) } else { Err(NAME_TEXT.must()) }
    },
    any_scalar: true,
};

pub(crate) static HTTP_URL_TEXT: TextFormat = TextFormat {
    allowed: "a URL that begins with `http://` or `https://`, without credentials in it",
    check: |text| scalar::http_url(text).map_err(Into::into),
    any_scalar: false,
};

pub(crate) static PATH_TEXT: TextFormat =
    TextFormat { allowed: "a path", check: |text| not_empty(text, PATH_TEXT.allowed), any_scalar: false };

/// A PEM file with certificates.
pub(crate) static CERT_FILE_TEXT: TextFormat = TextFormat {
    allowed: "the path of a PEM file with certificates",
    check: |text| pem::<rustls::pki_types::CertificateDer<'_>>(text, "certificate"),
    any_scalar: false,
};

/// A PEM file with a private key.
pub(crate) static KEY_FILE_TEXT: TextFormat = TextFormat {
    allowed: "the path of a PEM file with a private key",
    check: |text| pem::<rustls::pki_types::PrivateKeyDer<'_>>(text, "private key"),
    any_scalar: false,
};

/// Any names and values.
pub(crate) static ANY_MAP: MapFormat = MapFormat {
    allowed: "a map of names to text",
    has_secrets: false,
    check: |_, _| Ok(()),
    schema: |text| json!({ "type": "object", "additionalProperties": text }),
};

impl TextFormat {
    /// Returns true if the check of this format reads a file.
    pub fn reads_a_file(&self) -> bool {
        [&CERT_FILE_TEXT, &KEY_FILE_TEXT].into_iter().any(|format| std::ptr::eq(format, self))
    }

    /// The message about a text that does not have this format.
    pub fn must(&self) -> String {
        format!("must be {}", self.allowed)
    }
}

fn not_empty(text: &str, allowed: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("must be {allowed}")) } else { Ok(text.into()) }
}

/// Checks that a PEM file has an item of type `T`, so that a mistake shows before the first
/// connection.
fn pem<T: rustls::pki_types::pem::PemObject>(path: &str, what: &str) -> Result<String, String> {
    use rustls::pki_types::pem::Error;
    match T::pem_file_iter(path).and_then(|mut items| items.next().unwrap_or(Err(Error::NoItemsFound))) {
        Ok(_) => Ok(path.into()),
        Err(Error::Io(error)) => Err(format!("cannot be read: {error}")),
        Err(_) => Err(format!("is not a PEM file with a {what}")),
    }
}
