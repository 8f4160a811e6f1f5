//! Awkward passwords arrive through every format, and through `config convert`.

use std::path::Path;

use event_router::settings::*;

/// Each of them has broken some template, parser or shell.
const AWKWARD: [&str; 56] = [
    "true",
    "True",
    "no",
    "null",
    "~",
    "0123",
    "0x1f",
    "0o17",
    "1e5",
    "1_000",
    ".inf",
    "12:30:45",
    "2001-01-01",
    "-",
    "- x",
    "? x",
    ": x",
    "x:",
    "x: y",
    "x #y",
    "#x",
    "&a",
    "*",
    "*a",
    "!tag",
    "!!str x",
    "%TAG",
    "@x",
    "`x`",
    "|",
    ">-",
    "[x]",
    "{x}",
    "{{ .x }}",
    "x,y",
    "<<",
    "---",
    "...",
    "'",
    "\"",
    "''",
    "it's",
    "\\",
    "\\n",
    "\\u0041",
    "$",
    "$$",
    "${HOME}",
    "$${x}",
    " x",
    "x  ",
    "x\ty",
    "two\nlines",
    "x\n",
    "pässwörd-密码-🔒",
    "\u{feff}x\u{a0}\u{2028}",
];

fn load(text: &str) -> Result<Config, String> {
    let env = |name: &str| (name == "STATE_DIRECTORY").then(|| "/state".to_owned());
    load_str_with(text, Path::new("config"), &env)
        .map(|(config, _)| config)
        .map_err(|errors| errors.to_string())
}

/// The vCenter's password, and OpenFaaS's.
fn passwords(text: &str) -> [String; 2] {
    let config = load(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let vcenter = config.sources[0].kind.vcenter().expect("a vCenter");
    let ProcessorKind::OpenFaas(openfaas) = &config.processors[0].kind else { panic!("{config:?}") };
    let Auth::Basic { password, .. } = &openfaas.auth else { panic!("{config:?}") };
    [vcenter.password.read().unwrap().to_string(), password.read().unwrap().to_string()]
}

fn native(password: &str) -> String {
    format!(
        "apiVersion: event-router/v1\n\
         sources:\n  - name: vc\n    type: vcenter\n    address: vc.example\n    username: ro\n    password: {password}\n\
         processors:\n  - name: fn\n    type: openfaas\n    gateway: http://gateway:8080\n    auth:\n      username: admin\n      password: {password}\n"
    )
}

fn v1alpha1(password: &str) -> String {
    format!(
        "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\n\
         eventProvider:\n  type: vcenter\n  name: vc\n  vcenter:\n    address: https://vc.example/sdk\n    auth:\n      type: basic_auth\n      \
         basicAuth:\n        username: ro\n        password: {password}\n\
         eventProcessor:\n  type: openfaas\n  name: fn\n  openfaas:\n    address: http://gateway:8080\n    auth:\n      type: basic_auth\n      \
         basicAuth:\n        username: admin\n        password: {password}\n\
         metricsProvider:\n  type: default\n  name: m\n  default:\n    bindAddress: 0.0.0.0:8082\n"
    )
}

fn json_array(password: &str) -> String {
    format!(
        r#"[{{"type":"stream","provider":"vmware_vcenter","address":"https://vc.example/sdk","auth":{{"method":"user_password","secret":{{"username":"ro","password":{password}}}}}}},
            {{"type":"processor","provider":"openfaas","address":"http://gateway:8080","auth":{{"method":"basic_auth","secret":{{"username":"admin","password":{password}}}}}}},
            {{"type":"metrics","provider":"internal","address":"0.0.0.0:8080","auth":{{"method":"none"}}}}]"#
    )
}

