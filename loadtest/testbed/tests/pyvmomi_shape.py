"""Holds a synthetic vCenter against VMware's own simulator (vcsim): the same calls, and answers of the same shape.

Usage: pyvmomi_shape.py PORT USER PASSWORD VCSIM_PORT VCSIM_USER VCSIM_PASSWORD. Prints `ok` and exits 0, or fails with a
traceback. Of values only the types are compared, of calls what they find and which faults they raise.
"""

import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import VmomiSupport, vim, vmodl

Spec = vim.event.EventFilterSpec
KINDS = (vim.Datacenter, vim.Folder, vim.ClusterComputeResource, vim.HostSystem, vim.ResourcePool, vim.VirtualMachine,
         vim.Datastore, vim.Network)
# Properties that govc and Ansible's modules read. Each must have a value on both sides.
READ = {
    vim.Datacenter: "name parent vmFolder hostFolder datastoreFolder networkFolder datastore network overallStatus",
    vim.Folder: "name parent childEntity childType",
    vim.ClusterComputeResource: "name parent host resourcePool datastore network summary.numHosts summary.totalCpu",
    vim.HostSystem: "name parent vm datastore network runtime.connectionState runtime.powerState runtime.inMaintenanceMode"
    " summary.host summary.hardware.uuid summary.hardware.numCpuCores summary.hardware.memorySize summary.config.name"
    " summary.quickStats.overallCpuUsage hardware.systemInfo.uuid hardware.memorySize",
    vim.ResourcePool: "name parent owner vm config.cpuAllocation.limit summary.name runtime.memory.maxUsage",
    vim.VirtualMachine: "name parent resourcePool datastore network runtime.host runtime.powerState runtime.connectionState"
    " config.name config.uuid config.instanceUuid config.guestId config.template config.version config.files.vmPathName"
    " config.hardware.numCPU config.hardware.memoryMB summary.vm summary.config.name summary.config.uuid"
    " summary.config.memorySizeMB summary.config.numCpu summary.runtime.host summary.runtime.powerState"
    " summary.storage.committed summary.quickStats.guestHeartbeatStatus summary.overallStatus guest.guestState"
    " guestHeartbeatStatus",
    vim.Datastore: "name parent host vm info.name info.url summary.datastore summary.capacity summary.type summary.accessible"
    " capability.perFileThinProvisioningSupported",
    vim.Network: "name parent host vm summary.name summary.accessible",
}

# Where vcsim (govmomi 0.24) falls short of VMware's documentation, which has these answers.
DOCUMENTED = {
    "categories": {"info", "warning", "error", "user"},
    "latest page": True,
    "no such entity": True,
    "too many": "vmodl.fault.InvalidArgument",
    "vim.Network.host": "ManagedObject[]",
    "vim.Network.vm": "ManagedObject[]",
    "vim.VirtualMachine.guest.guestState": "str",
    "vim.VirtualMachine.guestHeartbeatStatus": "vim.ManagedEntity.Status",
} | {f"{kind.__name__}.color": "vmodl.query.InvalidProperty" for kind in KINDS}


def fault(act):
    try:
        act()
    except (vmodl.MethodFault, vmodl.RuntimeFault) as caught:
        return type(caught).__name__
    return None


def all_of(si, kind):
    view = si.content.viewManager.CreateContainerView(si.content.rootFolder, [kind], True)
    objects = list(view.view)
    view.DestroyView()
    return objects


def shape(value):
    """The type of a value; of a list, the types in it. A subclass of a data type is one way to fill it."""
    if isinstance(value, list):
        return sorted({shape(item) for item in value}) and type(value).__name__
    if isinstance(value, VmomiSupport.ManagedObject):
        return "reference"
    return type(value).__name__


def read(si):
    found = {}
    for kind in KINDS:
        entity = all_of(si, kind)[0] if kind is not vim.VirtualMachine else running_vm(si)
        paths = READ[kind].split()
        spec = vmodl.query.PropertyCollector.FilterSpec(
            propSet=[vmodl.query.PropertyCollector.PropertySpec(type=kind, pathSet=paths)],
            objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=entity)],
        )
        [content] = si.content.propertyCollector.RetrieveContents([spec])
        values = {prop.name: prop.val for prop in content.propSet}
        found |= {f"{kind.__name__}.{path}": shape(values.get(path)) for path in paths}
        found[f"{kind.__name__}.color"] = fault(lambda: si.content.propertyCollector.RetrieveContents([
            vmodl.query.PropertyCollector.FilterSpec(
                propSet=[vmodl.query.PropertyCollector.PropertySpec(type=kind, pathSet=["color"])],
                objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=entity)],
            )]))
    return found


