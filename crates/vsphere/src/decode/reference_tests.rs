//! Rules of the reference decoder for unusual values, one row each. Both decoders are held to them.

use serde_json::{Value, json};

use super::decode;
use crate::{DecodeError, Decoded};

/// A page with one event of `class`.
fn page(class: &str, members: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><ReadNextEventsResponse xmlns="urn:vim25"><returnval xsi:type="{class}">{members}</returnval></ReadNextEventsResponse></e:Body></e:Envelope>"#
    )
}

fn decoded(page: &str) -> Result<(Decoded, Vec<Value>), DecodeError> {
    let mut out = Decoded::default();
    decode(page.as_bytes(), &mut out)?;
    let data =
        out.records.iter().map(|record| serde_json::from_slice(out.bytes(record.data)).unwrap()).collect();
    Ok((out, data))
}

/// Checks the value of member `key` in an event of `class` with these members, and the number of
/// misfits.
fn check(class: &str, members: &str, key: &str, expected: Value, misfits: usize) {
    let (out, data) = decoded(&page(class, members)).unwrap_or_else(|error| panic!("{members}: {error}"));
    assert_eq!((data[0].pointer(key), out.misfits), (Some(&expected), misfits), "{members}");
}

#[test]
fn plain_values_are_read_as_go_reads_them() {
    let int = |text: &str, expected: Value, misfits| {
        check("Event", &format!("<key>{text}</key>"), "/Key", expected, misfits)
    };
    int("", json!(0), 0);
    int(" +5\n", json!(5), 0);
    int("-007", json!(-7), 0);
    int("\u{a0}5", json!(5), 0);
    int("&#49;2", json!(12), 0);
    int("1<!-- c -->2<?p i?>3", json!(123), 0);
    int("1<x>2</x>3", json!(13), 0);
    int("2147483647", json!(2_147_483_647), 0);
    int("2147483648", json!("2147483648"), 1);
    int(" ", json!(" "), 1);
    int("0x10", json!("0x10"), 1);
    int("1.0", json!("1.0"), 1);
    let boolean = |text: &str, expected: Value, misfits| {
        check("VmEvent", &format!("<template>{text}</template>"), "/Template", expected, misfits)
    };
    boolean("", json!(false), 0);
    boolean(" TRUE ", json!(true), 0);
    boolean("t", json!(true), 0);
    boolean("0", json!(false), 0);
    boolean("yes", json!("yes"), 1);
    let time = |text: &str, expected: &str, misfits| {
        check(
            "Event",
            &format!("<createdTime>{text}</createdTime>"),
            "/CreatedTime",
            json!(expected),
            misfits,
        );
    };
    time("2024-01-02T03:04:05.1200+02:00", "2024-01-02T03:04:05.12+02:00", 0);
    time(" 2024-01-02T03:04:05-00:00\n", "2024-01-02T03:04:05Z", 0);
    time("2024-01-02T03:04:05", "2024-01-02T03:04:05", 1);
    time("", "", 1);
}

#[test]
fn text_is_unescaped_and_line_ends_are_normalized() {
    let text = |text: &str, expected: &str| {
        check("GeneralEvent", &format!("<message>{text}</message>"), "/Message", json!(expected), 0)
    };
    text("&lt;&gt;&amp;&quot;&apos;&#65;&#x1F600;&#x0a;", "<>&\"'A😀\n");
    text("a\r\nb\rc\n", "a\nb\nc\n");
    text("a&#13;&#10;b", "a\r\nb");
    text("x<![CDATA[<b>&amp;\r\n]]]]><![CDATA[>]]>", "x<b>&amp;\n]]>");
    text("a<b>c</b>d", "ad");
    text("  \t ", "  \t ");
    text("&#xD800;", "\u{fffd}");
    text("a&#xD83D;&#xDE00;b", "a\u{1f600}b");
    text("&#55357;&#xDE00;", "\u{1f600}");
    text("&#xD83D; &#xDE00;", "\u{fffd} \u{fffd}");
    text("&#xDE00;&#xD83D;", "\u{fffd}\u{fffd}");
    text("&#xD83D;&amp;", "\u{fffd}&");
    text("\u{2028}\u{7f}\u{80}", "\u{2028}\u{7f}\u{80}");
}

