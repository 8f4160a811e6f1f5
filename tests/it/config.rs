//! Configuration files as operators write them: accepted input, its meaning, and the messages for
//! errors.

use std::path::Path;

use event_router::processor::file::settings::FileConfig;
use event_router::processor::http::settings::HttpConfig;
use event_router::processor::nats::settings::NatsConfig;
use event_router::settings::*;

const HEAD: &str = "apiVersion: event-router/v1\n";
const SOURCE: &str =
    "sources:\n  - {name: vc1, type: vcenter, address: vc1.example, username: ro, password: pw}\n";
const PROCESSOR: &str = "processors:\n  - {name: out, type: console}\n";

fn env(name: &str) -> Option<String> {
    match name {
        "VC_PASSWORD" => Some("from: the 'env' #1 ${VC_PASSWORD}".into()),
        "EMPTY" => Some(String::new()),
        "STATE_DIRECTORY" => Some("/state/one:/state/two".into()),
        _ => None,
    }
}

fn load(text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str_with(text, Path::new("config.yaml"), &env)
}

#[track_caller]
fn good(text: &str) -> Config {
    match load(text) {
        Ok((config, _)) => config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

#[track_caller]
fn bad(text: &str) -> String {
    match load(text) {
        Ok((config, _)) => panic!("accepted: {config:#?}\n{text}"),
        Err(errors) => {
            assert!(!errors.to_string().contains("hunter2"), "shows a secret: {errors}");
            errors.to_string()
        }
    }
}

#[track_caller]
fn warnings(text: &str) -> String {
    let (_, warnings) = load(text).unwrap_or_else(|errors| panic!("{errors}"));
    warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

fn vcenter(config: &Config) -> &Vcenter {
    config.sources[0].kind.vcenter().expect("a vCenter")
}

#[test]
fn the_defaults_of_table_and_model_agree() {
    let source = SourceConfig {
        name: "vc1".into(),
        kind: SourceKind::Vcenter(Vcenter::new("https://vc1.example/sdk", "ro", Secret::inline("pw"))),
    };
    let check = |processor: &str, kind: ProcessorKind, ordering: Ordering| {
        let config = good(&format!("{HEAD}{SOURCE}processors:\n  - {{name: out, {processor}}}\n"));
        let delivery = DeliveryPolicy { ordering, ..DeliveryPolicy::default() };
        let processors = vec![ProcessorConfig { name: "out".into(), kind, delivery }];
        let expected = Config::new(StateLocation::Dir("/state/one".into()), vec![source.clone()], processors);
        assert_eq!(config, expected, "{processor}");
    };
    let url = "https://target.example/x";
    let cloudevents = ProcessorKind::CloudEvents(CloudEventsConfig::new(url));
    let openfaas = ProcessorKind::OpenFaas(OpenFaasConfig::new(url));
    let eventbridge = ProcessorKind::EventBridge(EventBridgeConfig::new("eu-central-1"));
    check("type: console", ProcessorKind::Console(Default::default()), Ordering::Source);
    check("type: blackhole", ProcessorKind::Blackhole(Default::default()), Ordering::Source);
    check(&format!("type: cloudevents, url: '{url}'"), cloudevents, Ordering::Source);
    check(&format!("type: http, url: '{url}'"), ProcessorKind::Http(HttpConfig::new(url)), Ordering::Source);
    check(
        "type: file, path: /a/b.jsonl",
        ProcessorKind::File(FileConfig::new("/a/b.jsonl")),
        Ordering::Source,
    );
    let nats = ProcessorKind::Nats(NatsConfig::new(["nats://n1.example:4222"]));
    check("type: nats, servers: 'nats://n1.example'", nats, Ordering::Source);
    check(&format!("type: openfaas, gateway: '{url}'"), openfaas, Ordering::Source);
    check("type: eventbridge, region: eu-central-1", eventbridge, Ordering::None);
}

#[test]
fn every_error_is_shown_at_once() {
    insta::assert_snapshot!(bad(include_str!("../data/wrong.yaml")));
}

#[test]
fn a_rate_near_zero_is_rejected() {
    let with = |rate: &str| {
        let processor =
            format!("processors:\n  - {{name: a, type: console, rateLimit: {{eventsPerSecond: {rate}}}}}\n");
        format!("{HEAD}{SOURCE}{processor}")
    };
    for rate in ["1e-20", "0.0000009", "0", "-1", "NaN", "1e10"] {
        let errors = bad(&with(rate));
        assert!(errors.contains("must be a number from 0.000001 to 1000000000"), "{rate}: {errors}");
    }
    good(&with("0.000001"));
}

#[test]
fn files_without_a_configuration_are_rejected() {
    let files = [
        "",
        "apiVersion: event-router/v2\n",
        "sources: []\n",
        "- a\n- b\n",
        "just text",
        "apiVersion: event-router/v1\nsources: [{]\n",
        "apiVersion: event-router/v1\nsources:\nprocessors: []\nroutes: {}\n",
        "apiVersion: event-router/v1\nsources: [vc1]\nprocessors: [{}]\n",
    ];
    let all: String = files.iter().map(|text| format!("{text:?}\n{}\n\n", bad(text))).collect();
    insta::assert_snapshot!(all);
}

#[test]
fn passwords_may_contain_any_character() {
    let check = |written: &str, expected: &str| {
        let source = format!(
            "sources:\n  - name: vc1\n    type: vcenter\n    address: vc1.example\n    username: ro\n    password: {written}\n"
        );
        let config = good(&format!("{HEAD}{source}{PROCESSOR}"));
        assert_eq!(&*vcenter(&config).password.read().unwrap(), expected, "{written}");
        assert!(!format!("{:?}", vcenter(&config).password).contains(expected), "shown");
    };
    check(r##"'pa$s#w"o''r\d:% x'"##, r##"pa$s#w"o'r\d:% x"##);
    check(r##""p\"a\\n\u00e9$""##, "p\"a\\né$");
    check("pa$$word", "pa$$word");
    check("0123", "0123");
    check("1e5", "1e5");
    check("no", "no");
    check("p#a%s", "p#a%s");
    check("'$${VC_PASSWORD}'", "${VC_PASSWORD}");
    check("${VC_PASSWORD}", "from: the 'env' #1 ${VC_PASSWORD}");
    check("|-\n      two\n      lines", "two\nlines");
}

#[test]
fn a_missing_variable_is_an_error_with_its_line() {
    let source = "sources:\n  - name: vc1\n    type: vcenter\n    address: ${VC}.example\n    username: '${}'\n    password: ${EMPTY}\n";
    insta::assert_snapshot!(bad(&format!("{HEAD}{PROCESSOR}{source}")));
}

#[test]
fn a_password_file_is_named_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pw");
    std::fs::write(&path, "one\n").unwrap();
    let source = format!(
        "sources:\n  - {{name: vc1, type: vcenter, address: vc1, username: ro, passwordFile: '{}'}}\n",
        path.display()
    );
    let config = good(&format!("{HEAD}{PROCESSOR}{source}"));
    let password = &vcenter(&config).password;
    assert_eq!(&*password.read().unwrap(), "one");
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(&*password.read().unwrap(), "two");
    assert_eq!(password.path(), Some(&*path));
}

#[test]
fn every_setting_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["vc1.example".into()]).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, key.cert.pem()).unwrap();
    std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
    let text = include_str!("../data/everything.yaml")
        .replace("CERT.pem", &cert_file.display().to_string())
        .replace("KEY.pem", &key_file.display().to_string())
        .replace("PEM TEXT", &key.cert.pem().replace('\n', "\\n"));
    let shown = format!("{:#?}", good(&text))
        .replace(&dir.path().display().to_string(), "DIR")
        .replace(&format!("{:?}", key.cert.pem()), "PEM");
    insta::assert_snapshot!(shown);
}

#[test]
fn without_routes_every_processor_gets_every_event() {
    let processors = "processors:\n  - {name: a, type: console}\n  - {name: b, type: console}\n";
    let config = good(&format!("{HEAD}{SOURCE}{processors}"));
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].sources, ["vc1"]);
    assert_eq!(config.routes[0].processors, ["a", "b"]);
    assert_eq!(config.routes[0].pattern, None);
}

