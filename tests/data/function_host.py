"""Serves one of the functions of docs/function-authors.md, as OpenFaaS's python3-http template does.

function_host.py DOCUMENT NAME: takes the code that begins with `# NAME.py` out of the document, prints its port, and runs it in the working directory. Every
fifth answer is lost after the work was done. `calls.jsonl` has every call.
"""

import http.server
import json
import re
import sys
import threading
import types

document, name = sys.argv[1:]
blocks = re.findall(r"^```python\n(# (\w+)\.py: .*?)^```$", open(document, encoding="utf-8").read(), re.M | re.S)
code = {block_name: block for block, block_name in blocks}[name]

lock = threading.Lock()
calls = 0


def note(file, **what):
    with lock, open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(what) + "\n")


# What answers.py imports: busy for its first three calls, and without some machines.
cmdb = types.ModuleType("cmdb")
cmdb.Busy = type("Busy", (Exception,), {})
cmdb.Unknown = type("Unknown", (Exception,), {})
cmdb.calls = 0


def tag(vm, event_id):
    with lock:
        cmdb.calls += 1
        busy = cmdb.calls <= 3
    if busy:
        raise cmdb.Busy
    if vm.endswith("7"):
        raise cmdb.Unknown
    note("tagged.jsonl", vm=vm, id=event_id)


cmdb.tag = tag
sys.modules["cmdb"] = cmdb

# What later.py imports.
slow = types.ModuleType("slow")
slow.work = lambda event: note("worked.jsonl", id=event["id"])
sys.modules["slow"] = slow

function = types.ModuleType(name)
exec(compile(code, f"{name}.py", "exec"), function.__dict__)


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            answer = function.handle(types.SimpleNamespace(body=body), None)
        except Exception as error:  # what the template does
            answer = {"statusCode": 500, "body": repr(error)}
        note("calls.jsonl", id=json.loads(body)["id"], status=answer["statusCode"], why=answer.get("body"))
        with lock:
            calls += 1
            lost = calls % 5 == 0
        if lost:
            self.close_connection = True
            return
        text = answer.get("body", "").encode()
        self.send_response(answer["statusCode"])
        for header, value in answer.get("headers", {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:  # the router was killed
            self.close_connection = True

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
print(server.server_address[1], flush=True)
server.serve_forever()
