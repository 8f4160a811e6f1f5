//! Writes the router's configuration for a run, in its native format.

use std::fmt::Write;
use std::path::Path;

use testbed::openfaas::GatewayOptions;
use testbed::vcenter::Options;

use super::Stand;
use crate::workload::tree::quoted;
use crate::workload::{Shape, Workload};

pub const FILE: &str = "router.yaml";
/// The folder for the router's state.
pub const DATA: &str = "data";
pub const TARGET_CA_FILE: &str = "target-ca.pem";

/// The file of the certificate of a vCenter.
pub fn ca_file(vcenter: usize) -> String {
    format!("vcenter-{vcenter}-ca.pem")
}

/// Writes the configuration. The workload's own settings come last in each map and replace the
/// defaults.
pub fn write(workload: &Workload, stand: &Stand, folder: &Path, admin: &str) -> String {
    let mut out = String::from("apiVersion: event-router/v1\n");
    let path = |name: &str| quoted(&folder.join(name).display().to_string());
    let mut top = vec![("dataDir", path(DATA))];
    if workload.router.settings.iter().any(|(key, value)| key == "ephemeral" && value == "true") {
        top.clear();
    }
    top.push(("admin", format!("{{bindAddress: {}}}", quoted(admin))));
    block(&mut out, "", top, &workload.router.settings);

    out.push_str("sources:\n");
    let login = Options::default();
    for (number, vcenter) in stand.vcenters.iter().enumerate() {
        let mut fields = vec![
            ("name", format!("vcenter-{number}")),
            ("type", "vcenter".to_owned()),
            ("address", quoted(&vcenter.url())),
            ("username", quoted(&login.user)),
            ("password", quoted(&login.password)),
            ("startAt", "beginning".to_owned()),
        ];
        if vcenter.tls().is_some() {
            fields.push(("tls", format!("{{caFile: {}}}", path(&ca_file(number)))));
        }
        item(&mut out, fields, &workload.router.source);
    }

    out.push_str("processors:\n");
    item(&mut out, processor(workload, stand, &path), &workload.router.processor);
    out
}

fn processor(
    workload: &Workload,
    stand: &Stand,
    path: &dyn Fn(&str) -> String,
) -> Vec<(&'static str, String)> {
    let target = &workload.target;
    let url = quoted(&stand.target.url());
    let mut fields = vec![("name", "target".to_owned())];
    match target.shape {
        Shape::Batched | Shape::Structured | Shape::Binary => {
            fields.push(("type", "cloudevents".to_owned()));
            fields.push(("url", url));
            fields.push(("mode", target.shape.name().to_owned()));
        }
        Shape::Openfaas => {
            fields.push(("type", "openfaas".to_owned()));
            fields.push(("gateway", url));
            if let Some((user, password)) = GatewayOptions::default().auth {
                let auth = format!("{{username: {}, password: {}}}", quoted(&user), quoted(&password));
                fields.push(("auth", auth));
            }
        }
        Shape::Eventbridge => {
            fields.push(("type", "eventbridge".to_owned()));
            fields.push(("region", "eu-central-1".to_owned()));
            fields.push(("endpoint", url));
            // The testbed requires signatures but accepts any identity.
            fields.push(("auth", "{accessKeyId: loadtest, secretAccessKey: loadtest}".to_owned()));
            fields.push(("buses", "[{name: default, forwardAll: true}]".to_owned()));
        }
    }
    fields.push(("ordering", target.ordering.name().to_owned()));
    if let Some(concurrency) = target.concurrency {
        fields.push(("concurrency", concurrency.to_string()));
    }
    if !target.spill {
        fields.push(("overflow", "{policy: block}".to_owned()));
    }
    if target.https {
        fields.push(("tls", format!("{{caFile: {}}}", path(TARGET_CA_FILE))));
    }
    fields
}

/// Writes a list item, with `  - ` before its first field.
fn item(out: &mut String, fields: Vec<(&str, String)>, own: &[(String, String)]) {
    let mut lines = String::new();
    block(&mut lines, "    ", fields, own);
    out.push_str("  - ");
    out.push_str(&lines[4..]);
}

fn block(out: &mut String, indent: &str, fields: Vec<(&str, String)>, own: &[(String, String)]) {
    let usual = fields.iter().filter(|(key, _)| own.iter().all(|(own, _)| own != key));
    let usual = usual.map(|(key, value)| (*key, value.as_str()));
    for (key, value) in usual.chain(own.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{indent}{key}: {value}");
    }
}