#[test]
fn a_dead_letter_processor_gets_nothing_else_unless_a_route_says_so() {
    let processors = "processors:\n  - {name: a, type: console, deadLetterTo: b}\n  - {name: b, type: console, deadLetterTo: c}\n  - {name: c, type: blackhole}\n";
    let config = good(&format!("{HEAD}{SOURCE}{processors}"));
    assert_eq!(config.routes[0].processors, ["a"]);
    assert_eq!(config.processors[1].delivery.dead_letter.as_deref(), Some("c"));
    let routes = "routes:\n  - {processors: [a, c]}\n";
    let text = format!("{HEAD}{SOURCE}{processors}{routes}");
    assert_eq!(good(&text).routes[0].processors, ["a", "c"]);
    assert_eq!(warnings(&text), "", "`b` has its use");
}

#[test]
fn patterns_keep_their_json_types() {
    let routes = "routes:\n  - processors: [out]\n    pattern: {data: {Key: [1, 1.5, '2', true, null, {numeric: ['>', 3]}]}}\n";
    let config = good(&format!("{HEAD}{SOURCE}{PROCESSOR}{routes}"));
    let expected = serde_json::json!({"data": {"Key": [1, 1.5, "2", true, null, {"numeric": [">", 3]}]}});
    let route = &config.routes[0];
    assert_eq!(route.pattern, Some(expected));
    assert_eq!((&*route.name, route.line, &*route.sources), ("route-1", 8, &["vc1".to_owned()][..]));
}

