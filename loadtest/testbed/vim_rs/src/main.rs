//! Drives a synthetic vCenter over VI/JSON with `vim_rs`, a client that others wrote from vSphere's
//! own API description.
//!
//! Usage: `vim-rs-client PORT EVENTS USER PASSWORD`. The vCenter on loopback holds EVENTS events
//! with keys from 1. Prints `ok`, or panics.

use std::collections::BTreeMap;

use vim_rs::core::client::{ClientBuilder, Error};
use vim_rs::mo::{
    EventHistoryCollector, EventManager, Folder, PropertyCollector, ServiceInstance, SessionManager,
};
use vim_rs::types::enums::EventFilterSpecRecursionOptionEnum;
use vim_rs::types::struct_enum::StructType;
use vim_rs::types::structs::{
    Event, EventFilterSpec, EventFilterSpecByEntity, ObjectSpec, PropertyFilterSpec, PropertySpec,
    WaitOptions,
};

fn keys(events: &[Event]) -> Vec<i32> {
    events.iter().map(|event| event.key).collect()
}

fn fault(error: Error) -> Option<StructType> {
    match error {
        Error::MethodFault(fault) => fault.type_,
        other => panic!("a fault was expected, and no {other}"),
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, events, user, password] = &arguments[..] else { panic!("PORT EVENTS USER PASSWORD") };
    let events: i32 = events.parse().unwrap();
    // vim_rs speaks https only. With the server as its proxy, the server gets the same requests
    // without TLS, so that no TLS stack is needed here.
    let proxy = reqwest::Proxy::all(format!("http://127.0.0.1:{port}")).unwrap();
    let build = |password: &str| {
        let http = reqwest::Client::builder().proxy(proxy.clone()).build().unwrap();
        ClientBuilder::new("vcenter.invalid", http).basic_authn(user, password).locale("en").build()
    };
    let refused = build("wrong").await.err().expect("a wrong password is refused");
    assert_eq!(fault(refused), Some(StructType::InvalidLogin));
    let client = build(password).await.unwrap();
    println!("release {}, {}", client.api_release(), client.service_content().about.full_name);
    let content = client.service_content();
    assert_eq!(content.about.api_type, "VirtualCenter");

    // The service itself, the session and the root folder.
    let instance = ServiceInstance::new(client.clone(), "ServiceInstance");
    assert!(instance.current_time().await.unwrap().ends_with('Z'));
    let again = instance.retrieve_service_content().await.unwrap();
    assert_eq!(again.about.instance_uuid, content.about.instance_uuid);
    let sessions = SessionManager::new(client.clone(), &content.session_manager.as_ref().unwrap().value);
    assert_eq!(sessions.current_session().await.unwrap().unwrap().user_name, *user);
    let root = Folder::new(client.clone(), &content.root_folder.value);
    assert_eq!(root.name().await.unwrap(), "Datacenters");

    // The event manager's properties.
    let manager = EventManager::new(client.clone(), &content.event_manager.as_ref().unwrap().value);
    assert_eq!(manager.max_collector().await.unwrap(), 32);
    assert_eq!(manager.latest_event().await.unwrap().unwrap().key, events);
    assert!(!manager.description().await.unwrap().event_info.is_empty());

    let filter = EventFilterSpec {
        entity: Some(EventFilterSpecByEntity {
            entity: content.root_folder.clone(),
            recursion: EventFilterSpecRecursionOptionEnum::All,
        }),
        time: None,
        user_name: None,
        event_chain_id: None,
        alarm: None,
        scheduled_task: None,
        disable_full_message: Some(false),
        audit_id: None,
        auditable: None,
        category: None,
        r#type: None,
        tag: None,
        event_type_id: None,
        max_count: None,
        delayed_init: None,
    };
    // A collector reads all events in the order of their keys, forwards, backwards and by query.
    let reference = manager.create_collector_for_events(&filter).await.unwrap();
    let collector = EventHistoryCollector::new(client.clone(), &reference.value);
    collector.set_collector_page_size(10).await.unwrap();
    assert_eq!(keys(&collector.latest_page().await.unwrap().unwrap()).len(), 10);
    let mut read = Vec::new();
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(page) = collector.read_next_events(400).await.unwrap().filter(|page| !page.is_empty()) {
        for event in &page {
            assert!(!event.created_time.is_empty() && event.full_formatted_message.is_some(), "{event:?}");
            *classes.entry(format!("{:?}", event.type_.unwrap())).or_default() += 1;
        }
        read.extend(keys(&page));
    }
    assert_eq!(read, (1..=events).collect::<Vec<_>>());
    assert!(classes.len() > 10, "{classes:?}");
    collector.rewind_collector().await.unwrap();
    assert_eq!(keys(&collector.read_next_events(3).await.unwrap().unwrap()), [1, 2, 3]);
    collector.reset_collector().await.unwrap();
    assert!(!collector.read_previous_events(5).await.unwrap().unwrap_or_default().is_empty());
    let newest = EventFilterSpec { max_count: Some(7), ..filter };
    assert_eq!(manager.query_events(&newest, None).await.unwrap().unwrap().len(), 7);

    // A property filter reports the latest page once, and then nothing.
    let properties = PropertyCollector::new(client.clone(), &content.property_collector.value);
    let own = properties.create_property_collector().await.unwrap();
    let own = PropertyCollector::new(client.clone(), &own.value);
    let spec = PropertyFilterSpec {
        prop_set: vec![PropertySpec {
            all: None,
            path_set: Some(vec!["latestPage".into()]),
            r#type: "EventHistoryCollector".into(),
        }],
        object_set: vec![ObjectSpec { obj: reference.clone(), skip: None, select_set: None }],
        report_missing_objects_in_results: None,
    };
    own.create_filter(&spec, false).await.unwrap();
    let options = WaitOptions { max_wait_seconds: Some(1), max_object_updates: None };
    let update = own.wait_for_updates_ex(None, Some(&options)).await.unwrap().unwrap();
    assert!(own.wait_for_updates_ex(Some(&update.version), Some(&options)).await.unwrap().is_none());
    own.destroy_property_collector().await.unwrap();

    // A destroyed collector is a fault.
    collector.destroy_collector().await.unwrap();
    assert_eq!(
        fault(collector.read_next_events(1).await.unwrap_err()),
        Some(StructType::ManagedObjectNotFound)
    );
    client.close().await.unwrap();
    println!("{classes:?}\nok");
}
