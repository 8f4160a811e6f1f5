//! Servers that repeat secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::MARK;
use super::forms::*;

/// One HTTP request: head and body.
fn request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

/// A server. `answer` gets the number of the request, its head and its body, and returns status
/// line and headers of the answer, and its body.
pub fn serve(answer: impl Fn(usize, &str, &str) -> (String, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
            std::thread::spawn(move || {
                let Some((head, body)) = request(&stream) else { return };
                let (start, said) = answer(count.fetch_add(1, Ordering::Relaxed), &head, &body);
                let length = said.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {start}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{said}"
                );
            });
        }
    });
    address
}

/// The `n`-th form of each secret.
fn repeated(secrets: &[&str], n: usize) -> String {
    let all: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let forms = forms(secret);
            forms[n % forms.len()].clone()
        })
        .collect();
    format!("{MARK} {} end", all.join(" , "))
}

/// A target that refuses everything, and repeats these secrets in the next form each time. Every
/// fourth answer is a redirect.
pub fn target(secrets: &'static [&'static str]) -> SocketAddr {
    serve(move |n, _, _| {
        let said = repeated(secrets, n);
        match n % 4 {
            3 => {
                let plain = secrets[0].replace(['"', '<', '>', ' ', '\\'], "");
                (format!("307 Moved\r\nLocation: http://else.example/{MARK}/{plain}?a={plain}"), said)
            }
            _ => ("400 Bad Request".into(), said),
        }
    })
}

/// A vCenter that begins a session and answers every call with a fault, which repeats the password
/// and the session.
pub fn vcenter() -> SocketAddr {
    serve(|n, head, _| {
        let cookie = format!("Set-Cookie: vmware_soap_session=\"{SESSION}\"; Path=/");
        let said = repeated(&[VCENTER, SESSION], n);
        match n % 3 {
            _ if head.contains("vimServiceVersions") => (format!("404 Not Found\r\n{cookie}"), String::new()),
            0 => (format!("502 Bad Gateway\r\n{cookie}"), said),
            1 => (format!("302 Found\r\n{cookie}\r\nLocation: https://else.example/{MARK}/{SESSION}"), said),
            _ => {
                let text = said.replace('&', "&amp;").replace('<', "&lt;");
                let fault = format!(
                    "<Envelope><Body><Fault><faultcode>ServerFaultCode</faultcode><faultstring>{text}\nforged</faultstring></Fault></Body></Envelope>"
                );
                (format!("500 Internal Server Error\r\n{cookie}"), fault)
            }
        }
    })
}

/// A gateway whose list of functions is a JSON string.
pub fn gateway() -> SocketAddr {
    serve(|n, _, _| {
        let text = serde_json::to_string(&repeated(&[GATEWAY], n)).unwrap();
        ("200 OK\r\nContent-Type: application/json".into(), text)
    })
}

/// EventBridge, with the secrets in error codes and messages.
pub fn aws() -> SocketAddr {
    serve(|n, _, _| {
        let said = repeated(&[AWS_KEY, AWS_TOKEN], n);
        let code = ["Refused", AWS_TOKEN][n % 2];
        let body = serde_json::json!({"__type": code, "message": said}).to_string();
        ("400 Bad Request\r\nContent-Type: application/x-amz-json-1.1".into(), body)
    })
}

/// A target that accepts everything, and what it got.
pub fn collector() -> (SocketAddr, Arc<Mutex<String>>) {
    let got = Arc::new(Mutex::new(String::new()));
    let all = Arc::clone(&got);
    let address = serve(move |_, head, body| {
        *all.lock().unwrap() += &format!("{head}\n{body}\n");
        ("204 No Content".into(), String::new())
    });
    (address, got)
}
