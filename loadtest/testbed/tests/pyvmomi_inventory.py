"""Uses a synthetic vCenter as tools of operators do, with VMware's own Python SDK: walks the inventory, searches it,
filters events and pages through them.

Usage: pyvmomi_inventory.py PORT BACKLOG VMS HOSTS. Prints `ok` and exits 0, or fails with a traceback.
The vCenter holds BACKLOG events, keys from 1; user administrator@vsphere.local, password VMware1!.

Every filter is checked against a count made here, from the list of all events.
"""

import collections
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import VmomiSupport, vim, vmodl

PORT, BACKLOG, VMS, HOSTS = map(int, sys.argv[1:5])
PC = vmodl.query.PropertyCollector
Spec = vim.event.EventFilterSpec
DATACENTER, CLUSTER = "DC-FRA-01", "CL-Prod-01"


def expect(fault, act):
    try:
        act()
    except fault as caught:
        return caught
    raise AssertionError(f"{fault} expected")


def keys(events):
    return [event.key for event in events]


def all_events(si):
    """Read by pages, without a filter: the reference for all other answers."""
    collector = si.content.eventManager.CreateCollectorForEvents(Spec(disableFullMessage=False))
    events = []
    while page := collector.ReadNextEvents(1000):
        events += page
    collector.DestroyCollector()
    assert keys(events) == list(range(1, BACKLOG + 1))
    return events


def list_container(si, container, kinds, recursive=True):
    view = si.content.viewManager.CreateContainerView(container, kinds, recursive)
    names = [kind.__name__.split(".")[-1] for kind in kinds]
    assert (view.container, view.recursive, list(view.type)) == (container, recursive, names)
    objects = list(view.view)
    view.DestroyView()
    expect(vmodl.fault.ManagedObjectNotFound, lambda: view.view)
    assert len(objects) == len(set(objects)), "an object is listed twice"
    return objects


# --- the inventory


def views(si):
    root = si.content.rootFolder
    counts = collections.Counter(type(entity).__name__ for entity in list_container(si, root, []))
    expected = {"Datacenter": 1, "Folder": 4, "ClusterComputeResource": 1, "ResourcePool": 1, "Datastore": 1, "Network": 1}
    expected |= {"HostSystem": HOSTS, "VirtualMachine": VMS}
    assert {name.split(".")[-1]: count for name, count in counts.items()} == expected, counts
    assert len(list_container(si, root, [vim.ManagedEntity])) == sum(expected.values())
    assert len(list_container(si, root, [vim.ComputeResource])) == 1
    assert [entity.name for entity in list_container(si, root, [], recursive=False)] == [DATACENTER]
    host = list_container(si, root, [vim.HostSystem])[0]
    assert set(list_container(si, host, [vim.VirtualMachine])) == set(host.vm)
    expect(vmodl.fault.InvalidArgument, lambda: list_container(si, vim.Folder("group-d9", si._stub), []))


def retrieve(si, view, kind, paths, max_objects):
    """As pyVmomi's samples do: by pages of RetrievePropertiesEx."""
    by_view = PC.TraversalSpec(name="view", type=type(view), path="view", skip=False)
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=kind, pathSet=paths)],
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[by_view])],
    )
    collector = si.content.propertyCollector
    pages = [collector.RetrievePropertiesEx([spec], PC.RetrieveOptions(maxObjects=max_objects))]
    while pages[-1].token:
        pages.append(collector.ContinueRetrievePropertiesEx(pages[-1].token))
    assert all(len(page.objects) == max_objects for page in pages[:-1])
    contents = [content for page in pages for content in page.objects]
    return {content.obj: {prop.name: prop.val for prop in content.propSet} for content in contents}


