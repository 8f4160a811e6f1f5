"""Drives a synthetic vCenter with VMware's own Python SDK.

Usage: pyvmomi_client.py PORT BACKLOG INSTANCE_UUID. Prints `ok` and exits 0, or fails with a traceback.
The vCenter holds BACKLOG events, keys from 1, one millisecond apart; user administrator@vsphere.local, password VMware1!.
"""

import datetime
import sys
import threading
import time

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

PORT, BACKLOG, UUID = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
USER, PASSWORD = "administrator@vsphere.local", "VMware1!"
PC = vmodl.query.PropertyCollector


def connect(password=PASSWORD):
    return SmartConnect(protocol="http", host="127.0.0.1", port=PORT, user=USER, pwd=password)


def expect(fault, act):
    try:
        act()
    except fault as caught:
        return caught
    raise AssertionError(f"{fault} expected")


def keys(events):
    return [event.key for event in events]


def watch(si, obj, path):
    """An own property collector with one filter on obj.path."""
    collector = si.content.propertyCollector.CreatePropertyCollector()
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=type(obj), pathSet=[path])], objectSet=[PC.ObjectSpec(obj=obj)]
    )
    return collector, collector.CreateFilter(spec, partialUpdates=False)


def wait(collector, version, seconds):
    return collector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=seconds))


def login():
    expect(vim.fault.InvalidLogin, lambda: connect("wrong"))
    si = connect()
    about = si.content.about
    assert about.instanceUuid == UUID, about
    assert about.apiType == "VirtualCenter"
    now = si.CurrentTime()
    assert abs((now - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) < 60, now
    assert si.content.sessionManager.currentSession.userName == USER
    return si


def collectors(si):
    events = si.content.eventManager
    assert events.maxCollector == 32
    assert events.latestEvent.key == BACKLOG
    by_root = vim.event.EventFilterSpec.ByEntity(
        entity=si.content.rootFolder, recursion=vim.event.EventFilterSpec.RecursionOption.all
    )
    spec = vim.event.EventFilterSpec(entity=by_root, disableFullMessage=False, delayedInit=False)
    collector = events.CreateCollectorForEvents(spec)
    collector.SetCollectorPageSize(5)
    assert keys(collector.latestPage) == list(range(BACKLOG, BACKLOG - 5, -1))
    assert collector.filter.entity.recursion == "all"
    first = collector.ReadNextEvents(1000)
    assert keys(first) == list(range(1, 1001))
    for event in first:
        # Every class is one that the SDK knows, and every field has its type.
        assert type(event) is not vim.event.Event, event
        assert event.createdTime.tzinfo is not None and event.fullFormattedMessage, event
        if event.vm is not None:
            assert event.vm.vm._moId.startswith("vm-1") and event.vm.name.startswith("app-")
    assert len({type(event) for event in first}) > 15
    assert keys(collector.ReadNextEvents(1000)) == list(range(1001, BACKLOG + 1))
    assert collector.ReadNextEvents(1000) == []
    assert keys(collector.ReadPreviousEvents(3)) == [BACKLOG, BACKLOG - 1, BACKLOG - 2]
    collector.RewindCollector()
    assert keys(collector.ReadNextEvents(2)) == [1, 2]
    collector.ResetCollector()
    assert collector.ReadNextEvents(10) == []
    expect(vmodl.fault.InvalidArgument, lambda: collector.ReadNextEvents(0))
    expect(vmodl.fault.InvalidArgument, lambda: collector.SetCollectorPageSize(5000))
    collector.DestroyCollector()
    expect(vmodl.fault.ManagedObjectNotFound, lambda: collector.ReadNextEvents(1))
    return first


def filters(si, first):
    events = si.content.eventManager

    def query(**spec):
        return events.QueryEvents(vim.event.EventFilterSpec(**spec))

    powered_on = query(eventTypeId=["VmPoweredOnEvent"], maxCount=50)
    assert powered_on and all(isinstance(event, vim.event.VmPoweredOnEvent) for event in powered_on)
    sso = query(eventTypeId=["com.vmware.sso.LoginSuccess"])
    assert sso and all(event.eventTypeId == "com.vmware.sso.LoginSuccess" for event in sso)
    assert {argument.key for argument in sso[0].arguments} == {"userName", "userIp", "timestamp", "opId"}
    times = vim.event.EventFilterSpec.ByTime(beginTime=first[10].createdTime, endTime=first[19].createdTime)
    assert keys(query(time=times)) == list(range(11, 21))
    backup = query(userName=vim.event.EventFilterSpec.ByUsername(systemUser=False, userList=["LAB\\backup"]))
    assert backup and all(event.userName == "LAB\\backup" for event in backup)
    vm = next(event.vm.vm for event in first if event.vm is not None)
    by_vm = vim.event.EventFilterSpec.ByEntity(entity=vm, recursion="self")
    about_vm = query(entity=by_vm)
    assert about_vm and all(event.vm.vm._moId == vm._moId for event in about_vm)
    brief = query(maxCount=3, disableFullMessage=True)
    assert [event.fullFormattedMessage for event in brief] == [None] * 3
    known = {info.key for info in events.description.eventInfo}
    assert known > {vim.event.VmPoweredOnEvent, vim.event.EventEx, vim.event.TaskEvent}, known


def inventory(si):
    root = si.content.rootFolder
    datacenter = root.childEntity[0]
    assert (root.name, datacenter.name, datacenter.parent) == ("Datacenters", "DC-FRA-01", root)
    cluster = datacenter.hostFolder.childEntity[0]
    assert isinstance(cluster, vim.ClusterComputeResource) and cluster.host[0].name.startswith("esx-0000")
    view = si.content.viewManager.CreateContainerView(root, [vim.HostSystem], True)
    assert len(view.view) == len(cluster.host)
    view.DestroyView()
    traversal = PC.TraversalSpec(name="up", type=vim.ManagedEntity, path="parent", skip=False)
    traversal.selectSet = [PC.SelectionSpec(name="up")]
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name", "parent"])],
        objectSet=[PC.ObjectSpec(obj=cluster.host[0], selectSet=[traversal])],
    )
    found = si.content.propertyCollector.RetrieveContents([spec])
    names = [prop.val for content in found for prop in content.propSet if prop.name == "name"]
    assert names == ["esx-0000.lab.local", "CL-Prod-01", "host", "DC-FRA-01", "Datacenters"], names
    expect(vmodl.fault.ManagedObjectNotFound, lambda: vim.VirtualMachine("vm-9", si._stub).name)


