//! The inventory: a tree of managed entities, computed from the numbers of virtual machines and
//! hosts, so that its size costs no memory. Events name the same objects by the same ids and names.
//!
//! ```text
//! group-d1 "Datacenters"
//! └ datacenter-3 "DC-FRA-01"
//!   ├ group-v4 "vm"         ─ vm-1000000 … "app-000000"
//!   ├ group-h5 "host"       ─ domain-c8 "CL-Prod-01" ┬ host-10000 … "esx-0000.lab.local"
//!   │                                                └ resgroup-9 "Resources"
//!   ├ group-s6 "datastore"  ─ datastore-41 "vsan-01"
//!   └ group-n7 "network"    ─ network-42 "VM Network"
//! ```
//!
//! Virtual machine `v` runs on host `v % hosts`, in the cluster's resource pool, on the one
//! datastore and network.

use super::model::Model;

pub(crate) const ROOT: &str = "group-d1";
const FIXED: [(&str, Object); 10] = [
    (ROOT, Object::Root),
    ("datacenter-3", Object::Datacenter),
    ("group-v4", Object::VmFolder),
    ("group-h5", Object::HostFolder),
    ("group-s6", Object::DatastoreFolder),
    ("group-n7", Object::NetworkFolder),
    ("domain-c8", Object::Cluster),
    ("resgroup-9", Object::Pool),
    ("datastore-41", Object::Datastore),
    ("network-42", Object::Network),
];

/// A managed entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Root,
    Datacenter,
    VmFolder,
    HostFolder,
    DatastoreFolder,
    NetworkFolder,
    Cluster,
    Pool,
    Datastore,
    Network,
    Host(u32),
    Vm(u32),
}

/// The number in `PREFIX` DIGITS `SUFFIX`, if it has exactly this many digits and is less than
/// `bound`.
fn numbered(text: &str, prefix: &str, digits: usize, suffix: &str, bound: u32) -> Option<u32> {
    let number = text.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let all_digits = number.len() == digits && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|number| all_digits && *number < bound)
}

impl Object {
    pub fn find(model: &Model, kind: &str, id: &str) -> Option<Object> {
        let spec = model.spec();
        let fixed = FIXED.iter().find(|(fixed, _)| *fixed == id).map(|(_, object)| *object);
        let object = fixed
            .or_else(|| numbered(id, "vm-1", 6, "", spec.vms).map(Object::Vm))
            .or_else(|| numbered(id, "host-1", 4, "", spec.hosts).map(Object::Host))?;
        object.is_a(kind).then_some(object)
    }

