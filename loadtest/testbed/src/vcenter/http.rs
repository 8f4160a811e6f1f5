//! HTTP in front of the methods: SOAP at `POST /sdk`, VI/JSON below `/sdk/vim25/`, and the troubles
//! that belong to HTTP.
//!
//! ```text
//! request ─► handle ─► call ─► trouble instead of the call? ── yes ─► before ─► answer
//!                               │ no
//!                               ▼
//!                           carry_out (methods) ─► encode ─► after (gzip, trouble of the answer)
//! ```

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT,
};
use hyper::{Method, Request, Response};

use super::methods::{self, AnswerContent, CallResult};
use super::protocol::{self, Call, Fault};
use super::trouble::{self, Trouble};
use super::vijson;
use super::world::Shared;
use super::xml::Node;
use crate::net::{Body, Connection, Dropped, Handler, answer, hang, read_body};

const XML: &str = "text/xml; charset=utf-8";
const JSON: &str = "application/json";
const PROXY_PAGE: &str = "<!DOCTYPE html><html><head><title>503 - proxy</title></head><body><h1>The upstream \
                          server is not reachable<br></h1><p>Please contact your administrator.</body></html>";
/// The session key of VI/JSON, as request and response header.
const SESSION_ID: HeaderName = HeaderName::from_static("vmware-api-session-id");

/// The form of the API that a request uses.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Soap,
    Json,
}

impl Wire {
    fn session(self, headers: &HeaderMap) -> Option<&str> {
        match self {
            Wire::Soap => session_key(headers),
            Wire::Json => headers.get(SESSION_ID).and_then(|key| key.to_str().ok()),
        }
    }

    fn content_type(self) -> &'static str {
        if self == Wire::Soap { XML } else { JSON }
    }

    fn fault(self, fault: &Fault) -> Bytes {
        match self {
            Wire::Soap => Bytes::from(fault.soap_envelope()),
            Wire::Json => Bytes::from(vijson::fault(fault).to_string()),
        }
    }

    fn fault_answer(self, fault: &Fault) -> Response<Body> {
        answer(500, self.content_type(), Body::full(self.fault(fault)))
    }

    /// Status and body of the answer to a call that was carried out.
    fn encode(self, shared: &Shared, method: &str, answer: AnswerContent) -> Result<(u16, Bytes), Fault> {
        Ok(match (self, answer) {
            (Wire::Soap, AnswerContent::Page(page)) => (200, shared.page_answer(method, &page)),
            (Wire::Soap, AnswerContent::Elements(elements)) => {
                let mut out = Vec::new();
                protocol::write_soap_answer(&mut out, method, |out| out.extend_from_slice(&elements));
                (200, Bytes::from(out))
            }
            (Wire::Json, AnswerContent::Page(page)) => (200, shared.page_json(&page)),
            (Wire::Json, AnswerContent::Elements(elements)) => match vijson::result(method, &elements)? {
                Some(value) => (200, Bytes::from(value.to_string())),
                None => (204, Bytes::new()),
            },
        })
    }

    /// The header that brings a new session's key to the client. Over plain HTTP the cookie is not
    /// `Secure`: Go's and other cookie jars would keep it and never send it.
    fn login_header(self, key: &str, tls: bool) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Wire::Soap => {
                let secure = if tls { " Secure;" } else { "" };
                let cookie = format!("vmware_soap_session=\"{key}\"; Path=/; HttpOnly;{secure}");
                Some((SET_COOKIE, HeaderValue::from_str(&cookie).ok()?))
            }
            Wire::Json => Some((SESSION_ID, HeaderValue::from_str(key).ok()?)),
        }
    }
}

impl Handler for Shared {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_end_matches('/');
        let target = vijson::parse_path(path);
        // A GET reads a property in VI/JSON, or a page outside the API.
        if parts.method == Method::GET {
            return match target {
                Some((kind, id, property)) => {
                    let name = "prop".to_owned();
                    let prop = Node { name, text: property, ..Node::default() };
                    let arguments = Node { children: vec![prop], ..Node::default() };
                    let call = Call { method: "Fetch".into(), this_type: kind, this: id, arguments };
                    self.call(Wire::Json, &parts.headers, &call, &connection).await
                }
                None => self.get(path, &connection).await,
            };
        }
        // A POST calls a method, in VI/JSON by its path and in SOAP by its body.
        let body = read_body(body).await?;
        if let Some((kind, id, method)) = target {
            return match vijson::arguments(&method, &body) {
                Ok(arguments) => {
                    let call = Call { method, this_type: kind, this: id, arguments };
                    self.call(Wire::Json, &parts.headers, &call, &connection).await
                }
                Err(fault) => Ok(Wire::Json.fault_answer(&fault)),
            };
        }
        match path {
            "/sdk" | "/sdk/vimService" => match protocol::parse_soap_call(&body) {
                Ok(call) => self.call(Wire::Soap, &parts.headers, &call, &connection).await,
                Err(fault) => Ok(Wire::Soap.fault_answer(&fault)),
            },
            "/api/vcenter/system" if parts.uri.query() == Some("action=hello") => {
                if let Some(trouble) = self.count_and_take("hello") {
                    let fault = Fault::new("SystemError", "on demand");
                    let answer = self.before(Wire::Json, &trouble, &connection).await;
                    return answer.unwrap_or_else(|| Ok(Wire::Json.fault_answer(&fault)));
                }
                Ok(answer(200, JSON, Body::full(vijson::hello(&body).to_string())))
            }
            _ => Ok(not_found()),
        }
    }
}

