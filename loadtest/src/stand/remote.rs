//! The truth about a vCenter in another process. It is fetched repeatedly, so that a target can
//! verify the events of that vCenter.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use testbed::truth::Truth;
use testbed::verify::Verifier;

/// The time limit of one fetch.
const LIMIT: Duration = Duration::from_secs(5);
/// Maximum size of an answer. Exceptions are runs of events; an hour of troubles makes thousands of
/// them, at 60 bytes each.
const TRUTH_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{url} is no SDK URL of a synthetic vCenter; it looks like http://127.0.0.1:PORT/sdk")]
    Url { url: String },
    #[error("cannot read the certificate in {file}: {cause}; `loadtest vcenter --ca` writes one")]
    Ca { file: String, cause: String },
    #[error("cannot fetch the list of events from {url}: {why}; is it a `loadtest vcenter`?")]
    Fetch { url: String, why: String },
}

/// A vCenter in another process.
pub struct RemoteVcenter {
    sdk: String,
    url: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    truth: Arc<Mutex<Truth>>,
}

impl RemoteVcenter {
    /// Fetches the truth for the first time.
    ///
    /// # Errors
    /// The vCenter does not answer, or is not a synthetic one.
    pub async fn connect(sdk: &str, ca: Option<&Path>) -> Result<RemoteVcenter, RemoteError> {
        let wrong = || RemoteError::Url { url: sdk.to_owned() };
        let url = format!("{}/testbed/truth", sdk.strip_suffix("/sdk").ok_or_else(wrong)?);
        let mut roots = rustls::RootCertStore::empty();
        if let Some(ca) = ca {
            let wrong = |cause: String| RemoteError::Ca { file: ca.display().to_string(), cause };
            for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(error.to_string()))? {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| RemoteError::Fetch { url: url.clone(), why: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let truth = fetch(&client, &url).await?;
        Ok(RemoteVcenter { sdk: sdk.to_owned(), url, client, truth: Arc::new(Mutex::new(truth)) })
    }

    /// Registers this vCenter with a verifier.
    ///
    /// # Errors
    /// The vCenter has a mix of events that this program does not know.
    pub fn watch(&self, verifier: &Verifier) -> Result<(), RemoteError> {
        let added = verifier.add(&self.sdk, self.truth.clone(), 0, None);
        added.map_err(|error| RemoteError::Fetch { url: self.url.clone(), why: error.to_string() })
    }

    /// Fetches the truth again.
    ///
    /// # Errors
    /// The vCenter does not answer. The previous truth stays.
    pub async fn refresh(&self) -> Result<(), RemoteError> {
        let truth = fetch(&self.client, &self.url).await?;
        *self.truth.lock().unwrap_or_else(PoisonError::into_inner) = truth;
        Ok(())
    }
}

async fn fetch(
    client: &Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: &str,
) -> Result<Truth, RemoteError> {
    let wrong = |why: String| RemoteError::Fetch { url: url.to_owned(), why };
    let target = url.parse().map_err(|_| RemoteError::Url { url: url.to_owned() })?;
    let answer = async {
        let response = client.get(target).await.map_err(|error| wrong(said(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(wrong(format!("it answers {}", response.status())));
        }
        let body = Limited::new(response.into_body(), TRUTH_BYTES_MAX).collect().await;
        let body = body.map_err(|error| wrong(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
    };
    tokio::time::timeout(LIMIT, answer)
        .await
        .unwrap_or_else(|_| Err(wrong(format!("no answer within {} s", LIMIT.as_secs()))))
}

/// An error with its causes. hyper's own text is only "client error (Connect)".
fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
