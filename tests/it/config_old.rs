//! The old router's configurations: run as they are, and converted to ours.

use std::path::{Path, PathBuf};

use event_router::settings::*;
use event_router::settings::{EventTime, Extensions};

const VC: &str = r#"{"type":"stream","provider":"vmware_vcenter","address":"https://vc1.example/sdk","auth":{"method":"user_password","secret":{"username":"ro","password":"pw"}},"options":{"insecure":"true"}}"#;
const FAAS: &str = r#"{"type":"processor","provider":"openfaas","address":"http://gateway:8080/","auth":{"method":"basic_auth","secret":{"username":"admin","password":"pw"}},"options":{"async":"true"}}"#;
const METRICS: &str =
    r#"{"type":"metrics","provider":"internal","address":"0.0.0.0:8080","auth":{"method":"none"}}"#;

const OPENFAAS: &str =
    "eventProcessor: {type: openfaas, name: fn, openfaas: {address: 'http://gateway:8080'}}\n";
const METRICS_YAML: &str =
    "metricsProvider: {type: default, name: m, default: {bindAddress: '0.0.0.0:8082'}}\n";
const VCENTER: &str = "eventProvider: {type: vcenter, name: vc1, vcenter: {address: 'https://vc1.example/sdk', auth: {type: basic_auth, basicAuth: {username: u, password: p}}}}\n";
const API: &str = "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\n";

fn env(name: &str) -> Option<String> {
    (name == "STATE_DIRECTORY").then(|| "/state".into())
}

fn load(text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str_with(text, Path::new("config"), &env)
}

