//! The small inventory: root folder, one datacenter, one cluster, hosts and virtual machines, computed from their number.
//!
//! ```text
//! group-d1 "Datacenters"
//! └ datacenter-3 "DC-FRA-01"
//!   ├ group-v4 "vm"    ─ vm-1000000 … "app-000000"
//!   └ group-h5 "host"  ─ domain-c8 "CL-Prod-01" ─ host-10000 … "esx-0000.lab.local"
//! ```

use super::model::Model;

pub(crate) const ROOT: &str = "group-d1";
const DATACENTER: &str = "datacenter-3";
const VM_FOLDER: &str = "group-v4";
const HOST_FOLDER: &str = "group-h5";
const CLUSTER: &str = "domain-c8";

/// Part of the inventory that a filter by entity selects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scope {
    All,
    /// The entity exists, but no event is about it alone.
    Nothing,
    Vm(u32),
    Host(u32),
}

/// A managed entity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Object {
    Root,
    Datacenter,
    VmFolder,
    HostFolder,
    Cluster,
    Host(u32),
    Vm(u32),
}

impl Object {
    pub fn find(model: &Model, kind: &str, id: &str) -> Option<Object> {
        let object = match id {
            ROOT => Object::Root,
            DATACENTER => Object::Datacenter,
            VM_FOLDER => Object::VmFolder,
            HOST_FOLDER => Object::HostFolder,
            CLUSTER => Object::Cluster,
            _ => {
                if let Some(number) = id.strip_prefix("vm-1").filter(|digits| digits.len() == 6) {
                    Object::Vm(number.parse().ok().filter(|vm| *vm < model.spec().vms)?)
                } else {
                    let number = id.strip_prefix("host-1").filter(|digits| digits.len() == 4)?;
                    Object::Host(number.parse().ok().filter(|host| *host < model.spec().hosts)?)
                }
            }
        };
        (object.is_a(kind)).then_some(object)
    }

    pub fn kind(self) -> &'static str {
        match self {
            Object::Root | Object::VmFolder | Object::HostFolder => "Folder",
            Object::Datacenter => "Datacenter",
            Object::Cluster => "ClusterComputeResource",
            Object::Host(_) => "HostSystem",
            Object::Vm(_) => "VirtualMachine",
        }
    }

    pub fn is_a(self, kind: &str) -> bool {
        kind == self.kind()
            || kind == "ManagedEntity"
            || kind == "ExtensibleManagedObject"
            || (self == Object::Cluster && kind == "ComputeResource")
    }

    pub fn id(self) -> String {
        match self {
            Object::Root => ROOT.into(),
            Object::Datacenter => DATACENTER.into(),
            Object::VmFolder => VM_FOLDER.into(),
            Object::HostFolder => HOST_FOLDER.into(),
            Object::Cluster => CLUSTER.into(),
            Object::Host(host) => format!("host-1{host:04}"),
            Object::Vm(vm) => format!("vm-1{vm:06}"),
        }
    }

    pub fn name(self) -> String {
        match self {
            Object::Root => "Datacenters".into(),
            Object::Datacenter => "DC-FRA-01".into(),
            Object::VmFolder => "vm".into(),
            Object::HostFolder => "host".into(),
            Object::Cluster => "CL-Prod-01".into(),
            Object::Host(host) => format!("esx-{host:04}.lab.local"),
            Object::Vm(vm) => format!("app-{vm:06}"),
        }
    }

    pub fn parent(self) -> Option<Object> {
        Some(match self {
            Object::Root => return None,
            Object::Datacenter => Object::Root,
            Object::VmFolder | Object::HostFolder => Object::Datacenter,
            Object::Cluster => Object::HostFolder,
            Object::Host(_) => Object::Cluster,
            Object::Vm(_) => Object::VmFolder,
        })
    }

    /// The objects that a property of references names; `None` for a property that does not exist.
    pub fn references(self, model: &Model, property: &str) -> Option<Vec<Object>> {
        Some(match (self, property) {
            (_, "parent") => self.parent().into_iter().collect(),
            (Object::Root, "childEntity") => vec![Object::Datacenter],
            (Object::VmFolder, "childEntity") => (0..model.spec().vms).map(Object::Vm).collect(),
            (Object::HostFolder, "childEntity") => vec![Object::Cluster],
            (Object::Datacenter, "vmFolder") => vec![Object::VmFolder],
            (Object::Datacenter, "hostFolder") => vec![Object::HostFolder],
            (Object::Datacenter, "datastore" | "network")
            | (Object::Vm(_), "parentVApp" | "resourcePool") => {
                vec![]
            }
            (Object::Cluster, "host") => (0..model.spec().hosts).map(Object::Host).collect(),
            (Object::Host(host), "vm") => {
                (host..model.spec().vms).step_by(model.spec().hosts as usize).map(Object::Vm).collect()
            }
            (Object::Vm(vm), "runtime.host") => vec![Object::Host(vm % model.spec().hosts)],
            _ => return None,
        })
    }

    /// Whether the property holds one reference, not a list.
    pub fn is_single(property: &str) -> bool {
        matches!(
            property,
            "parent" | "vmFolder" | "hostFolder" | "runtime.host" | "parentVApp" | "resourcePool"
        )
    }
}

/// What a filter by this entity selects; `None` if there is no such entity.
pub(crate) fn scope(model: &Model, kind: &str, id: &str, recursion: &str) -> Option<Scope> {
    Some(match Object::find(model, kind, id)? {
        Object::Vm(vm) => Scope::Vm(vm),
        Object::Host(host) if recursion != "children" => Scope::Host(host),
        _ if recursion == "all" => Scope::All,
        _ => Scope::Nothing,
    })
}
