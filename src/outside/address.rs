//! URLs for people to see. The path and the query of a webhook may be its only credential.
//!
//! ```text
//! https://hooks.example/services/T024BE7LH/x0Ab…?sig=k3y
//!   readable      https://hooks.example/services/…/…?sig=…
//!   secret_name   https://hooks.example/#5d41402a              a URL that is a secret as a whole
//! ```

use sha2::{Digest, Sha256};

/// Length from which a run of letters alone counts as random.
const LETTERS_RANDOM: usize = 24;
/// Length from which a run of letters and digits may be random.
const RUN_RANDOM: usize = 8;
/// Length from which a segment of several runs may be random.
const SEGMENT_RANDOM: usize = 16;
/// Length from which the value of a query is taken for a secret, whatever its name.
const QUERY_SECRET: usize = 8;
/// Parts of names of query values that are secrets.
const SECRET_NAMES: [&str; 10] =
    ["token", "key", "secret", "sig", "code", "pass", "auth", "cred", "session", "hook"];
/// Segments that many webhooks have, so they are no secret even in a secret URL.
const COMMON_SEGMENTS: [&str; 18] = [
    "services",
    "service",
    "webhook",
    "webhooks",
    "webhookb2",
    "hooks",
    "hook",
    "incoming",
    "IncomingWebhook",
    "workflows",
    "triggers",
    "manual",
    "paths",
    "invoke",
    "events",
    "event",
    "http",
    "https",
];

/// A URL in parts: `scheme://host`, the path with its slash, and the query without its mark.
fn parts(url: &str) -> (String, &str, Option<&str>) {
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (path, query) = after.split_once('?').map_or((after, None), |(path, query)| (path, Some(query)));
    let origin = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
    (origin, path, query)
}

/// A URL without credentials, query values and segments of the path that look random.
pub fn readable(url: &str) -> String {
    let (origin, path, query) = parts(url);
    let shown = |segment: &str| if is_random(segment) { "…".to_owned() } else { segment.to_owned() };
    let path = path.split('/').map(shown).collect::<Vec<_>>().join("/");
    let query = query.map(|query| {
        let hidden = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if !is_random(name) => format!("{name}=…"),
            _ => "…".to_owned(),
        });
        format!("?{}", hidden.collect::<Vec<_>>().join("&"))
    });
    format!("{origin}{path}{}", query.unwrap_or_default())
}

/// A name for a URL that is a secret: scheme, host, and a hash that tells two of them apart.
pub fn secret_name(url: &str) -> String {
    let hash: String = Sha256::digest(url)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/#{hash}", parts(url).0)
}

/// The parts of a readable URL that [`readable`] hides and that are likely to be secrets.
pub fn hidden_parts(url: &str) -> Vec<String> {
    let (_, path, query) = parts(url);
    let segments = path.split('/').filter(|segment| is_random(segment)).map(ToOwned::to_owned);
    let mut found: Vec<String> = segments.collect();
    for (name, value) in query_values(query) {
        let name = name.to_ascii_lowercase();
        let is_named = SECRET_NAMES.iter().any(|secret| name.contains(secret));
        if is_named || value.len() >= QUERY_SECRET || is_random(value) {
            found.push(value.to_owned());
        }
    }
    with_decoded(found)
}

/// The parts of a secret URL by which it must not be recognized: all of it, its path and query, and
/// what these consist of.
pub fn secret_parts(url: &str) -> Vec<String> {
    let (_, path, query) = parts(url);
    let mut found = vec![url.to_owned(), path.trim_end_matches('/').to_owned()];
    found.extend(query.map(ToOwned::to_owned));
    let segments = path.split('/').filter(|segment| !COMMON_SEGMENTS.contains(segment));
    found.extend(segments.map(ToOwned::to_owned));
    found.extend(query_values(query).map(|(_, value)| value.to_owned()));
    // A path such as `/events` alone is no secret, nor is a short number such as a year.
    found.retain(|part| {
        let is_number = part.len() < QUERY_SECRET && part.bytes().all(|byte| byte.is_ascii_digit());
        !is_number && !COMMON_SEGMENTS.contains(&part.trim_matches('/'))
    });
    with_decoded(found)
}

fn query_values(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.map(|pair| pair.split_once('=').unwrap_or(("", pair)))
}

/// Adds the decoded form of each part: a server may repeat the value instead of the URL.
fn with_decoded(parts: Vec<String>) -> Vec<String> {
    let decoded = parts.iter().filter(|part| part.contains(['%', '+'])).map(|part| {
        // `form_urlencoded` decodes pairs, so give it one without a name.
        let pair = format!("={}", part.replace(['&', '='], "%26"));
        url::form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
    });
    let decoded: Vec<String> = decoded.collect();
    parts.into_iter().chain(decoded).collect()
}