#[track_caller]
fn good(text: &str) -> (Config, String) {
    let (config, warnings) = load(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    (config, warnings.iter().map(|warning| format!("{warning}\n")).collect())
}

#[track_caller]
fn bad(text: &str) -> String {
    let errors = load(text).map(|(config, _)| panic!("accepted: {config:#?}")).unwrap_err().to_string();
    assert!(!errors.contains("hunter2"), "shows a secret: {errors}");
    errors
}

fn vcenter(config: &Config) -> &Vcenter {
    config.sources[0].kind.vcenter().expect("a vCenter")
}

#[test]
fn the_json_array_runs_in_any_order() {
    let (expected, warnings) = good(&format!("[{VC},{FAAS},{METRICS}]"));
    assert!(warnings.contains("accepts any certificate") && warnings.contains("`tls.caFile`"), "{warnings}");
    for order in [[FAAS, VC, METRICS], [METRICS, FAAS, VC], [VC, METRICS, FAAS]] {
        assert_eq!(good(&format!("\u{feff} [{}]", order.join(",\n"))).0, expected);
    }
    assert_eq!(expected.format, ConfigFormat::JsonArray);
    assert_eq!(expected.state, StateLocation::Dir("/state".into()));
    assert_eq!(expected.admin.bind_address.as_deref(), Some("0.0.0.0:8080"));
    assert_eq!(expected.sources[0].name, "vcenter");
    assert!(vcenter(&expected).tls.insecure);
    let processor = &expected.processors[0];
    assert_eq!((&*processor.name, processor.delivery.ordering), ("openfaas", Ordering::Source));
    assert_eq!(processor.delivery.envelope.time, EventTime::Router);
    assert_eq!(processor.delivery.envelope.extensions, Extensions::default());
    let ProcessorKind::OpenFaas(openfaas) = &processor.kind else { panic!() };
    assert_eq!((&*openfaas.gateway, openfaas.asynchronous), ("http://gateway:8080", true));
    assert_eq!((&openfaas.content_type, openfaas.auth_on_invoke), (&None, false));
}

#[test]
fn booleans_of_the_json_array_are_strings() {
    let insecure = |written: &str| {
        let vc = VC.replace(r#""insecure":"true""#, written);
        vcenter(&good(&format!("[{vc},{FAAS},{METRICS}]")).0).tls.insecure
    };
    assert!(insecure(r#""insecure":"true""#));
    assert!(insecure(r#""insecure":true"#));
    for not in [r#""insecure":"True""#, r#""insecure":"1""#, r#""insecure":"false""#, r#""other":"true""#] {
        assert!(!insecure(not), "{not}");
    }
}

#[test]
fn the_json_array_is_read_as_go_read_it() {
    let vc = VC.replace(r#""type""#, r#""Type""#).replace(r#""address""#, r#""ADDRESS""#);
    let faas = FAAS.replace("{\"type\"", r#"{"comment":"x","type""#);
    let other = VC.replace("vc1", "vc0");
    let (config, warnings) = good(&format!("[{other},{vc},{faas},{METRICS}]"));
    assert_eq!(vcenter(&config).sdk_url, "https://vc1.example/sdk");
    assert!(
        warnings.contains("config:1: [0]: ignored: a later element also has the type `stream`"),
        "{warnings}"
    );
    let (config, _) = good(&format!("[{},{FAAS},{METRICS}]", VC.replace("https://vc1", "https://u:p@vc1")));
    assert_eq!(vcenter(&config).sdk_url, "https://vc1.example/sdk");
}

#[test]
fn v1alpha1_runs_as_it_is() {
    let (config, warnings) = good(&format!("{API}{VCENTER}{OPENFAAS}{METRICS_YAML}"));
    // The old router's default address is open to everybody.
    assert_eq!(
        warnings,
        "config:5: metricsProvider.default.bindAddress: everybody who reaches this address can read metrics and statistics; set `auth`\n"
    );
    assert_eq!((config.format, &config.state), (ConfigFormat::V1alpha1, &StateLocation::Ephemeral));
    assert_eq!((&*config.sources[0].name, &*config.processors[0].name), ("vc1", "fn"));
    assert_eq!(vcenter(&config).start_at, StartAt::Now);
    assert_eq!(vcenter(&config).import_checkpoint, None);
    let delivery = &config.processors[0].delivery;
    assert_eq!((delivery.ordering, delivery.envelope.time), (Ordering::Source, EventTime::Created));
    assert!(delivery.envelope.extensions.vsphereapiversion);
    let ProcessorKind::OpenFaas(openfaas) = &config.processors[0].kind else { panic!() };
    assert_eq!((&openfaas.auth, &openfaas.content_type), (&Auth::None, &None));
}

#[test]
fn an_old_checkpoint_file_is_named_after_the_host() {
    let state = |more: &str, address: &str| {
        let vcenter_yaml =
            VCENTER.replace("https://vc1.example/sdk", address).replace("auth:", &format!("{more}, auth:"));
        let (config, _) = good(&format!("{API}{vcenter_yaml}{OPENFAAS}{METRICS_YAML}"));
        (config.state.clone(), vcenter(&config).import_checkpoint.clone())
    };
    let dir = |dir: &str, file: &str| (StateLocation::Dir(dir.into()), Some(PathBuf::from(file)));
    assert_eq!(
        state("checkpoint: true, checkpointDir: /data", "https://VC1.example:443/sdk"),
        dir("/data", "/data/cp-VC1.example.json")
    );
    assert_eq!(state("checkpoint: true", "10.0.0.1"), dir("./checkpoints", "./checkpoints/cp-10.0.0.1.json"));
    assert_eq!(
        state("checkpoint: false, checkpointDir: /data", "10.0.0.1"),
        (StateLocation::Ephemeral, None)
    );
}

#[test]
fn api_version_and_kind_are_ignored() {
    let body = format!("{VCENTER}{OPENFAAS}{METRICS_YAML}");
    let (config, warnings) = good(&body);
    assert_eq!(config.format, ConfigFormat::V1alpha1);
    assert!(warnings.contains("apiVersion: read as `event-router.vmware.com/v1alpha1`"), "{warnings}");
    assert_eq!(good(&format!("apiVersion: v1\nkind: x\n{body}")).0, config);
}

#[test]
fn passwords_are_taken_as_they_are() {
    let password = r##"${HOME}$${x}$ # " ' \ : % {{ }} é"##;
    let vc = VC.replace("\"pw\"", &serde_json::to_string(password).unwrap());
    let (config, _) = good(&format!("[{vc},{FAAS},{METRICS}]"));
    assert_eq!(&*vcenter(&config).password.read().unwrap(), password);
    let quoted = format!("'{}'", password.replace('\'', "''"));
    let yaml = VCENTER.replace("password: p", &format!("password: {quoted}"));
    let (config, _) = good(&format!("{API}{yaml}{OPENFAAS}{METRICS_YAML}"));
    assert_eq!(&*vcenter(&config).password.read().unwrap(), password);
}

#[test]
fn a_knative_target_with_a_uri_works_anywhere() {
    let url = |destination: &str| {
        let knative = format!(
            "eventProcessor: {{type: knative, name: kn, knative: {{encoding: structured, destination: {destination}}}}}\n"
        );
        let (config, _) = good(&format!("{API}{VCENTER}{knative}{METRICS_YAML}"));
        let ProcessorKind::CloudEvents(target) = config.processors[0].kind.clone() else { panic!() };
        assert_eq!(target.mode, ContentMode::Structured);
        target.url
    };
    assert_eq!(url("{uri: {scheme: http, host: 'sink.example:8080'}}"), "http://sink.example:8080".into());
    assert_eq!(url("{uri: {scheme: https, host: h, path: /a/b, rawquery: c=d}}"), "https://h/a/b?c=d".into());
    assert_eq!(url("{uri: 'http://sink.example/x'}"), "http://sink.example/x".into());
}

#[test]
fn a_knative_ref_is_for_clusters_and_is_converted_anywhere() {
    let yaml = |more: &str| {
        let object = format!("{{apiVersion: eventing.knative.dev/v1, kind: Broker, name: prod{more}}}");
        let knative = format!("{{encoding: binary, destination: {{ref: {object}}}}}");
        format!(
            "{API}{VCENTER}eventProcessor: {{type: knative, name: kn, knative: {knative}}}\n{METRICS_YAML}"
        )
    };
    assert_eq!(
        bad(&yaml(", namespace: events")),
        "config:4: eventProcessor.knative.destination.ref: a `ref` needs a router that runs in the Kubernetes cluster, and this is no pod \
         (`$KUBERNETES_SERVICE_HOST` is not set); run it there, or give the address as `uri` \
         (of a default broker: `http://broker-ingress.knative-eventing.svc.cluster.local/events/prod`)"
    );
    let pod =
        |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".into()).or_else(|| env(name));
    let in_pod = |text: &str| {
        load_str_with(text, Path::new("config"), &pod).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    };
    for (more, namespace) in [(", namespace: events", Some("events")), ("", None)] {
        let (mut before, _) = in_pod(&yaml(more));
        let ProcessorKind::CloudEvents(target) = before.processors[0].kind.clone() else { panic!() };
        let expected = Reference {
            api_version: "eventing.knative.dev/v1".into(),
            kind: "Broker".into(),
            name: "prod".into(),
            namespace: namespace.map(ToOwned::to_owned),
        };
        assert_eq!((target.url, target.reference), ("".into(), Some(expected)));
        let (native, _) = convert(&yaml(more), Path::new("config")).unwrap();
        before.format = ConfigFormat::Native;
        assert_eq!(in_pod(&native).0, before, "{native}");
        assert!(bad(&native).contains("give the address as `url`"));
    }
    // They stand in a path.
    for (good, wrong) in [
        ("name: prod", "name: ../secrets"),
        ("kind: Broker", "kind: '..'"),
        ("namespace: x", "namespace: ''"),
    ] {
        let key = good.split(':').next().unwrap();
        let told = bad(&yaml(", namespace: x").replace(good, wrong));
        assert!(told.contains(&format!("ref.{key}: must be a Kubernetes name")), "{told}");
    }
}

#[test]
fn unsupported_features_are_rejected_by_name() {
    let provider = |yaml: &str| bad(&format!("{API}eventProvider: {yaml}\n{OPENFAAS}{METRICS_YAML}"));
    assert!(
        provider("{type: horizon, name: h, horizon: {address: x}}").contains("the event provider `horizon`")
    );
}

#[test]
fn a_webhook_provider_runs_as_it_is() {
    let file = |webhook: &str| {
        format!(
            "{API}eventProvider: {{type: webhook, name: w, webhook: {webhook}}}\n{OPENFAAS}{METRICS_YAML}"
        )
    };
    let webhook = |text: &str| {
        let (config, _) = good(&file(text));
        assert_eq!(
            config.state,
            StateLocation::Dir("/state".into()),
            "an event is durable before the answer"
        );
        match &config.sources[0].kind {
            SourceKind::Webhook(webhook) => webhook.clone(),
            other => panic!("{other:?}"),
        }
    };
    let basic = "auth: {type: basic_auth, basicAuth: {username: u, password: hunter2}}";
    let configured = webhook(&format!("{{bindAddress: '10.0.0.1:8080', path: Events/In, {basic}}}"));
    assert_eq!((&*configured.bind_address, &*configured.path), ("10.0.0.1:8080", "/events/in"));
    assert!(matches!(&configured.auth, Auth::Basic { username, .. } if username == "u"));
    assert_eq!(webhook("{bindAddress: '0.0.0.0:8080', path: /webhook}").path, "/webhook");
    assert_eq!(webhook("{bindAddress: '0.0.0.0:8080'}").path, "/webhook");
    for (wrong, part) in [
        ("{path: x}", "webhook.bindAddress: is missing"),
        ("{bindAddress: '0.0.0.0'}", "webhook.bindAddress: must be `IP:PORT`"),
        ("{bindAddress: '0.0.0.0:1', path: /}", "webhook.path: must be a path such as `webhook`"),
        ("{bindAddress: '0.0.0.0:1', paths: x}", "unknown field `paths`; did you mean `path`?"),
    ] {
        let told = bad(&file(wrong));
        assert!(told.contains(part), "{wrong}: {told}");
    }
}

#[test]
fn every_error_of_an_old_file_is_shown_at_once() {
    insta::assert_snapshot!("wrong_v1alpha1", bad(include_str!("../data/wrong-v1alpha1.yaml")));
    insta::assert_snapshot!("wrong_array", bad(include_str!("../data/wrong-array.json")));
    assert!(bad("[\n{\"type\":\n]").starts_with("config:3: not readable as JSON: "));
    insta::assert_snapshot!("empty_array", bad("[]"));
    insta::assert_snapshot!("empty_v1alpha1", bad("apiVersion: event-router.vmware.com/v1alpha1\n"));
}

/// A directory with the files that the examples name, and an example with the paths to them.
pub fn example(name: &str, dir: &Path) -> String {
    for secret in [
        "vc1-password",
        "openfaas-password",
        "nats-password",
        "admin-password",
        "admin-token",
        "vc-fra-password",
        "vc-dub-password",
        "webhook-password",
        "webhook-token",
        "github-secret",
    ] {
        std::fs::write(dir.join(secret), "pw\n").unwrap();
    }
    let key = rcgen::generate_simple_self_signed(["ca.example".into()]).unwrap();
    std::fs::write(dir.join("ca.pem"), key.cert.pem()).unwrap();
    std::fs::write(dir.join("admin.pem"), key.cert.pem()).unwrap();
    std::fs::write(dir.join("admin-key.pem"), key.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("webhook.pem"), key.cert.pem()).unwrap();
    std::fs::write(dir.join("webhook-key.pem"), key.signing_key.serialize_pem()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    std::fs::read_to_string(path).unwrap().replace("/etc/event-router", &dir.display().to_string())
}

fn examples() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".yaml") || name.ends_with(".json")).collect();
    names.sort();
    names
}

#[test]
fn every_example_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let names = examples();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        let text = example(&name, dir.path());
        let env = |variable: &str| match variable {
            "VC_PASSWORD" | "INGEST_TOKEN" | "CHAT_TOKEN" | "TICKETS_PASSWORD" | "EDA_TOKEN"
            | "VRO_TOKEN" | "PAGERDUTY_KEY" => Some("pw".into()),
            other => env(other),
        };
        let (config, _) =
            load_str_with(&text, Path::new(&name), &env).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.format == ConfigFormat::Native, !name.starts_with("old-"), "{name}");
    }
}

#[test]
fn a_converted_file_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for name in examples().iter().filter(|name| name.starts_with("old-")) {
        let old = example(name, dir.path());
        let (native, _) = convert(&old, Path::new(name)).unwrap();
        let (mut before, _) = good(&old);
        let (after, _) = good(&native);
        before.format = ConfigFormat::Native;
        assert_eq!(after, before, "{name}:\n{native}");
        insta::assert_snapshot!(
            format!("convert_{name}"),
            native.replace(&dir.path().display().to_string(), "/etc/event-router")
        );
    }
}

#[test]
fn a_native_file_is_not_converted() {
    let dir = tempfile::tempdir().unwrap();
    let native = example("openfaas.yaml", dir.path());
    let error = convert(&native, Path::new("x.yaml")).unwrap_err().to_string();
    assert_eq!(error, "x.yaml: is in the native format already");
    assert!(matches!(convert("a: b", Path::new("x.yaml")), Err(ConvertError::Invalid(_))));
}
