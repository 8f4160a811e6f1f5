//! Time-outs count silence, not the duration of an answer.

use super::*;

#[tokio::test]
async fn silence_ends_with_the_time_out() {
    let server = Server::start(vec![Reply::Silence]).await;
    let options = Options {
        call_timeout: Duration::from_millis(50),
        ..options(format!("http://127.0.0.1:{}/sdk", server.port), tls::insecure())
    };
    let client = Client::new(&options).unwrap();
    let error = client.read_next_events(&collector(), 1, options.call_timeout).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
}

/// A time-out counts silence: a page that keeps arriving is read, however long that takes.
#[tokio::test]
async fn a_slow_answer_is_read_to_its_end() {
    let page = recorded!("pyvmomi9.ReadNextEvents.2").as_bytes().to_vec();
    let (piece, pause) = (page.len() / 20, Duration::from_millis(50));
    let server = Server::start(vec![Reply::Slow(page.clone(), piece, pause)]).await;
    let silence_max = Duration::from_millis(600);
    let read = server.client().read_next_events(&collector(), 1_000, silence_max).await.unwrap();
    assert_eq!(&read.page.unwrap().bytes[..], page);
    assert!(
        read.transfer > silence_max && read.silence < silence_max,
        "{:?} {:?}",
        read.transfer,
        read.silence
    );
}

/// An answer that stops half-way times out after the silence, not after the whole bound.
#[tokio::test]
async fn an_answer_that_stops_ends_with_the_time_out() {
    let page = recorded!("pyvmomi9.ReadNextEvents.2");
    let half = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{}", page.len(), &page[..page.len() / 2]);
    let server = Server::start(vec![Reply::Stop(half.into_bytes())]).await;
    let silence_max = Duration::from_millis(200);
    let error = server.client().read_next_events(&collector(), 1_000, silence_max).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
}

/// It must not count as a lost answer: the collector would be dropped.
#[tokio::test]
async fn a_hung_handshake_is_a_failed_connection() {
    // The listener never accepts: the system completes the TCP handshake, and nobody answers TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(20));
    for (connect_timeout, call_timeout) in [(short, long), (long, short)] {
        let url = format!("https://{}/sdk", listener.local_addr().unwrap());
        let options = Options { connect_timeout, call_timeout, ..options(url, tls::insecure()) };
        let client = Client::new(&options).unwrap();
        let error = client.read_next_events(&collector(), 1, call_timeout).await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains("a firewall, or the wrong address"), "{error}");
    }
}