#[test]
fn anchors_are_resolved() {
    let sources = "sources:\n  - &vc\n    name: vc1\n    type: vcenter\n    address: vc1.example\n    username: ro\n    password: pw\n  - <<: *vc\n    name: vc2\n    address: vc2.example\n";
    let config = good(&format!("{HEAD}{PROCESSOR}{sources}"));
    let second = config.sources[1].kind.vcenter().expect("a vCenter");
    assert_eq!((&*second.sdk_url, &*second.username), ("https://vc2.example/sdk", "ro"));
}

#[test]
fn knative_names_the_target_in_the_environment() {
    let processors = "processors:\n  - {name: kn, type: cloudevents, extensions: {static: {a: own}}}\n";
    let text = format!("{HEAD}{SOURCE}{processors}");
    let load = |sink: &str, overrides: &str| {
        load_str_with(&text, Path::new("config.yaml"), &|name| match name {
            "K_SINK" => Some(sink.into()),
            "K_CE_OVERRIDES" => Some(overrides.into()),
            _ => env(name),
        })
    };
    let (config, _) =
        load("http://broker.example/ns/default", r#"{"extensions": {"a": "x", "b": "y"}}"#).unwrap();
    let ProcessorKind::CloudEvents(target) = &config.processors[0].kind else { panic!() };
    assert_eq!(target.url, "http://broker.example/ns/default".into());
    let fixed = &config.processors[0].delivery.envelope.extensions.fixed;
    assert_eq!(*fixed, [("a".into(), "own".into()), ("b".into(), "y".into())]);
    let error = |sink, overrides| load(sink, overrides).unwrap_err().to_string();
    assert!(error("nowhere", "").contains("`$K_SINK` is not a URL"));
    assert!(error("http://h", "{").contains("`$K_CE_OVERRIDES` is not"));
    assert!(bad(&text).contains("`url` is missing, and `$K_SINK` is not set"));
}

#[test]
fn knative_names_the_roots_of_its_target_in_the_environment() {
    let key = rcgen::generate_simple_self_signed(["broker.example".into()]).unwrap();
    let pem = key.cert.pem();
    let load = |fields: &str, roots: &str| {
        let text = format!("{HEAD}{SOURCE}processors:\n  - {{name: kn, type: cloudevents{fields}}}\n");
        load_str_with(&text, Path::new("config.yaml"), &|name| match name {
            "K_SINK" => Some("https://broker.example/ns/default".into()),
            "K_CA_CERTS" => Some(roots.into()),
            _ => env(name),
        })
    };
    let trusted = |fields: &str| {
        let (config, _) = load(fields, &pem).unwrap();
        let ProcessorKind::CloudEvents(target) = &config.processors[0].kind else { panic!() };
        target.http.tls.ca_certs.clone()
    };
    assert_eq!(trusted(""), Some(pem.clone()));
    assert_eq!(trusted(", tls: {caCerts: '${K_CA_CERTS}'}"), Some(format!("{pem}\n{pem}")));
    assert_eq!(trusted(", url: 'https://other.example'"), None, "they belong to the sink");
    let error = |fields, roots| load(fields, roots).unwrap_err().to_string();
    assert!(error("", "no PEM").contains("`$K_CA_CERTS` cannot be used"));
    assert!(error(", tls: {caCerts: x}", "").contains("tls.caCerts: must be PEM text"));
}

#[test]
fn a_url_in_a_file_or_with_a_variable_is_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    std::fs::write(&path, "https://hooks.example/hunter2\n").unwrap();
    let file = format!("urlFile: '{}'", path.display());
    let text =
        |url: &str| format!("{HEAD}{SOURCE}processors:\n  - {{name: hook, type: cloudevents, {url}}}\n");
    let load = |url: &str| {
        let variable = |name: &str| (name == "HOOK").then(|| "hunter2".into()).or_else(|| env(name));
        load_str_with(&text(url), Path::new("config.yaml"), &variable).map(|(config, _)| config)
    };
    for (url, is_file) in [(&*file, true), ("url: 'https://hooks.example/${HOOK}'", false)] {
        let config = load(url).unwrap();
        let ProcessorKind::CloudEvents(target) = &config.processors[0].kind else { panic!() };
        let TargetUrl::Secret(secret, name) = &target.url else { panic!("{url}: {:?}", target.url) };
        assert_eq!(&*secret.read().unwrap(), "https://hooks.example/hunter2");
        assert_eq!(secret.path().is_some(), is_file);
        assert!(name.starts_with("https://hooks.example/#"), "{name}");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
    assert!(bad(&text(&format!("{file}, url: 'https://h'"))).contains("`url`, `urlFile` exclude each other"));
    std::fs::write(&path, "hunter2").unwrap();
    assert!(bad(&text(&file)).contains("processors[0].urlFile: the text in this file is not a URL"));
}

#[test]
fn a_filter_that_matches_no_event_causes_a_warning_with_its_line() {
    let source =
        SOURCE.replace("password: pw", "password: pw, filter: {eventTypes: [VmPoweredOnEvent, Vm*]}");
    let shown = warnings(&format!("{HEAD}{source}{PROCESSOR}dataDir: /state\n"));
    let place = "config.yaml:3: sources[0].filter.eventTypes: `Vm*`: vCenter's filter knows no wildcards";
    assert!(shown.starts_with(place) && shown.lines().count() == 1, "{shown}");
}

#[test]
fn risky_settings_cause_warnings() {
    insta::assert_snapshot!(warnings(include_str!("../data/risky.yaml")));
}

#[test]
fn a_route_names_known_severities_once() {
    let text = |route: &str| {
        format!("{HEAD}{SOURCE}{PROCESSOR}dataDir: /state\nroutes: [{{processors: [out], {route}}}]\n")
    };
    let route = good(&text("severity: [error, user], maxAge: 1h")).routes.remove(0);
    assert_eq!(route.severity, ["error", "user"]);
    assert_eq!(route.max_age, Some(std::time::Duration::from_secs(3_600)));
    assert!(bad(&text("severity: [fatal]")).contains("`info`, `warning`, `error` or `user`"));
    let both = bad(&text("severity: [error], pattern: {category: [info]}"));
    assert!(both.contains("`severity` and a pattern on `category` exclude each other; keep one"), "{both}");
}

#[test]
fn the_later_format_is_binary_unless_another_mode_is_given() {
    let mode = |more: &str| {
        let processor = format!("processors: [{{name: p, type: cloudevents, url: 'http://t'{more}}}]\n");
        let mut config = good(&format!("{HEAD}{SOURCE}{processor}dataDir: /state\n"));
        let ProcessorKind::CloudEvents(target) = config.processors.remove(0).kind else { panic!() };
        target.mode
    };
    assert_eq!(mode(""), ContentMode::Structured);
    assert_eq!(mode(", format: veba-v0.8"), ContentMode::Binary);
    assert_eq!(mode(", format: veba-v0.8, mode: structured"), ContentMode::Structured);
}

#[test]
fn the_state_has_its_place() {
    let state = |more: &str| good(&format!("{HEAD}{more}{SOURCE}{PROCESSOR}")).state;
    assert_eq!(state(""), StateLocation::Dir("/state/one".into()));
    assert_eq!(state("dataDir: ./here\n"), StateLocation::Dir("./here".into()));
    assert_eq!(state("ephemeral: true\n"), StateLocation::Ephemeral);
    assert_eq!(state("ephemeral: false\n"), StateLocation::Dir("/state/one".into()));
}

#[test]
fn an_unreadable_file_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let error = || {
        let errors = event_router::settings::load(&path).unwrap_err();
        errors.to_string().replace(&*dir.path().to_string_lossy(), "DIR")
    };
    assert!(error().starts_with("DIR/config.yaml: cannot be read: "));
    std::fs::write(&path, b"a: b\nc: \xff\n").unwrap();
    assert_eq!(error(), "DIR/config.yaml:2: is not UTF-8 text");
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
    assert!(error().contains("has more than 4194304 bytes"));
}

