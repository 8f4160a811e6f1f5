"""Reads a synthetic vCenter over VI/JSON and holds every value that comes against VMware's own registry of types (pyVmomi), which knows of each
member of each class whether it is there, what it holds and whether it is a list.

Usage: vijson_client.py PORT EVENTS INSTANCE_UUID CLASSES. Prints `ok` and exits 0, or fails with a traceback.
The vCenter holds EVENTS events of at least CLASSES classes, keys from 1; user administrator@vsphere.local, password VMware1!.
"""

import datetime
import json
import sys
import urllib.error
import urllib.request

from pyVmomi import VmomiSupport, vim, vmodl

PORT, EVENTS, UUID, CLASSES = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
BASE = f"http://127.0.0.1:{PORT}"
ANY = object
PRIMITIVES = {"string": str, "boolean": bool, "int": int, "long": int, "short": int, "double": float, "dateTime": datetime.datetime}
session, release = None, None


def check(value, kind, path):
    """`value` is what VI/JSON writes for a value that is declared as `kind`."""
    if kind is ANY:
        return check_any(value, path)
    if issubclass(kind, VmomiSupport.Array):
        assert isinstance(value, list), (path, kind, value)
        for i, item in enumerate(value):
            check(item, kind.Item, f"{path}[{i}]")
    elif issubclass(kind, VmomiSupport.ManagedObject):
        assert set(value) == {"_typeName", "type", "value"} and value["_typeName"] == "ManagedObjectReference", (path, value)
        assert issubclass(named(value["type"]), kind), (path, kind, value)
    elif issubclass(kind, (VmomiSupport.DataObject, vmodl.MethodFault)):
        own = named(value["_typeName"])
        assert issubclass(own, kind), (path, kind, own)
        members = {member.name: member for member in own._GetPropertyList()}
        for name, inner in value.items():
            if name != "_typeName":
                assert name in members, f"{path}.{name}: {own} has no such member"
                check(inner, members[name].type, f"{path}.{name}")
        for name, member in members.items():
            assert name in value or member.flags & VmomiSupport.F_OPTIONAL, f"{path}.{name} is missing in {value}"
    elif kind is bool:
        assert isinstance(value, bool), (path, kind, value)
    elif issubclass(kind, int):
        assert isinstance(value, int) and not isinstance(value, bool), (path, kind, value)
    elif issubclass(kind, float):
        assert isinstance(value, (int, float)) and not isinstance(value, bool), (path, kind, value)
    elif kind is datetime.datetime:
        datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    else:
        assert isinstance(value, str), (path, kind, value)


def check_any(value, path):
    """What is no object stands in one that says its type."""
    name = value["_typeName"]
    if name == "ManagedObjectReference":
        return check(value, VmomiSupport.ManagedObject, path)
    if "_value" not in value:
        return check(value, named(name), path)
    if name.startswith("ArrayOf"):
        for i, item in enumerate(value["_value"]):
            item_name = name.removeprefix("ArrayOf")
            is_reference = item_name == "ManagedObjectReference"
            primitive = PRIMITIVES.get(item_name[0].lower() + item_name[1:])
            item_type = VmomiSupport.ManagedObject if is_reference else primitive or named(item_name)
            check(item, item_type, f"{path}[{i}]")
    else:
        check(value["_value"], PRIMITIVES.get(name) or named(name), path)


def named(name):
    return VmomiSupport.GetWsdlType("urn:vim25", name)


