//! `SearchIndex`: objects of the inventory by path, UUID, DNS name or address. If nothing is found,
//! the answer is empty and not a fault.
//!
//! `FindAllBy…` return a list. The inventory has one match at most, so this list has no item or
//! one.

use uuid::Uuid;

use super::identity::{self, UuidOf};
use super::inventory::Object;
use super::model::Model;
use super::property::ObjectReference;
use super::protocol::{Call, Fault};
use super::xml::Node;

/// The objects that a call of `SearchIndex` finds; `None` for a method that it does not have.
///
/// # Errors
/// An argument is missing, or an entity or datacenter does not exist.
pub(crate) fn find(model: &Model, call: &Call) -> Option<Result<Vec<Object>, Fault>> {
    let arguments = &call.arguments;
    let found = match call.method.as_str() {
        "FindByInventoryPath" => text(arguments, "inventoryPath").map(|path| by_path(model, path)),
        "FindChild" => child(model, arguments),
        "FindByUuid" | "FindAllByUuid" => by_uuid(model, arguments),
        "FindByDnsName" | "FindAllByDnsName" => {
            let is_vm = arguments.is_true("vmSearch");
            text(arguments, "dnsName").map(|name| identity::by_dns_name(model, name, is_vm))
        }
        "FindByIp" | "FindAllByIp" => {
            let is_vm = arguments.is_true("vmSearch");
            text(arguments, "ip").map(|ip| identity::by_ip(model, ip.parse().ok()?, is_vm))
        }
        "FindByDatastorePath" => text(arguments, "path").map(|path| identity::by_vmx_path(model, path)),
        _ => return None,
    };
    let in_datacenter = datacenter(model, arguments);
    Some(found.and_then(|found| in_datacenter.map(|()| found.into_iter().collect())))
}

fn text<'a>(arguments: &'a Node, name: &str) -> Result<&'a str, Fault> {
    arguments.text_of(name).map(str::trim).ok_or_else(|| Fault::invalid_argument(name))
}

/// Checks the argument `datacenter`. There is one datacenter, which has all objects.
fn datacenter(model: &Model, arguments: &Node) -> Result<(), Fault> {
    let Some(target) = arguments.child("datacenter").map(ObjectReference::of) else { return Ok(()) };
    match Object::find(model, "Datacenter", &target.id) {
        Some(_) => Ok(()),
        None => Err(Fault::not_found("Datacenter", &target.id)),
    }
}

/// The object at `DATACENTER/vm/NAME`, with or without a slash in front. Names are written with
/// `%2f`, `%5c` and `%25` for `/`, `\` and `%`.
fn by_path(model: &Model, path: &str) -> Option<Object> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(unescape).try_fold(Object::Root, |folder, name| folder.child_named(model, &name))
}

fn unescape(name: &str) -> String {
    let escapes = [("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%")];
    escapes.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn child(model: &Model, arguments: &Node) -> Result<Option<Object>, Fault> {
    let target = arguments.child("entity").map(ObjectReference::of);
    let target = target.ok_or_else(|| Fault::invalid_argument("entity"))?;
    Ok(target.resolve(model)?.child_named(model, text(arguments, "name")?))
}

fn by_uuid(model: &Model, arguments: &Node) -> Result<Option<Object>, Fault> {
    let of = match (arguments.is_true("vmSearch"), arguments.is_true("instanceUuid")) {
        (true, true) => UuidOf::VmInstance,
        (true, false) => UuidOf::VmBios,
        (false, _) => UuidOf::HostHardware,
    };
    let uuid = text(arguments, "uuid")?;
    Ok(Uuid::parse_str(uuid).ok().and_then(|uuid| identity::by_uuid(model, of, uuid)))
}
