//! Every built-in workload is valid, and all errors of a file are reported at once.

use super::*;

#[test]
fn every_file_in_the_folder_is_built_in_and_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, names);
    for name in names {
        let workload = Workload::load(name).unwrap_or_else(|errors| panic!("{errors}"));
        workload.check().unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!workload.description.is_empty(), "{name} has no description");
    }
}

#[test]
fn every_field_of_a_file_is_read() {
    let workload = Workload::parse(
        "folder/full.yaml",
        "description: x\nseed: 7\nvcenters: 3\nrate: {ramp: {from: 1, to: 2, time: 10s}}\nevents: 1_000\nduration: 1m\nbacklog: 5\n\
         mix: {VmPoweredOnEvent: 3, com.vmware.sso.LoginSuccess: 1}\nentities: {vms: 10, hosts: 2}\nhttps: true\nclockSkewSeconds: -5\n\
         target: {shape: openfaas, ordering: entity, concurrency: 4, https: true, spill: false, delay: 20ms, errors: {share: 0.5, \
         reply: lostAnswer}, functions: 2}\ntroubles:\n  - {type: late, at: 1s, every: 2s, events: 3, delay: 4s}\ngoals: {p99: 10ms, \
         duplicates: 9}\nrouter: {settings: {memoryMax: 32MiB}, source: {sweep: {interval: 5s}}, processor: {batch: {events: 5}}}\n",
    )
    .unwrap();
    assert_eq!(workload.name, "full");
    assert_eq!((workload.seed, workload.vcenters, workload.backlog), (7, 3, 5));
    assert_eq!(workload.rate, Rate::Ramp { from: 1.0, to: 2.0, time: Duration::from_secs(10) });
    assert_eq!((workload.events, workload.duration), (Some(1000), Some(Duration::from_secs(60))));
    let weights = vec![("VmPoweredOnEvent".to_owned(), 3), ("com.vmware.sso.LoginSuccess".to_owned(), 1)];
    assert_eq!(workload.mix, Mix::Custom(weights));
    assert_eq!(
        (workload.vms, workload.hosts, workload.https, workload.clock_skew_seconds),
        (10, 2, true, -5)
    );
    assert_eq!(workload.target.shape, Shape::Openfaas);
    assert_eq!(workload.target.delay, Delay::Fixed(Duration::from_millis(20)));
    assert!(workload.repeats_deliveries() && !workload.target.spill);
    let trouble = Trouble::Late { events: 3, delay: Duration::from_secs(4) };
    let every = Some(Duration::from_secs(2));
    assert_eq!(workload.troubles, [Scheduled { trouble, at: Duration::from_secs(1), every }]);
    assert_eq!(workload.goals.p99, Some(Duration::from_millis(10)));
    assert_eq!(workload.router.source, [("sweep".to_owned(), "{'interval': 5s}".to_owned())]);
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = Workload::parse(
        "bad.yaml",
        "vcenters: 0\nrate: {steady: 5, ramp: {from: 1}}\nspeed: 5\nmix: {NoSuchEvent: 1}\ntarget:\n  shape: pigeon\n  delay: soon\n  \
         errors: {status: 200}\ntroubles:\n  - {type: flood}\n  - {type: late, events: 5}\n  - {type: restore, events: 5, downtime: 1s}\n\
         goals: [1]\n",
    )
    .unwrap_err();
    let shown = errors.to_string();
    for expected in [
        "bad.yaml:1: vcenters: must be a whole number from 1 to 256",
        "bad.yaml:2: rate.ramp.to: is missing",
        "bad.yaml:2: rate.ramp.time: is missing",
        "bad.yaml:3: speed: there is no such field; known are `description`,",
        "bad.yaml:4: mix: mix of events: no template for `NoSuchEvent`",
        "bad.yaml:6: target.shape: must be one of `batched`, `structured`, `binary`, `openfaas`, `eventbridge`",
        "bad.yaml:7: target.delay: must be a duration such as `20ms`, or `5ms-20ms`, or `p50=5ms,p99=80ms`",
        "bad.yaml:8: target.errors.share: is missing",
        "bad.yaml:8: target.errors.status: must be a whole number from 400 to 599",
        "bad.yaml:10: troubles[0].type: must be one of `duplicates`,",
        "bad.yaml:11: troubles[1].delay: is missing",
        "bad.yaml:12: troubles[2].downtime: must be at least 2m",
        "bad.yaml:13: goals: must be a map of fields",
    ] {
        assert!(shown.contains(expected), "{expected}\n---\n{shown}");
    }
    assert_eq!(shown.lines().count(), 13, "{shown}");
}

