//! Properties of managed entities, apart from references to other entities. A value is built when a
//! client asks for it.
//!
//! A property that the type has and this inventory does not describe is [`Data::Unset`]. A property
//! that the type does not have is refused. The types' fields are in the order of VMware's schema.

use super::data::{Data, boolean, int, long, short, string};
use super::inventory::Object;
use super::machine;
use super::model::Model;

/// Properties that no entity here has a value for, by type.
const UNSET: [(&str, &[&str]); 8] = [
    ("Folder", &["namespace"]),
    ("Datacenter", &[]),
    (
        "ClusterComputeResource",
        &[
            "environmentBrowser",
            "configuration",
            "configurationEx",
            "recommendation",
            "drsRecommendation",
            "hciConfig",
            "migrationHistory",
            "actionHistory",
            "drsFault",
            "lifecycleManaged",
            "configManagerEnabled",
        ],
    ),
    ("ResourcePool", &["namespace", "childConfiguration"]),
    ("Datastore", &["browser", "iormConfiguration"]),
    ("Network", &[]),
    (
        "HostSystem",
        &[
            "capability",
            "licensableResource",
            "remediationState",
            "precheckRemediationResult",
            "remediationResult",
            "complianceCheckState",
            "complianceCheckResult",
            "configManager",
            "config",
            "datastoreBrowser",
            "systemResources",
            "answerFileValidationState",
            "answerFileValidationResult",
        ],
    ),
    (
        "VirtualMachine",
        &["layout", "layoutEx", "storage", "environmentBrowser", "resourceConfig", "snapshot"],
    ),
];
/// The properties that `all` reads of every entity; [`all_of`] adds those of the type.
const COMMON: [&str; 15] = [
    "alarmActionsEnabled",
    "availableField",
    "configIssue",
    "configStatus",
    "customValue",
    "declaredAlarmState",
    "disabledMethod",
    "effectiveRole",
    "name",
    "overallStatus",
    "parent",
    "permission",
    "recentTask",
    "tag",
    "triggeredAlarmState",
];
const GIB: i64 = 1 << 30;
const DATASTORE_URL: &str = "ds:///vmfs/volumes/vsan:52c3a9f1d0b84e6a-8e1b7f03c2d94455/";

/// The names of all properties that have a value.
pub(crate) fn all_of(kind: &str) -> Vec<&'static str> {
    let own: &[&str] = match kind {
        "Folder" => &["childEntity", "childType"],
        "Datacenter" => &[
            "configuration",
            "datastore",
            "datastoreFolder",
            "hostFolder",
            "network",
            "networkFolder",
            "vmFolder",
        ],
        "ClusterComputeResource" => &["datastore", "host", "network", "resourcePool", "summary", "summaryEx"],
        "ResourcePool" => &["config", "owner", "resourcePool", "runtime", "summary", "vm"],
        "Datastore" => &["capability", "host", "info", "summary", "vm"],
        "Network" => &["host", "summary", "vm"],
        "HostSystem" => &["datastore", "hardware", "network", "runtime", "summary", "vm"],
        "VirtualMachine" => &[
            "capability",
            "config",
            "datastore",
            "guest",
            "guestHeartbeatStatus",
            "network",
            "parentVApp",
            "resourcePool",
            "rootSnapshot",
            "runtime",
            "summary",
        ],
        _ => return Vec::new(),
    };
    COMMON.iter().chain(own).copied().collect()
}

/// A property by its first name; `None` if the type does not have it.
pub(crate) fn property(model: &Model, object: Object, name: &str) -> Option<Data> {
    let own = match object {
        Object::Vm(vm) => machine::vm_property(model, vm, name),
        Object::Host(host) => machine::host_property(model, host, name),
        Object::Datacenter if name == "configuration" => Some(Data::Struct("DatacenterConfigInfo", vec![])),
        Object::Cluster if matches!(name, "summary" | "summaryEx") => Some(cluster_summary(model)),
        Object::Pool => pool_property(model, name),
        Object::Datastore => datastore_property(model, name),
        Object::Network if name == "summary" => Some(network_summary()),
        folder if name == "childType" => child_types(folder),
        _ => None,
    };
    own.or_else(|| common(object, name)).or_else(|| {
        let (_, unset) = UNSET.iter().find(|(kind, _)| *kind == object.kind())?;
        unset.contains(&name).then_some(Data::Unset)
    })
}

