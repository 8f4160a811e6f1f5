//! Lets the AWS SDK use the router's own HTTP client, with the same proxies, CA files and messages
//! as everywhere else.
//!
//! The SDK also asks other origins for credentials (STS, or the endpoint of a container or an
//! instance), so there is one client for each origin.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_eventbridge::config::http::{HttpRequest, HttpResponse};
use aws_sdk_eventbridge::config::{HttpClient as SdkHttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_eventbridge::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::{Response, Uri};

use crate::limits::{AWS_ANSWER_BYTES_MAX, AWS_ORIGINS_MAX};
use crate::net::settings::{Auth, HttpClient, Proxy};
use crate::net::{Version, request};
use crate::processor::client::TargetClient;
use crate::processor::{Blame, Failure};

/// A request that got no answer, carried through the SDK's errors.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.reason)]
pub struct Undelivered(pub Failure);

type ByOrigin = Vec<(String, Arc<TargetClient>)>;

/// Clients by origin.
#[derive(Clone, Debug)]
pub struct SdkTransport {
    settings: Arc<HttpClient>,
    clients: Arc<Mutex<ByOrigin>>,
}

impl SdkTransport {
    /// Makes the client for `endpoint` at once, so that a mistake in the settings stops the start.
    pub fn new(settings: &HttpClient, endpoint: &Uri) -> Result<Self, crate::net::HttpError> {
        let client = TargetClient::new(endpoint, settings, Version::Auto, &Auth::None, &[])?;
        // The thumbprint belongs to the endpoint's certificate; other origins have other ones.
        let mut settings = settings.clone();
        settings.tls.thumbprint = None;
        let clients = vec![(client.target(), Arc::new(client))];
        Ok(SdkTransport { settings: Arc::new(settings), clients: Arc::new(Mutex::new(clients)) })
    }

    /// Scheme, host and port of the endpoint, for messages.
    pub fn target(&self) -> String {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)[0].0.clone()
    }

    pub fn shared(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    fn client(&self, uri: &Uri) -> Result<Arc<TargetClient>, Undelivered> {
        let origin = crate::net::shown(uri);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == origin) {
            return Ok(Arc::clone(client));
        }
        let mut settings = HttpClient::clone(&self.settings);
        // These are link-local credential endpoints. A proxy would reach those of its own machine.
        if uri.host().is_some_and(|host| host.starts_with("169.254.") || host == "[fd00:ec2::254]") {
            settings.proxy = Proxy::Direct;
        }
        let client = TargetClient::new(uri, &settings, Version::Auto, &Auth::None, &[])
            .map_err(|error| Undelivered(Failure::new(Blame::Target, error.to_string())))?;
        let client = Arc::new(client);
        if clients.len() == AWS_ORIGINS_MAX {
            clients.remove(1);
        }
        clients.push((origin, Arc::clone(&client)));
        Ok(client)
    }

    async fn exchange(self, sdk: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
        let (head, body) = sdk.try_into_http1x().map_err(|error| user(error.into()))?.into_parts();
        let body =
            body.bytes().map(Bytes::copy_from_slice).ok_or_else(|| user("a streamed request".into()))?;
        let undelivered = |failure| ConnectorError::io(Undelivered(failure).into());
        let client = self.client(&head.uri).map_err(|error| ConnectorError::io(error.into()))?;
        let mut headers = head.headers;
        if let Some(value) = client.headers().get(PROXY_AUTHORIZATION) {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        let sent = client.exchange(request(head.method, head.uri, headers, body), AWS_ANSWER_BYTES_MAX);
        let answer = sent.await.map_err(undelivered)?;
        if answer.cut {
            let reason = format!("{} answered with more than {AWS_ANSWER_BYTES_MAX} bytes", client.target());
            return Err(undelivered(Failure::new(Blame::Target, reason)));
        }
        let mut response = Response::new(SdkBody::from(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        HttpResponse::try_from(response).map_err(|error| user(error.into()))
    }
}

impl HttpConnector for SdkTransport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().exchange(request))
    }
}

impl SdkHttpClient for SdkTransport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