#[test]
fn fields_that_do_not_fit_together_are_named() {
    let check = |text: &str, part: &str| {
        let workload = Workload::parse("w", text).unwrap();
        let shown = workload.check().unwrap_err().to_string();
        assert!(shown.contains(part), "{text}: {shown}");
    };
    check("seed: 1", "nothing would happen");
    check("rate: 5", "the run has no end");
    check("rate: 0\nduration: 5s", "nothing would be tested");
    check("rate: {sine: {mean: 0, amplitude: 0, period: 1s}}\nduration: 5s", "nothing would be tested");
    check("backlog: 5\nduration: 5s", "w: duration: is for a run with a `rate`");
    check("backlog: 5\nevents: 5", "w: events: is for a run with a `rate`");
    check(
        "backlog: 5\nrouter: {settings: {ephemeral: true}}\ntroubles: [{type: routerKill, downtime: 1s}]",
        "keeps its state",
    );
}

#[test]
fn an_impossible_shape_of_the_rate_is_named() {
    let check = |rate: &str, expected: &str| {
        let shown = Workload::parse("w", &format!("rate: {rate}")).unwrap_err().to_string();
        assert_eq!(shown, format!("w:1: {expected}"), "{rate}");
    };
    check("{}", "rate: must be a number, `unbounded`, or have one of `steady`, `ramp`, `burst`, `sine`");
    check("{steady: 5, ramp: {from: 1, to: 2, time: 1s}}", "rate: takes one shape, not several");
    check("{burst: {base: 1, peak: 2, every: 0s, length: 0s}}", "rate.burst.every: must be longer than 0s");
    let long = "rate.burst.length: must not be longer than `every`";
    check("{burst: {base: 1, peak: 2, every: 1s, length: 2s}}", long);
    check("{sine: {mean: 1, amplitude: 2, period: 0s}}", "rate.sine.period: must be longer than 0s");
}

#[test]
fn troubles_after_the_end_are_named() {
    let troubles = "troubles: [{type: sessionExpiry, at: 9s}, {type: collectorLoss, at: 11s}]";
    let late = |load: &str| Workload::parse("w", &format!("{load}\n{troubles}")).unwrap().troubles_too_late();
    assert_eq!(late("rate: 5\nduration: 10s").len(), 1);
    assert!(
        late("rate: 5\nduration: 10s")[0].starts_with("`collectorLoss` will not happen: it is due after 11s")
    );
    assert_eq!(late("rate: 5\nduration: 10s\nevents: 10").len(), 2, "ten events take 2 s");
    assert!(late("rate: unbounded\nevents: 10").is_empty(), "nobody knows how long that takes");
    assert!(late("backlog: 10").is_empty());
}

#[test]
fn a_workload_is_summarized_in_one_line() {
    let tell = |text: &str| {
        let workload = Workload::parse("w", text).unwrap();
        format!("{}; {}", workload.setup(), workload.offered())
    };
    assert_eq!(
        tell("rate: 500\nduration: 1m"),
        "1 vCenter over HTTP, batched over HTTP, ordering source, spilling to disk; 500 events/s, for 60s"
    );
    assert_eq!(
        tell(
            "vcenters: 2\nbacklog: 7\nmix: bootStorm\ntarget: {shape: openfaas, functions: 3, concurrency: 4, delay: 20ms, spill: false, \
             errors: {share: 0.1, reply: reset}}\ntroubles: [{type: sessionExpiry}]\nrouter: {processor: {batch: {events: 5}}}"
        ),
        "2 vCenters over HTTP, openfaas x 3 over HTTP, ordering source, blocking, concurrency 4, the target takes 20ms, 10 % of requests fail by \
         reset, events of bootStorm, 1 kind of trouble, the router with batch: {'events': 5}; 7 events in the backlog"
    );
}

#[test]
fn delays_are_a_time_a_range_or_two_percentiles() {
    let ms = Duration::from_millis;
    for (text, expected) in [
        ("20ms", Some(Delay::Fixed(ms(20)))),
        ("5ms-1s", Some(Delay::Between(ms(5), ms(1000)))),
        ("p50=5ms,p99=80ms", Some(Delay::Percentiles { p50: ms(5), p99: ms(80) })),
        ("p50=5ms, p99=80ms", Some(Delay::Percentiles { p50: ms(5), p99: ms(80) })),
        ("9ms-5ms", None),
        ("p50=5ms", None),
        ("p99=80ms,p50=5ms", None),
        ("-5ms", None),
    ] {
        assert_eq!(delay(text).ok(), expected, "{text}");
    }
}

#[test]
fn shares_add_up() {
    assert_eq!((0..3).map(|vcenter| share(10, 3, vcenter)).collect::<Vec<_>>(), [4, 3, 3]);
}