#[test]
fn repeated_elements_count_as_in_govmomi() {
    check("Event", "<userName>a</userName><userName/>", "/UserName", json!(""), 0);
    check(
        "Event",
        r#"<vm><name>a</name><vm type="V">1</vm></vm><vm><vm>2</vm></vm>"#,
        "/Vm",
        json!({ "Name": "a", "Vm": { "Type": "V", "Value": "2" } }),
        0,
    );
    let any =
        r#"<arguments><value xsi:type="xsd:int">1</value><value xsi:type="xsd:int">2</value></arguments>"#;
    check("EventEx", any, "/Arguments", json!([{ "Key": "", "Value": 1 }]), 0);
    check(
        "EventEx",
        "<arguments/><message/><arguments><key>b</key></arguments>",
        "/Arguments/1/Key",
        json!("b"),
        0,
    );
}

#[test]
fn absent_and_empty_members_equal_those_of_go() {
    check("AlarmEvent", "", "/Alarm", json!({ "Name": "", "Alarm": { "Type": "", "Value": "" } }), 0);
    check("TaskEvent", "<info/>", "/Info/QueueTime", json!("0001-01-01T00:00:00Z"), 0);
    check(
        "Event",
        "<vm xsi:nil='true'/>",
        "/Vm",
        json!({ "Name": "", "Vm": { "Type": "", "Value": "" } }),
        0,
    );
    check("Event", "<vm>text</vm>", "/Vm/Name", json!(""), 0);
    check("EventEx", "<arguments/>", "/Arguments", json!([{ "Key": "", "Value": null }]), 0);
    check("EventEx", "<arguments><value xsi:nil='1'/></arguments>", "/Arguments/0/Value", json!(null), 0);
}

#[test]
fn values_of_any_type() {
    let any = |attributes: &str, content: &str, expected: Value, misfits| {
        check(
            "EventEx",
            &format!("<arguments><value {attributes}>{content}</value></arguments>"),
            "/Arguments/0/Value",
            expected,
            misfits,
        );
    };
    let xsd = |name: &str, text: &str, expected: Value, misfits| {
        any(&format!("xsi:type='xsd:{name}'"), text, expected, misfits)
    };
    xsd("unsignedLong", "18446744073709551615", json!(18_446_744_073_709_551_615_u64), 0);
    xsd("byte", "200", json!("200"), 1);
    xsd("unsignedByte", "200", json!(200), 0);
    xsd("double", "1e21", json!(1e21), 0);
    xsd("double", "INF", json!("INF"), 1);
    xsd("double", "1e400", json!("1e400"), 1);
    xsd("float", "0.1", json!(0.1), 0);
    xsd("anyURI", "http://x", json!("http://x"), 0);
    xsd("dateTime", "2024-01-02T03:04:05.0Z", json!("2024-01-02T03:04:05Z"), 0);
    any("xmlns:s='http://www.w3.org/2001/XMLSchema' xsi:type='s:int'", "5", json!(5), 0);
    any("", "5", json!("5"), 0);
    any("", "<a>1</a><a>2</a><b xsi:type='xsd:int'>3</b>", json!({ "A": ["1", "2"], "B": 3 }), 0);
    any("type='VirtualMachine'", "vm-1", json!({ "Type": "VirtualMachine", "Value": "vm-1" }), 0);
    any("xsi:type='ManagedObjectReference' type='V'", "vm-1", json!({ "Type": "V", "Value": "vm-1" }), 0);
    any("xsi:type='vim25:Description'", "<label>l</label>", json!({ "Label": "l", "Summary": "" }), 0);
    any("xsi:type='VirtualMachinePowerState'", "poweredOn", json!("poweredOn"), 0);
    any("xsi:type='ArrayOfInt'", "<int>1</int><int>x</int>", json!({ "Int": [1, "x"] }), 1);
    any("xsi:type='ArrayOfString'", "", json!({ "String": null }), 0);
    any("xsi:type='ArrayOfByte'", "<byte>-1</byte>", json!({ "Byte": [-1] }), 0);
    any("xsi:type='ArrayOfNoSuchThing'", "<noSuchThing>1</noSuchThing>", json!({ "NoSuchThing": ["1"] }), 0);
    let event = "<Event xsi:type='VmEvent'><template>1</template></Event>";
    let (_, data) = decoded(&page(
        "EventEx",
        &format!("<arguments><value xsi:type='ArrayOfEvent'>{event}</value></arguments>"),
    ))
    .unwrap();
    assert_eq!(data[0].pointer("/Arguments/0/Value/Event/0/Template"), Some(&json!(true)));
}

