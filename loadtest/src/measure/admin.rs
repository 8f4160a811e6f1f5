//! A client of the router's admin listener: readiness and metrics.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::prometheus::Metrics;

/// The time limit of one request. A busy router answers late.
const LIMIT: Duration = Duration::from_secs(5);
/// Maximum size of a metrics page: 10,000 destinations * 3 KiB, rounded up.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// A client of one admin listener. Clones share its connection.
#[derive(Clone)]
pub struct Admin {
    address: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Admin {
    /// `address` is `HOST:PORT`.
    pub fn new(address: &str) -> Admin {
        Admin { address: address.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns true if `/readyz` answers 200.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub async fn is_ready(&self) -> Result<bool, String> {
        Ok(self.get("/readyz").await?.0 == StatusCode::OK)
    }

    /// # Errors
    /// The reason why there are no metrics.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        let (status, body) = self.get("/metrics").await?;
        if status != StatusCode::OK {
            return Err(format!("/metrics answers {status}"));
        }
        Ok(Metrics::parse(&String::from_utf8_lossy(&body)))
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let request = Request::get(format!("http://{}{path}", self.address)).body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let late = || format!("{} does not answer within {} s", self.address, LIMIT.as_secs());
        tokio::time::timeout(LIMIT, answer).await.unwrap_or_else(|_| Err(late()))
    }
}
