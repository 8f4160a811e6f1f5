//! The text of a new configuration.

use std::path::Path;

use super::answers::{Answers, InitTarget, InitTrust, SOURCE, SecretPlace};
use crate::config::yaml::quote;

/// The settings that most people change next, as comments.
const OTHERS: &str = "\
# Positions, spools and dead letters. Default: $STATE_DIRECTORY (set by systemd), else
# /var/lib/event-router if it is writable, else ./event-router-data.
# dataDir: /var/lib/event-router

# Health, metrics and statistics over HTTP, for this machine only.
# admin: {bindAddress: '127.0.0.1:8082'}
";

/// The configuration that will be at `output`.
pub(super) fn configuration(answers: &Answers, output: &Path) -> String {
    let (file, source, target) = (quoted(output), source(answers), target(&answers.target));
    format!(
        "\
# Written by `event-router init`. docs/configuration.md and `event-router schema` describe every key.
# Find mistakes, and connect to everything: event-router check --connect --config {file}
apiVersion: event-router/v1

{OTHERS}
{source}{target}"
    )
}

fn source(answers: &Answers) -> String {
    let (vcenter, user) = (quote(&answers.vcenter), quote(&answers.user));
    let password = match &answers.password {
        SecretPlace::File(path) => format!(
            "    # Read again at each login, so a rotated password needs no restart.
    passwordFile: {}
",
            quoted(path)
        ),
        SecretPlace::Variable(name) => format!("    password: ${{{name}}}\n"),
    };
    let tls = match &answers.trust {
        InitTrust::System => String::new(),
        InitTrust::CaFile(path) => format!("    tls:\n      caFile: {}\n", quoted(path)),
        InitTrust::Thumbprint(thumbprint) => format!(
            "    tls:
      # Only this certificate is accepted. After a renewal, write the new thumbprint.
      thumbprint: '{thumbprint}'
"
        ),
        InitTrust::Insecure => "    tls:
      # Any certificate is accepted, so the password is not protected. Better: caFile or thumbprint.
      insecure: true
"
        .to_owned(),
    };
    format!(
        "\
sources:
  - name: {SOURCE}
    type: vcenter
    address: {vcenter}
    username: {user}
{password}{tls}    # The first start begins here: now, beginning, a time, or an age such as 2h.
    startAt: now
    # Events to ask vCenter for. Default: all.
    # filter: {{eventTypes: [VmPoweredOnEvent, VmPoweredOffEvent]}}
"
    )
}

fn target(target: &InitTarget) -> String {
    let settings = match target {
        InitTarget::CloudEvents { url } => format!(
            "  - name: target
    type: cloudevents
    # A secret URL, such as that of a webhook, belongs into a file: urlFile.
    url: {}
    # structured, binary, or batched: many events per request
    mode: structured
    # auth: {{tokenFile: /etc/event-router/credentials/target}}
",
            quote(url)
        ),
        InitTarget::Http { url } => format!(
            "  - name: api
    type: http
    # A secret URL, such as that of a chat, belongs into a file: urlFile.
    url: {}
    # The template of each request. docs/templates.md describes values and filters.
    body: |
      {}
",
            quote(url),
            r#"{"id": "{{ id }}", "type": "{{ subject }}", "text": "{{ data.FullFormattedMessage }}"}"#
        ),
        InitTarget::OpenFaas { gateway, auth } => {
            let gateway = quote(gateway);
            let auth = auth.as_ref().map(|(user, file)| {
                format!("    auth:\n      username: {}\n      passwordFile: {}\n", quote(user), quoted(file))
            });
            let auth = auth.unwrap_or_default();
            format!(
                "  # Invokes each function whose annotation `topic` matches the subject of the event.
  - name: openfaas
    type: openfaas
    gateway: {gateway}
{auth}"
            )
        }
        InitTarget::EventBridge { region, bus } => format!(
            "  # Credentials come from AWS's default chain: environment, profile, role of the machine.
  - name: eventbridge
    type: eventbridge
    region: {}
    buses:
      # Sends the events that the rules of the bus select. `forwardAll: true` sends every event.
      - name: {}
",
            quote(region),
            quote(bus)
        ),
        InitTarget::File { path } => format!(
            "  # One event per line. bytesMax, ageMax and keep control the rotation.
  - name: file
    type: file
    path: {}
",
            quoted(path)
        ),
        InitTarget::Console => "  - name: console\n    type: console\n".to_owned(),
    };
    format!("processors:\n{settings}")
}

/// A path as a YAML scalar.
fn quoted(path: &Path) -> String {
    quote(&path.display().to_string())
}