    pub fn kind(self) -> &'static str {
        match self {
            Object::Root
            | Object::VmFolder
            | Object::HostFolder
            | Object::DatastoreFolder
            | Object::NetworkFolder => "Folder",
            Object::Datacenter => "Datacenter",
            Object::Cluster => "ClusterComputeResource",
            Object::Pool => "ResourcePool",
            Object::Datastore => "Datastore",
            Object::Network => "Network",
            Object::Host(_) => "HostSystem",
            Object::Vm(_) => "VirtualMachine",
        }
    }

    pub fn is_a(self, kind: &str) -> bool {
        kind == self.kind()
            || matches!(kind, "ManagedEntity" | "ExtensibleManagedObject" | "ManagedObject")
            || (self == Object::Cluster && kind == "ComputeResource")
    }

    pub fn id(self) -> String {
        match self {
            Object::Host(host) => format!("host-1{host:04}"),
            Object::Vm(vm) => format!("vm-1{vm:06}"),
            fixed => FIXED
                .iter()
                .find(|(_, object)| *object == fixed)
                .map_or_else(String::new, |(id, _)| (*id).into()),
        }
    }

    pub fn name(self) -> String {
        match self {
            Object::Root => "Datacenters".into(),
            Object::Datacenter => "DC-FRA-01".into(),
            Object::VmFolder => "vm".into(),
            Object::HostFolder => "host".into(),
            Object::DatastoreFolder => "datastore".into(),
            Object::NetworkFolder => "network".into(),
            Object::Cluster => "CL-Prod-01".into(),
            Object::Pool => "Resources".into(),
            Object::Datastore => "vsan-01".into(),
            Object::Network => "VM Network".into(),
            Object::Host(host) => format!("esx-{host:04}.lab.local"),
            Object::Vm(vm) => format!("app-{vm:06}"),
        }
    }

    pub fn parent(self) -> Option<Object> {
        Some(match self {
            Object::Root => return None,
            Object::Datacenter => Object::Root,
            Object::VmFolder | Object::HostFolder | Object::DatastoreFolder | Object::NetworkFolder => {
                Object::Datacenter
            }
            Object::Cluster => Object::HostFolder,
            Object::Pool | Object::Host(_) => Object::Cluster,
            Object::Datastore => Object::DatastoreFolder,
            Object::Network => Object::NetworkFolder,
            Object::Vm(_) => Object::VmFolder,
        })
    }

    /// The host that a virtual machine runs on.
    pub fn host_of(model: &Model, vm: u32) -> Object {
        Object::Host(vm % model.spec().hosts)
    }

    /// True if it is somewhere below `ancestor`: by its parents, or, for a virtual machine, by its
    /// resource pool.
    pub fn is_below(self, ancestor: Object) -> bool {
        let mut above = self.parent();
        while let Some(object) = above {
            if object == ancestor {
                return true;
            }
            above = object.parent();
        }
        matches!(self, Object::Vm(_)) && (ancestor == Object::Pool || Object::Pool.is_below(ancestor))
    }

    /// True for a folder or a resource pool. A filter by one of these selects the events of its
    /// contents.
    pub fn is_folder(self) -> bool {
        matches!(self.kind(), "Folder" | "ResourcePool")
    }

    /// Immediate children, in the order of views.
    pub fn children(self, model: &Model) -> Vec<Object> {
        let paths: &[&str] = match self.kind() {
            "Folder" => &["childEntity"],
            "Datacenter" => &["vmFolder", "hostFolder", "datastoreFolder", "networkFolder"],
            "ClusterComputeResource" => &["resourcePool", "host"],
            "ResourcePool" | "HostSystem" => &["vm"],
            _ => &[],
        };
        paths.iter().flat_map(|path| self.references(model, path).unwrap_or_default()).collect()
    }

    /// The child of this name, as `SearchIndex` finds it.
    pub fn child_named(self, model: &Model, name: &str) -> Option<Object> {
        let spec = model.spec();
        match self {
            // A folder may have a million virtual machines, so their list is not built.
            Object::VmFolder => numbered(name, "app-", 6, "", spec.vms).map(Object::Vm),
            Object::Cluster if name != "Resources" => Object::host_named(model, name),
            Object::Host(_) | Object::Pool => None,
            _ => self.children(model).into_iter().find(|child| child.name() == name),
        }
    }

    pub fn host_named(model: &Model, name: &str) -> Option<Object> {
        numbered(name, "esx-", 4, ".lab.local", model.spec().hosts).map(Object::Host)
    }

    /// The objects that a property of references names; `None` if the property holds no references.
    pub fn references(self, model: &Model, property: &str) -> Option<Vec<Object>> {
        let vms = || (0..model.spec().vms).map(Object::Vm);
        let hosts = || (0..model.spec().hosts).map(Object::Host);
        Some(match (self, property) {
            (_, "parent") => self.parent().into_iter().collect(),
            (Object::Root, "childEntity") => vec![Object::Datacenter],
            (Object::VmFolder, "childEntity")
            | (Object::Pool | Object::Datastore | Object::Network, "vm") => vms().collect(),
            (Object::HostFolder, "childEntity") | (Object::Pool, "owner") => vec![Object::Cluster],
            (Object::DatastoreFolder, "childEntity") => vec![Object::Datastore],
            (Object::NetworkFolder, "childEntity") => vec![Object::Network],
            (Object::Datacenter, "vmFolder") => vec![Object::VmFolder],
            (Object::Datacenter, "hostFolder") => vec![Object::HostFolder],
            (Object::Datacenter, "datastoreFolder") => vec![Object::DatastoreFolder],
            (Object::Datacenter, "networkFolder") => vec![Object::NetworkFolder],
            (Object::Datacenter | Object::Cluster | Object::Host(_) | Object::Vm(_), "datastore") => {
                vec![Object::Datastore]
            }
            (Object::Datacenter | Object::Cluster | Object::Host(_) | Object::Vm(_), "network") => {
                vec![Object::Network]
            }
            (Object::Cluster | Object::Network, "host") => hosts().collect(),
            (Object::Cluster | Object::Vm(_), "resourcePool") => vec![Object::Pool],
            (Object::Pool, "resourcePool") | (Object::Vm(_), "parentVApp") => vec![],
            (Object::Host(host), "vm") => {
                (host..model.spec().vms).step_by(model.spec().hosts as usize).map(Object::Vm).collect()
            }
            _ => return None,
        })
    }

    /// True if a property of references holds one reference, not a list.
    pub fn is_single(self, property: &str) -> bool {
        property.ends_with("Folder")
            || matches!(property, "parent" | "parentVApp" | "owner")
            || (property == "resourcePool" && self != Object::Pool)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Mix, ModelSpec};
    use super::*;

    fn model() -> Model {
        Model::new(ModelSpec { seed: 1, vms: 30, hosts: 4, mix: Mix::Steady }).unwrap()
    }

    fn all(model: &Model) -> Vec<Object> {
        let fixed = FIXED.iter().map(|(_, object)| *object);
        fixed
            .chain((0..30).map(Object::Vm))
            .chain((0..4).map(Object::Host))
            .filter(|_| model.spec().vms == 30)
            .collect()
    }

    #[test]
    fn every_object_is_found_by_id_by_name_and_among_its_parents_children() {
        let model = model();
        for object in all(&model) {
            assert_eq!(Object::find(&model, object.kind(), &object.id()), Some(object));
            assert_eq!(Object::find(&model, "Task", &object.id()), None);
            let Some(parent) = object.parent() else { continue };
            assert_eq!(parent.child_named(&model, &object.name()), Some(object));
            assert!(parent.children(&model).contains(&object), "{object:?}");
            assert!(object.is_below(parent) && object.is_below(Object::Root) && !parent.is_below(object));
        }
    }

    #[test]
    fn only_exact_ids_and_names_are_found() {
        let model = model();
        for id in ["vm-1000030", "vm-1+00001", "vm-100001", "host-10004", "host-1", "group-d2", ""] {
            assert_eq!(Object::find(&model, "ManagedEntity", id), None, "{id}");
        }
        for name in ["app-000030", "app-1", "App-000001", "app-000001 ", ""] {
            assert_eq!(Object::VmFolder.child_named(&model, name), None, "{name}");
        }
    }

    #[test]
    fn references_lead_both_ways() {
        let model = model();
        let of = |object: Object, property| object.references(&model, property).unwrap();
        for vm in (0..30).map(Object::Vm) {
            let Object::Vm(number) = vm else { continue };
            assert!(of(Object::host_of(&model, number), "vm").contains(&vm));
            for property in ["resourcePool", "datastore", "network"] {
                assert!(of(of(vm, property)[0], "vm").contains(&vm), "{property}");
            }
            assert!(
                vm.is_below(Object::Cluster)
                    && vm.is_below(Object::HostFolder)
                    && !vm.is_below(Object::Host(0))
            );
        }
    }
}