/// A property that every managed entity has.
fn common(object: Object, name: &str) -> Option<Data> {
    let nothing = |kind| Data::List(kind, vec![]);
    Some(match name {
        "name" => string(object.name()),
        "overallStatus" | "configStatus" => status("green"),
        "alarmActionsEnabled" => boolean(true),
        // The role Administrator.
        "effectiveRole" => Data::List("int", vec![Data::Leaf("int", "-1".into())]),
        "value" | "customValue" => nothing("CustomFieldValue"),
        "availableField" => nothing("CustomFieldDef"),
        "configIssue" => nothing("Event"),
        "permission" => nothing("Permission"),
        "disabledMethod" => nothing("string"),
        "recentTask" => nothing("ManagedObjectReference"),
        "declaredAlarmState" | "triggeredAlarmState" => nothing("AlarmState"),
        "tag" => nothing("Tag"),
        _ => return None,
    })
}

pub(crate) fn status(color: &str) -> Data {
    Data::Leaf("ManagedEntityStatus", color.into())
}

fn child_types(folder: Object) -> Option<Data> {
    let types: &[&str] = match folder {
        Object::Root => &["Folder", "Datacenter"],
        Object::VmFolder => &["Folder", "VirtualMachine", "VirtualApp"],
        Object::HostFolder => &["Folder", "ComputeResource"],
        Object::DatastoreFolder => &["Folder", "Datastore", "StoragePod"],
        Object::NetworkFolder => &["Folder", "Network", "DistributedVirtualSwitch"],
        _ => return None,
    };
    Some(Data::List("string", types.iter().map(|kind| string(*kind)).collect()))
}

fn cluster_summary(model: &Model) -> Data {
    let hosts = model.spec().hosts;
    let cores = (hosts * machine::HOST_CORES).min(i16::MAX as u32) as u16;
    let threads = (hosts * machine::HOST_CORES * 2).min(i16::MAX as u32) as u16;
    let mhz = hosts.saturating_mul(machine::HOST_CORES * machine::HOST_MHZ).min(i32::MAX as u32);
    Data::Struct(
        "ClusterComputeResourceSummary",
        vec![
            ("totalCpu", int(mhz)),
            ("totalMemory", long(i64::from(hosts) * machine::HOST_MEMORY_BYTES)),
            ("numCpuCores", short(cores)),
            ("numCpuThreads", short(threads)),
            ("effectiveCpu", int(mhz)),
            ("effectiveMemory", long(i64::from(hosts) * machine::HOST_MEMORY_BYTES / (1 << 20))),
            ("numHosts", int(hosts)),
            ("numEffectiveHosts", int(hosts)),
            ("overallStatus", status("green")),
            ("currentFailoverLevel", int(1)),
            ("numVmotions", int(0)),
        ],
    )
}

fn pool_property(model: &Model, name: &str) -> Option<Data> {
    let memory_bytes = i64::from(model.spec().hosts) * machine::HOST_MEMORY_BYTES;
    let mhz = i64::from(model.spec().hosts * machine::HOST_CORES * machine::HOST_MHZ);
    Some(match name {
        "config" => pool_config(mhz, memory_bytes),
        "runtime" => pool_runtime(mhz, memory_bytes),
        "summary" => Data::Struct(
            "ResourcePoolSummary",
            vec![
                ("name", string(Object::Pool.name())),
                ("config", pool_config(mhz, memory_bytes)),
                ("runtime", pool_runtime(mhz, memory_bytes)),
            ],
        ),
        _ => return None,
    })
}

