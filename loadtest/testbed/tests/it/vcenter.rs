//! The synthetic vCenter as a client sees it: sessions, collectors, filters, properties, waiting.

use crate::common::{Answer, Client, request};
use testbed::vcenter::{Options, Pace, VCenter};

async fn start(options: Options) -> VCenter {
    VCenter::start(options).await.unwrap()
}

async fn with_backlog(backlog: u64) -> (VCenter, Client) {
    let vcenter = start(Options { backlog, ..Options::default() }).await;
    let client = Client::logged_in(&vcenter).await;
    (vcenter, client)
}

#[tokio::test]
async fn a_collector_reads_the_history_once_and_then_new_events() {
    let (vcenter, client) = with_backlog(2_500).await;
    let collector = client.collector("").await;
    let mut keys = Vec::new();
    for expected in [1_000, 1_000, 500, 0] {
        let page = client.keys(&collector, 1_000).await;
        assert_eq!(page.len(), expected);
        keys.extend(page);
    }
    assert_eq!(keys, (1..=2_500).collect::<Vec<i32>>());
    vcenter.append(3);
    assert_eq!(client.keys(&collector, 1_000).await, vec![2_501, 2_502, 2_503]);
    assert_eq!(client.keys(&collector, 1_000).await, Vec::<i32>::new());
    assert_eq!(vcenter.counters().calls_of("ReadNextEvents"), 6);
    assert_eq!(vcenter.counters().events_served, 2_503);
}

#[tokio::test]
async fn the_scrollable_view_moves_both_ways() {
    let (_vcenter, client) = with_backlog(10).await;
    let collector = client.collector("").await;
    assert_eq!(client.keys(&collector, 4).await, vec![1, 2, 3, 4]);
    let previous = client.on(&collector, "ReadPreviousEvents", "<maxCount>2</maxCount>").await.unwrap();
    assert_eq!(previous.keys(), vec![4, 3]);
    client.on(&collector, "RewindCollector", "").await.unwrap();
    assert_eq!(client.keys(&collector, 2).await, vec![1, 2]);
    client.on(&collector, "ResetCollector", "").await.unwrap();
    assert_eq!(client.keys(&collector, 2).await, Vec::<i32>::new());
    let previous = client.on(&collector, "ReadPreviousEvents", "<maxCount>2</maxCount>").await.unwrap();
    assert_eq!(previous.keys(), vec![10, 9]);
}

#[tokio::test]
async fn time_bounds_are_inclusive() {
    let (vcenter, client) = with_backlog(10).await;
    let time = |index| {
        let micros = vcenter.fact(index).unwrap().created_us;
        jiff::Timestamp::from_microsecond(micros).unwrap().to_string()
    };
    let filter = format!("<time><beginTime>{}</beginTime><endTime>{}</endTime></time>", time(3), time(6));
    let collector = client.collector(&filter).await;
    assert_eq!(client.keys(&collector, 100).await, vec![4, 5, 6, 7]);
    let query =
        client.events("QueryEvents", &format!("<filter>{filter}<maxCount>2</maxCount></filter>")).await;
    assert_eq!(query.keys(), vec![6, 7]);
}

