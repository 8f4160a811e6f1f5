//! Properties of virtual machines and hosts. All of them follow from the model's seed and the
//! number, as events do.
//!
//! They do not follow the events: a virtual machine that an event powers off keeps its power state
//! here.

use super::clock::format_micros;
use super::data::{Data, boolean, int, long, short, string, time};
use super::entity::status;
use super::identity::{self, UuidOf};
use super::inventory::Object;
use super::model::{Model, splitmix};

pub(crate) const HOST_CORES: u32 = 32;
pub(crate) const HOST_MHZ: u32 = 2_600;
const HOST_HZ: i64 = HOST_MHZ as i64 * 1_000_000;
pub(crate) const HOST_MEMORY_BYTES: i64 = 512 << 30;
const GUEST_ID: &str = "debian12_64Guest";
const GUEST_NAME: &str = "Debian GNU/Linux 12 (64-bit)";
/// 2026-01-01T00:00:00Z, the boot time of the hosts. Each virtual machine booted some seconds
/// later.
const BOOT_US: i64 = 1_767_225_600_000_000;
/// The fields of `VirtualMachineCapability`, with their values for these virtual machines.
const CAPABILITIES: [(&str, bool); 37] = [
    ("snapshotOperationsSupported", true),
    ("multipleSnapshotsSupported", true),
    ("snapshotConfigSupported", true),
    ("poweredOffSnapshotsSupported", true),
    ("memorySnapshotsSupported", true),
    ("revertToSnapshotSupported", true),
    ("quiescedSnapshotsSupported", true),
    ("disableSnapshotsSupported", false),
    ("lockSnapshotsSupported", false),
    ("consolePreferencesSupported", false),
    ("cpuFeatureMaskSupported", true),
    ("s1AcpiManagementSupported", true),
    ("settingScreenResolutionSupported", false),
    ("toolsAutoUpdateSupported", false),
    ("vmNpivWwnSupported", false),
    ("npivWwnOnNonRdmVmSupported", false),
    ("vmNpivWwnDisableSupported", false),
    ("vmNpivWwnUpdateSupported", false),
    ("swapPlacementSupported", true),
    ("toolsSyncTimeSupported", true),
    ("virtualMmuUsageSupported", true),
    ("diskSharesSupported", true),
    ("bootOptionsSupported", true),
    ("bootRetryOptionsSupported", true),
    ("settingVideoRamSizeSupported", true),
    ("settingDisplayTopologySupported", false),
    ("recordReplaySupported", false),
    ("changeTrackingSupported", true),
    ("multipleCoresPerSocketSupported", true),
    ("hostBasedReplicationSupported", true),
    ("guestAutoLockSupported", false),
    ("memoryReservationLockSupported", true),
    ("featureRequirementSupported", true),
    ("poweredOnMonitorTypeChangeSupported", true),
    ("seSparseDiskSupported", true),
    ("nestedHVSupported", true),
    ("vPMCSupported", true),
];

/// A virtual machine with the properties that its number determines.
struct Vm<'a> {
    model: &'a Model,
    object: Object,
    number: u32,
    on: bool,
    cpus: u32,
    memory_mb: u32,
}

pub(crate) fn vm_property(model: &Model, number: u32, name: &str) -> Option<Data> {
    let size = splitmix(model.spec().seed.wrapping_add(u64::from(number)));
    let vm = Vm {
        model,
        object: Object::Vm(number),
        number,
        on: identity::is_powered_on(model, number),
        cpus: 1 << (size % 4),
        memory_mb: 2_048 << (size / 4 % 4),
    };
    Some(match name {
        "summary" => vm.summary(),
        "config" => vm.config(),
        "runtime" => vm.runtime(),
        "guest" => vm.guest(),
        "guestHeartbeatStatus" => vm.heartbeat(),
        "capability" => {
            let fields = CAPABILITIES.iter().map(|(name, has)| (*name, boolean(*has)));
            Data::Struct("VirtualMachineCapability", fields.collect())
        }
        "rootSnapshot" => Data::List("ManagedObjectReference", vec![]),
        _ => return None,
    })
}

