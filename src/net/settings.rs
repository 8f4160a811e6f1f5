//! The settings of connections: credentials, certificates, time-outs and the proxy.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::declare::*;
use crate::config::{Secret, SecretError, scalar};
use crate::net::pem;

/// Credentials of a request, either to send or to require.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: String,
        password: Secret,
    },
    Bearer {
        token: Secret,
    },
}

impl Auth {}

settings! {
    /// Basic authentication (`username` and `password`) or a bearer token.
    #[derive(Debug)]
    pub(crate) struct AuthKeys in "auth" {
        /// User for basic authentication.
        username: Option<String> = key("username", TEXT).also(&["user"]);
        password: Option<Secret> =
            key("password", SECRET).doc("Password of the user."),
            key("passwordFile", SECRET_FILE).doc("File with the password, read again at each use.");
        token: Option<Secret> =
            key("token", SECRET).also(&["bearer"]).doc("Token for bearer authentication."),
            key("tokenFile", SECRET_FILE).doc("File with the token, read again at each use.");
    }
    rules [
        FieldRule::ExactlyOne(&["password", "passwordFile", "token", "tokenFile"]),
        FieldRule::Needs("username", &["password", "passwordFile"]),
        FieldRule::Needs("password", &["username"]),
        FieldRule::Needs("passwordFile", &["username"]),
    ];
}

settings! {
    /// Basic authentication.
    #[derive(Debug)]
    pub(crate) struct BasicAuthKeys in "basicAuth" {
        /// User name.
        username: String = key("username", TEXT).required().also(&["user"]);
        password: Secret =
            key("password", SECRET).doc("Password of the user."),
            key("passwordFile", SECRET_FILE).doc("File with the password, read again at each use.");
    }
    rules [FieldRule::ExactlyOne(&["password", "passwordFile"])];
}

/// An optional block of [`AuthKeys`], or of [`BasicAuthKeys`] for targets that know no tokens.
impl Setting for Auth {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        match Option::<AuthKeys>::read(found, fields) {
            None => Auth::None,
            Some(AuthKeys { token: Some(token), .. }) => Auth::Bearer { token },
            Some(AuthKeys { username, password, .. }) => Auth::Basic {
                username: username.unwrap_or_default(),
                password: password.unwrap_or_else(|| Secret::inline("")),
            },
        }
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let keys = match self.clone() {
            Auth::None => None,
            Auth::Basic { username, password } => {
                Some(AuthKeys { username: Some(username), password: Some(password), token: None })
            }
            Auth::Bearer { token } => Some(AuthKeys { username: None, password: None, token: Some(token) }),
        };
        keys.write(fields, out)
    }
}

settings! {
    /// Certificates in the TLS handshake.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ClientTls in "tls", with defaults {
        /// Accepts any certificate, so the connection is not protected against attackers. A warning
        /// says so at every start.
        pub insecure: bool = key("insecure", FLAG)
            .or("false")
            .also(&["insecureSSL", "insecureSkipVerify", "skipTLSVerify", "skipVerify"]);
        /// PEM files with additional trusted roots, besides the system's.
        pub ca_files: Vec<PathBuf> = key("caFile", FieldType::OneOrMore(&CERT_FILE))
            .also(&["ca", "caFiles", "rootCAs", "certificates"]);
        /// PEM text with additional trusted roots, such as `${K_CA_CERTS}` of Knative. Roots of a
        /// `caFile` are read again when they change; these are not.
        pub ca_certs: Option<String> = key("caCerts", text(&CERTIFICATES));
        /// SHA-256 of the server's certificate. Only this certificate is accepted, whoever signed
        /// it.
        pub thumbprint: Option<[u8; 32]> =
            key("thumbprint", text(&THUMBPRINT)).also(&["fingerprint", "sha256"]);
        pub client_cert: Option<ClientCert> =
            key("certFile", CERT_FILE)
                .also(&["cert"])
                .doc("PEM file with the client certificate that the router presents (mTLS)."),
            key("keyFile", KEY_FILE).also(&["key"]).doc("PEM file with the key of the client certificate.");
    }
    rules [
        FieldRule::Needs("certFile", &["keyFile"]),
        FieldRule::Needs("keyFile", &["certFile"]),
    ];
    check check_tls;
}

fn check_tls(found: &CheckedMap, problems: &mut Problems) {
    if found.flag("insecure") && found.is_given("thumbprint") {
        let message = "`insecure` and `thumbprint` exclude each other; keep one";
        problems.error(found.line_of("thumbprint"), &found.path, message);
    } else if let Some(key) = ["caFile", "caCerts"].into_iter().find(|key| found.is_given(key))
        && found.flag("insecure")
    {
        let message =
            format!("`insecure` accepts any certificate, so `{key}` has no effect; remove `insecure`");
        problems.warn(found.line_of("insecure"), &found.path, message);
    } else if found.flag("insecure") {
        let instead = "use `caFile` or `thumbprint`";
        problems.warn_insecure(found.line_of("insecure"), &found.path_of("insecure"), instead);
    }
}

static CERTIFICATES: TextFormat = TextFormat {
    allowed: "PEM text with `BEGIN CERTIFICATE`",
    check: |text| match pem::certificates_in(text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(CERTIFICATES.must()),
    },
    any_scalar: false,
};

static THUMBPRINT: TextFormat = TextFormat {
    allowed: "a SHA-256 of 64 hex digits, with or without colons",
    check: |text| scalar::thumbprint(text).map(|_| text.into()).ok_or_else(|| THUMBPRINT.must()),
    any_scalar: false,
};