def properties(si):
    root = si.content.rootFolder
    view = si.content.viewManager.CreateContainerView(root, [vim.VirtualMachine], True)
    paths = ["name", "parent", "runtime.host", "runtime.powerState", "config.uuid", "guest.ipAddress", "summary", "network"]
    vms = retrieve(si, view, vim.VirtualMachine, paths, 7)
    assert len(vms) == VMS
    assert len({vm["config.uuid"] for vm in vms.values()}) == VMS
    assert {vm["runtime.powerState"] for vm in vms.values()} == {"poweredOn", "poweredOff"}
    for ref, vm in vms.items():
        summary = vm["summary"]
        assert (summary.vm, summary.config.name) == (ref, vm["name"]) and vm["parent"].name == "vm"
        assert (summary.config.uuid, summary.runtime.host) == (vm["config.uuid"], vm["runtime.host"])
        assert summary.config.numCpu in (1, 2, 4, 8) and summary.config.memorySizeMB >= 2048
        assert ("guest.ipAddress" in vm) == (vm["runtime.powerState"] == "poweredOn"), vm
        assert summary.guest.ipAddress == vm.get("guest.ipAddress")
    collector = si.content.propertyCollector
    expect(vmodl.fault.InvalidArgument, lambda: collector.ContinueRetrievePropertiesEx("4711"))
    expect(vmodl.query.InvalidProperty, lambda: retrieve(si, view, vim.VirtualMachine, ["config.color"], 7))
    expect(vmodl.query.InvalidProperty, lambda: retrieve(si, view, vim.VirtualMachine, ["color"], 7))
    view.DestroyView()
    # All properties, and each alone: every one that the type has is known, whether it has a value
    # or not.
    for kind in (vim.Folder, vim.Datacenter, vim.ClusterComputeResource, vim.ResourcePool, vim.Datastore, vim.Network,
                 vim.HostSystem, vim.VirtualMachine):
        entity = root if kind is vim.Folder else list_container(si, root, [kind])[0]
        spec = PC.FilterSpec(propSet=[PC.PropertySpec(type=kind, all=True)], objectSet=[PC.ObjectSpec(obj=entity)])
        [content] = collector.RetrieveContents([spec])
        assert {prop.name for prop in content.propSet} >= {"name", "overallStatus", "tag"}
        for prop in kind._GetPropertyList():
            if VmomiSupport.IsChildVersion("vim.version.v8_0_2_0", prop.version):
                getattr(entity, prop.name)


def traversal(si):
    """The paths of the classic full traversal, as `govc ls` and older scripts walk them."""
    to = PC.SelectionSpec
    steps = [("folder", vim.Folder, "childEntity", ["folder", "vms", "hosts", "cluster", "pool"]),
             ("vms", vim.Datacenter, "vmFolder", ["folder"]),
             ("hosts", vim.Datacenter, "hostFolder", ["folder"]),
             ("cluster", vim.ComputeResource, "host", []),
             ("pool", vim.ComputeResource, "resourcePool", [])]
    select = [PC.TraversalSpec(name=name, type=kind, path=path, skip=False, selectSet=[to(name=next) for next in then])
              for name, kind, path, then in steps]
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name", "parent"])],
        objectSet=[PC.ObjectSpec(obj=si.content.rootFolder, selectSet=select)],
    )
    found = {content.obj: {prop.name: prop.val for prop in content.propSet}
             for content in si.content.propertyCollector.RetrieveContents([spec])}
    assert len(found) == 6 + VMS + HOSTS, len(found)

    def path(entity):
        props = found[entity]
        return path(props["parent"]) + "/" + props["name"] if "parent" in props else ""

    for entity in found:
        assert si.content.searchIndex.FindByInventoryPath(path(entity)) == entity, path(entity)
    return {path(entity): entity for entity in found}


