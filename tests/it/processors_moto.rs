//! The EventBridge processor against moto, whose rules and queues count what arrived.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::child::Process;
use crate::common::peer::peer;
use crate::common::{free_address, wait_until};
use crate::processors_eventbridge::{processor, routed};
use crate::processors_support::*;
use event_router::processor::{DeliveryOutcome, Processor};
use event_router::settings::{AssumeRole, AwsAuth, EventBus};
use serde_json::{Value, json};

/// moto's server, with the calls to set it up and to look into it.
struct Moto {
    url: String,
    process: Process,
}

impl Moto {
    /// `None` where moto is missing and may be.
    fn start() -> Option<Self> {
        let program = peer("moto_server")?;
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]).stdin(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let up = wait_until(Duration::from_secs(120), || {
            !process.running() || std::net::TcpStream::connect(address).is_ok()
        });
        assert!(up && process.running(), "moto did not start: {}", process.stderr.text());
        Some(Moto { url: format!("http://{address}"), process })
    }

    /// Calls an operation of a service that speaks AWS's JSON protocol. moto accepts any signature.
    async fn call(&self, service: &str, target: &str, body: Value) -> Value {
        let credential = format!("Credential=AK/20250101/eu-central-1/{service}/aws4_request");
        let sent = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(&self.url)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"),
            )
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.1")
            .body(body.to_string());
        let answer = sent.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{target}: {status} {text}; {}", self.process.stderr.text());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Creates a bus (unless it is `default`) with a rule whose matches go to a queue of its name.
    async fn rule(&self, bus: &str, name: &str, pattern: Value) {
        if bus != "default" {
            self.call("events", "AWSEvents.CreateEventBus", json!({"Name": bus})).await;
        }
        self.call("sqs", "AmazonSQS.CreateQueue", json!({"QueueName": name})).await;
        let rule = json!({"Name": name, "EventBusName": bus, "EventPattern": pattern.to_string(), "State": "ENABLED"});
        self.call("events", "AWSEvents.PutRule", rule).await;
        let arn = format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
        let targets = json!({"Rule": name, "EventBusName": bus, "Targets": [{"Id": "q", "Arn": arn}]});
        self.call("events", "AWSEvents.PutTargets", targets).await;
    }

    /// The AWS events in a queue, in any order.
    async fn arrived(&self, queue: &str) -> Vec<Value> {
        let url = format!("{}/123456789012/{queue}", self.url);
        let mut all = Vec::new();
        loop {
            let asked = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600});
            let answer = self.call("sqs", "AmazonSQS.ReceiveMessage", asked).await;
            match answer["Messages"].as_array() {
                Some(messages) if !messages.is_empty() => {
                    all.extend(
                        messages
                            .iter()
                            .map(|m| serde_json::from_str::<Value>(m["Body"].as_str().unwrap()).unwrap()),
                    );
                }
                _ => return all,
            }
        }
    }
}

#[tokio::test]
async fn moto_rules_select_the_events_that_leave_and_arrive() {
    let Some(moto) = Moto::start() else { return };
    moto.rule("default", "power", json!({"detail-type": [{"prefix": "VmPowered"}]})).await;
    moto.rule("veba", "login", json!({"detail": {"subject": ["com.vmware.sso.LoginFailure"]}})).await;
    let processor = processor(&moto.url, |s| {
        let bus = |name: &str, rules: &[&str]| EventBus {
            name: name.into(),
            rules: rules.iter().map(|rule| rule.to_string()).collect(),
            forward_all: false,
        };
        s.buses = vec![bus("default", &[]), bus("veba", &["login"])];
    });
    start(&processor);
    tokio::time::timeout(Duration::from_secs(60), processor.ready()).await.expect("the first sync ends");
    let line = processor.check().await.unwrap();
    assert!(line.contains("2 configured buses, with 2 rules"), "{line}");

    let subjects: Vec<&str> = (0..30)
        .map(|i| ["VmPoweredOnEvent", "com.vmware.sso.LoginFailure", "AlarmCreatedEvent"][i % 3])
        .collect();
    let batch = batch(&subjects);
    for (destination, picks) in routed(&processor, &subjects) {
        let bus = destination.strip_prefix("aws/").unwrap();
        let outcome = processor.deliver(&request(&batch, picks.into_iter().collect(), bus)).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    }
    for (queue, first) in [("power", 0), ("login", 1)] {
        let arrived = moto.arrived(queue).await;
        let mut ids: Vec<String> =
            arrived.iter().map(|event| event["detail"]["id"].as_str().unwrap().into()).collect();
        ids.sort();
        assert_eq!(ids, (first..30).step_by(3).map(|i| id(i).to_string()).collect::<Vec<_>>(), "{queue}");
        assert_eq!(arrived[0]["source"], "https://vc1.example/sdk");
        assert_eq!(arrived[0]["detail-type"], subjects[first]);
    }
}

#[tokio::test]
async fn moto_roles_are_assumed_from_every_kind_of_credentials() {
    // The SDK finds STS and its files by environment variables, which a running process cannot
    // change safely: the test starts itself as a child.
    const CHILD: &str = "EVENT_ROUTER_TEST_MOTO_CHILD";
    if let Ok(url) = std::env::var(CHILD) {
        for (auth, assume) in [
            (AwsAuth::Profile("plain".into()), false),
            (AwsAuth::Profile("role".into()), false),
            (AwsAuth::Profile("plain".into()), true),
            (AwsAuth::DefaultChain, false),
        ] {
            let role = AssumeRole {
                role_arn: "arn:aws:iam::123456789012:role/router".into(),
                external_id: Some("ext".into()),
                session_name: "event-router".into(),
            };
            let processor = processor(&url, |s| {
                (s.auth, s.assume_role) = (auth.clone(), assume.then_some(role));
                s.buses[0].forward_all = true;
            });
            let outcome = processor.deliver(&one()).await;
            assert!(matches!(outcome, DeliveryOutcome::Delivered), "{auth:?} {assume}: {outcome:?}");
        }
        return;
    }
    let Some(moto) = Moto::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = file(
        "config",
        "[profile plain]\naws_access_key_id = AKPLAIN\naws_secret_access_key = s\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/by-profile\nsource_profile = plain\nregion = eu-central-1\n",
    );
    let test = std::thread::current().name().unwrap().to_string();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", &test, "--nocapture"])
        .env(CHILD, &moto.url)
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_SHARED_CREDENTIALS_FILE", dir.path().join("none"))
        .env("AWS_ENDPOINT_URL_STS", &moto.url)
        // The default chain: a web identity token, as Kubernetes mounts it.
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", "header.payload.signature"))
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env_remove("AWS_PROFILE");
    let out = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let log = moto.process.stderr.text();
    assert!(log.matches("POST / HTTP").count() >= 7, "four deliveries and three roles: {log}");
    assert!(Path::new(&config).exists());
}