#[tokio::test]
async fn calls_need_a_session_and_errors_are_faults() {
    let vcenter = start(Options { backlog: 5, ..Options::default() }).await;
    let mut client = Client::new(&vcenter);
    assert_eq!(client.login("wrong").await.fault(), "InvalidLogin");
    let refused = client.events("CreateCollectorForEvents", "<filter/>").await;
    assert_eq!(refused.fault(), "NotAuthenticated");
    client.login("VMware1!").await;
    for _ in 0..32 {
        client.collector("").await;
    }
    assert_eq!(client.events("CreateCollectorForEvents", "<filter/>").await.fault(), "InvalidState");
    assert_eq!(client.read_next("session[x]y", 1).await.unwrap().fault(), "ManagedObjectNotFound");
    assert_eq!(client.events("MakeCoffee", "").await.fault(), "MethodNotFound");
    let counters = vcenter.counters();
    assert_eq!((counters.logins, counters.failed_logins), (1, 1));
    assert_eq!((counters.sessions_open, counters.collectors_open), (1, 32));
    let other = Client::logged_in(&vcenter).await;
    other.call("SessionManager", "SessionManager", "Logout", "").await.unwrap();
    assert_eq!(other.events("QueryEvents", "<filter/>").await.fault(), "NotAuthenticated");
    assert_eq!(
        client.call("ServiceInstance", "ServiceInstance", "CurrentTime", "").await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn page_sizes_outside_1_to_1000_are_refused() {
    let (_vcenter, client) = with_backlog(5).await;
    let collector = client.collector("").await;
    for (max, expected) in [(0, "InvalidArgument"), (1_001, "InvalidArgument")] {
        assert_eq!(client.read_next(&collector, max).await.unwrap().fault(), expected);
        let size = format!("<maxCount>{max}</maxCount>");
        assert_eq!(client.on(&collector, "SetCollectorPageSize", &size).await.unwrap().fault(), expected);
    }
}

#[tokio::test]
async fn collectors_and_managers_have_their_properties() {
    let (vcenter, client) = with_backlog(20).await;
    assert_eq!(client.fetch("EventManager", "EventManager", "latestEvent").await.keys(), vec![20]);
    assert_eq!(client.fetch("EventManager", "EventManager", "maxCollector").await.element("returnval"), "32");
    assert_eq!(client.fetch("Folder", "group-d1", "name").await.element("returnval"), "Datacenters");
    assert_eq!(client.fetch("Folder", "group-d1", "nonsense").await.fault(), "InvalidProperty");
    let collector = client.collector("<maxCount>2</maxCount>").await;
    assert_eq!(client.fetch("EventHistoryCollector", &collector, "latestPage").await.keys(), vec![20, 19]);
    let content = client.fetch("ServiceInstance", "ServiceInstance", "content").await;
    assert_eq!(content.element("instanceUuid"), vcenter.instance_uuid().to_string());
    let info = client.fetch("EventManager", "EventManager", "description.eventInfo").await.text();
    assert!(
        info.contains("<key>EventEx</key><description>com.vmware.sso.LoginSuccess</description>"),
        "{info}"
    );
    let session = "<specSet><propSet><type>SessionManager</type><pathSet>currentSession</pathSet></propSet>\
                   <objectSet><obj type=\"SessionManager\">SessionManager</obj></objectSet></specSet>";
    let answer =
        client.call("PropertyCollector", "propertyCollector", "RetrieveProperties", session).await.unwrap();
    assert_eq!(answer.element("userName"), "administrator@vsphere.local");
}

#[tokio::test]
async fn versions_are_served_and_unknown_paths_are_refused() {
    let vcenter = start(Options::default()).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let versions = request(vcenter.port(), &get("/sdk/vimServiceVersions.xml")).await.unwrap();
    assert!(versions.text().contains("<name>urn:vim25</name><version>8.0.2.0</version>"));
    assert_eq!(request(vcenter.port(), &get("/ui")).await.unwrap().status, 404);
    let truth = request(vcenter.port(), &get("/testbed/truth")).await.unwrap();
    assert_eq!(serde_json::from_slice::<testbed::truth::Truth>(&truth.body).unwrap(), vcenter.truth());
}

async fn watch(client: &Client) -> (String, String) {
    let collector = client.collector("<maxCount>1</maxCount>").await;
    let answer =
        client.call("PropertyCollector", "propertyCollector", "CreatePropertyCollector", "").await.unwrap();
    let watcher = answer.element("returnval");
    let spec = format!(
        "<spec><propSet><type>EventHistoryCollector</type><pathSet>latestPage</pathSet></propSet><objectSet>\
         <obj type=\"EventHistoryCollector\">{collector}</obj></objectSet></spec><partialUpdates>false</partialUpdates>"
    );
    let filter = client.call("PropertyCollector", &watcher, "CreateFilter", &spec).await.unwrap();
    assert_eq!(filter.status, 200, "{}", filter.text());
    (collector, watcher)
}

async fn wait(client: &Client, watcher: &str, version: &str, seconds: u32) -> Answer {
    let arguments =
        format!("<version>{version}</version><options><maxWaitSeconds>{seconds}</maxWaitSeconds></options>");
    client.call("PropertyCollector", watcher, "WaitForUpdatesEx", &arguments).await.unwrap()
}

#[tokio::test]
async fn waiting_returns_the_state_then_changes_then_nothing() {
    let (vcenter, client) = with_backlog(5).await;
    let (_, watcher) = watch(&client).await;
    let first = wait(&client, &watcher, "", 10).await;
    assert!(first.text().contains("<kind>enter</kind>"));
    assert_eq!((first.element("version").as_str(), first.keys()), ("1", vec![5]));
    let (second, ()) = tokio::join!(wait(&client, &watcher, "1", 30), async {
        vcenter.append(2);
    });
    assert!(second.text().contains("<kind>modify</kind>"));
    assert_eq!((second.element("version").as_str(), second.keys()), ("2", vec![7]));
    let lost = wait(&client, &watcher, "1", 0).await;
    assert_eq!((lost.element("version").as_str(), lost.keys()), ("2", vec![7]));
    assert!(
        wait(&client, &watcher, "2", 0)
            .await
            .text()
            .contains("<WaitForUpdatesExResponse xmlns=\"urn:vim25\"></")
    );
    assert_eq!(wait(&client, &watcher, "77", 0).await.fault(), "InvalidCollectorVersion");
}

#[tokio::test]
async fn waiting_ends_by_rate_cancel_destroy_and_session_loss() {
    let (vcenter, client) = with_backlog(5).await;
    let (_, watcher) = watch(&client).await;
    wait(&client, &watcher, "", 0).await;
    let cancel =
        async { client.call("PropertyCollector", &watcher, "CancelWaitForUpdates", "").await.unwrap() };
    // The waiter is polled first, so its request is on its way. A cancellation before it waits has
    // no effect, hence the loop.
    let cancelled = async {
        let waiting = wait(&client, &watcher, "1", 30);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                answer = &mut waiting => return answer,
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {
                    cancel_once(&client, &watcher).await;
                }
            }
        }
    };
    assert_eq!(cancelled.await.fault(), "RequestCanceled");
    cancel.await;
    vcenter.set_pace(Pace::Rate(50.0));
    assert!(wait(&client, &watcher, "1", 30).await.keys()[0] > 5);
    vcenter.set_pace(Pace::Idle);
    let (killed, ()) = tokio::join!(
        async {
            loop {
                let answer = wait(&client, &watcher, "", 30).await;
                if answer.status == 500 {
                    return answer;
                }
            }
        },
        async {
            tokio::task::yield_now().await;
            vcenter.kill_sessions();
        }
    );
    assert_eq!(killed.fault(), "NotAuthenticated");
}

