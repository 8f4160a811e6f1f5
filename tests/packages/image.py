"""Runs the container image with runc, with the settings of the Kubernetes manifest.

    image.py ARCHIVE MANIFEST VERSION FOLDER

MANIFEST is the rendered overlay `single`. User, arguments, mounts, capabilities, limits and the
configuration come from it; the network is a loopback of the container's own. FOLDER is scratch.
"""
import base64
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import yaml

ARCHIVE, MANIFEST, VERSION, FOLDER = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
NAME = f"event-router-test-{os.getpid()}"
WAIT_SECONDS_MAX = 60
# Debian's copy of the profile that container runtimes use (RuntimeDefault).
SECCOMP = pathlib.Path("/usr/share/containers/seccomp.json")


def unpack():
    """Returns the configuration of the image, and unpacks its layers."""
    oci = FOLDER / "oci"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(oci)

    def blob(descriptor):
        return oci / "blobs" / descriptor["digest"].replace(":", "/")

    index = json.loads((oci / "index.json").read_text())
    (entry,) = index["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == f"event-router:{VERSION}", entry
    manifest = json.loads(blob(entry).read_text())
    root = FOLDER / "bundle/rootfs"
    root.mkdir(parents=True)
    for layer in manifest["layers"]:
        # tar keeps owners and modes, which Python's filters do not.
        subprocess.run(["tar", "-xzpf", blob(layer), "-C", root, "--same-owner", "--numeric-owner"], check=True)
    return json.loads(blob(manifest["config"]).read_text())


def check_contents(image, root):
    config = image["config"]
    assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/usr/bin/event-router"], config
    assert config["StopSignal"] == "SIGTERM" and config["Labels"]["org.opencontainers.image.version"] == VERSION, config
    state = (root / "var/lib/event-router").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (65532, 65532, 0o700), state
    assert not list(root.glob("bin/*")) and not list(root.glob("usr/bin/*sh")), "the image has a shell"
    assert "BEGIN CERTIFICATE" in (root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()} == {"libc6", "libgcc-s1", "ca-certificates"}


def seccomp():
    """Translates the profile into runc's form, for a process without capabilities."""
    profile = json.loads(SECCOMP.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    calls = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("caps") or machine not in includes.get("arches", [machine]) or machine in excludes.get("arches", []):
            continue
        row = {key: rule[key] for key in ("names", "action", "args") if rule.get(key)}
        if rule.get("errnoRet") is not None:
            row["errnoRet"] = rule["errnoRet"]
        calls.append(row)
    return {"defaultAction": profile["defaultAction"], "architectures": [f"SCMP_ARCH_{platform.machine().upper()}"], "syscalls": calls}


def volume_folders(objects, spec):
    """Makes the content of each volume, as the kubelet would, and returns the folders."""
    group = spec["securityContext"]["fsGroup"]
    contents = {}
    for item in objects:
        if item["kind"] == "ConfigMap":
            contents["config"] = {key: value.encode() for key, value in item["data"].items()}
        if item["kind"] == "Secret":
            contents["secrets"] = {key: base64.b64decode(value) for key, value in item["data"].items()}
    folders = {name: FOLDER / "volumes" / name for name in (*contents, "state")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        os.chown(folder, 0, group)
        folder.chmod(0o2775 if name == "state" else 0o755)
        for key, value in contents.get(name, {}).items():
            (folder / key).write_bytes(value)
            os.chown(folder / key, 0, group)
            (folder / key).chmod(0o440)
    return folders


def bundle(image, objects):
    stateful = next(item for item in objects if item["kind"] == "StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    rights, own = spec["securityContext"], container["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]} and rights["seccompProfile"] == {"type": "RuntimeDefault"}
    folders = volume_folders(objects, spec)
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "size=64m"]},
    ]
    for mount in container["volumeMounts"]:
        options = ["bind", "ro" if mount.get("readOnly") else "rw"]
        mounts.append({"destination": mount["mountPath"], "type": "bind", "source": str(folders[mount["name"]]), "options": options})
    memory = container["resources"]["limits"]["memory"]
    assert memory.endswith("Mi")
    linux = {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "resources": {"memory": {"limit": int(memory[:-2]) << 20}},
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    }
    if SECCOMP.exists():
        linux["seccomp"] = seccomp()
    else:
        print(f"skipped: seccomp, {SECCOMP} is missing")
    config = {
        "ociVersion": "1.0.2",
        "hostname": "event-router-0",
        "root": {"path": "rootfs", "readonly": own["readOnlyRootFilesystem"]},
        "process": {
            "user": {"uid": rights["runAsUser"], "gid": rights["runAsGroup"], "additionalGids": [rights["fsGroup"]]},
            "args": image["config"]["Entrypoint"] + container["args"],
            "env": image["config"]["Env"],
            "cwd": image["config"]["WorkingDir"],
            "noNewPrivileges": not own["allowPrivilegeEscalation"],
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "ambient")},
        },
        "mounts": mounts,
        "linux": linux,
    }
    (FOLDER / "bundle/config.json").write_text(json.dumps(config))
    return container


