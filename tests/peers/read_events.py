"""Reads a vCenter's events by VMware's own Python client: one line `KEY CLASS` an event, in reading order.

Usage: read_events.py HOST PORT INSTANCE_UUID EVENT_TYPE, with the user in VC_USER and the password in VC_PASSWORD.

After an empty page it waits for a line on standard input and reads on by the same collector; it ends with that input.
"""

import os
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

host, port, instance_uuid, event_type = sys.argv[1:]
service = SmartConnect(
    host=host, port=int(port), protocol="http", user=os.environ["VC_USER"], pwd=os.environ["VC_PASSWORD"]
)
# Only calls, no property reads: pyvmomi reads a property by `Fetch`, and vcsim panics on that.
content = service.RetrieveContent()
assert content.about.instanceUuid == instance_uuid, content.about.instanceUuid
everything = vim.event.EventFilterSpec.ByEntity(entity=content.rootFolder, recursion="all")
collector = content.eventManager.CreateCollectorForEvents(
    vim.event.EventFilterSpec(entity=everything, eventTypeId=[event_type])
)
while True:
    while page := collector.ReadNextEvents(3):
        for event in page:
            print(event.key, type(event).__name__.rsplit(".", 1)[-1], flush=True)
    print("end", flush=True)
    if not sys.stdin.readline():
        break
collector.DestroyCollector()
Disconnect(service)