impl Vm<'_> {
    fn uuid(&self, of: UuidOf) -> Data {
        string(identity::uuid(self.model, of, self.number).to_string())
    }

    fn heartbeat(&self) -> Data {
        status(if self.on { "green" } else { "gray" })
    }

    /// `value` if the guest runs, else unset.
    fn running(&self, value: impl FnOnce() -> Data) -> Data {
        if self.on { value() } else { Data::Unset }
    }

    fn ip(&self) -> Data {
        match identity::ip(self.model, self.object) {
            Some(ip) => string(ip.to_string()),
            None => Data::Unset,
        }
    }

    fn runtime(&self) -> Data {
        let power = if self.on { "poweredOn" } else { "poweredOff" };
        Data::Struct(
            "VirtualMachineRuntimeInfo",
            vec![
                ("host", Data::Reference(Object::host_of(self.model, self.number))),
                ("connectionState", Data::Leaf("VirtualMachineConnectionState", "connected".into())),
                ("powerState", Data::Leaf("VirtualMachinePowerState", power.into())),
                (
                    "faultToleranceState",
                    Data::Leaf("VirtualMachineFaultToleranceState", "notConfigured".into()),
                ),
                ("toolsInstallerMounted", boolean(false)),
                ("suspendTime", Data::Unset),
                ("bootTime", self.running(|| time(BOOT_US + i64::from(self.number) * 1_000_000))),
                ("question", Data::Unset),
                ("maxCpuUsage", int(self.cpus * HOST_MHZ)),
                ("maxMemoryUsage", int(self.memory_mb)),
                ("numMksConnections", int(0)),
                ("recordReplayState", Data::Leaf("VirtualMachineRecordReplayState", "inactive".into())),
                ("onlineStandby", boolean(false)),
                ("consolidationNeeded", boolean(false)),
            ],
        )
    }

    fn summary(&self) -> Data {
        let guest = Data::Struct(
            "VirtualMachineGuestSummary",
            vec![
                ("guestId", self.running(|| string(GUEST_ID))),
                ("guestFullName", self.running(|| string(GUEST_NAME))),
                ("toolsStatus", self.tools_status()),
                ("toolsRunningStatus", self.tools_running()),
                ("hostName", self.running(|| string(identity::dns_name(self.object)))),
                ("ipAddress", self.ip()),
            ],
        );
        let config = Data::Struct(
            "VirtualMachineConfigSummary",
            vec![
                ("name", string(self.object.name())),
                ("template", boolean(false)),
                ("vmPathName", string(identity::vmx_path(self.object))),
                ("memorySizeMB", int(self.memory_mb)),
                ("cpuReservation", int(0)),
                ("memoryReservation", int(0)),
                ("numCpu", int(self.cpus)),
                ("numEthernetCards", int(1)),
                ("numVirtualDisks", int(1)),
                ("uuid", self.uuid(UuidOf::VmBios)),
                ("instanceUuid", self.uuid(UuidOf::VmInstance)),
                ("guestId", string(GUEST_ID)),
                ("guestFullName", string(GUEST_NAME)),
                ("annotation", string("")),
                ("product", Data::Unset),
            ],
        );
        let storage = Data::Struct(
            "VirtualMachineStorageSummary",
            vec![
                ("committed", long(40 << 30)),
                ("uncommitted", long(60 << 30)),
                ("unshared", long(40 << 30)),
                ("timestamp", time(BOOT_US)),
            ],
        );
        let used = |all: u32| int(if self.on { all / 4 } else { 0 });
        let quick = Data::Struct(
            "VirtualMachineQuickStats",
            vec![
                ("overallCpuUsage", used(self.cpus * HOST_MHZ)),
                ("guestMemoryUsage", used(self.memory_mb)),
                ("hostMemoryUsage", used(self.memory_mb)),
                ("guestHeartbeatStatus", self.heartbeat()),
            ],
        );
        Data::Struct(
            "VirtualMachineSummary",
            vec![
                ("vm", Data::Reference(self.object)),
                ("runtime", self.runtime()),
                ("guest", guest),
                ("config", config),
                ("storage", storage),
                ("quickStats", quick),
                ("overallStatus", status("green")),
            ],
        )
    }

    fn config(&self) -> Data {
        let directory = identity::vmx_path(self.object);
        let directory = directory.split_inclusive('/').next().unwrap_or_default();
        let files = Data::Struct(
            "VirtualMachineFileInfo",
            vec![
                ("vmPathName", string(identity::vmx_path(self.object))),
                ("snapshotDirectory", string(directory)),
                ("suspendDirectory", string(directory)),
                ("logDirectory", string(directory)),
            ],
        );
        let tools = Data::Struct(
            "ToolsConfigInfo",
            vec![
                ("toolsVersion", int(12_352)),
                ("afterPowerOn", boolean(true)),
                ("afterResume", boolean(true)),
                ("beforeGuestStandby", boolean(true)),
                ("beforeGuestShutdown", boolean(true)),
                ("toolsUpgradePolicy", string("manual")),
                ("syncTimeWithHost", boolean(false)),
            ],
        );
        let hardware = Data::Struct(
            "VirtualHardware",
            vec![
                ("numCPU", int(self.cpus)),
                ("numCoresPerSocket", int(1)),
                ("memoryMB", int(self.memory_mb)),
                ("device", Data::List("VirtualDevice", vec![])),
            ],
        );
        Data::Struct(
            "VirtualMachineConfigInfo",
            vec![
                ("changeVersion", string(format_micros(BOOT_US))),
                ("modified", time(BOOT_US)),
                ("name", string(self.object.name())),
                ("guestFullName", string(GUEST_NAME)),
                ("version", string("vmx-20")),
                ("uuid", self.uuid(UuidOf::VmBios)),
                ("instanceUuid", self.uuid(UuidOf::VmInstance)),
                ("template", boolean(false)),
                ("guestId", string(GUEST_ID)),
                ("alternateGuestName", string("")),
                ("annotation", string("")),
                ("files", files),
                ("tools", tools),
                ("flags", Data::Struct("VirtualMachineFlagInfo", vec![])),
                ("defaultPowerOps", Data::Struct("VirtualMachineDefaultPowerOpInfo", vec![])),
                ("hardware", hardware),
                ("extraConfig", Data::List("OptionValue", vec![])),
            ],
        )
    }

    fn tools_status(&self) -> Data {
        let status = if self.on { "toolsOk" } else { "toolsNotRunning" };
        Data::Leaf("VirtualMachineToolsStatus", status.into())
    }

    fn tools_running(&self) -> Data {
        string(if self.on { "guestToolsRunning" } else { "guestToolsNotRunning" })
    }

    fn guest(&self) -> Data {
        let card = self.running(|| {
            let [_, a, b, c] = self.number.to_be_bytes();
            Data::Struct(
                "GuestNicInfo",
                vec![
                    ("network", string(Object::Network.name())),
                    ("ipAddress", Data::List("string", vec![self.ip()])),
                    ("macAddress", string(format!("00:50:56:{a:02x}:{b:02x}:{c:02x}"))),
                    ("connected", boolean(true)),
                    ("deviceConfigId", int(4_000)),
                ],
            )
        });
        Data::Struct(
            "GuestInfo",
            vec![
                ("toolsStatus", self.tools_status()),
                ("toolsVersionStatus2", string("guestToolsUnmanaged")),
                ("toolsRunningStatus", self.tools_running()),
                ("toolsVersion", string("12352")),
                ("guestId", self.running(|| string(GUEST_ID))),
                ("guestFamily", self.running(|| string("linuxGuest"))),
                ("guestFullName", self.running(|| string(GUEST_NAME))),
                ("hostName", self.running(|| string(identity::dns_name(self.object)))),
                ("ipAddress", self.ip()),
                ("net", Data::List("GuestNicInfo", vec![card])),
                ("disk", Data::List("GuestDiskInfo", vec![])),
                ("guestState", string(if self.on { "running" } else { "notRunning" })),
            ],
        )
    }
}

