//! A target that is a Kubernetes object. The native format and `v1alpha1` use the same fields.

use super::check::Env;
use super::found::CheckedMap;
use super::model::Reference;
use super::problem::Problems;

/// The variable by which Kubernetes tells every pod the address of its API server.
pub(super) const CLUSTER_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// Reads the reference to an object. Outside a cluster it is an error, which suggests an address
/// for `url_key`.
pub(super) fn reference(
    found: &CheckedMap,
    url_key: &str,
    env: Env<'_>,
    problems: &mut Problems,
) -> Reference {
    let text = |key: &str| found.text(key).to_owned();
    let reference = Reference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        namespace: found.maybe_text("namespace").map(ToOwned::to_owned),
    };
    if env(CLUSTER_VARIABLE).is_none_or(|host| host.is_empty()) {
        let message = format!(
            "a `ref` needs a router that runs in the Kubernetes cluster, and this is no pod (`${CLUSTER_VARIABLE}` is not set); run it there, or give the address as `{url_key}` ({})",
            address_of(&reference)
        );
        problems.error(found.line, &found.path, message);
    }
    reference
}

/// The usual address of an object within its cluster.
fn address_of(reference: &Reference) -> String {
    let Reference { kind, name, .. } = reference;
    let namespace = reference.namespace.as_deref().unwrap_or("default");
    match kind.as_str() {
        "Broker" => format!(
            "of a default broker: `http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}`"
        ),
        "Service" => format!("of a service: `http://{name}.{namespace}.svc.cluster.local`"),
        _ => "`kubectl get` shows its address or URL".into(),
    }
}
