//! The quota of a page: bounds on its decoding, so that a small page cannot take much memory.
//!
//! ```text
//!              caller                        decoder
//! reserve ──► Quota::charged(granted) ──►  arena, records and tree grow
//!                      ▲                        │ before they pass what is granted
//!                      └──── charge(total) ◄────┘
//! ```
//!
//! A page may cost more than its bytes in three ways, and each has a bound:
//!
//! - *Output.* An empty element becomes all members of its class, and one character up to six bytes
//!   of JSON. [`OUTPUT_FACTOR`] bounds the JSON and the records by the size of the page.
//! - *Elements.* An element of four bytes takes [`ELEMENT_BYTES`] in the reference decoder's tree,
//!   which holds one event at a time. [`Quota::elements_max`] bounds the elements of an event.
//! - *Attributes and namespace declarations.* [`crate::limits::ATTRIBUTES_MAX`] bounds those of a
//!   tag, and [`crate::limits::XML_DEPTH_MAX`] the number of tags that are open.
//!
//! INVARIANT: a bound depends on the page and on the JSON of its events, never on the decoder that
//! reads it. So the fast and the reference decoder refuse the same pages.
//! INVARIANT: the caller is told of memory before it is allocated.

use crate::DecodeError;
use crate::limits::{
    ELEMENTS_FACTOR, ELEMENTS_FREE, ELEMENTS_MAX, EVENT_BYTES_MAX, OUTPUT_BYTES_FREE, OUTPUT_BYTES_MAX,
    OUTPUT_FACTOR, RECORD_BYTES,
};

/// Bytes that an element takes in the reference decoder at most, its text apart.
///
/// A [`super::markup::PageElement`] has 136 bytes. The list that holds it grows by doubling, and
/// while it grows both copies exist: 3 * 136. To render it takes a reference, and for an unknown
/// member a group with its key: 104 bytes.
pub(super) const ELEMENT_BYTES: usize = 512;

/// The bounds on decoding one page, and the memory that it holds.
pub struct Quota<'c> {
    /// Bytes that all events of the page may become, and those that are left of them.
    output_max: usize,
    output_left: usize,
    elements_max: usize,
    /// Bytes held by the arena, the records and the tree of an event.
    arena: usize,
    records: usize,
    tree: usize,
    /// Bytes that the caller knows of.
    granted: usize,
    charge: Option<&'c mut dyn FnMut(usize)>,
}

impl std::fmt::Debug for Quota<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota")
            .field("output_left", &self.output_left)
            .field("elements_max", &self.elements_max)
            .field("held", &self.held())
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

impl Quota<'static> {
    /// The quota of a page of `page` bytes, for a caller that does not account for memory.
    pub fn of(page: usize) -> Self {
        let output_max =
            page.saturating_mul(OUTPUT_FACTOR).saturating_add(OUTPUT_BYTES_FREE).min(OUTPUT_BYTES_MAX);
        Quota {
            output_max,
            output_left: output_max,
            elements_max: (ELEMENTS_FREE + page / ELEMENTS_FACTOR).min(ELEMENTS_MAX),
            arena: 0,
            records: 0,
            tree: 0,
            granted: 0,
            charge: None,
        }
    }

    /// A quota with these bounds, to meet them with small pages in a test.
    #[doc(hidden)]
    pub fn bounded(output_max: usize, elements_max: usize) -> Self {
        Quota { output_max, output_left: output_max, elements_max, ..Quota::of(0) }
    }
}

impl<'c> Quota<'c> {
    /// The quota of a page of `page` bytes. The caller has accounted for `granted` bytes besides
    /// the page. Before decoding takes more, it calls `charge` with the new total.
    pub fn charged(page: usize, granted: usize, charge: &'c mut dyn FnMut(usize)) -> Self {
        Quota { granted, charge: Some(charge), ..Quota::of(page) }
    }

    /// The most elements that one event may have.
    pub fn elements_max(&self) -> usize {
        self.elements_max
    }

    /// Bytes of JSON that the next event may become.
    pub(super) fn event_bytes_max(&self) -> usize {
        self.output_left.saturating_sub(RECORD_BYTES).min(EVENT_BYTES_MAX)
    }

    /// Counts an event that became `data` bytes of JSON. The error is for an event that does not
    /// fit.
    pub(super) fn event(&mut self, data: usize) -> Result<(), QuotaExceeded> {
        if data > EVENT_BYTES_MAX {
            return Err(QuotaExceeded::Event);
        }
        match self.output_left.checked_sub(data.saturating_add(RECORD_BYTES)) {
            Some(left) => {
                self.output_left = left;
                Ok(())
            }
            None => Err(QuotaExceeded::Output),
        }
    }