def running_vm(si):
    return next(vm for vm in all_of(si, vim.VirtualMachine) if vm.runtime.powerState == "poweredOn")


def path_of(si, entity):
    # vcsim drops the connection when it is asked for the root folder's parent.
    return "" if entity == si.content.rootFolder else path_of(si, entity.parent) + "/" + entity.name


def search(si):
    index, vm, host = si.content.searchIndex, running_vm(si), all_of(si, vim.HostSystem)[0]
    gone = vim.Folder("group-v4711", si._stub)
    return {
        "by path": index.FindByInventoryPath(path_of(si, vm)) == vm,
        "by path without a slash": index.FindByInventoryPath(path_of(si, vm)[1:]) == vm,
        "host by path": index.FindByInventoryPath(path_of(si, host)) == host,
        "no such path": index.FindByInventoryPath(path_of(si, vm) + "x"),
        "by uuid": index.FindByUuid(None, vm.config.uuid, True) == vm,
        "by instance uuid": index.FindByUuid(None, vm.config.instanceUuid, True, True) == vm,
        "host by uuid": index.FindByUuid(None, host.summary.hardware.uuid, False) == host,
        "no such uuid": index.FindByUuid(None, "5037aaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", True),
        "no such address": index.FindByIp(None, "192.0.2.1", True),
        "no such name": index.FindByDnsName(None, "nowhere.invalid", True),
        "child": index.FindChild(vm.parent, vm.name) == vm,
        "no such child": index.FindChild(vm.parent, "nobody"),
        "child of nothing": fault(lambda: index.FindChild(gone, "vm")),
        "view of nothing": fault(lambda: si.content.viewManager.CreateContainerView(gone, [], True)) is not None,
    }


def events(si):
    manager, vm = si.content.eventManager, running_vm(si)
    collector = manager.CreateCollectorForEvents(Spec(disableFullMessage=False))
    collector.SetCollectorPageSize(3)
    latest = sorted(event.key for event in collector.latestPage)
    keys = []
    while page := collector.ReadNextEvents(7):
        assert len(page) <= 7
        keys += [event.key for event in page]
    by_vm = Spec(entity=Spec.ByEntity(entity=vm, recursion="all"))
    about_vm = manager.QueryEvents(by_vm)
    kind = type(about_vm[0])
    of_kind = manager.CreateCollectorForEvents(Spec(eventTypeId=[kind.__name__.split(".")[-1]]))
    found = {
        "by pages": keys == sorted(set(keys)) and len(keys) > 20,
        "latest page": latest == keys[-3:],
        "page of 0": fault(lambda: collector.ReadNextEvents(0)),
        "page below 0": fault(lambda: collector.ReadPreviousEvents(-1)),
        "page size of 1001": fault(lambda: collector.SetCollectorPageSize(1001)),
        "about a machine": bool(about_vm) and all(event.vm.vm == vm for event in about_vm),
        "of a type": {isinstance(event, kind) for event in of_kind.ReadNextEvents(1000)},
        "the newest": sorted(event.key for event in manager.QueryEvents(Spec(maxCount=3))) == keys[-3:],
        "too many": fault(lambda: manager.QueryEvents(Spec(maxCount=1001))),
        "no such entity": fault(lambda: manager.CreateCollectorForEvents(
            Spec(entity=Spec.ByEntity(entity=vim.VirtualMachine("vm-4711", si._stub), recursion="all")))) is not None,
        "categories": {category.key for category in manager.description.category},
        "destroyed": collector.DestroyCollector() or fault(lambda: collector.ReadNextEvents(1)),
    }
    of_kind.DestroyCollector()
    return found


def main():
    answers = []
    for port, user, password in (sys.argv[1:4], sys.argv[4:7]):
        si = SmartConnect(protocol="http", host="127.0.0.1", port=int(port), user=user, pwd=password)
        answers.append(read(si) | search(si) | events(si))
        Disconnect(si)
    ours, theirs = answers
    missing = [name for name, kind in ours.items() if "." in name and kind in ("NoneType", None)]
    assert not missing, f"no value for {missing}"
    expected = theirs | DOCUMENTED
    assert len(expected) == len(ours) > 100, (len(expected), len(ours))
    different = [f"{name}: {ours[name]}, not {answer}" for name, answer in expected.items() if ours[name] != answer]
    assert not different, "\n".join(different)
    print("ok")


main()
