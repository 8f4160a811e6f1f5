//! A raw SOAP client on a plain socket. It shares no code with the testbed that it tests.

use std::time::Duration;

use testbed::vcenter::VCenter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Client {
    pub port: u16,
    pub cookie: String,
    pub extra: String,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Text of the first element of this name.
    pub fn element(&self, name: &str) -> String {
        let text = self.text();
        let from = text.find(&format!("<{name}")).unwrap_or_else(|| panic!("no <{name}> in {text}"));
        let from = from + text[from..].find('>').unwrap() + 1;
        text[from..from + text[from..].find('<').unwrap()].to_owned()
    }

    /// Keys of all events in the answer, in order.
    pub fn keys(&self) -> Vec<i32> {
        let text = self.text();
        text.split("<key>")
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|pair| pair[0].ends_with("Event\">") || pair[0].ends_with("EventEx\">"))
            .map(|pair| pair[1])
            .map(|rest| rest[..rest.find('<').unwrap()].parse().unwrap())
            .collect()
    }

    pub fn fault(&self) -> String {
        assert_eq!(self.status, 500, "{}", self.text());
        let text = self.text();
        let from = text.find("xsi:type=\"").unwrap() + 10;
        text[from..from + text[from..].find('"').unwrap()].to_owned()
    }
}

impl Client {
    pub fn new(vcenter: &VCenter) -> Client {
        Client { port: vcenter.port(), cookie: String::new(), extra: String::new() }
    }

    pub async fn logged_in(vcenter: &VCenter) -> Client {
        let mut client = Client::new(vcenter);
        let answer = client.login("VMware1!").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        client
    }

    pub async fn login(&mut self, password: &str) -> Answer {
        let arguments =
            format!("<userName>administrator@vsphere.local</userName><password>{password}</password>");
        let answer = self.call("SessionManager", "SessionManager", "Login", &arguments).await.unwrap();
        if let Some(at) = answer.head.to_lowercase().find("set-cookie: ") {
            let cookie = &answer.head[at + 12..];
            self.cookie = cookie[..cookie.find(';').unwrap()].to_owned();
        }
        answer
    }

    pub async fn call(&self, kind: &str, id: &str, method: &str, arguments: &str) -> std::io::Result<Answer> {
        let body = format!(
            "<?xml version=\"1.0\"?><Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><Body><{method} xmlns=\"urn:vim25\">\
             <_this type=\"{kind}\">{id}</_this>{arguments}</{method}></Body></Envelope>"
        );
        let head = format!(
            "POST /sdk HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {}\r\nContent-Type: text/xml\r\n\
             Content-Length: {}\r\nConnection: close\r\n{}\r\n",
            self.cookie,
            body.len(),
            self.extra
        );
        request(self.port, &format!("{head}{body}")).await
    }

    pub async fn events(&self, method: &str, arguments: &str) -> Answer {
        self.call("EventManager", "EventManager", method, arguments).await.unwrap()
    }

    /// A collector's id.
    pub async fn collector(&self, filter: &str) -> String {
        let answer = self.events("CreateCollectorForEvents", &format!("<filter>{filter}</filter>")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.element("returnval")
    }

    pub async fn on(&self, collector: &str, method: &str, arguments: &str) -> std::io::Result<Answer> {
        self.call("EventHistoryCollector", collector, method, arguments).await
    }

    pub async fn read_next(&self, collector: &str, max: u32) -> std::io::Result<Answer> {
        self.on(collector, "ReadNextEvents", &format!("<maxCount>{max}</maxCount>")).await
    }

    pub async fn keys(&self, collector: &str, max: u32) -> Vec<i32> {
        self.read_next(collector, max).await.unwrap().keys()
    }

    pub async fn fetch(&self, kind: &str, id: &str, prop: &str) -> Answer {
        self.call(kind, id, "Fetch", &format!("<prop>{prop}</prop>")).await.unwrap()
    }
}

/// Sends bytes, reads until the server closes; fails unless the whole announced body came.
pub async fn request(port: u16, bytes: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let at = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    let body = answer.split_off(at + 4);
    let length = head.to_lowercase().find("content-length: ").map(|at| {
        let digits: String = head[at + 16..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    });
    if length.is_some_and(|length| length != body.len()) {
        return Err(broken());
    }
    let status = head[9..12].parse().unwrap();
    Ok(Answer { status, head, body })
}

/// Polls until the condition holds, for at most ten seconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}
