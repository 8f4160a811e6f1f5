//! Pages to JSON: everything that govmomi, VMware's own Go library, makes of the golden pages, and
//! the rules where ours differ on purpose.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::golden::{difference, golden};
use crate::common::peer::peer;
use event_router::cli::decode::{DecodeArgs, DecodeFormat, run};
use serde_json::{Value, json};
use vsphere::Decoded;
use vsphere::decode::{Spelling, decode, decode_as, decode_vijson, reference};

/// Every golden page: path without extension, and text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages: Vec<_> = [golden(), golden().join("edge")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .map(|path| (path.with_extension(""), std::fs::read_to_string(&path).unwrap()))
        .collect();
    pages.sort();
    assert!(pages.len() > 20, "the golden pages are missing");
    pages
}

/// The output of `event-router decode` for `page`, line by line.
fn lines(page: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    run(&DecodeArgs::default(), page, &mut out).unwrap_or_else(|error| panic!("{error}"));
    out.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The values that govmomi loses and this decoder keeps: page, line, JSON pointer and value.
fn kept() -> Vec<(&'static str, usize, &'static str, Value)> {
    vec![
        // govmomi encodes binary data twice, and of a list of bytes it keeps the last.
        ("events_full", 112, "/data/HostSpec/SubSpecs/0/Data", json!([-128, 1])),
        ("events_full", 112, "/data/HostSpec/SubSpecs/1/Data", json!([0, 0])),
        ("events_full", 112, "/data/HostSpec/SubSpecs/1/BinaryData", json!("TGdbD99QV+Gk")),
        ("eventex_any", 0, "/data/Arguments/11/Value", json!("AQID")),
        ("eventex_any", 0, "/data/Arguments/21/Value", json!({ "Byte": "AQID" })),
        // govmomi drops values of types that it does not know.
        ("eventex_any", 0, "/data/Arguments/10/Value", json!("http://x")),
        ("eventex_any", 0, "/data/Arguments/13/Value", json!("1.5")),
        ("eventex_any", 0, "/data/Arguments/18/Value", json!({ "Q": "1" })),
        (
            "fault_unknown",
            0,
            "/data/Reason/Fault",
            json!({ "FaultCause": null, "FaultMessage": null, "X": "1" }),
        ),
        ("unknown_type", 1, "/type", json!("BrandNewVcEvent")),
        ("unknown_type", 1, "/category", json!("event")),
        ("unknown_type", 1, "/subject", json!("BrandNewVcEvent")),
        (
            "unknown_type",
            1,
            "/data",
            json!({
                "Key": 2, "ChainId": 1, "CreatedTime": "2024-01-02T03:04:05.678Z", "UserName": "u", "Datacenter": null, "ComputeResource": null,
                "Host": null, "Vm": null, "Ds": null, "Net": null, "Dvs": null, "FullFormattedMessage": "", "ChangeTag": "", "Foo": "1"
            }),
        ),
    ]
}

/// The keys of `oracle`'s objects in the order of its text, which must be their order in ours:
/// `serde_json` sorts the keys that it parses.
fn keys_in_order(ours: &str, oracle: &str) -> bool {
    let keys = |text: &str| -> Vec<String> {
        let mut keys = Vec::new();
        let (mut rest, mut after_comma) = (text, false);
        while let Some(at) = rest.find(['"', '{', ',']) {
            let byte = rest.as_bytes()[at];
            rest = &rest[at + 1..];
            if byte != b'"' {
                after_comma = true;
                continue;
            }
            let mut end = 0;
            while rest.as_bytes()[end] != b'"' {
                end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            if std::mem::take(&mut after_comma) && rest[end + 1..].starts_with(':') {
                keys.push(rest[..end].to_owned());
            }
            rest = &rest[end + 1..];
        }
        keys
    };
    let (ours, oracle) = (keys(ours), keys(oracle));
    let mut ours = ours.iter();
    oracle.iter().all(|key| ours.any(|ours| ours == key))
}

#[test]
fn every_golden_page_decodes_as_by_govmomi() {
    for (path, page) in pages() {
        let Ok(oracle) = std::fs::read_to_string(path.with_extension("pascal.jsonl")) else { continue };
        let name = path.file_name().unwrap().to_str().unwrap();
        let ours = lines(page.as_bytes());
        let mut texts = Vec::new();
        run(&DecodeArgs::default(), page.as_bytes(), &mut texts).unwrap();
        let texts = String::from_utf8(texts).unwrap();
        assert_eq!(ours.len(), oracle.lines().count(), "{name}");
        let events: Vec<_> = page.split("<returnval").skip(1).collect();
        for (i, (oracle_text, ours)) in oracle.lines().zip(&ours).enumerate() {
            let mut expected: Value = serde_json::from_str(oracle_text).unwrap();
            let mut patched = false;
            for (_, _, pointer, value) in
                kept().into_iter().filter(|(page, line, ..)| (*page, *line) == (name, i))
            {
                patched = true;
                *expected.pointer_mut(pointer).unwrap_or_else(|| panic!("{name} has no {pointer}")) = value;
            }
            assert_eq!(difference(ours, &expected, events[i], ""), None, "{name}, line {i}");
            assert!(
                patched || keys_in_order(texts.lines().nth(i).unwrap(), oracle_text),
                "{name}, line {i}: keys out of order"
            );
        }
    }
}

#[test]
fn a_bad_value_loses_no_event() {
    let page = std::fs::read(golden().join("edge/int_garbage.xml")).unwrap();
    let mut decoded = Decoded::default();
    decode(&page, &mut decoded).unwrap();
    assert_eq!((decoded.records.len(), decoded.misfits, decoded.unknown_classes), (1, 1, 0));
    assert_eq!(decoded.records[0].key, None);
    assert_eq!(lines(&page)[0]["data"]["Key"], "abc");
}

#[test]
fn a_truncated_page_gives_no_event_and_says_where_it_ends() {
    let page = std::fs::read(golden().join("page1000.xml")).unwrap();
    let mut decoded = Decoded::default();
    for cut in (0..page.len()).step_by(29_989).chain([page.len() - 1]) {
        let error = decode(&page[..cut], &mut decoded).unwrap_err();
        assert!(error.offset <= cut, "{error} of {cut}");
        assert!(decoded.records.is_empty() && decoded.arena.is_empty());
    }
    decode(&page, &mut decoded).unwrap();
    assert_eq!(decoded.records.len(), 1_000);
}

#[test]
fn the_command_names_the_offset_of_an_unreadable_page() {
    let page = std::fs::read(golden().join("edge/ok.xml")).unwrap();
    let cut = std::fs::read(golden().join("edge/truncated.xml")).unwrap();
    let mut out = Vec::new();
    let input = [&page[..], b"\n\n", &page, &cut].concat();
    let error = run(&DecodeArgs::default(), &input[..], &mut out).unwrap_err().to_string();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2, "what came before is written");
    let at: usize = error.split_once("at byte ").unwrap().1.split_once(':').unwrap().0.parse().unwrap();
    assert!((2 * page.len() + 2..=input.len()).contains(&at), "{error}");
}

#[test]
fn every_golden_page_in_vsphere_json_decodes_as_by_govmomi() {
    let args = DecodeArgs { format: DecodeFormat::Vijson, ..DecodeArgs::default() };
    for name in ["events_full", "events_min"] {
        let page = std::fs::read_to_string(golden().join(name).with_extension("xml")).unwrap();
        let oracle = std::fs::read_to_string(golden().join(name).with_extension("vijson.jsonl")).unwrap();
        let mut out = Vec::new();
        run(&args, page.as_bytes(), &mut out).unwrap();
        let ours = String::from_utf8(out).unwrap();
        assert_eq!(ours.lines().count(), oracle.lines().count());
        let events: Vec<_> = page.split("<returnval").skip(1).collect();
        for (i, (ours, oracle)) in ours.lines().zip(oracle.lines()).enumerate() {
            let (ours, mut oracle): (Value, Value) =
                (serde_json::from_str(ours).unwrap(), serde_json::from_str(oracle).unwrap());
            if let Some(binary) = oracle.pointer_mut("/data/hostSpec/subSpecs/1/binaryData") {
                // govmomi encodes binary data twice.
                *binary = json!("TGdbD99QV+Gk");
            }
            assert_eq!(difference(&ours, &oracle, events[i], ""), None, "{name}, line {i}");
        }
    }
}

#[test]
fn a_page_in_vsphere_json_gives_the_same_events() {
    for name in [
        "events_full",
        "events_min",
        "page1000",
        "edge/eventex_any",
        "edge/taskevent",
        "edge/fault_poly",
        "edge/extended",
    ] {
        let page = std::fs::read(golden().join(name).with_extension("xml")).unwrap();
        let (mut xml, mut middle, mut json) = (Decoded::default(), Decoded::default(), Decoded::default());
        decode(&page, &mut xml).unwrap();
        decode_as(&page, Spelling::ViJson, &mut middle).unwrap();
        let events: Vec<_> = middle.records.iter().map(|record| middle.bytes(record.data)).collect();
        decode_vijson(&[b"[", &events.join(&b","[..])[..], b"]"].concat(), &mut json).unwrap();
        assert_eq!(json.records.len(), xml.records.len());
        for (a, b) in json.records.iter().zip(&xml.records) {
            let text = |decoded: &Decoded, span| String::from_utf8(decoded.bytes(span).to_vec()).unwrap();
            let (ours, theirs) = (text(&json, a.data), text(&xml, b.data));
            // A list of bytes is one base64 string in VI/JSON.
            assert!(
                ours == theirs || theirs.contains("\"BinaryData\"") || theirs.contains("\"Byte\""),
                "{ours}\n{theirs}"
            );
            assert_eq!(
                (a.key, a.chain_id, a.created_us, a.category),
                (b.key, b.chain_id, b.created_us, b.category)
            );
            for (a, b) in [(a.class, b.class), (a.subject, b.subject), (a.entity, b.entity), (a.user, b.user)]
            {
                assert_eq!(text(&json, a), text(&xml, b));
            }
        }
    }
    for bad in ["", "{}", "[1]", "[{]", "nonsense", &"[".repeat(1_000)] {
        let mut decoded = Decoded::default();
        assert!(decode_vijson(bad.as_bytes(), &mut decoded).is_err(), "{bad}");
        assert!(decoded.records.is_empty());
    }
    let mut empty = Decoded::default();
    decode_vijson(b"[]", &mut empty).unwrap();
    assert!(empty.records.is_empty());
}

#[test]
fn the_command_prints_cloud_events() {
    let page = std::fs::read(golden().join("edge/extended.xml")).unwrap();
    let mut out = Vec::new();
    let args = DecodeArgs {
        format: DecodeFormat::Cloudevents,
        source: "https://vc/sdk".into(),
        ..DecodeArgs::default()
    };
    run(&args, &page[..], &mut out).unwrap();
    let event: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "com.vmware.event.router/extendedevent");
    assert_eq!((&event["source"], &event["subject"]), (&json!("https://vc/sdk"), &json!("com.x")));
    assert_eq!(event["data"], lines(&page)[0]["data"]);
}

