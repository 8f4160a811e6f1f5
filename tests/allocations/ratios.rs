//! Hostile pages: memory stays within a constant factor of the bytes of the page, and work grows as
//! they do.
//!
//! Each shape is a page of any size. The test decodes it as the parse stage does and looks at the
//! peak of the heap, then at a page of twice the size.

use bytes::Bytes;
use event_router::memory::Budget;
use event_router::pipeline::parse::{Content, Parse};
use event_router::source::{Page, PageForm, Wire};
use vsphere::limits::{ELEMENTS_MAX, OUTPUT_BYTES_MAX};

use super::{core, heap};

/// Bytes of heap for each byte of a page, at most. Output grows by 16 (`OUTPUT_FACTOR`) and the
/// arena by an eighth more; an element for each 16 bytes takes 512 as XML and 768 as JSON, and the
/// copies of a page of JSON 3: 18 + 48 + 3, rounded up.
const PEAK_FACTOR: usize = 72;
/// Bytes of heap that any page may take: 4,096 elements of 768 bytes, 256 KiB of output, and the
/// classes of the schema that are worked out once.
const PEAK_BYTES_FREE: usize = 5 << 20;
/// The peak of a page of any size: the largest output, with an eighth for growth, and the largest
/// tree.
const PEAK_BYTES_MAX: usize = OUTPUT_BYTES_MAX / 8 * 9 + ELEMENTS_MAX * 768;

/// Decodes a page as the parse stage does. Returns whether it could be decoded.
fn parse(form: PageForm, body: &Bytes) -> bool {
    let (_, info) = core();
    let (verdicts, _kept) = tokio::sync::mpsc::unbounded_channel();
    let page = Page {
        source: info,
        number: 0,
        reading: None,
        produced_us: 0,
        form,
        body: body.clone(),
        poison: None,
        permit: Budget::new(24 << 20).take(body.len() + body.len() / 2),
        verdicts,
    };
    matches!(Parse::default().step(page).0.content, Content::Events(_))
}

/// Peak and sum of the heap that a page takes, besides its own bytes.
fn cost(form: PageForm, page: String) -> (usize, usize) {
    let body = Bytes::from(page);
    let (cost, _) = heap(|| parse(form, &body));
    cost
}

fn check(name: &str, form: PageForm, shape: impl Fn(usize) -> String) {
    let (small, large) = (shape(256 << 10), shape(512 << 10));
    assert!(small.len() > 128 << 10, "{name}: {}", small.len());
    let (bytes, twice) = (small.len(), large.len());
    let ((peak, sum), (peak_of_twice, sum_of_twice)) = (cost(form, small), cost(form, large));
    println!(
        "{name}: {bytes} bytes, peak {peak}, sum {sum}; {twice} bytes, peak {peak_of_twice}, sum {sum_of_twice}"
    );
    for (bytes, peak) in [(bytes, peak), (twice, peak_of_twice)] {
        assert!(peak <= PEAK_FACTOR * bytes + PEAK_BYTES_FREE, "{name}: {bytes} bytes take {peak}");
    }
    // Twice the input, less than three times the work.
    assert!(sum_of_twice <= 3 * sum + PEAK_BYTES_FREE, "{name}: {sum}, {sum_of_twice} for twice the size");
}

const HEAD: &str = r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><ReadNextEventsResponse xmlns="urn:vim25">"#;
const TAIL: &str = "</ReadNextEventsResponse></e:Body></e:Envelope>";
const DEVICE: &str = r#"<deviceChange><device xsi:type="VirtualMachineConfigSpec"/></deviceChange>"#;

fn page(events: &str) -> String {
    [HEAD, events, TAIL].concat()
}