def search(si):
    index, root = si.content.searchIndex, si.content.rootFolder
    datacenter = root.childEntity[0]
    vm = index.FindByInventoryPath(f"{DATACENTER}/vm/app-000007")
    host = index.FindByInventoryPath(f"/{DATACENTER}/host/{CLUSTER}/esx-0001.lab.local")
    assert isinstance(vm, vim.VirtualMachine) and vm.name == "app-000007"
    assert isinstance(host, vim.HostSystem) and host.name == "esx-0001.lab.local"
    assert index.FindByInventoryPath(f"{DATACENTER}/host/{CLUSTER}/Resources") == vm.resourcePool
    for nothing in (f"{DATACENTER}/vm/app-{VMS:06}", f"{DATACENTER}/app-000007", "vm/app-000007", f"{DATACENTER}/vm/app-7"):
        assert index.FindByInventoryPath(nothing) is None, nothing
    assert index.FindChild(datacenter.vmFolder, "app-000007") == vm
    assert index.FindChild(datacenter, "vm") == datacenter.vmFolder and index.FindChild(vm, "vm") is None
    running = next(vm for vm in datacenter.vmFolder.childEntity if vm.runtime.powerState == "poweredOn")
    stopped = next(vm for vm in datacenter.vmFolder.childEntity if vm.runtime.powerState == "poweredOff")
    for within in (None, datacenter):
        assert index.FindByUuid(within, running.config.uuid, True) == running
        assert index.FindByUuid(within, running.config.instanceUuid, True, True) == running
        assert index.FindByUuid(within, running.config.instanceUuid, True, False) is None
        assert index.FindByUuid(within, host.hardware.systemInfo.uuid, False) == host
        assert index.FindByIp(within, running.guest.ipAddress, True) == running
        assert index.FindByDnsName(within, running.guest.hostName, True) == running
        assert index.FindByDnsName(within, host.name, False) == host
        assert index.FindAllByUuid(within, running.config.uuid, True) == [running]
        assert index.FindAllByIp(within, "10.255.255.255", True) == []
        assert index.FindAllByDnsName(within, host.name, False) == [host]
    assert index.FindByUuid(None, "no uuid", True) is None
    assert index.FindByDatastorePath(datacenter, stopped.config.files.vmPathName) == stopped
    elsewhere = vim.Datacenter("datacenter-9", si._stub)
    expect(vmodl.fault.ManagedObjectNotFound, lambda: index.FindByIp(elsewhere, "10.64.0.1", True))


def events_name_the_inventory(si, events):
    """Every reference in an event's arguments is to an object of that name."""
    named = {}

    def arguments(data):
        for prop in data._GetPropertyList():
            value = getattr(data, prop.name)
            if isinstance(value, vim.event.EntityEventArgument):
                inner = [getattr(value, field.name) for field in value._GetPropertyList()]
                # Alarms and scheduled tasks are no part of the inventory.
                named.update({ref: value.name for ref in inner if isinstance(ref, vim.ManagedEntity)})

    for event in events:
        arguments(event)
        if event.vm is not None and event.host is not None:
            assert event.vm.vm in on_host(event.host.host), event
    # All machines, the datacenter, the cluster, the datastore, and the root folder as the place of
    # an alarm.
    assert len(named) == VMS + HOSTS + 4, len(named)
    for ref, name in named.items():
        assert ref.name == name, (ref, name)


_on_host = {}


def on_host(host):
    if host not in _on_host:
        _on_host[host] = set(host.vm)
    return _on_host[host]


# --- events


def query(si, **spec):
    return si.content.eventManager.QueryEvents(Spec(**spec))


def read(si, **spec):
    """All that a collector with this filter reads, by pages."""
    collector = si.content.eventManager.CreateCollectorForEvents(Spec(**spec))
    found = []
    while page := collector.ReadNextEvents(100):
        found += page
    collector.DestroyCollector()
    return found