pub(crate) fn host_property(model: &Model, number: u32, name: &str) -> Option<Data> {
    let uuid = string(identity::uuid(model, UuidOf::HostHardware, number).to_string());
    Some(match name {
        "runtime" => host_runtime(),
        "hardware" => host_hardware(uuid),
        "summary" => host_summary(Object::Host(number), uuid),
        _ => return None,
    })
}

fn host_runtime() -> Data {
    Data::Struct(
        "HostRuntimeInfo",
        vec![
            ("connectionState", Data::Leaf("HostSystemConnectionState", "connected".into())),
            ("powerState", Data::Leaf("HostSystemPowerState", "poweredOn".into())),
            ("standbyMode", string("none")),
            ("inMaintenanceMode", boolean(false)),
            ("bootTime", time(BOOT_US)),
        ],
    )
}

fn host_hardware(uuid: Data) -> Data {
    let system = vec![("vendor", string("Example Systems")), ("model", string("X-2000")), ("uuid", uuid)];
    let cpu = vec![
        ("numCpuPackages", short(2)),
        ("numCpuCores", short(HOST_CORES as u16)),
        ("numCpuThreads", short(HOST_CORES as u16 * 2)),
        ("hz", long(HOST_HZ)),
    ];
    Data::Struct(
        "HostHardwareInfo",
        vec![
            ("systemInfo", Data::Struct("HostSystemInfo", system)),
            ("cpuInfo", Data::Struct("HostCpuInfo", cpu)),
            ("cpuPkg", Data::List("HostCpuPackage", vec![cpu_package(0), cpu_package(1)])),
            ("memorySize", long(HOST_MEMORY_BYTES)),
            ("smcPresent", boolean(false)),
        ],
    )
}