mod mutations {
    use proptest::prelude::*;

    use super::*;

    const FILES: [&str; 6] = [
        include_str!("../data/everything.yaml"),
        include_str!("../data/wrong.yaml"),
        include_str!("../data/wrong-v1alpha1.yaml"),
        include_str!("../data/wrong-array.json"),
        include_str!("../../examples/old-v1alpha1-openfaas.yaml"),
        include_str!("../../examples/old-v0.4-eventbridge.json"),
    ];
    const PIECES: [&str; 16] = [
        "", "~", "x", "[]", "{}", "[x]", "{x: y}", "true", "-1", "'", "\n", "\n  ", ": ", "- ", "${X}",
        "&a *a",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Any change of a file: an answer without a panic, and no secret in it.
        #[test]
        fn a_changed_file_causes_no_panic_and_shows_no_secret(
            file in 0..FILES.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, 0..PIECES.len()), 1..6),
        ) {
            let mut text: Vec<char> = FILES[file].replace("hunter2", "\u{1F512}hunter2").chars().collect();
            for (at, len, piece) in edits {
                let at = at.index(text.len());
                let end = (at + len).min(text.len());
                text.splice(at..end, PIECES[piece].chars());
            }
            let text: String = text.into_iter().collect();
            if let Err(errors) = load(&text) {
                prop_assert!(!errors.problems.is_empty());
                for problem in errors.problems {
                    prop_assert!(problem.line >= 1);
                    // An edit may make a file's name of a secret: those are shown.
                    let hidden = !problem.message.contains('\u{1F512}') || problem.message.contains("secret file");
                    prop_assert!(hidden, "{problem:?}\n{text}");
                }
            }
        }
    }
}