fn pool_config(mhz: i64, memory_bytes: i64) -> Data {
    Data::Struct(
        "ResourceConfigSpec",
        vec![
            ("entity", Data::Reference(Object::Pool)),
            ("cpuAllocation", resource_allocation(mhz)),
            ("memoryAllocation", resource_allocation(memory_bytes >> 20)),
        ],
    )
}

fn resource_allocation(limit: i64) -> Data {
    let shares = Data::Struct(
        "SharesInfo",
        vec![("shares", int(4_000)), ("level", Data::Leaf("SharesLevel", "normal".into()))],
    );
    Data::Struct(
        "ResourceAllocationInfo",
        vec![
            ("reservation", long(limit)),
            ("expandableReservation", boolean(true)),
            ("limit", long(limit)),
            ("shares", shares),
        ],
    )
}

fn pool_runtime(mhz: i64, memory_bytes: i64) -> Data {
    Data::Struct(
        "ResourcePoolRuntimeInfo",
        vec![
            ("memory", resource_usage(memory_bytes)),
            ("cpu", resource_usage(mhz)),
            ("overallStatus", status("green")),
        ],
    )
}

/// The use of a resource of which the pool has `all`: a quarter of it, and nothing reserved.
fn resource_usage(all: i64) -> Data {
    Data::Struct(
        "ResourcePoolResourceUsage",
        vec![
            ("reservationUsed", long(0)),
            ("reservationUsedForVm", long(0)),
            ("unreservedForPool", long(all)),
            ("unreservedForVm", long(all)),
            ("overallUsage", long(all / 4)),
            ("maxUsage", long(all)),
        ],
    )
}

fn datastore_property(model: &Model, name: &str) -> Option<Data> {
    let capacity = i64::from(model.spec().vms) * 200 * GIB;
    Some(match name {
        "info" => Data::Struct(
            "DatastoreInfo",
            vec![
                ("name", string(Object::Datastore.name())),
                ("url", string(DATASTORE_URL)),
                ("freeSpace", long(capacity / 2)),
                ("maxFileSize", long(62 * 1024 * GIB)),
                ("maxMemoryFileSize", long(62 * 1024 * GIB)),
            ],
        ),
        "summary" => Data::Struct(
            "DatastoreSummary",
            vec![
                ("datastore", Data::Reference(Object::Datastore)),
                ("name", string(Object::Datastore.name())),
                ("url", string(DATASTORE_URL)),
                ("capacity", long(capacity)),
                ("freeSpace", long(capacity / 2)),
                ("uncommitted", Data::Unset),
                ("accessible", boolean(true)),
                ("multipleHostAccess", boolean(true)),
                ("type", string("vsan")),
                ("maintenanceMode", string("normal")),
            ],
        ),
        "host" => {
            let mount = |host| {
                let info = Data::Struct(
                    "HostMountInfo",
                    vec![
                        ("accessMode", string("readWrite")),
                        ("mounted", boolean(true)),
                        ("accessible", boolean(true)),
                    ],
                );
                let fields = vec![("key", Data::Reference(Object::Host(host))), ("mountInfo", info)];
                Data::Struct("DatastoreHostMount", fields)
            };
            Data::List("DatastoreHostMount", (0..model.spec().hosts).map(mount).collect())
        }
        "capability" => Data::Struct(
            "DatastoreCapability",
            vec![
                ("directoryHierarchySupported", boolean(true)),
                ("rawDiskMappingsSupported", boolean(false)),
                ("perFileThinProvisioningSupported", boolean(true)),
                ("storageIORMSupported", boolean(false)),
                ("nativeSnapshotSupported", boolean(false)),
            ],
        ),
        _ => return None,
    })
}

fn network_summary() -> Data {
    Data::Struct(
        "NetworkSummary",
        vec![
            ("network", Data::Reference(Object::Network)),
            ("name", string(Object::Network.name())),
            ("accessible", boolean(true)),
            ("ipPoolName", string("")),
        ],
    )
}
