//! Tries the certificate of a server without sending it a request.

use hyper::Uri;
use tower_service::Service;

use super::settings::{ClientTls, Proxy, is_local};
use super::{ConnectError, Connector, HttpError, ServerKind, route};
use crate::limits::HANDSHAKE_TIMEOUT;

/// A handshake without success.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Setup(#[from] HttpError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Connects to a vCenter, by a proxy if the environment names one, and closes the connection.
pub async fn handshake(vcenter: &Uri, tls: &ClientTls) -> Result<(), HandshakeError> {
    let proxy = if vcenter.host().is_some_and(is_local) { Proxy::Direct } else { Proxy::Environment };
    let (route, _) = route(vcenter, &proxy)?;
    let by_proxy = ClientTls::default();
    let kind = ServerKind::Vcenter;
    let connector = Connector::new(vcenter, route, tls, &by_proxy, kind, false, HANDSHAKE_TIMEOUT);
    connector.map_err(HttpError::from)?.call(vcenter.clone()).await?;
    Ok(())
}
