//! Converts the text of scalars into values.
//!
//! Messages describe the problem without repeating the text, which may be a misplaced secret.

use std::time::Duration;

use url::Url;

/// Parses `10s`, `1h30m`, `250ms`. Each unit occurs at most once, larger units first, without signs
/// and fractions.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    // Each unit in milliseconds.
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis = 0u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, each) = units.find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(*each)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Writes a duration so that [`duration`] reads it.
pub(crate) fn show_duration(value: Duration) -> String {
    let millis = value.as_millis();
    for (unit, each) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= each && millis.is_multiple_of(each) {
            return format!("{}{unit}", millis / each);
        }
    }
    if millis == 0 { "0s".into() } else { format!("{millis}ms") }
}

/// Parses `64MiB`, `10GB`, `4096B`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let each = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each)
}

/// Writes a size so that [`size`] reads it.
pub(crate) fn show_size(value: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if value > 0 && value.is_multiple_of(1 << shift) {
            return format!("{}{unit}", value >> shift);
        }
    }
    format!("{value}B")
}

/// Checks an HTTP or HTTPS URL without credentials and fragment. Returns it as written, without
/// slashes at its end.
pub(crate) fn http_url(text: &str) -> Result<String, &'static str> {
    let url =
        Url::parse(text).map_err(|_| "is not a URL; write one such as `https://host.example:8443/path`")?;
    if !matches!(url.scheme(), "http" | "https") || !text.contains("://") {
        return Err("must begin with `http://` or `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials; put them into `auth`");
    }
    if url.fragment().is_some() {
        return Err("must not have a `#` part");
    }
    Ok(text.trim_end_matches('/').into())
}

/// The SDK URL of a vCenter. `credentials_dropped` is true if the text contained credentials.
#[derive(Debug, PartialEq)]
pub(crate) struct SdkUrl {
    pub url: String,
    pub credentials_dropped: bool,
}

/// Parses `vc1.example`, `https://vc1.example` or `https://vc1.example/sdk`.
///
/// Adds a missing scheme and path, like govmomi. Host and port stay as written, since the URL
/// becomes the CloudEvents `source`.
pub(crate) fn sdk_url(text: &str) -> Result<SdkUrl, &'static str> {
    const NO_ADDRESS: &str = "is not the address of a vCenter; write `https://HOST/sdk`";
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&full).map_err(|_| NO_ADDRESS)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with `https://` (or `http://`)");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a `?` or `#` part");
    }
    let (_, rest) = full.split_once("://").ok_or(NO_ADDRESS)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = match path.trim_end_matches('/') {
        "" => "/sdk",
        path => path,
    };
    Ok(SdkUrl {
        url: format!("{}://{host}{path}", url.scheme()),
        credentials_dropped: host.len() < authority.len(),
    })
}

/// The host of an accepted URL as written, without port and brackets. The old router named its
/// checkpoint files after it.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Parses `HOST:PORT` to listen on. `:PORT` means every address.
pub(crate) fn bind_address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')),
    };
    is_host.then(|| format!("{host}:{port}"))
}

/// Returns true if one process cannot listen on both addresses, as [`bind_address`] returns them.
/// Port 0 is another port for each listener.
pub(crate) fn exclude_each_other(one: &str, other: &str) -> bool {
    let (Some((host, port)), Some((its, its_port))) = (one.rsplit_once(':'), other.rsplit_once(':')) else {
        return false;
    };
    let loopback = |host| if host == "localhost" { "127.0.0.1" } else { host };
    let (host, its) = (loopback(host), loopback(its));
    // `[::]` takes the addresses of both protocols.
    let covers = |host: &str, its: &str| host == "[::]" || (host == "0.0.0.0" && !its.starts_with('['));
    port == its_port && port != "0" && (host == its || covers(host, its) || covers(its, host))
}

/// Parses a SHA-256 of hex digits, with or without colons.
pub(crate) fn thumbprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

