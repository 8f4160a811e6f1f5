//! `event-router health`: asks a router whether it is healthy, for probes that run a command.

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use hyper::{HeaderMap, Method, StatusCode, Uri};

use super::{ConfigArgs, Exit};
use crate::limits::{HEALTH_ANSWER_BYTES_MAX, HEALTH_TIMEOUT};
use crate::net::settings::{Auth, ClientTls, HttpClient, Proxy};
use crate::net::{Version, request, target_uri};
use crate::outside;
use crate::processor::client::TargetClient;
use crate::settings::{self, Admin};

/// Ask a running router whether it is healthy.
///
/// For the health checks of containers and for scripts. It asks `/healthz` at the `admin` address
/// of the configuration, and prints one line. It needs no credentials, and accepts any certificate,
/// as the kubelet does for its probes.
///
/// The exit code is 0 if the router is healthy, 1 if it is not or does not answer within 5 seconds,
/// and 2 if the configuration turns the admin listener off.
#[derive(Debug, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask at HOST:PORT, or at the URL `https://HOST:PORT`, and read no configuration
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

pub(super) fn run(args: &HealthArgs) -> anyhow::Result<Exit> {
    let origin = match &args.address {
        Some(address) if address.contains("://") => address.trim_end_matches('/').to_owned(),
        Some(address) => format!("http://{address}"),
        None => match configured(&args.config) {
            Ok(origin) => origin,
            Err(end) => return Ok(end),
        },
    };
    let page = match target_uri(&format!("{origin}/healthz")) {
        Ok(page) => page,
        Err(error) => {
            super::complain(&format!("event-router: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    match runtime.block_on(ask(&page))? {
        Ok(()) => {
            say!("healthy: {page}")?;
            Ok(Exit::Done)
        }
        Err(reason) => {
            super::complain(&format!("event-router: unhealthy: {reason}"));
            Ok(Exit::Failed)
        }
    }
}

/// The origin of the configured listener. Prints an error if there is none.
fn configured(args: &ConfigArgs) -> Result<String, Exit> {
    let file = super::config_file(args)?;
    // The probe has no use for secrets, and may run as a user who cannot read them.
    let loaded = settings::examine(&file, true).map_err(|errors| {
        super::complain(&errors.to_string());
        Exit::Usage
    })?;
    origin(&loaded.config.admin).ok_or_else(|| {
        super::complain(&format!(
            "event-router: {}: the admin listener is turned off; set `admin.bindAddress`",
            file.display()
        ));
        Exit::Usage
    })
}

/// The origin at which this machine reaches the listener. Every address includes loopback.
fn origin(admin: &Admin) -> Option<String> {
    let (host, port) = admin.bind_address.as_ref()?.rsplit_once(':')?;
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{host}:{port}"))
}

/// Asks once. The inner error is the reason why the router is not healthy.
async fn ask(page: &Uri) -> anyhow::Result<Result<(), String>> {
    let settings = HttpClient {
        tls: ClientTls { insecure: true, ..ClientTls::default() },
        timeout: HEALTH_TIMEOUT,
        connect_timeout: HEALTH_TIMEOUT,
        proxy: Proxy::Direct,
        ..HttpClient::default()
    };
    let client = TargetClient::new(page, &settings, Version::Auto, &Auth::None, &[])?;
    let asked = request(Method::GET, page.clone(), HeaderMap::new(), Bytes::new());
    let answer = match client.exchange(asked, HEALTH_ANSWER_BYTES_MAX).await {
        Ok(answer) => answer,
        Err(failure) => return Ok(Err(failure.reason)),
    };
    if answer.status == StatusCode::OK {
        return Ok(Ok(()));
    }
    let body = String::from_utf8_lossy(&answer.body);
    let text = outside::text(body.trim(), HEALTH_ANSWER_BYTES_MAX);
    Ok(Err(format!("{page} answered {}: {text}", answer.status.as_u16())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_asked_at_an_address_that_can_be_reached() {
        let check = |bind: Option<&str>, expected: Option<&str>| {
            let admin = Admin { bind_address: bind.map(Into::into), ..Admin::default() };
            assert_eq!(origin(&admin).as_deref(), expected, "{bind:?}");
        };
        check(Some("127.0.0.1:8082"), Some("http://127.0.0.1:8082"));
        check(Some("0.0.0.0:8082"), Some("http://127.0.0.1:8082"));
        check(Some("[::]:8082"), Some("http://[::1]:8082"));
        check(Some("node.example:8082"), Some("http://node.example:8082"));
        check(None, None);
    }
}
