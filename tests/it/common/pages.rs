//! Pages into a pipeline by hand: a source without a vCenter.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use event_router::source::{Found, Intake, Page, PageForm, Start, Wire};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The class and the VM of an event.
pub struct Made {
    pub class: &'static str,
    /// The number of its VM.
    pub vm: i32,
}

/// Begins as a source does after its login: with its address and its start.
pub async fn begin(intake: &Intake) -> Start {
    let found = Found {
        url: "https://vc/sdk".into(),
        instance_uuid: Uuid::from_u128(7),
        api_version: "8.0.3.0".into(),
        start_us: 1_699_920_000_000_000,
    };
    intake.begin(found).await.expect("the position is not refused")
}

/// A page of events with these keys as vCenter writes it. The events are a tenth of a second apart,
/// so all that a test reads again lies within the overlap.
pub fn render(keys: Range<i32>, made: impl Fn(i32) -> Made) -> Bytes {
    let mut xml = String::from(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><ReadNextEventsResponse xmlns="urn:vim25">"#,
    );
    for key in keys {
        let (hour, minute, second) = (key / 36_000, key / 600 % 60, key / 10 % 60);
        let Made { class, vm } = made(key);
        xml.push_str(&format!(
            r#"<returnval xsi:type="{class}"><key>{key}</key><chainId>{key}</chainId><createdTime>2023-11-14T{hour:02}:{minute:02}:{second:02}.{}Z</createdTime><userName>u</userName><vm><name>v</name><vm type="VirtualMachine">vm-{vm}</vm></vm><template>false</template></returnval>"#,
            key % 10,
        ));
    }
    xml.push_str("</ReadNextEventsResponse></soapenv:Body></soapenv:Envelope>");
    Bytes::from(xml)
}

/// Reads a page.
pub async fn push(intake: &Intake, start: &Start, number: u64, body: Bytes) {
    push_as(intake, start, number, body, None).await;
}

/// Reads a page, or with `poison` the one event of a page that no decoder can read.
pub async fn push_as(intake: &Intake, start: &Start, number: u64, body: Bytes, poison: Option<String>) {
    let permit = intake.reserve(body.len()).await;
    let (verdicts, _) = mpsc::unbounded_channel();
    let page = Page {
        source: Arc::clone(&start.info),
        number,
        reading: None,
        produced_us: 0,
        form: PageForm::Vsphere(Wire::Soap),
        body,
        poison,
        permit,
        verdicts,
    };
    intake.push(page).await.expect("the pipeline runs");
}
