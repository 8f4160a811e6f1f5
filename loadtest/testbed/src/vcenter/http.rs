//! HTTP in front of the methods: `POST /sdk`, `GET /sdk/vimServiceVersions.xml`, and the troubles that belong to HTTP.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE, HeaderMap, HeaderValue, SET_COOKIE, USER_AGENT,
};
use hyper::{Method, Request, Response};

use super::methods;
use super::soap::{self, Call, Fault};
use super::trouble::{self, Trouble};
use super::world::Shared;
use crate::net::{Body, Connection, Dropped, Handler, answer, hang, read_body};

const XML: &str = "text/xml; charset=utf-8";
const PROXY_PAGE: &str = "<!DOCTYPE html><html><head><title>503 - proxy</title></head><body><h1>The upstream \
                          server is not reachable<br></h1><p>Please contact your administrator.</body></html>";

impl Handler for Shared {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_end_matches('/');
        if parts.method == Method::GET {
            return self.get(path, &connection).await;
        }
        let body = read_body(body).await?;
        match path {
            "/sdk" | "/sdk/vimService" => self.soap(&parts.headers, &body, &connection).await,
            _ => Ok(answer(404, "text/plain", Body::full("not found"))),
        }
    }
}

impl Shared {
    async fn get(&self, path: &str, connection: &Connection) -> Result<Response<Body>, Dropped> {
        if let Some(trouble) = self.count_and_take(path) {
            return self.before(&trouble, connection).await.unwrap_or_else(|| Ok(not_found()));
        }
        Ok(match path {
            "/sdk/vimServiceVersions.xml" => answer(200, XML, Body::full(soap::VERSIONS)),
            // What a verifier in another process needs; no part of the vSphere API.
            "/testbed/truth" => {
                let truth = serde_json::to_vec(&self.truth()).unwrap_or_default();
                answer(200, "application/json", Body::full(truth))
            }
            "/testbed/counters" => {
                let counters = self.with(|world, _| world.counters());
                answer(200, "application/json", Body::full(serde_json::to_vec(&counters).unwrap_or_default()))
            }
            _ => not_found(),
        })
    }

    fn count_and_take(&self, method: &str) -> Option<Trouble> {
        self.with(|world, _| {
            *world.counters.calls.entry(method.to_owned()).or_default() += 1;
            trouble::take(&mut world.armed, method)
        })
    }

    /// The answer of a trouble that comes instead of the call.
    async fn before(
        &self,
        trouble: &Trouble,
        connection: &Connection,
    ) -> Option<Result<Response<Body>, Dropped>> {
        Some(match trouble {
            Trouble::Reset => Err(connection.reset()),
            Trouble::Status(status) => Ok(answer(*status, "text/plain", Body::Full(None))),
            Trouble::Html => Ok(answer(200, "text/html", Body::full(PROXY_PAGE))),
            Trouble::Fault(kind) => Ok(fault(&Fault::new(kind, "on demand"))),
            Trouble::Hang => match hang().await {},
            _ => return None,
        })
    }

    async fn soap(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        connection: &Connection,
    ) -> Result<Response<Body>, Dropped> {
        let call = match soap::parse_call(body) {
            Ok(call) => call,
            Err(error) => return Ok(fault(&error)),
        };
        let trouble = self.count_and_take(&call.method);
        if let Some(trouble) = &trouble {
            if let Some(answer) = self.before(trouble, connection).await {
                return answer;
            }
            if *trouble == Trouble::MethodNotFound {
                return Ok(fault(&Fault::method_not_found(&call)));
            }
        }
        let (status, body, login) = self.carry_out(headers, &call).await;
        self.after(headers, trouble, connection, status, body, login).await
    }

    async fn carry_out(&self, headers: &HeaderMap, call: &Call) -> (u16, Bytes, Option<String>) {
        let session = session_key(headers);
        let done = match call.method.as_str() {
            "WaitForUpdatesEx" | "WaitForUpdates" | "CheckForUpdates" => {
                methods::wait_for_updates(self, session, call).await
            }
            _ => {
                let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
                methods::call(self, session, call, agent)
            }
        };
        match done {
            Ok(done) => (200, done.body, done.login),
            Err(fault) => (500, Bytes::from(fault.envelope()), None),
        }
    }

    async fn after(
        &self,
        headers: &HeaderMap,
        trouble: Option<Trouble>,
        connection: &Connection,
        status: u16,
        mut body: Bytes,
        login: Option<String>,
    ) -> Result<Response<Body>, Dropped> {
        let gzip = self.with(|world, _| world.gzip)
            && headers
                .get(ACCEPT_ENCODING)
                .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
        if gzip {
            body = compress(&body);
        }
        let body = match trouble {
            Some(Trouble::CutBody) => Body::cut(body),
            Some(Trouble::LoseAnswer) => return Err(connection.reset()),
            Some(Trouble::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                Body::full(body)
            }
            Some(Trouble::Drip(pieces, pause)) => Body::drip(&body, pieces, pause),
            Some(Trouble::NotUtf8) => Body::full(spoil(&body)),
            _ => Body::full(body),
        };
        let mut response = answer(status, XML, body);
        if gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(key) = login {
            let cookie = format!("vmware_soap_session=\"{key}\"; Path=/; HttpOnly; Secure;");
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
        }
        Ok(response)
    }
}

fn not_found() -> Response<Body> {
    answer(404, "text/plain", Body::full("not found"))
}

fn fault(fault: &Fault) -> Response<Body> {
    answer(500, XML, Body::full(fault.envelope()))
}

/// The key in `vmware_soap_session=…`, with or without quotes, among other cookies and attributes.
fn session_key(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(|cookies| {
        let value =
            cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("vmware_soap_session="))?;
        Some(value.trim().trim_matches('"'))
    })
}

fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing into memory does not fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    Bytes::from(written.unwrap_or_default())
}

/// Puts a byte that no UTF-8 text has in place of the first `e` of a text in the middle of the page.
fn spoil(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    let text = bytes[middle..].windows(2).position(|pair| pair[0] == b'>' && pair[1] != b'<');
    if let Some(at) = text {
        bytes[middle + at + 1] = 0xFF;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_in_every_clients_cookie() {
        for (cookie, expected) in [
            ("vmware_soap_session=abc; HttpOnly", Some("abc")),
            ("a=b; vmware_soap_session=\"abc\"", Some("abc")),
            ("other=1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(cookie));
            assert_eq!(session_key(&headers), expected, "{cookie}");
        }
    }
}