#[test]
fn a_long_page_decodes_the_same_in_pieces() {
    let page = std::fs::read_to_string(golden().join("page1000.xml")).unwrap();
    let (from, to) =
        (page.find("<returnval").unwrap(), page.rfind("</returnval>").unwrap() + "</returnval>".len());
    let long = format!("{}{}{}", &page[..from], page[from..to].repeat(8), &page[to..]);
    let decoded = |input: &str| {
        let mut out = Vec::new();
        let result =
            run(&DecodeArgs::default(), input.as_bytes(), &mut out).map_err(|error| error.to_string());
        (result, String::from_utf8(out).unwrap())
    };
    let (_, once) = decoded(&page);
    let (result, all) = decoded(&format!("{long}\n{page}"));
    assert_eq!((result, all == once.repeat(9)), (Ok(()), true));
    // In a CDATA section the end tag of an event is text, wherever the pieces end.
    let tricky = long
        .replace("<template>false</template>", "<x><![CDATA[</returnval>]]></x><template>false</template>");
    let (result, all) = decoded(&tricky);
    let lines =
        |text: &str| text.lines().filter(|line| line.contains("\"X\":\"\\u003c/returnval\\u003e\"")).count();
    assert_eq!((result, all.lines().count(), lines(&all)), (Ok(()), 8_000, 8 * 775));
    // So is the end tag of the page.
    let tricky = long.replacen("<template>false</template>", "<x><![CDATA[</soapenv:Envelope>]]></x>", 1);
    let (result, all) = decoded(&tricky);
    assert_eq!((result, all.lines().count()), (Ok(()), 8_000));
    // Bytes before a long page are not part of it, even if they look like events or an end.
    let empty = format!("{}{}", &page[..from], &page[to..]);
    let prefixed = page.replace("<returnval", "<v:returnval").replace("</returnval", "</v:returnval");
    let prefixed = prefixed.replacen("<soapenv:Body", "<soapenv:Body xmlns:v=\"urn:vim25\"", 1);
    let spaced = page.replace("</soapenv:Envelope>", "</soapenv:Envelope >");
    for (before, events) in [(empty, 0), (prefixed, 1), (spaced, 1)] {
        let (result, all) = decoded(&format!("{before}{before}{long}"));
        assert_eq!((result, all == once.repeat(8 + 2 * events)), (Ok(()), true), "{}", &before[..400]);
    }
    // An error is where it is in the input, not in the piece.
    let bad = long.len() - page.len() / 2;
    let bad = long[bad..].find("<key>").unwrap() + bad;
    let broken = format!("{page}{}<kex>{}", &long[..bad], &long[bad + 5..]);
    let (result, _) = decoded(&broken);
    let at: usize =
        result.unwrap_err().split_once("at byte ").unwrap().1.split_once(':').unwrap().0.parse().unwrap();
    assert!((page.len() + bad..page.len() + bad + 20).contains(&at), "{at} is not {}", page.len() + bad);
}

