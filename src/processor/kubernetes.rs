//! Where an object of Kubernetes takes events: `status.address.url` of a Broker, a Channel, a Knative Service, …, asked of the API server of the cluster that the
//! router runs in, with the pod's service account.
//!
//! ```text
//! GET /apis/eventing.knative.dev/v1                                        which path do objects of this kind have?
//! GET /apis/eventing.knative.dev/v1/namespaces/default/brokers/default     status.address.url
//! ```
//!
//! A plain Service has no such status: its name in the cluster is its address. Sources: Kubernetes API conventions ("API discovery"), "Accessing the API
//! from a Pod"; Knative eventing's Addressable.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde_json::Value;

use super::Failure;
use crate::config::{Auth, ClientTls, HttpClient, Proxy, Reference, Secret};
use crate::limits::LISTING_BYTES_MAX;
use crate::net::{HttpError, Version, address, request, target_uri};
use crate::processor::client::{TargetClient, target_failure};

/// Where Kubernetes puts `token`, `ca.crt` and `namespace` of the pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to talk to an API server.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `https://10.96.0.1:443`.
    pub api: String,
    /// The directory of the service account.
    pub account: PathBuf,
}

impl Cluster {
    /// The one that this process runs in, if it does.
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

/// Asks for one object.
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

    /// The object as people name it.
    pub fn object(&self) -> String {
        format!("{} {}/{}", self.reference.kind, self.namespace, self.reference.name)
    }

    /// The URL that the object takes events at. What fails is the target's fault: it is asked for again, and events wait.
    pub async fn url(&self) -> Result<String, Failure> {
        let Reference { api_version, kind, name, .. } = &self.reference;
        if (api_version.as_str(), kind.as_str()) == ("v1", "Service") {
            return Ok(format!("http://{name}.{}.svc", self.namespace));
        }
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let group = Path::new("/").join(root).join(api_version);
        let kinds = self.get(&group).await?;
        // `brokers/status` is of the same kind.
        let plural = kinds["resources"].as_array().into_iter().flatten().find_map(|resource| {
            let plural = resource["name"].as_str().filter(|plural| !plural.contains('/'))?;
            (resource["kind"] == kind.as_str()).then(|| plural.to_owned())
        });
        let plural = plural.ok_or_else(|| self.failure(format!("{api_version} has no kind {kind}")))?;
        let path = group.join("namespaces").join(&self.namespace).join(plural).join(name);
        let object = self.get(&path).await?;
        let status = &object["status"];
        let url = status["address"]["url"].as_str().or(status["addresses"][0]["url"].as_str());
        url.map(ToOwned::to_owned).ok_or_else(|| {
            self.failure("it has no `status.address.url`: it is not ready, or takes no events".into())
        })
    }

    async fn get(&self, path: &Path) -> Result<Value, Failure> {
        let uri: Uri = format!("{}{}", self.api.to_string().trim_end_matches('/'), path.display())
            .parse()
            .map_err(|_| self.failure("its names give no path".into()))?;
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
                    "the service account may not read {shown}; give its role `get` on that"
                )));
            }
            StatusCode::NOT_FOUND => return Err(self.failure(format!("{shown} is not there"))),
            _ => return Err(self.failure(self.client.refusal(&answer).reason)),
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failure(format!("{shown} answered no JSON: {error}")))
    }

    fn failure(&self, why: String) -> Failure {
        target_failure(format!("the address of {} in Kubernetes: {why}", self.object()))
    }
}
