//! A target that is an object of Kubernetes: the same fields in the native format and in `v1alpha1`.

use super::check::Env;
use super::found::CheckedMap;
use super::model::Reference;
use super::problem::Problems;

/// What Kubernetes tells every pod: where its API server is.
pub(super) const CLUSTER_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// The object that `found` names; an error, with what to write as `url_key` instead, where there is no cluster to ask.
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
            "a `ref` is resolved by the Kubernetes cluster that the router runs in, and this is no pod (`${CLUSTER_VARIABLE}` is not set); run it there, or give the address as `{url_key}` ({})",
            address_of(&reference)
        );
        problems.error(found.line, &found.path, message);
    }
    reference
}

/// Where an object of the usual kinds listens within its cluster.
fn address_of(reference: &Reference) -> String {
    let Reference { kind, name, .. } = reference;
    let namespace = reference.namespace.as_deref().unwrap_or("default");
    match kind.as_str() {
        "Broker" => format!(
            "of a default broker: `http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}`"
        ),
        "Service" => format!("of a service: `http://{name}.{namespace}.svc.cluster.local`"),
        _ => "what `kubectl get` shows as its address or URL".into(),
    }
}
