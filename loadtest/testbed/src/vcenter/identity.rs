//! UUIDs, addresses and DNS names of virtual machines and hosts. Each is computed from the object's
//! number and leads back to it, so that no index is kept.
//!
//! ```text
//! number ─► uuid, ip, dns_name, vmx_path ─► by_uuid, by_ip, by_dns_name, by_vmx_path ─► number
//! ```

use std::net::Ipv4Addr;

use uuid::Uuid;

use super::inventory::Object;
use super::model::{Model, splitmix};

const DOMAIN: &str = ".lab.local";
/// 10.64.0.0/12 for virtual machines, 10.16.0.0/16 for hosts: 2^20 and 2^16 addresses, more than a
/// model can have of either.
const VM_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const HOST_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 0);

/// The kind of object that a UUID names; the value is its first 16 bits.
#[derive(Clone, Copy)]
pub(crate) enum UuidOf {
    VmBios = 0x4237,
    VmInstance = 0x5037,
    HostHardware = 0x3650,
}

/// A UUID of 16 bits of the kind, 80 bits of the seed and 32 bits of the number.
pub(crate) fn uuid(model: &Model, of: UuidOf, number: u32) -> Uuid {
    let first = of as u128;
    let seed = u128::from(splitmix(model.spec().seed ^ of as u64));
    Uuid::from_u128((first << 112) | (seed << 32) | u128::from(number))
}

pub(crate) fn by_uuid(model: &Model, of: UuidOf, wanted: Uuid) -> Option<Object> {
    let number = wanted.as_u128() as u32;
    let object = match of {
        UuidOf::HostHardware => Object::Host(number),
        UuidOf::VmBios | UuidOf::VmInstance => Object::Vm(number),
    };
    (uuid(model, of, number) == wanted && exists(model, object)).then_some(object)
}

/// True for four in five virtual machines.
pub(crate) fn is_powered_on(model: &Model, vm: u32) -> bool {
    !splitmix(model.spec().seed ^ (u64::from(vm) << 32)).is_multiple_of(5)
}

/// The address of a guest or a host. A guest that does not run has none.
pub(crate) fn ip(model: &Model, object: Object) -> Option<Ipv4Addr> {
    match object {
        Object::Vm(vm) => is_powered_on(model, vm).then(|| Ipv4Addr::from_bits(VM_NETWORK.to_bits() + vm)),
        Object::Host(host) => Some(Ipv4Addr::from_bits(HOST_NETWORK.to_bits() + host)),
        _ => None,
    }
}

pub(crate) fn by_ip(model: &Model, ip_address: Ipv4Addr, vm: bool) -> Option<Object> {
    let (network, object): (_, fn(u32) -> Object) =
        if vm { (VM_NETWORK, Object::Vm) } else { (HOST_NETWORK, Object::Host) };
    let object = object(ip_address.to_bits().checked_sub(network.to_bits())?);
    (exists(model, object) && ip(model, object) == Some(ip_address)).then_some(object)
}

/// The DNS name that a guest reports or that a host has.
pub(crate) fn dns_name(object: Object) -> String {
    match object {
        Object::Vm(_) => format!("{}{DOMAIN}", object.name()),
        other => other.name(),
    }
}

pub(crate) fn by_dns_name(model: &Model, name: &str, vm: bool) -> Option<Object> {
    let name = name.to_ascii_lowercase();
    if !vm {
        return Object::host_named(model, &name);
    }
    let found = Object::VmFolder.child_named(model, name.strip_suffix(DOMAIN)?)?;
    ip(model, found).map(|_| found)
}

/// The path of a virtual machine's configuration file.
pub(crate) fn vmx_path(vm: Object) -> String {
    let name = vm.name();
    format!("[{}] {name}/{name}.vmx", Object::Datastore.name())
}

pub(crate) fn by_vmx_path(model: &Model, path: &str) -> Option<Object> {
    let (_, name) = path.rsplit_once('/')?;
    let found = Object::VmFolder.child_named(model, name.strip_suffix(".vmx")?)?;
    (vmx_path(found) == path).then_some(found)
}

fn exists(model: &Model, object: Object) -> bool {
    match object {
        Object::Vm(vm) => vm < model.spec().vms,
        Object::Host(host) => host < model.spec().hosts,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Mix, ModelSpec};
    use super::*;

    #[test]
    fn every_identity_leads_back_to_its_object() {
        let model = Model::new(ModelSpec { seed: 3, vms: 70_000, hosts: 300, mix: Mix::Steady }).unwrap();
        for number in (0..70_000).step_by(7) {
            let vm = Object::Vm(number);
            for of in [UuidOf::VmBios, UuidOf::VmInstance] {
                assert_eq!(by_uuid(&model, of, uuid(&model, of, number)), Some(vm));
            }
            assert_eq!(by_vmx_path(&model, &vmx_path(vm)), Some(vm));
            let running = is_powered_on(&model, number).then_some(vm);
            assert_eq!(ip(&model, vm).and_then(|ip| by_ip(&model, ip, true)), running);
            assert_eq!(by_dns_name(&model, &dns_name(vm).to_uppercase(), true), running);
        }
        for number in 0..300 {
            let host = Object::Host(number);
            assert_eq!(
                by_uuid(&model, UuidOf::HostHardware, uuid(&model, UuidOf::HostHardware, number)),
                Some(host)
            );
            assert_eq!(ip(&model, host).and_then(|ip| by_ip(&model, ip, false)), Some(host));
            assert_eq!(by_dns_name(&model, &dns_name(host), false), Some(host));
        }
        let running = (0..70_000).filter(|vm| is_powered_on(&model, *vm)).count();
        assert!((52_000..60_000).contains(&running), "{running}");
    }

    #[test]
    fn other_ids_and_names_are_not_found() {
        let model = Model::new(ModelSpec { seed: 3, vms: 10, hosts: 2, mix: Mix::Steady }).unwrap();
        assert_eq!(by_uuid(&model, UuidOf::VmBios, uuid(&model, UuidOf::VmBios, 10)), None);
        assert_eq!(by_uuid(&model, UuidOf::VmBios, uuid(&model, UuidOf::VmInstance, 1)), None);
        for ip in ["10.64.0.10", "10.63.255.255", "0.0.0.0", "255.255.255.255"] {
            assert_eq!(by_ip(&model, ip.parse().unwrap(), true), None, "{ip}");
        }
        assert_eq!(by_dns_name(&model, "app-000001", true), None);
        assert_eq!(by_vmx_path(&model, "[vsan-02] app-000001/app-000001.vmx"), None);
    }
}