def ask(pid, port, path, token=None):
    """Returns the status of an answer, asked from inside the container's network."""
    header = ["--header", f"Authorization: Bearer {token}"] if token else []
    curl = ["curl", "--silent", "--output", "/dev/null", "--max-time", "5", "--write-out", "%{http_code}"]
    command = ["nsenter", "--target", str(pid), "--net", *curl, *header, f"http://127.0.0.1:{port}{path}"]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout)


def wait_for(what, condition, process):
    begun = time.monotonic()
    while not condition():
        assert process.poll() is None, f"the container ended with {process.returncode} before {what}"
        assert time.monotonic() - begun < WAIT_SECONDS_MAX, f"no {what} after {WAIT_SECONDS_MAX} s"
        time.sleep(0.01)
    return time.monotonic() - begun


def container_pid():
    state = subprocess.run(["runc", "state", NAME], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(state.stdout)["pid"] if state.returncode == 0 else 0


def execute(*command):
    done = subprocess.run(["runc", "exec", NAME, "event-router", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def check_run(container, objects, log):
    begun = time.monotonic()
    process = subprocess.Popen(["runc", "run", "--bundle", FOLDER / "bundle", NAME], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for("process", container_pid, process)
        pid = container_pid()
        port = container["ports"][0]["containerPort"]

        def answers(probe):
            request = container[probe]["httpGet"]
            return ask(pid, port, request["path"]) == 200

        wait_for("/healthz", lambda: answers("livenessProbe"), process)
        print(f"/healthz answers {1000 * (time.monotonic() - begun):.0f} ms after `runc run`")
        wait_for("/readyz", lambda: answers("readinessProbe"), process)
        # The probes need no token; the metrics do.
        secret = next(item for item in objects if item["kind"] == "Secret")["data"]["metrics-token"]
        token = base64.b64decode(secret).decode()
        assert ask(pid, port, "/metrics") == 401 and ask(pid, port, "/stats") == 401
        assert ask(pid, port, "/metrics", token) == 200 and ask(pid, port, "/metrics", "wrong") == 401
        status = (pathlib.Path("/proc") / str(pid) / "status").read_text()
        rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert rows["Uid"].split() == ["65532"] * 4 and int(rows["CapBnd"], 16) == 0 and rows["NoNewPrivs"] == "1", status
        assert rows["Seccomp"] == ("2" if SECCOMP.exists() else "0"), status
        print(f"uid 65532, no capabilities, seccomp {rows['Seccomp']}, resident {int(rows['VmRSS'].split()[0]) / 1024:.1f} MiB")
        # The commands of docs/install.md.
        code, text = execute("health")
        assert code == 0 and text.startswith("healthy: "), text
        code, text = execute("checkpoint", "show")
        assert code == 0 and "SOURCE" in text, text
        code, text = execute("backup", "/var/lib/event-router/before-upgrade.db")
        assert code == 0 and (FOLDER / "volumes/state/before-upgrade.db").exists(), text
        code, text = execute("backup", "/tmp/state.db")
        assert code == 1, f"the root file system can be written: {text}"
        os.kill(pid, signal.SIGTERM)
        ended = process.wait(WAIT_SECONDS_MAX)
        assert ended == 0, f"the router ended with {ended} after SIGTERM"
        assert (FOLDER / "volumes/state/state/state.db").exists()
    finally:
        if process.poll() is None:
            subprocess.run(["runc", "kill", NAME, "KILL"])
            process.wait()
        subprocess.run(["runc", "delete", "--force", NAME], stderr=subprocess.DEVNULL)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    image = unpack()
    check_contents(image, FOLDER / "bundle/rootfs")
    objects = list(yaml.safe_load_all(MANIFEST.read_text()))
    container = bundle(image, objects)
    path = FOLDER / "log"
    try:
        with path.open("wb") as log:
            check_run(container, objects, log)
    except BaseException:
        print(path.read_text(errors="replace"), file=sys.stderr)
        raise


main()
