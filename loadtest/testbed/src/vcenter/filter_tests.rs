use super::super::model::{Mix, ModelSpec};
use super::super::xml;
use super::*;

const NOW: i64 = 1_800_000_000_000_000;
const EVENTS: u64 = 2_000;

fn model() -> Model {
    Model::new(ModelSpec { seed: 1, vms: 100, hosts: 10, mix: Mix::Steady }).unwrap()
}

fn history() -> History {
    History::new(1, EVENTS, 1_000, None, NOW)
}

fn parse(text: &str) -> Result<Filter, Fault> {
    Filter::parse(Some(&xml::parse(text.as_bytes()).unwrap()), &model())
}

#[test]
fn each_field_of_a_filter_selects_events() {
    let (model, history) = (model(), history());
    let template = |index: u64| &model.templates()[model.pick(index).template];
    let check = |spec: &str, expected: &dyn Fn(u64) -> bool| {
        let filter = parse(spec).unwrap();
        let bounds = filter.bounds(&history, EVENTS);
        for index in 0..EVENTS {
            let passes = bounds.contains(&index) && filter.passes(&model, &history, index);
            assert_eq!(passes, expected(index), "{spec} event {index}");
        }
        let some = (0..EVENTS).filter(|index| expected(*index)).count();
        assert!(some > 0 || spec.contains("none"), "{spec} selects nothing");
    };
    check("<f/>", &|_| true);
    check("<f><eventTypeId>VmPoweredOnEvent</eventTypeId></f>", &|index| {
        matches!(model.class(index), "VmPoweredOnEvent" | "DrsVmPoweredOnEvent")
    });
    check("<f><type>EventEx</type></f>", &|index| model.class(index) == "EventEx");
    check("<f><eventTypeId>EventEx</eventTypeId><tag/><!--none--></f>", &|_| false);
    check("<f><tag>none has this</tag></f>", &|_| false);
    check("<f><eventTypeId>com.vmware.sso.LoginSuccess</eventTypeId></f>", &|index| {
        model.event_type_id(index) == Some("com.vmware.sso.LoginSuccess")
    });
    check("<f><eventTypeId>SessionEvent</eventTypeId></f>", &|index| model.class(index).contains("Session"));
    check("<f><userName><systemUser>true</systemUser></userName></f>", &|index| {
        template(index).user().is_empty()
    });
    check("<f><userName><systemUser>false</systemUser></userName></f>", &|index| {
        !template(index).user().is_empty()
    });
    check(
        "<f><userName><systemUser>true</systemUser><userList>LAB\\backup</userList></userName></f>",
        &|index| matches!(template(index).user(), "" | "LAB\\backup"),
    );
    check("<f><category>error</category><category>user</category></f>", &|index| {
        matches!(
            model.class(index),
            "HostConnectionLostEvent" | "BadUsernameSessionEvent" | "GeneralUserEvent"
        )
    });
    check("<f><category>warning</category></f>", &|index| {
        model.event_type_id(index) == Some("esx.problem.vob.vsan.lsom.devicerepair")
    });
    check("<f><eventChainId>1001</eventChainId></f>", &|index| (1_000..1_004).contains(&index));
    check("<f><eventChainId>1002</eventChainId><!--none--></f>", &|_| false);
    check("<f><eventChainId>-5</eventChainId><!--none--></f>", &|_| false);
    check("<f><alarm type='Alarm'>alarm-6</alarm></f>", &|index| model.class(index).starts_with("Alarm"));
}