def send(method, path, body=None):
    """Status, session header and JSON of a call."""
    headers = {"Content-Type": "application/json"} | ({"vmware-api-session-id": session} if session else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read()
    return answer.status, answer.headers.get("vmware-api-session-id"), json.loads(text) if text else None


def call(this, method, **arguments):
    status, _, value = send("POST", f"/sdk/vim25/{release}/{this['type']}/{this['value']}/{method}", arguments)
    assert status == (204 if value is None else 200), (method, status, value)
    return value


def get(this, name, kind):
    status, _, value = send("GET", f"/sdk/vim25/{release}/{this['type']}/{this['value']}/{name}")
    assert status == 200, (name, status, value)
    check(value, kind, name)
    return value


def refused(this, method, fault, **arguments):
    status, _, value = send("POST", f"/sdk/vim25/{release}/{this['type']}/{this['value']}/{method}", arguments)
    assert (status, value["_typeName"]) == (500, fault), (status, value)
    check(value, vmodl.MethodFault, fault)


def reference(kind, value):
    return {"_typeName": "ManagedObjectReference", "type": kind, "value": value}


status, _, hello = send("POST", "/api/vcenter/system?action=hello", {"api_releases": ["99.0.0.0", "8.0.2.0", "8.0.1.0"]})
release = hello["api_release"]
assert (status, release) == (200, "8.0.2.0"), hello
content = get(reference("ServiceInstance", "ServiceInstance"), "content", named("ServiceContent"))
assert content["about"]["instanceUuid"] == UUID
manager, sessions, root = content["eventManager"], content["sessionManager"], content["rootFolder"]
refused(manager, "CreateCollectorForEvents", "NotAuthenticated", filter={"_typeName": "EventFilterSpec"})
refused(sessions, "Login", "InvalidLogin", userName="administrator@vsphere.local", password="wrong")
path = f"/sdk/vim25/{release}/{sessions['type']}/{sessions['value']}/Login"
status, session, user = send("POST", path, {"userName": "administrator@vsphere.local", "password": "VMware1!"})
assert status == 200 and session, (status, user)
check(user, vim.UserSession, "Login")

assert get(manager, "latestEvent", vim.event.Event)["key"] == EVENTS
get(manager, "description", named("EventDescription"))
assert get(manager, "maxCollector", int) == 32
by_root = {"_typeName": "EventFilterSpecByEntity", "entity": root, "recursion": "all"}
everything = {"_typeName": "EventFilterSpec", "entity": by_root, "disableFullMessage": False}
collector = call(manager, "CreateCollectorForEvents", filter=everything)
check(collector, vim.event.EventHistoryCollector, "collector")
assert call(collector, "SetCollectorPageSize", maxCount=5) is None
assert len(get(collector, "latestPage", vim.event.Event.Array)) == 5
keys, classes = [], set()
while page := call(collector, "ReadNextEvents", maxCount=400):
    check(page, vim.event.Event.Array, "ReadNextEvents")
    keys += [event["key"] for event in page]
    classes |= {event["_typeName"] for event in page}
assert keys == list(range(1, EVENTS + 1)), (len(keys), keys[:5])
assert len(classes) >= CLASSES, classes
assert call(collector, "RewindCollector") is None
assert [event["key"] for event in call(collector, "ReadNextEvents", maxCount=2)] == [1, 2]
assert call(collector, "ResetCollector") is None
check(call(collector, "ReadPreviousEvents", maxCount=10), vim.event.Event.Array, "ReadPreviousEvents")
refused(collector, "ReadNextEvents", "InvalidArgument", maxCount=0)

watcher = call(content["propertyCollector"], "CreatePropertyCollector")
spec = {
    "_typeName": "PropertyFilterSpec",
    "propSet": [{"_typeName": "PropertySpec", "type": "EventHistoryCollector", "pathSet": ["latestPage"]}],
    "objectSet": [{"_typeName": "ObjectSpec", "obj": collector}],
}
call(watcher, "CreateFilter", spec=spec, partialUpdates=False)
update = call(watcher, "WaitForUpdatesEx", version="", options={"_typeName": "WaitOptions", "maxWaitSeconds": 1})
check(update, vmodl.query.PropertyCollector.UpdateSet, "WaitForUpdatesEx")
read = call(content["propertyCollector"], "RetrievePropertiesEx", specSet=[spec], options={"_typeName": "RetrieveOptions"})
check(read, vmodl.query.PropertyCollector.RetrieveResult, "RetrievePropertiesEx")
assert call(collector, "DestroyCollector") is None
refused(collector, "ReadNextEvents", "ManagedObjectNotFound", maxCount=1)

# Every property of every kind of object in the inventory: the value of each has all that its type
# demands.
index, view_manager = content["searchIndex"], content["viewManager"]
view = call(view_manager, "CreateContainerView", container=root, type=[], recursive=True)
check(view, vim.view.ContainerView, "view")
first = {}
for entity in get(view, "view", VmomiSupport.ManagedObject.Array):
    first.setdefault(entity["type"], entity)
assert len(first) == 8, first
for kind, entity in first.items():
    values = 0
    for member in named(kind)._GetPropertyList():
        if not VmomiSupport.IsChildVersion("vim.version.v8_0_2_0", member.version):
            continue
        status, _, value = send("GET", f"/sdk/vim25/{release}/{kind}/{entity['value']}/{member.name}")
        assert status in (200, 204), (kind, member.name, status, value)
        if value is not None:
            check(value, member.type, f"{kind}.{member.name}")
            values += 1
    assert values > 15, (kind, values)
    everything = [{"_typeName": "PropertySpec", "type": kind, "all": True}]
    spec = {"_typeName": "PropertyFilterSpec", "propSet": everything, "objectSet": [{"_typeName": "ObjectSpec", "obj": entity}]}
    read = call(content["propertyCollector"], "RetrievePropertiesEx", specSet=[spec], options={"_typeName": "RetrieveOptions"})
    check(read, vmodl.query.PropertyCollector.RetrieveResult, kind)
    assert call(index, "FindChild", entity=entity, name="nobody") is None
path = "DC-FRA-01/vm/" + get(first["VirtualMachine"], "name", str)
assert call(index, "FindByInventoryPath", inventoryPath=path) == first["VirtualMachine"]
assert call(index, "FindAllByIp", ip="192.0.2.1", vmSearch=True) == []
uuid = get(first["VirtualMachine"], "config", vim.vm.ConfigInfo)["uuid"]
assert call(index, "FindAllByUuid", uuid=uuid, vmSearch=True) == [first["VirtualMachine"]]
assert call(view, "DestroyView") is None
assert call(sessions, "Logout") is None
refused(manager, "CreateCollectorForEvents", "NotAuthenticated", filter=everything)
print("ok")