/// Returns true for the name of an HTTP header (a token of RFC 9110).
pub(crate) fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Returns true for the value of an HTTP header: visible ASCII, with spaces and tabs inside.
pub(crate) fn is_header_value(text: &str) -> bool {
    text.trim() == text && text.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t')
}

/// Returns true for the name of a CloudEvents extension: at most 20 lower-case letters and digits
/// (CloudEvents 1.0, naming conventions).
pub(crate) fn is_extension_name(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Checks a configured header. The router sets some headers itself.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    const OWN: [&str; 6] =
        ["content-type", "content-length", "host", "connection", "transfer-encoding", "upgrade"];
    let lower = name.to_ascii_lowercase();
    if !is_header_name(name) {
        Err("is not a header name")
    } else if OWN.contains(&&*lower) || lower.starts_with("ce-") {
        Err("is set by the router")
    } else if !is_header_value(value) {
        Err("has characters in its value that a header cannot contain")
    } else {
        Ok(())
    }
}

/// Checks a configured attribute. The router sets those of CloudEvents 1.0 and the opt-in
/// extensions.
pub(crate) fn check_extension(name: &str, value: &str) -> Result<(), &'static str> {
    const OWN: [&str; 17] = [
        "id",
        "source",
        "specversion",
        "type",
        "subject",
        "time",
        "data",
        "database64",
        "datacontenttype",
        "dataschema",
        "sequence",
        "partitionkey",
        "vsphereapiversion",
        "eventclass",
        "knativeerrordest",
        "knativeerrorcode",
        "knativeerrordata",
    ];
    if !is_extension_name(name) {
        Err("is not an attribute name: at most 20 lower-case letters and digits")
    } else if OWN.contains(&name) {
        Err("is set by the router")
    } else if value.is_empty() || value.contains(char::is_control) {
        Err("needs a value without control characters")
    } else {
        Ok(())
    }
}

/// The environment variables in a text could not be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExpandError {
    Missing(String),
    NotAName,
}