def filters(si, events):
    manager, root = si.content.eventManager, si.content.rootFolder
    categories = {info.key: info.category for info in manager.description.eventInfo}
    datacenter = root.childEntity[0]
    checked = set()

    def category(event):
        return event.severity if isinstance(event, vim.event.EventEx) else categories[type(event)]

    def check(name, expected, **spec):
        """A collector reads all that match; a query returns the newest."""
        matching = [event.key for event in events if expected(event)]
        assert matching and len(matching) < BACKLOG, name
        assert keys(read(si, **spec)) == matching, name
        if len(matching) < 300:  # reading events is what takes the time
            assert keys(query(si, **spec)) == matching, name
        assert keys(query(si, maxCount=3, **spec)) == matching[-3:], name
        checked.add(name)

    def by_user(**users):
        return {"userName": Spec.ByUsername(**users)}

    def by_entity(entity, recursion):
        return {"entity": Spec.ByEntity(entity=entity, recursion=recursion)}

    check("system", lambda event: not event.userName, **by_user(systemUser=True))
    check("users", lambda event: event.userName, **by_user(systemUser=False))
    check("one user", lambda event: event.userName == "LAB\\backup", **by_user(systemUser=False, userList=["LAB\\backup"]))
    check("two users", lambda event: event.userName in ("LAB\\backup", "LAB\\scanner"),
          **by_user(systemUser=False, userList=["LAB\\backup", "LAB\\scanner"]))
    check("system or a user", lambda event: event.userName in ("", "LAB\\scanner"),
          **by_user(systemUser=True, userList=["LAB\\scanner"]))
    for wanted in (["info"], ["warning"], ["error"], ["user"], ["warning", "error"]):
        check(f"category {wanted}", lambda event: category(event) in wanted, category=wanted)
    for chain in (events[0].chainId, events[700].chainId, events[-1].chainId):
        check(f"chain {chain}", lambda event: event.chainId == chain, eventChainId=chain)
    check("type id", lambda event: isinstance(event, vim.event.VmPoweredOnEvent), eventTypeId=["VmPoweredOnEvent"])
    check("base type id", lambda event: isinstance(event, vim.event.SessionEvent), eventTypeId=["SessionEvent"])
    check("EventEx id", lambda event: getattr(event, "eventTypeId", "") == "com.vmware.sso.LoginSuccess",
          eventTypeId=["com.vmware.sso.LoginSuccess"])
    check("type", lambda event: isinstance(event, vim.event.VmEvent), type=[vim.event.VmEvent])
    check("type EventEx", lambda event: type(event) is vim.event.EventEx, type=[vim.event.EventEx])
    begin, end = events[100].createdTime, events[900].createdTime
    check("time", lambda event: begin <= event.createdTime <= end, time=Spec.ByTime(beginTime=begin, endTime=end))
    check("since", lambda event: begin <= event.createdTime, time=Spec.ByTime(beginTime=begin))
    vm = next(event.vm.vm for event in events if event.vm)
    host = next(event.host.host for event in events if event.host)
    about_vm, about_host = (lambda event: event.vm and event.vm.vm == vm), (lambda event: event.host and event.host.host == host)
    for recursion in ("self", "all"):
        check(f"vm {recursion}", about_vm, **by_entity(vm, recursion))
        check(f"host {recursion}", about_host, **by_entity(host, recursion))
    check("datacenter all", lambda event: event.datacenter, **by_entity(datacenter, "all"))
    check("datacenter self", lambda event: event.datacenter and not event.computeResource, **by_entity(datacenter, "self"))
    check("datacenter children", lambda event: event.computeResource, **by_entity(datacenter, "children"))
    check("cluster all", lambda event: event.computeResource, **by_entity(host.parent, "all"))
    check("vm folder all", lambda event: event.vm, **by_entity(datacenter.vmFolder, "all"))
    check("pool all", lambda event: event.vm, **by_entity(vm.resourcePool, "all"))
    check("datastore self", lambda event: event.ds, **by_entity(datacenter.datastore[0], "self"))
    check("alarm", lambda event: isinstance(event, vim.event.AlarmEvent), alarm=vim.alarm.Alarm("alarm-6", si._stub))
    check("several", lambda event: not event.userName and category(event) == "info" and about_host(event),
          category=["info"], **by_user(systemUser=True), **by_entity(host, "all"))
    assert len(checked) >= 25
    assert keys(read(si, **by_entity(root, "all"))) == keys(events) == keys(read(si, tag=[""]))
    for nothing in (dict(tag=["prod"]), dict(eventChainId=BACKLOG * 2), by_user(systemUser=False, userList=["nobody"]),
                    dict(eventTypeId=["EventEx"]), by_entity(vm, "children")):
        assert read(si, **nothing) == [] == query(si, **nothing), nothing
    assert all(event.fullFormattedMessage for event in query(si, maxCount=20, disableFullMessage=False))
    assert not any(event.fullFormattedMessage for event in query(si, maxCount=20, disableFullMessage=True))
    for refused in (dict(maxCount=0), dict(maxCount=1001), dict(category=["fatal"]),
                    dict(type=[vim.event.VmEvent], eventTypeId=["VmEvent"])):
        expect(vmodl.fault.InvalidArgument, lambda: query(si, **refused))
        expect(vmodl.fault.InvalidArgument, lambda: manager.CreateCollectorForEvents(Spec(**refused)))
    gone = vim.VirtualMachine("vm-1999999", si._stub)
    expect(vmodl.fault.ManagedObjectNotFound, lambda: query(si, **by_entity(gone, "all")))