#[test]
fn unknown_classes_and_members_are_kept() {
    check("VmEvent", "<brandNew><a>1</a></brandNew><key>3</key>", "/BrandNew", json!({ "A": "1" }), 0);
    check("VmEvent", "<x>1</x><y/><x>2</x>", "/X", json!(["1", "2"]), 0);
    check("VmEvent", "<Key>1</Key><key>2</key>", "/Key_", json!("1"), 0);
    let many: String = (0..20_000).map(|n| format!("<x{n}>{n}</x{n}>")).collect();
    check("VmEvent", &many, "/X19999", json!("19999"), 0);
    let array = r#"<arguments><key>k</key><value xsi:type="ArrayOfInt"><int>1</int><x>a</x><x>b</x></value></arguments>"#;
    check("EventEx", array, "/Arguments/0/Value", json!({ "Int": [1], "X": ["a", "b"] }), 0);
    check("Event", "<tgw><name>n</name></tgw>", "/Tgw/Name", json!("n"), 0);
    let (out, data) = decoded(&page("ns:BrandNewEvent", "<key>3</key><foo>1</foo>")).unwrap();
    assert_eq!((out.unknown_classes, out.bytes(out.records[0].class)), (1, &b"BrandNewEvent"[..]));
    assert_eq!((data[0].pointer("/Key"), data[0].pointer("/Foo")), (Some(&json!(3)), Some(&json!("1"))));
    let reason = "<reason><fault xsi:type='BrandNewFault'><x>1</x></fault></reason>";
    check(
        "VmFailedToPowerOnEvent",
        reason,
        "/Reason/Fault",
        json!({ "FaultCause": null, "FaultMessage": null, "X": "1" }),
        0,
    );
}

#[test]
fn records_hold_the_facts_of_an_event() {
    let check =
        |class: &str, members: &str, expected: [&str; 5], numbers: (Option<i32>, i32, Option<i64>)| {
            let (out, _) = decoded(&page(class, members)).unwrap();
            let record = out.records[0];
            let text = [record.class, record.subject, record.entity, record.user, record.created_text]
                .map(|span| std::str::from_utf8(out.bytes(span)).unwrap());
            assert_eq!(
                (text, (record.key, record.chain_id, record.created_us)),
                (expected, numbers),
                "{members}"
            );
        };
    let base = "<key>7</key><chainId>-2</chainId><createdTime>1970-01-01T00:00:01.50Z</createdTime><userName>a&lt;b</userName>";
    let arguments = "<datacenter><name>d</name><datacenter type='Datacenter'>dc-1</datacenter></datacenter><vm><vm type='VirtualMachine'>vm-&amp;</vm></vm>";
    check(
        "VmEvent",
        &format!("{base}{arguments}"),
        ["VmEvent", "VmEvent", "VirtualMachine:vm-&", "a<b", "1970-01-01T00:00:01.5Z"],
        (Some(7), -2, Some(1_500_000)),
    );
    check("Event", "", ["Event", "Event", "", "", ""], (None, 0, None));
    check(
        "Event",
        "<key/><chainId>x</chainId><createdTime>now</createdTime>",
        ["Event", "Event", "", "", ""],
        (None, 0, None),
    );
    let object =
        "<eventTypeId>a.b</eventTypeId><objectId>host-1</objectId><objectType>HostSystem</objectType>";
    check("EventEx", object, ["EventEx", "a.b", "HostSystem:host-1", "", ""], (None, 0, None));
    check("EventEx", "<objectId>host-1</objectId>", ["EventEx", "", "", "", ""], (None, 0, None));
    let managed = "<eventTypeId>x</eventTypeId><managedObject type='Folder'>group-1</managedObject>";
    check("ExtendedEvent", managed, ["ExtendedEvent", "x", "Folder:group-1", "", ""], (None, 0, None));
}