#[test]
fn an_entity_filter_selects_its_events_and_those_of_its_descendants() {
    let (model, history) = (model(), history());
    let template = |index: u64| &model.templates()[model.pick(index).template];
    let check = |kind: &str, id: &str, recursion: &str, expected: &dyn Fn(u64) -> bool| {
        let spec = format!(
            "<f><entity><entity type='{kind}'>{id}</entity><recursion>{recursion}</recursion></entity></f>"
        );
        let filter = parse(&spec).unwrap();
        for index in 0..EVENTS {
            assert_eq!(filter.passes(&model, &history, index), expected(index), "{spec} event {index}");
        }
    };
    let names_vm = |index: u64, vm: u32| template(index).has("{vm}") && model.pick(index).vm == vm;
    let names_host = |index: u64, host: u32| template(index).has("{host}") && model.pick(index).host == host;
    for recursion in ["self", "all"] {
        check("VirtualMachine", "vm-1000007", recursion, &|index| names_vm(index, 7));
        check("HostSystem", "host-10003", recursion, &|index| names_host(index, 3));
        check("Folder", "group-d1", recursion, &|_| true);
        check("Folder", "group-v4", recursion, &|index| template(index).has("{vm}"));
        check("Datastore", "datastore-41", recursion, &|index| template(index).has("{ds}"));
    }
    check("VirtualMachine", "vm-1000007", "children", &|_| false);
    check("HostSystem", "host-10003", "children", &|_| false);
    check("Folder", "group-d1", "children", &|index| template(index).has("{dc}"));
    check("Datacenter", "datacenter-3", "all", &|index| template(index).has("{dc}"));
    check("Datacenter", "datacenter-3", "children", &|index| template(index).has("{cluster}"));
    check("Datacenter", "datacenter-3", "self", &|index| {
        template(index).has("{dc}") && !template(index).has("{cluster}")
    });
    check("ComputeResource", "domain-c8", "self", &|_| false);
    check("ClusterComputeResource", "domain-c8", "all", &|index| template(index).has("{cluster}"));
    check("ResourcePool", "resgroup-9", "all", &|index| template(index).has("{vm}"));
    check("Network", "network-42", "all", &|_| false);
}

#[test]
fn events_outside_the_model_are_filtered_by_their_own_fields() {
    let model = model();
    let mut history = History::new(1, 0, 0, None, NOW);
    let tail = "<userName>LAB\\ops</userName><vm><name>app-000007</name><vm type=\"VirtualMachine\">vm-1000007</vm></vm>\
                <eventTypeId>com.example.x</eventTypeId><severity>warning</severity>";
    history.append_special(Special::new(&model, "EventEx", tail.into()), NOW);
    history.append_special(Special::new(&model, "DrsVmPoweredOnEvent", "<userName></userName>".into()), NOW);
    let check = |spec: &str, expected: [bool; 2]| {
        let filter = parse(spec).unwrap();
        assert_eq!([0, 1].map(|index| filter.passes(&model, &history, index)), expected, "{spec}");
    };
    check("<f/>", [true, true]);
    check("<f><category>warning</category></f>", [true, false]);
    check("<f><eventTypeId>com.example.x</eventTypeId></f>", [true, false]);
    check("<f><eventTypeId>VmPoweredOnEvent</eventTypeId></f>", [false, true]);
    check("<f><eventChainId>2</eventChainId></f>", [false, true]);
    check("<f><userName><systemUser>false</systemUser></userName></f>", [true, false]);
    check(
        "<f><entity><entity type='VirtualMachine'>vm-1000007</entity><recursion>self</recursion></entity></f>",
        [true, false],
    );
    check(
        "<f><entity><entity type='VirtualMachine'>vm-1000008</entity><recursion>self</recursion></entity></f>",
        [false, false],
    );
}

#[test]
fn wrong_filters_are_faults() {
    for (spec, kind) in [
        ("<f><time><beginTime>soon</beginTime></time></f>", "InvalidArgument"),
        ("<f><maxCount>0</maxCount></f>", "InvalidArgument"),
        ("<f><maxCount>1001</maxCount></f>", "InvalidArgument"),
        ("<f><eventChainId>one</eventChainId></f>", "InvalidArgument"),
        ("<f><category>fatal</category></f>", "InvalidArgument"),
        ("<f><type>VmEvent</type><eventTypeId>VmEvent</eventTypeId></f>", "InvalidArgument"),
        ("<f><severity>error</severity></f>", "InvalidRequest"),
        ("<f><time><begin>2026-01-01T00:00:00Z</begin></time></f>", "InvalidRequest"),
        ("<f><userName><system>true</system></userName></f>", "InvalidRequest"),
        ("<f><alarm type='Alarm'>alarm-7</alarm></f>", "ManagedObjectNotFound"),
        ("<f><entity><recursion>all</recursion></entity></f>", "InvalidArgument"),
        (
            "<f><entity><entity type='Folder'>group-d1</entity><recursion>up</recursion></entity></f>",
            "InvalidArgument",
        ),
        (
            "<f><entity><entity type='Folder'>group-d9</entity><recursion>all</recursion></entity></f>",
            "ManagedObjectNotFound",
        ),
    ] {
        assert_eq!(parse(spec).err().unwrap().kind, kind, "{spec}");
    }
    assert_eq!(Filter::parse(None, &model()).err().unwrap().kind, "InvalidArgument");
    let time = parse("<f><time><endTime>1970-01-01T00:00:00.000005Z</endTime></time></f>").unwrap();
    assert_eq!(time.end_us, Some(5));
}