def newest(si):
    assert keys(query(si, maxCount=10)) == list(range(BACKLOG - 9, BACKLOG + 1))
    assert keys(query(si, maxCount=1000)) == list(range(BACKLOG - 999, BACKLOG + 1))
    # Without a maximum the answer is bounded all the same.
    assert keys(query(si)) == list(range(BACKLOG - 999, BACKLOG + 1))


def paging(si, events):
    """Both directions, from both ends, in pages that do not divide the whole."""
    manager = si.content.eventManager
    everything = keys(events)

    def pages(read_page):
        found = []
        while page := read_page(333):
            assert len(page) <= 333
            found += keys(page)
        return found

    collector = manager.CreateCollectorForEvents(Spec(disableFullMessage=False))
    assert collector.ReadPreviousEvents(10) == [], "a new collector stands before the oldest event"
    assert pages(collector.ReadNextEvents) == everything
    assert pages(collector.ReadPreviousEvents) == everything[::-1]
    assert pages(collector.ReadNextEvents) == everything
    collector.RewindCollector()
    assert keys(collector.ReadNextEvents(5)) == everything[:5]
    assert keys(collector.ReadPreviousEvents(2)) == everything[3:5][::-1], "the cursor stands between events"
    assert keys(collector.ReadNextEvents(2)) == everything[3:5]
    collector.ResetCollector()
    assert collector.ReadNextEvents(5) == []
    assert keys(collector.ReadPreviousEvents(4)) == everything[:-5:-1]
    assert sorted(keys(collector.latestPage)) == everything[-10:], "ten by default"
    # A larger page reaches back, a smaller one cuts off; the cursor stays.
    for size in (25, 1000, 3):
        collector.SetCollectorPageSize(size)
        assert sorted(keys(collector.latestPage)) == everything[-size:], size
    assert keys(collector.ReadPreviousEvents(1)) == [everything[-5]]
    for wrong in (0, -1, 1001):
        expect(vmodl.fault.InvalidArgument, lambda: collector.SetCollectorPageSize(wrong))
        expect(vmodl.fault.InvalidArgument, lambda: collector.ReadPreviousEvents(wrong))
    collector.DestroyCollector()
    expect(vmodl.fault.ManagedObjectNotFound, lambda: collector.latestPage)
    # The same with a filter: its pages are full of what matches.
    sessions = [event.key for event in events if isinstance(event, vim.event.SessionEvent)]
    collector = manager.CreateCollectorForEvents(Spec(eventTypeId=["SessionEvent"], maxCount=4))
    assert sorted(keys(collector.latestPage)) == sessions[-4:]
    assert pages(collector.ReadNextEvents) == sessions
    assert pages(collector.ReadPreviousEvents) == sessions[::-1]
    collector.DestroyCollector()


def list_view(si):
    """`govc events A B` watches its collectors through a list view."""
    manager, views = si.content.eventManager, si.content.viewManager
    made = [manager.CreateCollectorForEvents(Spec(maxCount=n)) for n in (1, 2, 3)]
    view = views.CreateListView(made[:2])
    assert list(view.view) == made[:2]
    view.ModifyListView(add=[made[2]], remove=[made[0]])
    assert list(view.view) == made[1:]
    by_view = PC.TraversalSpec(type=vim.view.ListView, path="view", skip=False)
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=vim.event.EventHistoryCollector, pathSet=["latestPage"])],
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[by_view])],
    )
    contents = si.content.propertyCollector.RetrieveContents([spec])
    assert [len(content.propSet[0].val) for content in contents] == [2, 3]
    view.ResetListView([made[0]])
    assert list(view.view) == made[:1]
    view.DestroyView()
    for collector in made:
        collector.DestroyCollector()


def main():
    si = SmartConnect(protocol="http", host="127.0.0.1", port=PORT, user="administrator@vsphere.local", pwd="VMware1!")
    events = all_events(si)
    views(si)
    properties(si)
    traversal(si)
    search(si)
    events_name_the_inventory(si, events)
    filters(si, events)
    newest(si)
    paging(si, events)
    list_view(si)
    Disconnect(si)
    print("ok")


main()