/// One of the two processors of a host, with half of its threads.
fn cpu_package(index: u16) -> Data {
    let threads = HOST_CORES as u16;
    let thread_ids = (index * threads..(index + 1) * threads).map(short).collect();
    Data::Struct(
        "HostCpuPackage",
        vec![
            ("index", short(index)),
            ("vendor", string("intel")),
            ("hz", long(HOST_HZ)),
            ("busHz", long(100_000_000)),
            ("description", string("Example CPU @ 2.60GHz")),
            ("threadId", Data::List("short", thread_ids)),
        ],
    )
}

fn host_summary(host: Object, uuid: Data) -> Data {
    let hardware = vec![
        ("vendor", string("Example Systems")),
        ("model", string("X-2000")),
        ("uuid", uuid),
        ("memorySize", long(HOST_MEMORY_BYTES)),
        ("cpuModel", string("Example CPU @ 2.60GHz")),
        ("cpuMhz", int(HOST_MHZ)),
        ("numCpuPkgs", short(2)),
        ("numCpuCores", short(HOST_CORES as u16)),
        ("numCpuThreads", short(HOST_CORES as u16 * 2)),
        ("numNics", int(4)),
        ("numHBAs", int(2)),
    ];
    let config = vec![
        ("name", string(host.name())),
        ("port", int(443)),
        ("product", Data::Unset),
        ("vmotionEnabled", boolean(true)),
        ("faultToleranceEnabled", boolean(false)),
    ];
    let quick_stats = vec![
        ("overallCpuUsage", int(HOST_CORES * HOST_MHZ / 4)),
        ("overallMemoryUsage", int((HOST_MEMORY_BYTES >> 22) as u32)),
    ];
    Data::Struct(
        "HostListSummary",
        vec![
            ("host", Data::Reference(host)),
            ("hardware", Data::Struct("HostHardwareSummary", hardware)),
            ("runtime", host_runtime()),
            ("config", Data::Struct("HostConfigSummary", config)),
            ("quickStats", Data::Struct("HostListSummaryQuickStats", quick_stats)),
            ("overallStatus", status("green")),
            ("rebootRequired", boolean(false)),
            ("managementServerIp", string("127.0.0.1")),
        ],
    )
}