/// Returns true for text that looks random rather than like words: a key, a token, a hash.
fn is_random(text: &str) -> bool {
    let runs = text.split(|char: char| !char.is_ascii_alphanumeric());
    let mut mixed = 0;
    for run in runs {
        let switches = |is: fn(&u8) -> bool| {
            run.as_bytes().windows(2).filter(|pair| is(&pair[0]) != is(&pair[1])).count()
        };
        // `T024BE7LH` goes from letters to digits and back; `v1` and `2024` do not.
        let digits = switches(u8::is_ascii_digit);
        if is_version(run) {
            continue;
        }
        // `IncomingWebhook` has a capital for each word; random letters have more of them.
        let capitals = switches(u8::is_ascii_uppercase);
        let is_numbered = digits >= 1 && run.len() >= SEGMENT_RANDOM;
        let is_long = run.len() >= LETTERS_RANDOM && capitals == 0;
        let is_capital = run.len() >= RUN_RANDOM
            && run.bytes().any(|byte| byte.is_ascii_uppercase())
            && digits >= 1
            && !run.bytes().any(|byte| byte.is_ascii_lowercase());
        if (digits >= 2 && run.len() >= RUN_RANDOM)
            || is_numbered
            || is_long
            || is_capital
            || (run.len() >= SEGMENT_RANDOM && capitals * 3 > run.len())
        {
            return true;
        }
        mixed += usize::from(digits >= 2);
    }
    mixed >= 1 && text.len() >= SEGMENT_RANDOM
}

/// Returns true for the version of an API, such as `v1beta1`.
fn is_version(run: &str) -> bool {
    run.len() <= 10 && run.starts_with('v') && run[1..].starts_with(|char: char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_url_stays_readable() {
        for url in [
            "http://127.0.0.1:8080",
            "https://vc1.example/sdk",
            "http://broker-ingress.knative-eventing.svc.cluster.local/default/default",
            "http://gateway.openfaas:8080/function/tag-vm.openfaas-fn",
            "https://target.example/api/v1/events-2024/prod-eu-1",
            "https://target.example/IncomingWebhookHandler/v1alpha1",
        ] {
            assert_eq!(readable(url), url);
            assert!(hidden_parts(url).is_empty(), "{url}");
        }
    }

    #[test]
    fn credentials_query_values_and_random_segments_are_hidden() {
        let check = |url: &str, expected: &str| assert_eq!(readable(url), expected);
        check("https://u:pw@h/x", "https://h/x");
        check("https://h?a=b&c&d=", "https://h?a=…&…&d=…");
        check(
            "https://hooks.slack.com/services/T00000000/B024BE7LH/XXxxYYyyZZzzXXxxYYyyZZzz",
            "https://hooks.slack.com/services/…/…/…",
        );
        check(
            "https://x.webhook.office.com/webhookb2/3f2504e0-4f89-41d3-9a0c-0305e82c3301@a1/IncomingWebhook/0123456789abcdef0123456789abcdef/x",
            "https://x.webhook.office.com/webhookb2/…/IncomingWebhook/…/x",
        );
        check(
            "https://discord.com/api/webhooks/123/aB3dE5fG7hJ9kL1m",
            "https://discord.com/api/webhooks/123/…",
        );
        check("https://h/abcdefghijklmnopqrstuvwxyz", "https://h/…");
    }

    #[test]
    fn the_hidden_parts_of_a_url_are_secrets() {
        assert_eq!(
            hidden_parts("https://h/x/B024BE7LH?sig=a%2Fbcd&page=2&cursor=abcdefgh"),
            ["B024BE7LH", "a%2Fbcd", "abcdefgh", "a/bcd"]
        );
        let parts = secret_parts("https://h/hooks/hunter?sig=a+b");
        for part in ["https://h/hooks/hunter?sig=a+b", "/hooks/hunter", "hunter", "sig=a+b", "a+b", "a b"] {
            assert!(parts.iter().any(|known| known == part), "{part}: {parts:?}");
        }
        assert!(parts.iter().all(|part| part != "hooks"));
    }

    #[test]
    fn a_secret_url_has_a_name_of_its_own() {
        let name = secret_name("https://u:p@h:8443/hooks/hunter?sig=1");
        assert!(name.starts_with("https://h:8443/#") && name.len() == "https://h:8443/#".len() + 8, "{name}");
        assert_ne!(name, secret_name("https://h:8443/hooks/hunter?sig=2"));
    }
}
