//! Finds secrets that are too short to be redacted.

use super::*;
use crate::limits::SECRET_CHARS_MIN;
use crate::redact::is_redactable;

/// A warning for each secret of `config` that is too short to be redacted where a server repeats
/// it: the path of its field, and a message. Headers are left out: most of them are no secrets.
pub fn short_secrets(config: &Config) -> Vec<String> {
    let mut all: Vec<(String, &Secret)> = Vec::new();
    all.extend(of_auth("admin.auth", &config.admin.auth));
    for (at, source) in config.sources.iter().enumerate() {
        let SourceKind::Vcenter(vcenter) = &source.kind;
        all.push((format!("sources[{at}].password"), &vcenter.password));
    }
    for (at, processor) in config.processors.iter().enumerate() {
        let path = format!("processors[{at}].auth");
        let http = match &processor.kind {
            ProcessorKind::CloudEvents(target) => {
                all.extend(of_auth(&path, &target.auth));
                &target.http
            }
            ProcessorKind::OpenFaas(openfaas) => {
                all.extend(of_auth(&path, &openfaas.auth));
                &openfaas.http
            }
            ProcessorKind::EventBridge(bridge) => {
                if let AwsAuth::AccessKey { secret_access_key, session_token, .. } = &bridge.auth {
                    all.push((format!("{path}.secretAccessKey"), secret_access_key));
                    all.extend(session_token.iter().map(|token| (format!("{path}.sessionToken"), token)));
                }
                &bridge.http
            }
            ProcessorKind::Console | ProcessorKind::Blackhole => continue,
        };
        if let Proxy::Url { auth, .. } = &http.proxy {
            all.extend(of_auth(&format!("processors[{at}].proxy"), auth));
        }
    }
    // An unreadable file is reported where it is used.
    let is_short =
        |secret: &Secret| secret.read().is_ok_and(|text| !text.is_empty() && !is_redactable(&text));
    let short = all.into_iter().filter(|(_, secret)| is_short(secret));
    short
        .map(|(path, _)| {
            format!(
                "{path}: has fewer than {SECRET_CHARS_MIN} characters, too few to be redacted where a server repeats it; use a longer one"
            )
        })
        .collect()
}

fn of_auth<'a>(path: &str, auth: &'a Auth) -> Option<(String, &'a Secret)> {
    match auth {
        Auth::None => None,
        Auth::Basic { password, .. } => Some((format!("{path}.password"), password)),
        Auth::Bearer { token } => Some((format!("{path}.token"), token)),
    }
}
