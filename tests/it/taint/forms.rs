//! The planted secrets, and the forms in which servers repeat them. They are written apart from the
//! decodings of the router, so that both are not wrong in the same way.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

// Characters that every escaping treats differently, and a core that is easy to find.
pub const VCENTER: &str = "tainted<vcenter>&\"pa55'+1";
pub const SESSION: &str = "tainted-session-0a1b2c3d";
pub const BEARER: &str = "tainted/bearer+t0ken=";
pub const HEADER: &str = "tainted-header-k3y";
pub const BASIC: &str = "tainted&basic<pa55";
pub const PROXY: &str = "tainted-proxy-pa55";
pub const GATEWAY: &str = "tainted\\gateway\"pa55";
pub const AWS_KEY: &str = "tainted/aws+s3cret";
pub const AWS_TOKEN: &str = "tainted-aws-s3ssion==";
pub const ADMIN: &str = "tainted-admin-pa55";
pub const PATH: &str = "tainted-path-s3cret";
pub const QUERY: &str = "tainted-query-s3cret";
pub const VARIABLE: &str = "tainted-variable-s3cret";
pub const SECRETS: [&str; 13] = [
    VCENTER, SESSION, BEARER, HEADER, BASIC, PROXY, GATEWAY, AWS_KEY, AWS_TOKEN, ADMIN, PATH, QUERY, VARIABLE,
];

fn units(secret: &str, format: impl Fn(u16) -> String) -> String {
    secret.encode_utf16().map(format).collect()
}

fn bytes(secret: &str, format: impl Fn(u8) -> String) -> String {
    secret.bytes().map(format).collect()
}

fn unless_plain(byte: u8, format: impl Fn(u8) -> String) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format(byte) }
}

/// The forms in which a server may repeat a secret.
pub fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
        secret.replace('\\', "\\\\").replace('/', "\\/").replace('"', "\\\""),
        units(secret, |unit| format!("\\u{unit:04x}")),
        units(secret, |unit| format!("\\u{unit:04X}")),
        bytes(secret, |byte| unless_plain(byte, |byte| format!("\\u{byte:04x}"))),
        secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&apos;"),
        bytes(secret, |byte| unless_plain(byte, |byte| format!("&#{byte};"))),
        bytes(secret, |byte| format!("&#{byte};")),
        bytes(secret, |byte| format!("&#x{byte:x};")),
        bytes(secret, |byte| format!("&#X{byte:04X};")),
        bytes(secret, |byte| unless_plain(byte, |byte| format!("%{byte:02X}"))),
        bytes(secret, |byte| unless_plain(byte, |byte| format!("%{byte:02x}"))),
        bytes(secret, |byte| format!("%{byte:02x}")),
        secret.replace('%', "%25").replace('+', "%2B").replace('&', "%26").replace(' ', "+"),
    ];
    for around in ["", "x", "xy", "admin:", "operator:", "user:", "ro:"] {
        let pair = format!("{around}{secret}");
        forms.extend([
            BASE64_STANDARD.encode(&pair),
            BASE64_STANDARD_NO_PAD.encode(&pair),
            BASE64_URL_SAFE.encode(&pair),
            BASE64_URL_SAFE_NO_PAD.encode(format!("{pair} and more")),
        ]);
    }
    let distinct: BTreeSet<String> = forms.into_iter().collect();
    distinct.into_iter().collect()
}

/// Fails if `text` has a secret in any form, or a part of base64 that only a secret can cause.
#[track_caller]
pub fn search(what: &str, text: &str) {
    for secret in SECRETS {
        let mut looks = forms(secret);
        // The common part of all base64 with the secret in the middle, at each alignment.
        looks.extend((0..3).map(|at| {
            let inner = BASE64_STANDARD_NO_PAD.encode(&secret.as_bytes()[at..]);
            inner[..inner.len() - 2].to_owned()
        }));
        for look in looks {
            if let Some(at) = text.find(&look) {
                let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[line..].chars().take(600).collect();
                panic!("{what} shows {secret:?} as {look:?} in {line:?}");
            }
        }
    }
}
