//! The settings of a webhook source.

use base64::prelude::{BASE64_STANDARD, Engine};

use super::mapping::{EXPRESSION, TEMPLATE};
use crate::config::Secret;
use crate::config::declare::*;
use crate::config::scalar;
use crate::limits;
use crate::net::settings::{Auth, AuthKeys, ServerTls, is_loopback};

settings! {
    /// Listens for events that others POST: CloudEvents 1.0, or JSON of any form with a `mapping`.
    /// It answers `202` when the events are [durable](guarantees.md#push-sources).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Webhook in "webhook" {
        /// Address to listen on. Each source needs its own.
        pub bind_address: String =
            key("bindAddress", text(&LISTEN_ADDRESS)).required().also(&["address", "listen"]);
        /// Path of the requests.
        pub path: String = key("path", text(&REQUEST_PATH)).or("/").also(&["url", "endpoint"]);
        /// Serves HTTPS instead of HTTP.
        pub tls: Option<ServerTls> = key("tls", maybe::<ServerTls>());
        /// Credentials that every request must carry.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
        /// Signature of the body that every request must carry.
        pub signature: Option<Signature> =
            key("signature", maybe::<Signature>()).also(&["hmac", "secret"]);
        /// Turns JSON that is no CloudEvent into events. Without it, such requests are refused.
        pub mapping: Option<Mapping> = key("mapping", maybe::<Mapping>()).also(&["template"]);
        /// The largest body.
        pub body_bytes_max: usize = key("bodyMax", size(KIB, 64 * MIB)).or("1MiB");
        /// The most events in one request.
        pub events_max: usize =
            key("eventsPerRequestMax", whole(1, limits::BATCH_EVENTS_MAX as u64)).or("1000");
        /// The most events per second. The events of one second may come at once; beyond that the
        /// answer is `429`. Default: no limit.
        pub rate: Option<u32> = key("rateLimit", whole(1, 10_000_000)).also(&["rate"]);
        /// The most connections; each may take up to 64 KiB of memory. A new one takes the place of
        /// the one that has been idle for the longest time. It is closed if all have requests.
        pub connections_max: usize = key("connectionsMax", whole(1, 100_000)).or("1000");
        /// Number of events whose `source` and `id` are remembered, also after a restart. Each
        /// takes some 55 bytes of memory. A copy of one of them is accepted and dropped. `0`
        /// delivers copies.
        pub dedup_events: usize =
            key("dedupWindow", whole(0, 1_000_000)).or_number(limits::PUSH_DEDUP_EVENTS);
        /// Disk space for events that are not delivered or spooled yet. Beyond that the answer is
        /// `503`.
        pub inbox_bytes_max: u64 =
            key("inboxMax", size(MIB, 1024 * TIB)).or_bytes(limits::INBOX_BYTES);
    }
    check check_webhook;
}

impl Webhook {
    /// A source with every other setting at its default.
    pub fn new(bind_address: impl Into<String>) -> Self {
        Webhook { bind_address: bind_address.into(), path: "/".into(), ..defaults() }
    }
}

settings! {
    /// An HMAC-SHA256 of the body, as GitHub and others send it. It also covers the body against
    /// changes.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Signature in "webhook.signature" {
        pub secret: Secret =
            key("secret", SECRET).doc("Secret that the sender signs with."),
            key("secretFile", SECRET_FILE).doc("File with the secret, read again when it changes.");
        /// Header with the signature.
        pub header: String = key("header", text(&HEADER_NAME)).or("X-Hub-Signature-256");
        /// Text before the signature in the header. Default: `sha256=`.
        pub prefix: Option<String> = key("prefix", TEXT_OR_EMPTY);
        /// Encoding of the signature.
        pub encoding: SignatureEncoding =
            key("encoding", one_of::<SignatureEncoding>()).or("hex");
    }
    rules [FieldRule::ExactlyOne(&["secret", "secretFile"])];
}

impl Signature {
    /// The text before the signature.
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or("sha256=")
    }
}