async fn cancel_once(client: &Client, watcher: &str) {
    client.call("PropertyCollector", watcher, "CancelWaitForUpdates", "").await.unwrap();
}

#[tokio::test]
async fn posted_events_come_back_as_they_were() {
    let (_vcenter, client) = with_backlog(0).await;
    let collector = client.collector("").await;
    let event = "<eventToPost xsi:type=\"EventEx\"><key>0</key><chainId>0</chainId><createdTime>2026-11-22T00:06:52Z\
                 </createdTime><userName>x</userName><eventTypeId>com.example.my.event</eventTypeId>\
                 <message>a &lt;msg&gt;</message><arguments><key>k</key><value xmlns:q=\"http://www.w3.org/2001/XMLSchema\" \
                 xsi:type=\"q:int\">42</value></arguments></eventToPost>";
    assert_eq!(client.events("PostEvent", event).await.status, 200);
    let log = "<entity type=\"Datacenter\">datacenter-3</entity><msg>hi &amp; bye</msg>";
    assert_eq!(client.events("LogUserEvent", log).await.status, 200);
    let page = client.read_next(&collector, 10).await.unwrap().text();
    assert!(page.contains("<value xsi:type=\"xsd:int\">42</value>"), "{page}");
    assert!(page.contains("<userName>administrator@vsphere.local</userName>"), "{page}");
    assert!(page.contains("<message>a &lt;msg&gt;</message>"), "{page}");
    assert!(page.contains("<key>2</key>") && page.contains("User logged event: hi &amp; bye"), "{page}");
    let filtered = client.collector("<eventTypeId>com.example.my.event</eventTypeId>").await;
    assert_eq!(client.keys(&filtered, 10).await, vec![1]);
}