    /// Runs `decode` on `len` of the `page` bytes of a page, with a share of the output in
    /// proportion. An event that would take more than its share leaves the others theirs.
    pub(super) fn share<T>(&mut self, len: usize, page: usize, decode: impl FnOnce(&mut Self) -> T) -> T {
        // The quota of the page in KiB times `len` stays far below 2^64.
        let share = self.output_max / 1024 * len / page.max(1) * 1024;
        let rest = self.output_left.saturating_sub(share);
        self.output_left -= rest;
        let result = decode(self);
        self.output_left += rest;
        result
    }

    /// Tells the caller of an arena of `capacity` bytes before it is allocated.
    pub(super) fn hold_arena(&mut self, capacity: usize) {
        self.arena = capacity;
        self.settle();
    }

    /// Tells the caller of a list of `capacity` records before it is allocated. The caller's own
    /// records are counted as well.
    pub(super) fn hold_records(&mut self, capacity: usize) {
        self.records = capacity.saturating_mul(RECORD_BYTES);
        self.settle();
    }

    /// Tells the caller of the tree of an event: `bytes` before they are allocated, 0 when it is
    /// gone.
    pub(super) fn hold_tree(&mut self, bytes: usize) {
        self.tree = bytes;
        self.settle();
    }

    fn held(&self) -> usize {
        self.arena.saturating_add(self.records).saturating_add(self.tree)
    }

    fn settle(&mut self) {
        let held = self.held();
        if held > self.granted {
            // More than is asked for: one call for each eighth, not for each element.
            self.granted = held.saturating_add(held / 8);
            if let Some(charge) = &mut self.charge {
                charge(self.granted);
            }
        }
    }
}

/// The bound that a page exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuotaExceeded {
    Output,
    Event,
    Elements(usize),
}