impl Shared {
    /// Answers a GET outside VI/JSON.
    async fn get(&self, path: &str, connection: &Connection) -> Result<Response<Body>, Dropped> {
        if let Some(trouble) = self.count_and_take(path) {
            let answer = self.before(Wire::Soap, &trouble, connection).await;
            return answer.unwrap_or_else(|| Ok(not_found()));
        }
        Ok(match path {
            "/sdk/vimServiceVersions.xml" => answer(200, XML, Body::full(protocol::VERSIONS)),
            // For a verifier in another process; not part of the vSphere API.
            "/testbed/truth" => {
                let truth = serde_json::to_vec(&self.truth()).unwrap_or_default();
                answer(200, JSON, Body::full(truth))
            }
            "/testbed/counters" => {
                let counters = self.with(|world, _| world.counters());
                answer(200, JSON, Body::full(serde_json::to_vec(&counters).unwrap_or_default()))
            }
            _ => not_found(),
        })
    }

    /// Counts a call, and takes the trouble that waits for it.
    fn count_and_take(&self, method: &str) -> Option<Trouble> {
        self.with(|world, _| {
            *world.counters.calls.entry(method.to_owned()).or_default() += 1;
            trouble::take(&mut world.armed, method)
        })
    }

    /// The answer of a trouble that replaces the call; `None` if the call is carried out.
    async fn before(
        &self,
        wire: Wire,
        trouble: &Trouble,
        connection: &Connection,
    ) -> Option<Result<Response<Body>, Dropped>> {
        Some(match trouble {
            Trouble::Reset => Err(connection.reset()),
            Trouble::Status(status) => Ok(answer(*status, "text/plain", Body::Full(None))),
            Trouble::Html => Ok(answer(200, "text/html", Body::full(PROXY_PAGE))),
            Trouble::Fault(kind) => Ok(wire.fault_answer(&Fault::new(kind, "on demand"))),
            Trouble::Hang => match hang().await {},
            _ => return None,
        })
    }

    /// Carries out a call, unless a trouble replaces it, and answers.
    async fn call(
        &self,
        wire: Wire,
        headers: &HeaderMap,
        call: &Call,
        connection: &Connection,
    ) -> Result<Response<Body>, Dropped> {
        let trouble = self.count_and_take(&call.method);
        if let Some(trouble) = &trouble {
            if let Some(answer) = self.before(wire, trouble, connection).await {
                return answer;
            }
            if *trouble == Trouble::MethodNotFound {
                return Ok(wire.fault_answer(&Fault::method_not_found(call)));
            }
        }
        let done = self.carry_out(wire, headers, call).await.and_then(|done| {
            let (status, body) = wire.encode(self, &call.method, done.answer)?;
            Ok((status, body, done.login))
        });
        let (status, body, login) = done.unwrap_or_else(|fault| (500, wire.fault(&fault), None));
        self.after(wire, headers, trouble, connection, status, body, login).await
    }

    async fn carry_out(&self, wire: Wire, headers: &HeaderMap, call: &Call) -> Result<CallResult, Fault> {
        let session = wire.session(headers);
        match call.method.as_str() {
            "WaitForUpdatesEx" | "WaitForUpdates" | "CheckForUpdates" => {
                methods::wait_for_updates(self, session, call).await
            }
            _ => {
                let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
                methods::call(self, session, call, agent)
            }
        }
    }

    /// Answers a call that was carried out, with the trouble that belongs to its answer.
    // One call site, which has all these values at hand.
    #[allow(clippy::too_many_arguments)]
    async fn after(
        &self,
        wire: Wire,
        headers: &HeaderMap,
        trouble: Option<Trouble>,
        connection: &Connection,
        status: u16,
        mut body: Bytes,
        login: Option<String>,
    ) -> Result<Response<Body>, Dropped> {
        let accepts_gzip = headers
            .get(ACCEPT_ENCODING)
            .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
        let gzip = accepts_gzip && self.with(|world, _| world.gzip);
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
        let mut response = answer(status, wire.content_type(), body);
        if gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some((name, value)) = login.and_then(|key| wire.login_header(&key, connection.tls)) {
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

fn not_found() -> Response<Body> {
    answer(404, "text/plain", Body::full("not found"))
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

/// Puts a byte that is never part of UTF-8 into the middle of the page: into the key of an event,
/// which no reader can repair, or else into some element's text or JSON string.
fn spoil(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    let behind = |name: &[u8]| {
        let at = bytes[middle..].windows(name.len()).position(|text| text == name)?;
        Some(at + name.len())
    };
    let starts = |before: u8| {
        let at = bytes[middle..]
            .windows(2)
            .position(|pair| pair[0] == before && pair[1].is_ascii_alphanumeric())?;
        Some(at + 1)
    };
    let key = behind(b"<key>").or_else(|| behind(b"\"key\":"));
    if let Some(at) = key.or_else(|| starts(b'>')).or_else(|| starts(b' ')) {
        bytes[middle + at] = 0xFF;
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