/// A thumbprint.
impl FieldValue for [u8; 32] {
    fn of(value: &Value) -> Option<Self> {
        String::of(value).map(|text| scalar::thumbprint(&text).unwrap_or_default())
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(self.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

settings! {
    /// The certificate of a listener.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ServerTls in "serverTls" {
        /// PEM file with the certificate and its intermediates.
        pub cert_file: PathBuf = key("certFile", CERT_FILE).required();
        /// PEM file with the key of the certificate.
        pub key_file: PathBuf = key("keyFile", KEY_FILE).required();
    }
}

/// A client certificate and its key (PEM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The keys `certFile` and `keyFile`.
impl Setting for Option<ClientCert> {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let cert_file = found.maybe_path(fields[0].key)?;
        Some(ClientCert { cert_file, key_file: found.maybe_path(fields[1].key)? })
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        if let Some(ClientCert { cert_file, key_file }) = self {
            cert_file.write(&fields[..1], out)?;
            key_file.write(&fields[1..], out)?;
        }
        Ok(())
    }
}

settings! {
    /// The settings that all processors over HTTP share.
    #[derive(Clone, Debug, PartialEq)]
    pub struct HttpClient in "http", with defaults {
        /// Certificates to accept and to present.
        pub tls: ClientTls = key("tls", block::<ClientTls>());
        /// Time for a request, to the last byte of the answer.
        pub timeout: Duration = key("timeout", duration(100, HOUR)).or("30s");
        /// Time for TCP and TLS.
        pub connect_timeout: Duration =
            key("connectTimeout", duration(100, 10 * MINUTE)).or("10s");
        /// HTTP proxy. `environment` means the one in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
        pub proxy: Proxy = key("proxy", text(&PROXY)).or("environment");
        /// Certificates to accept from, and to present to, a proxy whose URL begins with
        /// `https://`. `tls` does not apply to it.
        pub proxy_tls: ClientTls = key("proxyTls", block::<ClientTls>());
    }
    check |found, problems| {
        if let Some(Proxy::Url { auth: Auth::Basic { password, .. }, .. }) = Proxy::parse(found.text("proxy"))
            && !found.has_variable("proxy")
        {
            problems.inline_secret(found.line_of("proxy"), &found.path_of("proxy"), &password);
        }
    };
}

impl HttpClient {}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// No proxy, even if the environment names one.
    Direct,
    /// This proxy; `auth` is never [`Auth::Bearer`].
    Url { url: String, auth: Auth },
}

static PROXY: TextFormat = TextFormat {
    allowed: "`environment`, `none`, or a URL such as `http://user:password@proxy.example:3128`",
    check: |text| Proxy::parse(text).map(|_| text.into()).ok_or_else(|| PROXY.must()),
    any_scalar: false,
};

impl Proxy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "environment" => return Some(Proxy::Environment),
            "none" => return Some(Proxy::Direct),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://")?;
        let Some((credentials, host)) = rest.rsplit_once('@') else {
            return Some(Proxy::Url { url: scalar::http_url(text).ok()?, auth: Auth::None });
        };
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let decode = |text: &str| percent_decode(text).filter(|text| !text.contains(char::is_control));
        let auth = Auth::Basic { username: decode(username)?, password: Secret::inline(decode(password)?) };
        Some(Proxy::Url { url: scalar::http_url(&format!("{scheme}://{host}")).ok()?, auth })
    }
}

impl FieldValue for Proxy {
    fn of(value: &Value) -> Option<Self> {
        // The placeholder of a wrong text, which was reported, is empty.
        String::of(value).map(|text| Proxy::parse(&text).unwrap_or_default())
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(match self {
            Proxy::Environment => "environment".into(),
            Proxy::Direct => "none".into(),
            Proxy::Url { url, auth: Auth::Basic { username, password } } => {
                let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
                let (username, password) = (percent_encode(username), percent_encode(&password.read()?));
                format!("{scheme}://{username}:{password}@{host}")
            }
            Proxy::Url { url, .. } => url.clone(),
        }))
    }
}

/// Decodes `%40` and the like. Any other `%` stays.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after
            .get(..2)
            .filter(|two| two.iter().all(u8::is_ascii_hexdigit))
            .and_then(|two| std::str::from_utf8(two).ok());
        let code = code.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes text for the credentials of a URL.
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Warns if credentials would be sent over plain HTTP to another machine.
pub(crate) fn warn_clear_text(
    url: &str,
    credentials: bool,
    found: &CheckedMap,
    key: &str,
    problems: &mut Problems,
) {
    if credentials && url.starts_with("http://") && !is_local(scalar::host_of(url)) {
        let message = "sends credentials over plain HTTP; use `https://`";
        problems.warn(found.line_of(key), &found.path_of(key), message);
    }
}

/// Returns true if only this machine can reach an address to listen on.
pub(crate) fn is_loopback(address: &str) -> bool {
    is_local(address.rsplit_once(':').map_or(address, |(host, _)| host))
}

/// Returns true if only this machine can reach a host.
pub(crate) fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies() {
        let url = |url: &str, auth| Some(Proxy::Url { url: url.into(), auth });
        let basic = |username: &str, password: &str| Auth::Basic {
            username: username.into(),
            password: Secret::inline(password),
        };
        assert_eq!(Proxy::parse("environment"), Some(Proxy::Environment));
        assert_eq!(Proxy::parse("none"), Some(Proxy::Direct));
        assert_eq!(Proxy::parse("http://proxy:3128"), url("http://proxy:3128", Auth::None));
        assert_eq!(Proxy::parse("http://u:p%40@proxy:3128/"), url("http://proxy:3128", basic("u", "p@")));
        assert_eq!(Proxy::parse("http://u:50%@x@proxy"), url("http://proxy", basic("u", "50%@x")));
        assert_eq!(Proxy::parse("proxy:3128"), None);
        assert_eq!(Proxy::parse("socks5://proxy:3128"), None);
    }
}