impl QuotaExceeded {
    /// The error of the page, at `offset`.
    pub(super) fn at(self, offset: usize) -> DecodeError {
        let reason = match self {
            QuotaExceeded::Output => "its JSON is too large for the size of the page".into(),
            QuotaExceeded::Event => format!("an event of more than {EVENT_BYTES_MAX} bytes of JSON"),
            QuotaExceeded::Elements(max) => format!("an event of more than {max} elements"),
        };
        DecodeError { offset, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoded;
    use crate::decode::{decode, reference};
    use crate::schema::{self, Class, Kind};

    /// An element with a value of `kind` that has only what the schema requires.
    fn minimal(name: &str, kind: Kind) -> String {
        let (attribute, text) = match kind {
            Kind::DateTime => ("", "2026-01-02T03:04:05.123456Z".to_string()),
            Kind::Boolean => ("", "true".into()),
            Kind::Reference => (" type='VirtualMachine'", "vm-1".into()),
            Kind::Object(id) => ("", required(id.class())),
            Kind::Any => (" xsi:type='xsd:int'", "1".into()),
            _ => ("", "1".into()),
        };
        format!("<{name}{attribute}>{text}</{name}>")
    }

    fn required(class: &Class) -> String {
        let fields = class.fields.iter().filter(|field| !field.optional && !field.many);
        fields.map(|field| minimal(field.name, field.kind)).collect()
    }

    /// The smallest events that vSphere's schema allows, of every class: alone, and with each
    /// member that may be absent.
    fn smallest_events() -> impl Iterator<Item = String> {
        schema::classes().filter(|class| class.is_event).flat_map(|class| {
            let optional = class.fields.iter().filter(|field| field.optional || field.many);
            let extras = optional.map(|field| minimal(field.name, field.kind)).chain([String::new()]);
            let required = required(class);
            extras.map(move |extra| {
                format!("<returnval xsi:type='{}'>{required}{extra}</returnval>", class.name)
            })
        })
    }

    #[test]
    fn no_event_that_the_schema_allows_comes_near_its_quota() {
        let mut worst = (0.0, String::new());
        for event in smallest_events() {
            let page = format!("<ReadNextEventsResponse>{event}</ReadNextEventsResponse>");
            let mut decoded = Decoded::default();
            reference::decode(page.as_bytes(), &mut decoded).expect("a well-formed event");
            let output = decoded.records[0].data.range().len() + RECORD_BYTES;
            let ratio = output as f64 / event.len() as f64;
            if ratio > worst.0 {
                worst = (ratio, event);
            }
        }
        assert!(worst.0 < OUTPUT_FACTOR as f64 * 0.75, "{worst:?}");
        let page = worst.1.repeat(1_000);
        let page = format!("<ReadNextEventsResponse>{page}</ReadNextEventsResponse>");
        assert_eq!(decode(page.as_bytes(), &mut Decoded::default()), Ok(()));
    }

    /// A page with one event of `class`.
    fn page(class: &str, members: &str) -> String {
        format!(
            "<ReadNextEventsResponse><returnval xsi:type='{class}'>{members}</returnval></ReadNextEventsResponse>"
        )
    }

    /// Both decoders must refuse a page for the same reason, or both must accept it.
    fn refusal(page: &str) -> Option<String> {
        let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
        let result = decode(page.as_bytes(), &mut fast);
        assert_eq!(result, reference::decode(page.as_bytes(), &mut slow).map(drop));
        assert_eq!(fast.records.len(), slow.records.len());
        result.err().map(|error| error.reason)
    }

    #[test]
    fn both_decoders_refuse_a_page_that_exceeds_a_bound() {
        let device = "<deviceChange><device xsi:type='VirtualMachineConfigSpec'/></deviceChange>";
        let grown = |devices: usize| {
            page("VmReconfiguredEvent", &format!("<configSpec>{}</configSpec>", device.repeat(devices)))
        };
        assert_eq!(refusal(&grown(10)), None);
        let reason = refusal(&grown(10_000)).expect("3 KiB of JSON for each 75 bytes");
        assert!(reason.contains("too large"), "{reason}");
        // Characters that become six.
        assert_eq!(
            refusal(&page("VmPoweredOnEvent", &format!("<userName>{}</userName>", ">".repeat(100_000)))),
            None
        );
        let reason = refusal(&page("VmEvent", &format!("<userName>{}</userName>", ">".repeat(3 << 20))));
        assert_eq!(reason, Some(format!("an event of more than {EVENT_BYTES_MAX} bytes of JSON")));
        // Members that both decoders know, so that the fast one reads the event.
        let reason = refusal(&page(
            "VmReconfiguredEvent",
            &format!(
                "<configSpec>{}</configSpec>",
                "<npivNodeWorldWideName>1</npivNodeWorldWideName>".repeat(ELEMENTS_MAX)
            ),
        ));
        assert_eq!(reason, Some(format!("an event of more than {ELEMENTS_MAX} elements")));
        assert_eq!(refusal(&page("VmEvent", &"<a/>".repeat(ELEMENTS_FREE / 2))), None);
        let reason = refusal(&page("VmEvent", &"<a/>".repeat(3 * ELEMENTS_FREE)));
        assert!(reason.is_some_and(|reason| reason.contains("elements")));
        let attributes = |count: usize| (0..count).map(|i| format!(" xmlns:p{i}='x'")).collect::<String>();
        assert_eq!(refusal(&page("VmEvent", &format!("<vm{}/>", attributes(64)))), None);
        let reason = refusal(&page("VmEvent", &format!("<vm{}/>", attributes(65))));
        assert!(reason.is_some_and(|reason| reason.contains("attributes")));
    }

    #[test]
    fn both_decoders_meet_every_bound_at_the_same_byte() {
        let configs = "<configSpec><npivNodeWorldWideName>1</npivNodeWorldWideName></configSpec>";
        let members = format!("<key>1</key><userName>a&gt;&gt;b</userName>{configs}");
        let two = page("VmReconfiguredEvent", &members).replace(
            "</returnval>",
            "</returnval><returnval xsi:type='VmPoweredOnEvent'><key>2</key></returnval>",
        );
        let mut accepted = 0;
        for (output, elements) in (0..5_000).map(|i| (i, 100)).chain((0..10).map(|i| (5_000, i))) {
            let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
            let quotas = [Quota::bounded(output, elements), Quota::bounded(output, elements)];
            let [mut quota, mut same] = quotas;
            let result =
                crate::decode::decode_within(crate::Wire::Soap, two.as_bytes(), &mut quota, &mut fast);
            let reference = reference::decode_within(two.as_bytes(), &mut same, &mut slow);
            assert_eq!(result, reference.map(drop), "{output} bytes, {elements} elements");
            assert_eq!(fast.records.len(), slow.records.len());
            accepted += usize::from(result.is_ok());
        }
        assert!((1_000..5_000).contains(&accepted), "{accepted}");
    }

    #[test]
    fn the_owner_is_told_before_memory_is_taken() {
        let event =
            page("VmReconfiguredEvent", &format!("<configSpec>{}</configSpec>", "<x/>".repeat(2_000)));
        let mut told = Vec::new();
        let mut charge = |bytes| told.push(bytes);
        let mut quota = Quota::charged(event.len(), 100, &mut charge);
        let mut decoded = Decoded::default();
        crate::decode::decode_within(crate::Wire::Soap, event.as_bytes(), &mut quota, &mut decoded)
            .expect("within its quota");
        assert!(told.is_sorted() && told.len() < 100, "{told:?}");
        assert!(told.last().is_some_and(|last| *last > 2_000 * ELEMENT_BYTES), "{told:?}");
    }
}