words! {
    pub enum SignatureEncoding {
        /// hexadecimal digits
        Hex = "hex",
        /// base64
        Base64 = "base64",
    }
}

impl SignatureEncoding {
    /// The bytes of a signature; `None` if the text is not one.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            SignatureEncoding::Hex => hex(text),
            SignatureEncoding::Base64 => BASE64_STANDARD.decode(text).ok(),
        }
    }
}

/// The bytes of pairs of hexadecimal digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

settings! {
    /// [Templates](webhook.md#json-of-any-form) of minijinja for the attributes of an event. They
    /// see `body` (the JSON), `item` (the element of `split`), `headers` (names in lower case) and
    /// `hash` (SHA-256 of the body, in hex).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Mapping in "webhook.mapping" {
        /// Expression for a list in the body, of which each element becomes an event. Default: the
        /// body is one event.
        pub split: Option<String> = key("split", text(&EXPRESSION));
        /// Attribute `type`.
        pub kind: String = key("type", text(&TEMPLATE)).required();
        /// Attribute `source`. Default: `/webhooks/NAME`, with the name of the source.
        pub source: Option<String> = key("source", text(&TEMPLATE));
        /// Attribute `id`. It must be the same when a sender repeats an event. The default is a
        /// hash of the body and the place in it.
        pub id: String = key("id", text(&TEMPLATE)).or("{{ hash }}");
        /// Attribute `subject`. Default: none.
        pub subject: Option<String> = key("subject", text(&TEMPLATE));
        /// Attribute `time`, in RFC 3339. The filter `rfc3339` makes one of seconds since 1970.
        /// Default, and if the text is not a time: the time of arrival.
        pub time: Option<String> = key("time", text(&TEMPLATE));
        /// Expression for the data. Default: the body as it came, or the element of `split`.
        pub data: Option<String> = key("data", text(&EXPRESSION));
    }
}

static LISTEN_ADDRESS: TextFormat = TextFormat {
    allowed: "`HOST:PORT`",
    check: |text| scalar::bind_address(text).ok_or_else(|| LISTEN_ADDRESS.must()),
    any_scalar: false,
};

static REQUEST_PATH: TextFormat = TextFormat {
    allowed: "a path such as `/webhook`, without spaces, `?` and `#`",
    check: |text| {
        let fits = text.starts_with('/')
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if fits { Ok(text.into()) } else { Err(REQUEST_PATH.must()) }
    },
    any_scalar: false,
};

static HEADER_NAME: TextFormat = TextFormat {
    allowed: "the name of a header",
    check: |text| match scalar::is_header_name(text) {
        true => Ok(text.into()),
        false => Err(HEADER_NAME.must()),
    },
    any_scalar: false,
};

/// Warns of a listener that everybody can use.
fn check_webhook(found: &CheckedMap, problems: &mut Problems) {
    let address = found.text("bindAddress");
    if is_loopback(address) {
        return;
    }
    let has_auth = found.maybe_block("auth").is_some();
    let mut warn = |message: &str| {
        problems.warn(found.line_of("bindAddress"), &found.path_of("bindAddress"), message);
    };
    if !has_auth && found.maybe_block("signature").is_none() {
        warn("everybody who reaches this address can send events; set `auth` or `signature`");
    }
    if has_auth && found.maybe_block("tls").is_none() {
        warn("credentials arrive over plain HTTP; set `tls`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_decoded_strictly() {
        let check = |encoding: SignatureEncoding, text: &str, expected: Option<&[u8]>| {
            assert_eq!(encoding.decode(text).as_deref(), expected, "{text}");
        };
        check(SignatureEncoding::Hex, "00fFa0", Some(&[0, 255, 160]));
        check(SignatureEncoding::Hex, "", Some(&[]));
        check(SignatureEncoding::Hex, "0", None);
        check(SignatureEncoding::Hex, "+1", None);
        check(SignatureEncoding::Hex, "ää", None);
        check(SignatureEncoding::Base64, "AP+g", Some(&[0, 255, 160]));
        check(SignatureEncoding::Base64, "AP-g", None);
    }
}