/// In single quotes, where that can be done on one line and exactly: YAML folds line breaks there.
fn single_quoted(text: &str) -> Option<String> {
    (!text.contains(['\n', '\u{feff}', '\u{2028}'])).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// In the double quotes of JSON, which are YAML's too.
fn double_quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn passwords_arrive_through_every_format() {
    for password in AWKWARD {
        let check = |text: String| assert_eq!(passwords(&text), [password; 2], "{text}");
        // A variable is asked for by `${`, in the native format alone.
        let escaped = password.replace("${", "$${");
        check(native(&double_quoted(&escaped)));
        check(v1alpha1(&double_quoted(password)));
        check(json_array(&double_quoted(password)));
        if let Some(quoted) = single_quoted(&escaped) {
            check(native(&quoted));
        }
        if let Some(quoted) = single_quoted(password) {
            check(v1alpha1(&quoted));
        }
    }
}

#[test]
fn passwords_survive_the_conversion() {
    for password in AWKWARD {
        for old in [v1alpha1(&double_quoted(password)), json_array(&double_quoted(password))] {
            let (converted, _) = convert(&old, Path::new("config")).unwrap();
            assert_eq!(passwords(&converted), [password; 2], "{converted}");
        }
    }
}

#[test]
fn passwords_arrive_through_a_variable() {
    for password in AWKWARD {
        let env = |name: &str| (name == "PW").then(|| password.to_owned());
        let text = format!("dataDir: /state\n{}", native("${PW}"));
        let (config, _) = load_str_with(&text, Path::new("config"), &env).unwrap();
        let vcenter = config.sources[0].kind.vcenter().expect("a vCenter");
        assert_eq!(&*vcenter.password.read().unwrap(), password);
    }
}

/// A file is written by editors, which end the line, and by `echo -n` or Kubernetes, which do not.
#[test]
fn passwords_arrive_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    for password in AWKWARD {
        for (end, means) in
            [("", password.strip_suffix('\n').unwrap_or(password)), ("\n", password), ("\r\n", password)]
        {
            std::fs::write(&path, format!("{password}{end}")).unwrap();
            let text = native("X").replace("password: X", &format!("passwordFile: {}", path.display()));
            assert_eq!(passwords(&text), [means; 2], "{password:?} and {end:?}");
        }
    }
}

/// Without quotes YAML may read a value that differs from the text: that is an error that names the
/// way out. Three meanings cannot be told from the text and stay: ` #` (a comment), `!!str` (text)
/// and spaces at either end.
#[test]
fn unquoted_passwords_arrive_unchanged_or_are_an_error() {
    let mut refused = Vec::new();
    for password in AWKWARD {
        let expected = match password {
            "x #y" | "!!str x" => "x",
            other => other.trim(),
        };
        for text in [native(&password.replace("${", "$${")), v1alpha1(password)] {
            match load(&text) {
                Ok(_) => assert_eq!(passwords(&text)[0], expected, "{text}"),
                Err(error) => {
                    let helps = [
                        "single quotes",
                        "closing quote",
                        "name: value",
                        "must be text",
                        "must not be empty",
                    ];
                    assert!(helps.iter().any(|help| error.contains(help)), "{password:?}: {error}");
                    assert!(error.lines().all(|line| line.starts_with("config:")), "{error}");
                    refused.push(password);
                }
            }
        }
    }
    refused.dedup();
    let expected = [
        "null",
        "~",
        "-",
        "- x",
        "? x",
        ": x",
        "x:",
        "x: y",
        "#x",
        "&a",
        "*",
        "*a",
        "!tag",
        "%TAG",
        "@x",
        "`x`",
        "|",
        ">-",
        "[x]",
        "{x}",
        "{{ .x }}",
        "'",
        "\"",
        "''",
        "two\nlines",
        "\u{feff}x\u{a0}\u{2028}",
    ];
    assert_eq!(refused, expected);
}

/// The old router took a null for an empty text, and a gateway may ask for no password.
#[test]
fn a_null_for_a_gateway_is_empty_and_warned_about() {
    let text = v1alpha1("'x'").replacen(
        "username: admin\n        password: 'x'",
        "username: admin\n        password: ~",
        1,
    );
    let (config, warnings) = load_str_with(&text, Path::new("config"), &|_| None).unwrap();
    let ProcessorKind::OpenFaas(openfaas) = &config.processors[0].kind else { panic!() };
    assert_eq!(openfaas.auth, Auth::Basic { username: "admin".into(), password: Secret::inline("") });
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let begin =
        "config:22: eventProcessor.openfaas.auth.basicAuth.password: has no value and is taken as empty";
    assert!(told.iter().any(|warning| warning.starts_with(begin)), "{told:?}");
}
