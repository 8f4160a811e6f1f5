//! The synthetic vCenter over VI/JSON.

use crate::common::{Answer, Client, request};
use serde_json::{Value, json};
use testbed::vcenter::{Options, Trouble, VCenter};

struct Json {
    port: u16,
    session: String,
}

impl Json {
    async fn send(&self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        let session = format!("vmware-api-session-id: {}\r\n", self.session);
        request(self.port, &format!("{head}{session}Content-Length: {}\r\n\r\n{body}", body.len())).await
    }

    async fn call(&self, object: &str, method: &str, arguments: Value) -> (u16, Value) {
        let path = format!("/sdk/vim25/8.0.2.0/{object}/{method}");
        let answer = self.send("POST", &path, &arguments.to_string()).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    async fn get(&self, object: &str, property: &str) -> Value {
        let answer = self.send("GET", &format!("/sdk/vim25/8.0.2.0/{object}/{property}"), "").await.unwrap();
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}

async fn logged_in(vcenter: &VCenter) -> Json {
    let mut json = Json { port: vcenter.port(), session: String::new() };
    let login = json!({"userName": "administrator@vsphere.local", "password": "VMware1!"});
    let path = "/sdk/vim25/8.0.2.0/SessionManager/SessionManager/Login";
    let answer = json.send("POST", path, &login.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = answer.head.to_lowercase();
    let at = head.find("vmware-api-session-id: ").unwrap() + 23;
    json.session = head[at..].lines().next().unwrap().to_owned();
    let session: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&session["_typeName"], &session["callCount"]), (&json!("UserSession"), &json!(1)));
    json
}

fn reference(kind: &str, id: &str) -> Value {
    json!({"_typeName": "ManagedObjectReference", "type": kind, "value": id})
}

async fn collector(json: &Json) -> String {
    let filter = json!({"filter": {"_typeName": "EventFilterSpec",
        "entity": {"_typeName": "EventFilterSpecByEntity", "entity": reference("Folder", "group-d1"), "recursion": "all"}}});
    let (status, made) = json.call("EventManager/EventManager", "CreateCollectorForEvents", filter).await;
    assert_eq!((status, made["type"].as_str()), (200, Some("EventHistoryCollector")));
    format!("EventHistoryCollector/{}", made["value"].as_str().unwrap())
}

#[tokio::test]
async fn the_release_is_negotiated() {
    let vcenter = VCenter::start(Options::default()).await.unwrap();
    let json = Json { port: vcenter.port(), session: String::new() };
    let asked = json!({"api_releases": ["9.0.0.0", "8.0.2.0"]}).to_string();
    let answer = json.send("POST", "/api/vcenter/system?action=hello", &asked).await.unwrap();
    assert_eq!(answer.text(), "{\"api_release\":\"8.0.2.0\"}");
}

#[tokio::test]
async fn pages_hold_the_same_events_as_over_soap() {
    let vcenter = VCenter::start(Options { backlog: 500, ..Options::default() }).await.unwrap();
    vcenter.append_unknown_class();
    let json = logged_in(&vcenter).await;
    let over_json = collector(&json).await;
    let (_, page) = json.call(&over_json, "ReadNextEvents", json!({"maxCount": 1000})).await;
    let soap = Client::logged_in(&vcenter).await;
    let over_soap = soap.collector("").await;
    let answer = soap.read_next(&over_soap, 1_000).await.unwrap();
    let text = answer.text();
    let elements: Vec<&str> = text.split("<returnval ").skip(1).collect();
    let events = page.as_array().unwrap();
    assert_eq!((events.len(), elements.len()), (501, 501));
    for (event, element) in events.iter().zip(elements) {
        let class = event["_typeName"].as_str().unwrap();
        assert!(
            element.starts_with(&format!("xsi:type=\"{class}\"><key>{}</key>", event["key"])),
            "{event}\n{element}"
        );
        assert!(
            element
                .contains(&format!("<createdTime>{}</createdTime>", event["createdTime"].as_str().unwrap()))
        );
        if let Some(vm) = event["vm"]["vm"]["value"].as_str() {
            assert!(
                element.contains(&format!("<vm type=\"VirtualMachine\">{vm}</vm>")),
                "{event}\n{element}"
            );
        }
        let leaves = element.matches("</").count() - 1;
        assert!(count_leaves(event) >= leaves / 2, "fields are missing: {event}\n{element}");
    }
    let (status, empty) = json.call(&over_json, "ReadNextEvents", json!({"maxCount": 1000})).await;
    assert_eq!((status, empty), (200, json!([])));
}

fn count_leaves(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.values().map(count_leaves).sum(),
        Value::Array(values) => values.iter().map(count_leaves).sum(),
        _ => 1,
    }
}