#[test]
fn both_decoders_agree_on_every_golden_page() {
    for (path, page) in pages() {
        let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
        let results =
            (decode(page.as_bytes(), &mut fast), reference::decode(page.as_bytes(), &mut slow).map(|_| ()));
        assert_eq!(results.0, results.1, "{}", path.display());
        assert_same(&fast, &slow);
    }
}

/// An answer has one response; if one had two, a prefix may mean something else in the second.
#[test]
fn a_response_leaves_no_state_for_the_next() {
    let response = |binds: &str| {
        let event =
            r#"<returnval x:type="VmPoweredOnEvent"><key>1</key><template>true</template></returnval>"#;
        format!(
            r#"<ReadNextEventsResponse xmlns="urn:vim25" {binds}>{event}{event}</ReadNextEventsResponse>"#
        )
    };
    let instance = response(r#"xmlns:x="http://www.w3.org/2001/XMLSchema-instance""#);
    let other = response(r#"xmlns:x="urn:other""#);
    let page = format!(
        r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{instance}{other}{instance}</e:Body></e:Envelope>"#
    );
    let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
    decode(page.as_bytes(), &mut fast).unwrap();
    reference::decode(page.as_bytes(), &mut slow).unwrap();
    assert_same(&fast, &slow);
    let classes: Vec<_> = fast.records.iter().map(|record| fast.bytes(record.class).to_vec()).collect();
    assert_eq!((classes[1] == classes[5], classes[1] == classes[2]), (true, false));
}

fn assert_same(fast: &Decoded, slow: &Decoded) {
    assert_eq!(
        (fast.records.len(), fast.misfits, fast.unknown_classes),
        (slow.records.len(), slow.misfits, slow.unknown_classes)
    );
    let text = |decoded: &Decoded, span| String::from_utf8(decoded.bytes(span).to_vec()).unwrap();
    for (a, b) in fast.records.iter().zip(&slow.records) {
        assert_eq!(text(fast, a.data), text(slow, b.data));
        assert_eq!(
            (a.key, a.chain_id, a.created_us, a.category, a.raw),
            (b.key, b.chain_id, b.created_us, b.category, b.raw)
        );
        for (a, b) in [
            (a.class, b.class),
            (a.subject, b.subject),
            (a.entity, b.entity),
            (a.user, b.user),
            (a.created_text, b.created_text),
        ] {
            assert_eq!(text(fast, a), text(slow, b));
        }
    }
}

/// The generated schema is what `scripts/generate-schema` writes today.
#[test]
fn the_generated_schema_has_not_drifted() {
    let Some(python) = peer("python") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked =
        Command::new(python).arg(root.join("scripts/generate-schema")).arg("--check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