#[test]
fn namespaces_are_resolved_and_elements_compared_by_local_name() {
    let body = |start: &str| {
        page("VmEvent", "<template>1</template>").replace("<returnval xsi:type=\"VmEvent\"", start)
    };
    for start in [
        "<returnval xmlns:_XMLSchema-instance=\"http://www.w3.org/2001/XMLSchema-instance\" _XMLSchema-instance:type=\"VmEvent\"",
        "<returnval id='1' xsi:type = 'VmEvent'\n",
        "<returnval xsi:type=\" vim25:VmEvent \"",
    ] {
        let (_, data) = decoded(&body(start)).unwrap();
        assert_eq!(data[0]["Template"], json!(true), "{start}");
    }
    let (out, _) = decoded(&body("<returnval xmlns:xsi='urn:other' xsi:type='VmEvent'")).unwrap();
    assert_eq!(out.bytes(out.records[0].class), b"Event");
    let prefixed = page("v:VmEvent", "<v:key>3</v:key>")
        .replace("returnval", "v:returnval")
        .replace("ReadNext", "v:ReadNext");
    assert_eq!(decoded(&prefixed).unwrap().1[0]["Key"], json!(3));
}

#[test]
fn pages_that_are_not_well_formed_fail_as_a_whole() {
    let check = |page: &str, reason: &str| {
        let error = decoded(page).map(|(out, _)| out.records.len()).unwrap_err();
        assert!(error.reason.contains(reason), "{page}: {error}");
    };
    let message = |text: &str| page("GeneralEvent", &format!("<message>{text}</message>"));
    check("", "no root");
    check("<html><body/></html>", "not a vCenter answer");
    check(&message("a]]>b"), "CDATA");
    check(&message("&foo;"), "not a character");
    check(&message("a & b"), "");
    check(&message("&#0;"), "not a character");
    check(&message("&#x110000;"), "not a character");
    check(&message("\u{1}"), "does not allow");
    check(&message("\u{ffff}"), "does not allow");
    check(&message("x</massage>"), "end tag");
    check(&message("<1a/>"), "not a valid name");
    check(&message("<a b=c/>"), "");
    check(&message("<a b='1' b='2'/>"), "");
    check(&message("<a b='<'/>"), "inside of an attribute");
    check(&message(&"<a>".repeat(200)), "deeper than 128");
    check(&page("Event", "").replace("?>", "?><!DOCTYPE a [<!ENTITY b \"c\">]>"), "document type");
    check(&page("Event", "").replace("UTF-8", "UTF-16"), "not UTF-8");
    check(&page("Event", "<key>1"), "end tag");
    let mut out = Decoded::default();
    let latin = page("Event", "x")
        .into_bytes()
        .into_iter()
        .map(|byte| if byte == b'x' { 0xE9 } else { byte })
        .collect::<Vec<_>>();
    assert!(decode(&latin, &mut out).unwrap_err().reason.contains("UTF-8"));
}

#[test]
fn surroundings_of_the_events_are_tolerated() {
    let whole = page("Event", "<key>1</key>");
    let events = |page: &str| decoded(page).unwrap().1.len();
    assert_eq!(events(&format!("\u{feff}\u{feff}{whole}")), 1);
    assert_eq!(events(&whole.replace("</returnval>", "</returnval>\u{feff}<returnval/>")), 2);
    assert_eq!(events(&format!("{whole}\n trailing")), 1);
    assert_eq!(events(&whole.replace("<e:Body>", "<e:Header><returnval/></e:Header><!-- c --><e:Body>")), 1);
    assert_eq!(events(&whole.replace("ReadNext", "Query")), 1);
    assert_eq!(events(&whole.replace("<returnval", "<x/> \n<returnval")), 1);
    assert_eq!(events("<QueryEventsResponse><returnval/><returnval/></QueryEventsResponse>"), 2);
    assert_eq!(events("<Envelope><Body><Fault><faultstring>no</faultstring></Fault></Body></Envelope>"), 0);
}
