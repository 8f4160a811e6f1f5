//! Finds the address at which a Kubernetes object takes events: the `status.address` of a Broker, a
//! Channel, a Knative Service and the like. Besides the URL it can have `CACerts`, the roots of the
//! target's certificate, and `audience`, for which a token must be issued.
//!
//! It asks the API server of the cluster that the router runs in, with the pod's service account:
//!
//! ```text
//! GET /apis/eventing.knative.dev/v1                                      the path of this kind
//! GET /apis/eventing.knative.dev/v1/namespaces/default/brokers/default   its status.address
//! ```
//!
//! A plain Service has no such status; its DNS name in the cluster is its address. Sources:
//! Kubernetes API conventions ("API discovery"), "Accessing the API from a Pod"; Knative Eventing's
//! Addressable.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde_json::Value;

use super::Failure;
use crate::config::Secret;
use crate::limits::LISTING_BYTES_MAX;
use crate::net::settings::{Auth, ClientTls, HttpClient, Proxy};
use crate::net::{HttpError, Version, address, request, target_uri};
use crate::processor::client::{TargetClient, target_failure};
use crate::processor::cloudevents::settings::Reference;

/// The directory in a pod with `token`, `ca.crt` and `namespace` of its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server of a cluster, and the credentials for it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `https://10.96.0.1:443`.
    pub api: String,
    /// The directory of the service account.
    pub account: PathBuf,
}

impl Cluster {
    /// The cluster that this process runs in, if any.
    pub fn of_this_pod() -> Option<Cluster> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into());
        Some(Cluster { api: format!("https://{host}:{port}"), account: ACCOUNT.into() })
    }

    fn namespace(&self) -> String {
        let own = std::fs::read_to_string(self.account.join("namespace")).unwrap_or_default();
        Some(own.trim().to_owned()).filter(|own| !own.is_empty()).unwrap_or_else(|| "default".into())
    }
}

/// The address of an object, with its requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressable {
    pub url: String,
    /// PEM text with additional roots for the certificate of the target.
    pub ca_certs: Option<String>,
    /// The audience of the tokens that the target accepts (OIDC). Without one it needs no token.
    pub audience: Option<String>,
}

impl Addressable {
    /// Reads one element of the status; `None` if it has no URL.
    fn read(address: &Value) -> Option<Self> {
        let text = |key: &str| address[key].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        Some(Addressable { url: text("url")?, ca_certs: text("CACerts"), audience: text("audience") })
    }
}

/// Finds the address of one object.
#[derive(Debug)]
pub struct AddressResolver {
    api: Uri,
    client: TargetClient,
    reference: Reference,
    namespace: String,
}

impl AddressResolver {
    pub fn new(cluster: &Cluster, reference: &Reference) -> Result<Self, HttpError> {
        let api = target_uri(&cluster.api)?;
        let file = |name: &str| cluster.account.join(name);
        let tls = ClientTls { ca_files: vec![file("ca.crt")], ..ClientTls::default() };
        let settings = HttpClient { tls, proxy: Proxy::Direct, ..HttpClient::default() };
        let auth = Auth::Bearer { token: Secret::file(file("token")) };
        let client = TargetClient::new(&api, &settings, Version::Auto, &auth, &[])?;
        let namespace = reference.namespace.clone().unwrap_or_else(|| cluster.namespace());
        Ok(AddressResolver { api, client, reference: reference.clone(), namespace })
    }

    /// Kind, namespace and name of the object, for messages.
    pub fn object(&self) -> String {
        format!("{} {}/{}", self.reference.kind, self.namespace, self.reference.name)
    }

    /// The address at which the object takes events. Every failure blames the target, so events
    /// wait and the address is asked for again.
    pub async fn address(&self) -> Result<Addressable, Failure> {
        let Reference { api_version, kind, name, .. } = &self.reference;
        if (api_version.as_str(), kind.as_str()) == ("v1", "Service") {
            let url = format!("http://{name}.{}.svc", self.namespace);
            return Ok(Addressable { url, ..Addressable::default() });
        }
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let group = Path::new("/").join(root).join(api_version);
        let kinds = self.get(&group).await?;
        // Skip subresources such as `brokers/status`, which are of the same kind.
        let plural = kinds["resources"].as_array().into_iter().flatten().find_map(|resource| {
            let plural = resource["name"].as_str().filter(|plural| !plural.contains('/'))?;
            (resource["kind"] == kind.as_str()).then(|| plural.to_owned())
        });
        let plural = plural.ok_or_else(|| {
            self.failure(format!("{api_version} has no kind {kind}; correct `ref`, or install that API"))
        })?;
        let path = group.join("namespaces").join(&self.namespace).join(plural).join(name);
        let object = self.get(&path).await?;
        let status = &object["status"];
        let address = Addressable::read(&status["address"]);
        address.or_else(|| Addressable::read(&status["addresses"][0])).ok_or_else(|| {
            self.failure("it has no `status.address.url`; check that it is ready and can take events".into())
        })
    }

    async fn get(&self, path: &Path) -> Result<Value, Failure> {
        let uri: Uri = format!("{}{}", self.api.to_string().trim_end_matches('/'), path.display())
            .parse()
            .map_err(|_| self.failure("cannot make a URL of its names; correct `ref`".into()))?;
        let shown = address(&uri);
        let headers = (*self.client.headers()).clone();
        let asked = request(Method::GET, uri, headers, Bytes::new());
        let answer = self
            .client
            .exchange(asked, LISTING_BYTES_MAX)
            .await
            .map_err(|failure| Failure { status: None, ..self.failure(failure.reason) })?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => {
                return Err(self.failure(format!(
                    "the service account may not read {shown}; allow its role to `get` it"
                )));
            }
            StatusCode::NOT_FOUND => {
                return Err(self.failure(format!("{shown} does not exist; create it, or correct `ref`")));
            }
            _ => return Err(self.failure(self.client.refusal(&answer).reason)),
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failure(format!("cannot parse the answer of {shown}: {error}")))
    }

    fn failure(&self, why: String) -> Failure {
        target_failure(format!("cannot find the address of {} in Kubernetes: {why}", self.object()))
    }
}