#[tokio::test]
async fn properties_are_bare_values() {
    let vcenter = VCenter::start(Options { backlog: 20, ..Options::default() }).await.unwrap();
    let json = logged_in(&vcenter).await;
    let content = json.get("ServiceInstance/ServiceInstance", "content").await;
    assert_eq!(content["about"]["instanceUuid"], json!(vcenter.instance_uuid().to_string()));
    assert_eq!(content["eventManager"], reference("EventManager", "EventManager"));
    assert_eq!(json.get("EventManager/EventManager", "maxCollector").await, json!(32));
    assert_eq!(json.get("EventManager/EventManager", "latestEvent").await["key"], json!(20));
    assert_eq!(json.get("Folder/group-d1", "name").await, json!("Datacenters"));
    assert_eq!(
        json.get("Folder/group-d1", "childEntity").await,
        json!([reference("Datacenter", "datacenter-3")])
    );
    let info = json.get("EventManager/EventManager", "description").await;
    assert_eq!(info["eventInfo"][0]["_typeName"], json!("EventDescriptionEventDetail"));
    let over_json = collector(&json).await;
    assert_eq!(json.get(&over_json, "latestPage").await[0]["key"], json!(20));
    assert_eq!(json.get(&over_json, "filter").await["entity"]["recursion"], json!("all"));
}

#[tokio::test]
async fn waiting_returns_updates_over_vijson() {
    let vcenter = VCenter::start(Options { backlog: 5, ..Options::default() }).await.unwrap();
    let json = logged_in(&vcenter).await;
    let over_json = collector(&json).await;
    let (kind, id) = over_json.split_once('/').unwrap();
    let (_, watcher) =
        json.call("PropertyCollector/propertyCollector", "CreatePropertyCollector", json!({})).await;
    let watcher = format!("PropertyCollector/{}", watcher["value"].as_str().unwrap());
    let spec = json!({"spec": {"propSet": [{"type": kind, "pathSet": ["latestPage"]}],
        "objectSet": [{"obj": reference(kind, id)}]}, "partialUpdates": false});
    assert_eq!(json.call(&watcher, "CreateFilter", spec).await.0, 200);
    let wait =
        |version: &str, seconds: u32| json!({"version": version, "options": {"maxWaitSeconds": seconds}});
    let (_, first) = json.call(&watcher, "WaitForUpdatesEx", wait("", 5)).await;
    let change = &first["filterSet"][0]["objectSet"][0];
    assert_eq!(
        (&change["kind"], &change["changeSet"][0]["val"]["_typeName"]),
        (&json!("enter"), &json!("ArrayOfEvent"))
    );
    let ((_, second), _) =
        tokio::join!(json.call(&watcher, "WaitForUpdatesEx", wait("1", 30)), async { vcenter.append(1) });
    let change = &second["filterSet"][0]["objectSet"][0]["changeSet"][0];
    assert_eq!(change["val"]["_value"][0]["key"], json!(6));
    let (status, nothing) = json.call(&watcher, "WaitForUpdatesEx", wait("2", 0)).await;
    assert_eq!((status, nothing), (204, Value::Null));
}

#[tokio::test]
async fn faults_and_troubles_speak_json() {
    let vcenter = VCenter::start(Options { backlog: 5, ..Options::default() }).await.unwrap();
    let mut json = logged_in(&vcenter).await;
    let over_json = collector(&json).await;
    let (status, fault) = json.call(&over_json, "ReadNextEvents", json!({"maxCount": 0})).await;
    assert_eq!(
        (status, &fault["_typeName"], &fault["invalidProperty"]),
        (500, &json!("InvalidArgument"), &json!("maxCount"))
    );
    vcenter.trouble("ReadNextEvents", 1, Trouble::CutBody);
    let path = format!("/sdk/vim25/8.0.2.0/{over_json}/ReadNextEvents");
    assert!(json.send("POST", &path, "{\"maxCount\": 3}").await.is_err());
    let (_, page) = json.call(&over_json, "ReadNextEvents", json!({"maxCount": 10})).await;
    assert_eq!(page[0]["key"], json!(4));
    vcenter.append_malformed();
    let answer = json.send("POST", &path, "{\"maxCount\": 3}").await.unwrap();
    assert!(answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err());
    json.session = "gone".into();
    let (status, fault) = json.call(&over_json, "ReadNextEvents", json!({"maxCount": 1})).await;
    assert_eq!((status, &fault["_typeName"]), (500, &json!("NotAuthenticated")));
    assert_eq!(json.send("POST", "/sdk/vim25/7.0/A/b/C", "{}").await.unwrap().status, 404);
}