/// Replaces `${NAME}`. Only `${` is special: any other `$` stays, and `$${` stands for the text
/// `${` (each further `$` for itself).
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if before.ends_with('$') {
            // The `$` before it is the escape. Remove it, and keep `${` as text.
            out.pop();
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        let (name, after) = from[2..].split_once('}').ok_or(ExpandError::NotAName)?;
        let mut letters = name.bytes();
        let is_name = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(ExpandError::NotAName);
        }
        out.push_str(&env(name).ok_or_else(|| ExpandError::Missing(name.into()))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Escapes text so that [`expand`] returns the original.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("10s", Some(10_000));
        check("5m", Some(300_000));
        check("1h30m", Some(5_400_000));
        check("1d", Some(86_400_000));
        check("250ms", Some(250));
        check("1s500ms", Some(1_500));
        check("0s", Some(0));
        for bad in
            ["", "10", "s", "10 s", "-1s", "1.5s", "1m1h", "1s1s", "1x", "99999999999999999999s", "s10"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text), expected, "{text}");
        check("64MiB", Some(64 << 20));
        check("1GB", Some(1_000_000_000));
        check("0B", Some(0));
        for bad in ["", "64", "MiB", "64 MiB", "64mib", "-1B", "99999999999TiB"] {
            check(bad, None);
        }
    }

    #[test]
    fn sdk_urls() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(sdk_url(text).ok().map(|sdk| sdk.url), expected.map(Into::into), "{text}");
        };
        check("vc1.example", Some("https://vc1.example/sdk"));
        check("vc1.example:8443", Some("https://vc1.example:8443/sdk"));
        check("https://10.0.0.1:443/sdk", Some("https://10.0.0.1:443/sdk"));
        check("https://VC1.example/", Some("https://VC1.example/sdk"));
        check("https://vc1.example/sdk/", Some("https://vc1.example/sdk"));
        check("http://127.0.0.1:8989/sdk", Some("http://127.0.0.1:8989/sdk"));
        check("https://[::1]:8989", Some("https://[::1]:8989/sdk"));
        check("https://u:p%40@vc1.example/sdk", Some("https://vc1.example/sdk"));
        for bad in [
            "",
            "ftp://vc1.example",
            "https://",
            "https://vc1.example/sdk?x",
            "vc1 example",
            "https://h:99999",
        ] {
            check(bad, None);
        }
        assert!(sdk_url("u:p@vc1.example").unwrap().credentials_dropped);
    }

    #[test]
    fn hosts() {
        for (url, host) in [
            ("https://VC1.example:443/sdk", "VC1.example"),
            ("https://[::1]:443/sdk", "::1"),
            ("http://10.0.0.1/sdk", "10.0.0.1"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }

    #[test]
    fn http_urls() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(http_url(text).ok().as_deref(), expected, "{text}");
        };
        check("http://gateway.openfaas:8080/", Some("http://gateway.openfaas:8080"));
        check("https://h/a?b=c", Some("https://h/a?b=c"));
        for bad in
            ["", "gateway:8080", "http:gateway", "http://", "https://u:p@h", "https://h/#x", "unix:///x"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn listeners_exclude_each_other() {
        let check = |one: &str, other: &str, expected| {
            assert_eq!(exclude_each_other(one, other), expected, "{one} {other}");
            assert_eq!(exclude_each_other(other, one), expected, "{other} {one}");
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("0.0.0.0:80", "[::1]:80", false);
        check("[::]:80", "0.0.0.0:80", true);
        check("[::]:80", "[::1]:80", true);
        check("localhost:80", "127.0.0.1:80", true);
        check("127.0.0.1:0", "127.0.0.1:0", false);
    }

    #[test]
    fn bind_addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(bind_address(text).as_deref(), expected, "{text}")
        };
        check("0.0.0.0:8082", Some("0.0.0.0:8082"));
        check(":8082", Some("0.0.0.0:8082"));
        check("[::1]:80", Some("[::1]:80"));
        check("localhost:0", Some("localhost:0"));
        for bad in ["", "8082", "0.0.0.0", "::1:80", "http://x:80", "h:99999", "[x]:1"] {
            check(bad, None);
        }
    }

    #[test]
    fn thumbprints() {
        let colons = ["aB"; 32].join(":");
        assert_eq!(thumbprint(&colons), Some([0xab; 32]));
        assert_eq!(thumbprint(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(thumbprint(&"ab".repeat(20)), None);
        assert_eq!(thumbprint("xyz"), None);
    }

    #[test]
    fn environment_variables_are_filled_in() {
        let env = |name: &str| (name == "A_1").then(|| "va${A_1}l".to_owned());
        let check = |text: &str, expected: Result<&str, ExpandError>| {
            assert_eq!(expand(text, &env), expected.map(Into::into), "{text}");
        };
        check("x${A_1}y${A_1}", Ok("xva${A_1}lyva${A_1}l"));
        check("pa$$w$rd$", Ok("pa$$w$rd$"));
        check("$${A_1}", Ok("${A_1}"));
        check("$$${A_1}", Ok("$${A_1}"));
        check("$${", Ok("${"));
        check("${NO}", Err(ExpandError::Missing("NO".into())));
        for bad in ["${", "${}", "${a b}", "${1}", "${a-b}"] {
            check(bad, Err(ExpandError::NotAName));
        }
    }

    proptest! {
        #[test]
        fn escaped_text_survives(text in "[a${}\\\\'\" :#%]{0,12}") {
            prop_assert_eq!(expand(&escape(&text), &|_| None), Ok(text));
        }

        #[test]
        fn shown_durations_and_sizes_are_read_again(millis in 0u64..1 << 40, bytes in 0u64..1 << 50, shift in 0u32..13) {
            let millis = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(millis)), Some(millis));
            let bytes = bytes << shift;
            prop_assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
    }
}
