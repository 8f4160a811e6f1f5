//! Tests of `init` without a network: flags, questions, the text and the files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::cli::Cli;
use crate::settings::{self, Auth, ProcessorKind, Secret};

/// The arguments of `init` on this command line, in a folder for its files.
fn args(folder: &Path, line: &[&str]) -> InitArgs {
    let output = folder.join("config.yaml");
    let fixed = ["event-router", "init", "--no-connect", "--output"].map(std::ffi::OsString::from);
    let all = fixed.into_iter().chain([output.into()]).chain(line.iter().map(Into::into));
    match Cli::try_parse_from(all).unwrap().command {
        crate::cli::Command::Init(args) => args,
        other => panic!("{other:?}"),
    }
}

const VCENTER: [&str; 4] = ["--vcenter", "vc1.example", "--user", "ro@vsphere.local"];

#[test]
fn each_kind_of_target_gives_a_configuration_without_errors() {
    let check = |kind: &str, flags: &[&str], expected: fn(&ProcessorKind) -> bool| {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("pw");
        std::fs::write(&password, "long enough\n").unwrap();
        let password = ["--password-file", password.to_str().unwrap(), "--target", kind];
        let args = args(folder.path(), &[&VCENTER[..], &password, flags].concat());
        write(&args, &mut Questions::answered(None)).unwrap();
        let (config, warnings) = settings::load(&args.output).unwrap();
        assert!(warnings.is_empty(), "{kind}: {warnings:?}");
        let vcenter = config.sources[0].kind.vcenter().unwrap();
        assert_eq!(vcenter.sdk_url, "https://vc1.example/sdk");
        assert_eq!(vcenter.password, Secret::file(folder.path().join("pw")));
        assert!(expected(&config.processors[0].kind), "{kind}: {:?}", config.processors[0].kind);
        let mode = std::fs::metadata(&args.output).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    };
    let url = ["--url", "https://t.example/a?b=c#"];
    let url = [url[0], url[1].trim_end_matches('#')];
    check("cloudevents", &url, |kind| match kind {
        ProcessorKind::CloudEvents(target) => target.url == "https://t.example/a?b=c".into(),
        _ => false,
    });
    check("http", &url, |kind| matches!(kind, ProcessorKind::Http(api) if api.body.is_some()));
    check(
        "openfaas",
        &url,
        |kind| matches!(kind, ProcessorKind::OpenFaas(gateway) if gateway.auth == Auth::None),
    );
    check(
        "eventbridge",
        &["--region", "eu-west-1", "--bus", "events"],
        |kind| matches!(kind, ProcessorKind::EventBridge(aws) if aws.buses[0].name == "events"),
    );
    check(
        "file",
        &["--path", "/tmp/it's events.jsonl"],
        |kind| matches!(kind, ProcessorKind::File(file) if file.path == Path::new("/tmp/it's events.jsonl")),
    );
    check("console", &[], |kind| matches!(kind, ProcessorKind::Console(_)));
}

#[test]
fn questions_ask_for_everything_that_no_flag_gives() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), &[]);
    // A wrong vCenter and a wrong kind are asked for again, and the empty password.
    let typed = "ftp://vc\nvc1.example\nro@vsphere.local\n\n p$${w} \nnothing\nopenfaas\nhttp://gw.example\nadmin\nsecond secret\n";
    let answers = write(&args, &mut Questions::answered(Some(typed))).unwrap();
    let (config, _) = settings::load(&args.output).unwrap();
    let password = &config.sources[0].kind.vcenter().unwrap().password;
    assert_eq!(&*password.read().unwrap(), " p$${w} ");
    let ProcessorKind::OpenFaas(gateway) = &config.processors[0].kind else { panic!() };
    let Auth::Basic { username, password } = &gateway.auth else { panic!() };
    assert_eq!((&**username, &*password.read().unwrap()), ("admin", "second secret"));
    let text = std::fs::read_to_string(&args.output).unwrap();
    assert!(!text.contains("p$") && !text.contains("second secret"), "{text}");
    for (path, _) in &answers.new_secrets {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path:?}");
    }
    let steps = next::steps(&answers, &args.output, true);
    for part in
        ["check --connect --config", "run --config", "LoadCredential=vc1:", "LoadCredential=openfaas:"]
    {
        assert!(steps.contains(part), "{part}: {steps}");
    }
}

#[test]
fn an_input_that_ends_early_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), &[]);
    let error = write(&args, &mut Questions::answered(Some("vc1.example\n"))).err().unwrap();
    assert!(error.to_string().contains("the input ended"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_a_terminal_a_missing_or_wrong_flag_is_named() {
    let check = |line: &[&str], part: &str| {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&args(folder.path(), line), &mut Questions::answered(None)).err().unwrap();
        assert!(error.is::<InitUsageError>() && error.to_string().contains(part), "{line:?}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    };
    let with = |more: &[&'static str]| [&VCENTER[..], more].concat();
    check(&[], "`--vcenter` is missing");
    check(&VCENTER[..2], "`--user` is missing");
    check(&VCENTER, "`--password-file` or `--password-env` is missing");
    check(&with(&["--password-env", "PW"]), "`--target` is missing");
    check(&with(&["--password-env", "P W"]), "`--password-env` must be the name");
    check(&with(&["--password-env", "PW", "--target", "http"]), "`--url` is missing");
    check(&with(&["--password-env", "PW", "--target", "http", "--url", "h"]), "`--url` is not a URL");
    check(&with(&["--password-env", "PW", "--target", "eventbridge"]), "`--region` is missing");
    check(&with(&["--password-file", "/nonexistent/pw"]), "`--password-file`: cannot read");
    check(&with(&["--thumbprint", "ab"]), "`--thumbprint` must be");
    check(&with(&["--ca-file", "/nonexistent/ca"]), "`--ca-file`: cannot read");
}

#[test]
fn existing_files_are_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let given = [&VCENTER[..], &["--password-env", "PW", "--target", "console", "--insecure"]].concat();
    let first = args(folder.path(), &given);
    write(&first, &mut Questions::answered(None)).unwrap();
    let text = std::fs::read_to_string(&first.output).unwrap();
    assert!(text.contains("password: ${PW}\n") && text.contains("insecure: true\n"), "{text}");
    let error = write(&first, &mut Questions::answered(None)).err().unwrap();
    assert!(error.to_string().contains("exists already; add `--force`"), "{error}");
    let forced = args(folder.path(), &[&given[..], &["--force"]].concat());
    std::fs::write(&forced.output, "old").unwrap();
    write(&forced, &mut Questions::answered(None)).unwrap();
    assert_eq!(std::fs::read_to_string(&forced.output).unwrap(), text);
}
