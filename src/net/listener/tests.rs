//! Tests of the time that a connection may take.

use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use super::*;

const SERVING: Serving = Serving { name: "test", connections_max: 9, streams_max: 9 };
const SLOW: Duration = Duration::from_secs(60);

/// Serves a connection until its end.
async fn served(stream: DuplexStream) {
    let routes = axum::Router::new().route("/", get(async || "quick")).route(
        "/slow",
        get(async || {
            sleep(SLOW).await;
            "slow"
        }),
    );
    let (slot, _closed) = Connections::new(9).add(0).unwrap();
    let (_stop, stopped) = watch::channel(false);
    http(stream, ([127, 0, 0, 1], 1).into(), routes, slot, SERVING, stopped).await;
}

async fn text(sender: &mut http2::SendRequest<Empty<axum::body::Bytes>>, path: &str) -> String {
    let request = Request::get(format!("http://router{path}")).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_beginning_without_an_end_is_bounded_in_time() {
    for beginning in ["P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST / HTTP/1.1\r\n"] {
        let (mut client, server) = duplex(1 << 10);
        client.write_all(beginning.as_bytes()).await.unwrap();
        assert!(timeout(3 * SLOW, served(server)).await.is_ok(), "{beginning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_and_one_with_a_request_is_not() {
    let (client, server) = duplex(1 << 16);
    let server = tokio::spawn(served(server));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(text(&mut sender, "/").await, "quick");
    assert_eq!(text(&mut sender, "/slow").await, "slow");
    timeout(SLOW, server).await.expect("an idle connection has an end").unwrap();
    timeout(SLOW, connection).await.expect("the client is told").unwrap().unwrap();
}

/// It does not answer to the announced end of the connection.
#[tokio::test(start_paused = true)]
async fn a_deaf_client_of_http2_holds_no_connection() {
    let (mut client, server) = duplex(1 << 10);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.write_all(&settings).await.unwrap();
    assert!(timeout(3 * SLOW, served(server)).await.is_ok());
}