fn event(class: &str, members: &str) -> String {
    format!(r#"<returnval xsi:type="{class}"><key>1</key>{members}</returnval>"#)
}

/// `piece` as often as it fits.
fn fill(bytes: usize, piece: &str) -> String {
    piece.repeat(bytes / piece.len())
}

fn fill_with(bytes: usize, piece: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    let mut i = 0;
    while text.len() < bytes {
        text += &piece(i);
        i += 1;
    }
    text
}

#[test]
fn absent_members_cost_a_constant_factor() {
    for form in [PageForm::Vsphere(Wire::Soap), PageForm::Salvage(Wire::Soap)] {
        let spec = |bytes| format!("<configSpec>{}</configSpec>", fill(bytes, DEVICE));
        check("absent members of one event", form, |bytes| page(&event("VmReconfiguredEvent", &spec(bytes))));
        let one = event("VmReconfiguredEvent", &format!("<configSpec>{}</configSpec>", DEVICE.repeat(40)));
        check("absent members of many events", form, |bytes| page(&fill(bytes, &one)));
        check("empty events", form, |bytes| page(&fill(bytes, "<returnval></returnval>")));
        check("small events", form, |bytes| page(&fill(bytes, &event("VmPoweredOnEvent", ""))));
    }
    for form in [PageForm::Vsphere(Wire::ViJson), PageForm::Salvage(Wire::ViJson)] {
        let device = r#"{"device":{"_typeName":"VirtualMachineConfigSpec"}},"#;
        let list = |bytes| fill(bytes, device).trim_end_matches(',').to_string();
        check("absent members in JSON", form, |bytes| {
            format!(
                r#"[{{"_typeName":"VmReconfiguredEvent","configSpec":{{"deviceChange":[{}]}}}}]"#,
                list(bytes)
            )
        });
        check("empty events in JSON", form, |bytes| format!("[{}{{}}]", fill(bytes, "{},")));
    }
}

#[test]
fn elements_cost_a_constant_factor() {
    for form in [PageForm::Vsphere(Wire::Soap), PageForm::Salvage(Wire::Soap)] {
        check("elements", form, |bytes| page(&event("VmEvent", &fill(bytes, "<a/>"))));
        let distinct = |bytes| fill_with(bytes, |i| format!("<a{i:x}/>"));
        check("distinct elements", form, |bytes| page(&event("VmEvent", &distinct(bytes))));
        let known = "<npivNodeWorldWideName>1</npivNodeWorldWideName>";
        check("known elements", form, |bytes| {
            let list = fill(bytes, known);
            page(&event("VmReconfiguredEvent", &format!("<configSpec>{list}</configSpec>")))
        });
        // As many elements as an event may have, in each of many events.
        let one = event("VmEvent", &"<abc/>".repeat(4_000));
        check("elements of many events", form, |bytes| page(&fill(bytes, &one)));
    }
    for form in [PageForm::Vsphere(Wire::ViJson), PageForm::Salvage(Wire::ViJson)] {
        check("values in JSON", form, |bytes| format!(r#"[{{"a":[{}0]}}]"#, fill(bytes, "0,")));
        let members = |bytes| fill_with(bytes, |i| format!(r#""{i:x}":0,"#));
        check("members in JSON", form, |bytes| format!(r#"[{{{}"a":0}}]"#, members(bytes)));
        check("objects in JSON", form, |bytes| format!(r#"[{{"a":[{}0]}}]"#, fill(bytes, r#"{"a":0},"#)));
        let one = format!(r#"{{"a":[{}0]}},"#, "0,".repeat(4_000));
        check("values of many events in JSON", form, |bytes| format!("[{}{{}}]", fill(bytes, &one)));
    }
}

#[test]
fn prefixes_and_attributes_cost_a_constant_factor() {
    let form = PageForm::Vsphere(Wire::Soap);
    let declarations = |from: usize, count: usize| {
        (from..from + count).map(|i| format!(r#" xmlns:p{i}="urn:x""#)).collect::<String>()
    };
    check("attributes of one tag", form, |bytes| {
        page(&event("VmEvent", &format!("<vm{}/>", fill_with(bytes, |i| format!(r#" a{i}="""#)))))
    });
    check("prefixes of one tag", form, |bytes| {
        page(&event("VmEvent", &format!("<vm{}/>", fill_with(bytes, |i| format!(r#" xmlns:p{i}="u""#)))))
    });
    // As many prefixes as may be bound, and elements that look one up.
    check("prefixes that are looked up", form, |bytes| {
        let deep = 100;
        let open: String = (0..deep).map(|i| format!("<x{}>", declarations(i * 60, 60))).collect();
        let used = fill(bytes, r#"<value q:type="xsd:int">1</value><padding>...............</padding>"#);
        page(&event("VmEvent", &format!("{open}{used}{}", "</x>".repeat(deep))))
    });
    // Bound outside of events that the fast decoder leaves to the other one.
    check("prefixes before odd events", form, |bytes| {
        let events = fill(bytes, &event("VmPoweredOnEvent", "<!-- odd --><padding>.............</padding>"));
        let open = format!("<ReadNextEventsResponse{}>", declarations(0, 60));
        format!("{open}{events}</ReadNextEventsResponse>")
    });
}

#[test]
fn the_head_of_a_page_costs_a_constant_factor() {
    let events = |bytes| fill(bytes, "<returnval><key>1</kez></returnval>");
    let head = |bytes| format!("<Envelope><!-- returnval {} -->", fill(bytes, "x"));
    let whole = |bytes: usize| {
        let (head, events) = (head(bytes / 2), events(bytes / 2));
        format!("{head}<Body><ReadNextEventsResponse>{events}</ReadNextEventsResponse></Body></Envelope>")
    };
    check("a long head before broken events", PageForm::Vsphere(Wire::Soap), whole);
    check("a long head before events that are salvaged", PageForm::Salvage(Wire::Soap), whole);
}

#[test]
fn depth_costs_a_constant_factor() {
    let form = PageForm::Vsphere(Wire::Soap);
    check("deep elements", form, |bytes| page(&event("VmEvent", &fill(bytes, "<a>"))));
    check("deep elements of many events", form, |bytes| {
        page(&fill(bytes, &event("VmEvent", &["<a>".repeat(100), "</a>".repeat(100)].concat())))
    });
    let form = PageForm::Vsphere(Wire::ViJson);
    check("deep arrays in JSON", form, |bytes| format!(r#"[{{"a":{}"#, fill(bytes, "[")));
    check("deep objects in JSON", form, |bytes| {
        let levels = bytes / 6;
        format!(r#"[{}0{}]"#, r#"{"a":"#.repeat(levels), "}".repeat(levels))
    });
}

#[test]
fn long_texts_cost_a_constant_factor() {
    let form = PageForm::Vsphere(Wire::Soap);
    for (name, piece) in [
        ("plain text", "x"),
        ("escaped text", ">"),
        ("references", "&#62;"),
        ("line ends", "\r"),
        ("comments in text", "x<!---->"),
        ("sections", "<![CDATA[x]]>"),
    ] {
        check(name, form, |bytes| {
            page(&event(
                "VmEvent",
                &format!("<fullFormattedMessage>{}</fullFormattedMessage>", fill(bytes, piece)),
            ))
        });
    }
    check("a long name", form, |bytes| {
        page(&event("VmEvent", &format!("<{0}></{0}>", fill(bytes / 2, "a"))))
    });
    check("a wrong end", form, |bytes| page(&event("VmEvent", &format!("<a></{}>", fill(bytes, "a")))));
    check("a long class", form, |bytes| page(&event(&fill(bytes, "a"), "")));
    let form = PageForm::Vsphere(Wire::ViJson);
    for (name, piece) in [("plain text in JSON", "x"), ("escapes in JSON", r"\u003c"), ("signs in JSON", "<")]
    {
        check(name, form, |bytes| format!(r#"[{{"fullFormattedMessage":"{}"}}]"#, fill(bytes, piece)));
    }
}

/// A few KiB of gzip become such a page. The peak has a bound that does not depend on its size.
#[test]
fn a_page_of_many_megabytes_stays_below_a_fixed_bound() {
    let bytes = 24 << 20;
    let shapes: [(&str, String); 3] = [
        (
            "absent members",
            event("VmReconfiguredEvent", &format!("<configSpec>{}</configSpec>", fill(bytes, DEVICE))),
        ),
        ("elements", event("VmEvent", &fill(bytes, "<a/>"))),
        ("escaped text", event("VmEvent", &format!("<userName>{}</userName>", fill(bytes, ">")))),
    ];
    for (name, events) in shapes {
        let (peak, _) = cost(PageForm::Vsphere(Wire::Soap), page(&events));
        assert!(peak <= PEAK_BYTES_MAX, "{name}: {peak}");
    }
}

/// Real pages are far from their quota, so that the bounds above are of use.
#[test]
fn a_real_page_takes_little_more_than_its_size() {
    let (_, page) = super::pages();
    let bytes = page.len();
    parse(PageForm::Vsphere(Wire::Soap), &Bytes::from(page.clone()));
    let (peak, _) = cost(PageForm::Vsphere(Wire::Soap), page);
    assert!(peak < 3 * bytes, "{peak} for {bytes}");
}

/// Answers to other calls than those for pages.
#[test]
fn answers_to_control_calls_cost_a_constant_factor() {
    use vsphere::api::{Element, json};
    let check = |name: &str, shape: &dyn Fn(usize) -> String, read: &dyn Fn(&[u8])| {
        let (small, large) = (shape(256 << 10), shape(512 << 10));
        let (((_, sum), ()), ((peak, sum_of_twice), ())) =
            (heap(|| read(small.as_bytes())), heap(|| read(large.as_bytes())));
        assert!(peak <= PEAK_FACTOR * large.len() + PEAK_BYTES_FREE, "{name}: {peak}");
        assert!(sum_of_twice <= 3 * sum + PEAK_BYTES_FREE, "{name}: {sum}, {sum_of_twice}");
    };
    let soap = |body: &[u8]| _ = Element::parse(body);
    check("elements", &|bytes| format!("<a>{}</a>", fill(bytes, "<b/>")), &soap);
    check("elements far apart", &|bytes| format!("<a>{}</a>", fill(bytes, "<b>0123456789abc</b>")), &soap);
    check("attributes", &|bytes| format!("<a{}/>", fill_with(bytes, |i| format!(r#" a{i}="""#))), &soap);
    check("text", &|bytes| format!("<a>{}</a>", fill(bytes, "&#62;")), &soap);
    let answer = |body: &[u8]| {
        let _ = (json::response("Any", body), json::fault(body), json::release(body));
    };
    check("values", &|bytes| format!("[{}0]", fill(bytes, "0,")), &answer);
    check("objects", &|bytes| format!("[{}0]", fill(bytes, r#"{"a":0},"#)), &answer);
    check(
        "objects far apart",
        &|bytes| format!("[{}0]", fill(bytes, r#"{"a":"0123456789abcdefghijkl"},"#)),
        &answer,
    );
}