def waiting(si):
    events = si.content.eventManager
    collector = events.CreateCollectorForEvents(vim.event.EventFilterSpec(maxCount=1))
    watcher, watched = watch(si, collector, "latestPage")
    update = wait(watcher, "", 5)
    change = update.filterSet[0].objectSet[0]
    assert (change.kind, keys(change.changeSet[0].val)) == ("enter", [BACKLOG])
    assert wait(watcher, update.version, 0) is None
    poster = connect()

    def post():
        time.sleep(0.2)
        log = poster.content.eventManager
        log.LogUserEvent(entity=poster.content.rootFolder.childEntity[0], msg='hello <world> & "quotes" ünïcode')

    thread = threading.Thread(target=post)
    thread.start()
    before = time.monotonic()
    update = wait(watcher, update.version, 30)
    thread.join()
    assert 0.1 < time.monotonic() - before < 10
    change = update.filterSet[0].objectSet[0]
    event = change.changeSet[0].val[0]
    assert (change.kind, event.key) == ("modify", BACKLOG + 1)
    assert event.message == 'hello <world> & "quotes" ünïcode' and event.userName == USER
    expect(vmodl.query.InvalidCollectorVersion, lambda: wait(watcher, "4711", 0))
    watched.DestroyPropertyFilter()
    watcher.DestroyPropertyCollector()
    expect(vmodl.fault.ManagedObjectNotFound, lambda: wait(watcher, "", 0))
    Disconnect(poster)


def posting(si):
    events = si.content.eventManager
    custom = vim.event.EventEx(
        key=0,
        chainId=0,
        createdTime=datetime.datetime.now(datetime.timezone.utc),
        userName="x",
        eventTypeId="com.example.my.event",
        severity="warning",
        message="a msg",
        arguments=[vmodl.KeyAnyValue(key="k1", value="v1"), vmodl.KeyAnyValue(key="k2", value=42)],
        objectId="vm-1000001",
        objectType=vim.VirtualMachine,
        objectName="app-000001",
    )
    events.PostEvent(custom)
    latest = events.latestEvent
    assert (latest.key, latest.eventTypeId, latest.severity) == (BACKLOG + 2, "com.example.my.event", "warning")
    assert [(a.key, a.value) for a in latest.arguments] == [("k1", "v1"), ("k2", 42)]


def limits(si):
    events = si.content.eventManager
    spec = vim.event.EventFilterSpec()
    made = []
    expect(vim.fault.InvalidState, lambda: [made.append(events.CreateCollectorForEvents(spec)) for _ in range(40)])
    assert len(made) >= 31, len(made)
    other = connect()
    foreign = vim.event.EventHistoryCollector(made[0]._moId, other._stub)
    expect(vmodl.fault.ManagedObjectNotFound, lambda: foreign.ReadNextEvents(1))
    Disconnect(other)
    Disconnect(si)
    expect(vim.fault.NotAuthenticated, lambda: events.QueryEvents(spec))


def main():
    si = login()
    first = collectors(si)
    filters(si, first)
    inventory(si)
    waiting(si)
    posting(si)
    limits(si)
    print("ok")


main()
