"""Renders the manifests in deploy/kubernetes and checks them, for scripts/test-packages.

    manifests.py KUBECTL OUTPUT VERSION [PROGRAM]

Writes OUTPUT/single.yaml and so on. The objects are validated against the schemas of an old and of
the newest Kubernetes, and against rules about how they fit together. At the end each rule has to
find a mistake that is made for it. PROGRAM is an event-router that reads the configurations.
"""
import base64
import copy
import os
import pathlib
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KUBECTL, OUTPUT, VERSION = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
PROGRAM = sys.argv[4] if len(sys.argv) > 4 else None

# The oldest one that knows every field, and the newest one of the validator.
KUBERNETES = ("1.27", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
# Kinds of other projects, whose schemas no package registry has.
NO_SCHEMA = {"PodMonitor"}
SECRETS_FOLDER = "/run/secrets/event-router"


def prepare():
    """Copies the manifests and follows docs/install.md, except for the edited configuration."""
    tree = OUTPUT / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # Secrets that somebody has written into the clone are not used.
    own = shutil.ignore_patterns("vc1-password", "metrics-token")
    shutil.copytree(ROOT / "deploy/kubernetes", tree / "deploy/kubernetes", ignore=own)
    return tree


def run_block(name, tree, text=""):
    commands = subprocess.run(
        [sys.executable, ROOT / "tests/packages/document.py", "print", name], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    # The document says `kubectl`.
    environment = {**os.environ, "PATH": f"{pathlib.Path(KUBECTL).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tree, env=environment, input=text, stdout=subprocess.PIPE, check=True, text=True
    ).stdout


def render(tree, overlay, with_prometheus):
    folder = tree / "deploy/kubernetes/overlays" / overlay
    if with_prometheus:
        # A sibling, so that relative paths stay valid.
        sibling = folder.with_name(f"{overlay}-prometheus")
        sibling.mkdir()
        (sibling / "kustomization.yaml").write_text(
            f"namespace: event-router\nresources: [../{overlay}]\ncomponents: [../../components/prometheus]\n"
        )
        folder = sibling
    text = subprocess.run([KUBECTL, "kustomize", folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    (OUTPUT / f"{folder.name}.yaml").write_text(text)
    return list(yaml.safe_load_all(text))


# --- rules: each yields the mistakes that it finds


def by_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def only(objects, kind):
    (item,) = by_kind(objects, kind)
    return item


def pod(objects):
    return only(objects, "StatefulSet")["spec"]["template"]


def container(objects):
    (item,) = pod(objects)["spec"]["containers"]
    return item


def configuration(objects):
    return yaml.safe_load(only(objects, "ConfigMap")["data"]["config.yaml"])


def schema(objects):
    for item in objects:
        if item["kind"] in NO_SCHEMA:
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{item['kind']} in Kubernetes {version}: {error.message}"


def selectors(objects):
    """Every selector fits the pod, and none is empty."""
    labels = pod(objects)["metadata"]["labels"]
    stateful = only(objects, "StatefulSet")["spec"]
    found = [
        ("StatefulSet", stateful["selector"]["matchLabels"]),
        ("Service", only(objects, "Service")["spec"].get("selector")),
        ("NetworkPolicy", only(objects, "NetworkPolicy")["spec"]["podSelector"].get("matchLabels")),
        ("PodDisruptionBudget", only(objects, "PodDisruptionBudget")["spec"].get("selector", {}).get("matchLabels")),
        *(("PodMonitor", item["spec"]["selector"].get("matchLabels")) for item in by_kind(objects, "PodMonitor")),
    ]
    for kind, selector in found:
        if not selector or not selector.items() <= labels.items():
            yield f"the selector of the {kind}, {selector}, does not fit the labels {labels}"
    if stateful["serviceName"] != only(objects, "Service")["metadata"]["name"]:
        yield "the StatefulSet names another Service"


def rights(objects):
    """The pod has only the rights that it needs."""
    spec, own = pod(objects)["spec"], container(objects)["securityContext"]
    expected = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    expected |= {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    for key, value in expected.items():
        if spec["securityContext"].get(key) != value:
            yield f"securityContext.{key} is not {value}"
    if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False:
        yield "the root file system is writable, or privileges can grow"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities are left"
    if "limits" not in container(objects)["resources"]:
        yield "no limit of memory"
    if only(objects, "Namespace")["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the level `restricted`"


def token(objects):
    """The token of the service account is there if, and only if, a `ref` needs it."""
    uses_ref = any("ref" in processor for processor in configuration(objects)["processors"])
    mounted = pod(objects)["spec"]["automountServiceAccountToken"]
    if uses_ref != mounted or uses_ref != bool(by_kind(objects, "Role")):
        yield f"`ref` is used: {uses_ref}; the token is mounted: {mounted}"
    account = pod(objects)["spec"]["serviceAccountName"]
    names = [subject["name"] for binding in by_kind(objects, "RoleBinding") for subject in binding["subjects"]]
    if only(objects, "ServiceAccount")["metadata"]["name"] != account or any(name != account for name in names):
        yield "the pod and the binding use different accounts"
    for processor in configuration(objects)["processors"]:
        if "ref" in processor:
            rule = only(objects, "Role")["rules"][0]
            wanted = (processor["ref"]["apiVersion"].split("/")[0], processor["ref"]["name"])
            if wanted != (rule["apiGroups"][0], rule["resourceNames"][0]) or rule["verbs"] != ["get"]:
                yield f"the role does not allow exactly {wanted}"


def probes(objects):
    """Probes, Prometheus and the policy reach the port that the router listens on."""
    address, port = configuration(objects)["admin"]["bindAddress"].rsplit(":", 1)
    ports = {item["name"]: item["containerPort"] for item in container(objects)["ports"]}
    if address != "0.0.0.0" or list(ports.values()) != [int(port)]:
        yield f"the router listens on {address}:{port}, the pod has the ports {ports}"
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        request = container(objects).get(probe, {}).get("httpGet", {})
        if request.get("port") not in ports or request.get("path") != path:
            yield f"{probe} asks {request}"
    for rule in only(objects, "NetworkPolicy")["spec"]["ingress"]:
        if [item["port"] for item in rule["ports"]] != list(ports):
            yield "the policy allows another port"
    for monitor in by_kind(objects, "PodMonitor"):
        if monitor["spec"]["podMetricsEndpoints"][0]["port"] not in ports:
            yield "the PodMonitor names another port"


def files(objects):
    """Volumes exist, and every secret that the configuration names is a key of the Secret."""
    spec, secret = pod(objects)["spec"], only(objects, "Secret")
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    claims = {claim["metadata"]["name"] for claim in only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container(objects)["volumeMounts"]}
    if set(mounts.values()) != set(volumes) | claims:
        yield f"mounts {mounts} do not fit the volumes"
    if mounts.get("/var/lib/event-router") not in claims:
        yield "the state has no volume of its own"
    if volumes["config"]["configMap"]["name"] != only(objects, "ConfigMap")["metadata"]["name"]:
        yield "the pod mounts another ConfigMap"
    if volumes["secrets"]["secret"]["secretName"] != secret["metadata"]["name"] or SECRETS_FOLDER not in mounts:
        yield "the pod mounts another Secret"
    words = only(objects, "ConfigMap")["data"]["config.yaml"].split()
    named = {word.rsplit("/", 1)[1] for word in words if word.startswith(SECRETS_FOLDER)}
    for monitor in by_kind(objects, "PodMonitor"):
        named.add(monitor["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]["key"])
    if not named or not named <= set(secret["data"]):
        yield f"the secrets {named} are used, {set(secret['data'])} exist"
    if "auth" not in configuration(objects)["admin"]:
        yield "everybody in the cluster can read the metrics"


def release(objects):
    """The image has the version of this release."""
    if container(objects)["image"].rsplit(":", 1)[-1] != VERSION:
        yield f"the image is {container(objects)['image']}, the version {VERSION}"


RULES = (schema, selectors, rights, token, probes, files, release)


# --- mistakes that the rules must find


def config_with(objects, old, new):
    data = only(objects, "ConfigMap")["data"]
    assert old in data["config.yaml"]
    data["config.yaml"] = data["config.yaml"].replace(old, new)


MISTAKES = [
    (schema, lambda objects: container(objects)["livenessProbe"].update(failures=3)),
    (schema, lambda objects: only(objects, "Service").pop("spec") and only(objects, "Service").update(spec=[])),
    (selectors, lambda objects: only(objects, "PodDisruptionBudget")["spec"].pop("selector")),
    (selectors, lambda objects: only(objects, "NetworkPolicy")["spec"].update(podSelector={})),
    (selectors, lambda objects: pod(objects)["metadata"]["labels"].clear()),
    (rights, lambda objects: pod(objects)["spec"]["securityContext"].pop("runAsNonRoot")),
    (rights, lambda objects: container(objects)["securityContext"].update(readOnlyRootFilesystem=False)),
    (rights, lambda objects: container(objects)["securityContext"].update(capabilities={"drop": ["NET_RAW"]})),
    (token, lambda objects: pod(objects)["spec"].update(automountServiceAccountToken="maybe")),
    (probes, lambda objects: config_with(objects, "0.0.0.0:8082", "127.0.0.1:8082")),
    (probes, lambda objects: container(objects)["readinessProbe"]["httpGet"].update(path="/healthz")),
    (files, lambda objects: only(objects, "Secret")["data"].pop("vc1-password")),
    (files, lambda objects: container(objects)["volumeMounts"].pop()),
    (release, lambda objects: container(objects).update(image="event-router:latest")),
]


def find_mistakes(objects):
    for rule, make in MISTAKES:
        broken = copy.deepcopy(objects)
        make(broken)
        assert list(rule(broken)), f"the rule `{rule.__name__}` does not find a mistake that was made for it"


def check_configuration(name, objects):
    """Has the program read the configuration, with the secrets in a folder of the test."""
    folder = OUTPUT / f"{name}-secrets"
    folder.mkdir(exist_ok=True)
    for key, value in only(objects, "Secret")["data"].items():
        (folder / key).write_bytes(base64.b64decode(value))
    path = OUTPUT / f"{name}-config.yaml"
    path.write_text(only(objects, "ConfigMap")["data"]["config.yaml"].replace(SECRETS_FOLDER, str(folder)))
    command = [PROGRAM, "check", "--config", path]
    environment = dict(os.environ)
    if pod(objects)["spec"]["automountServiceAccountToken"]:
        if os.geteuid() != 0:
            print(f"skipped: reading the configuration of {name}, only root can give the program a token")
            return
        # The program looks for its account in /var/run, which is a link to /run.
        script = """
            mount -t tmpfs none /run
            mkdir -p /run/secrets/kubernetes.io/serviceaccount
            cd /run/secrets/kubernetes.io/serviceaccount
            echo token >token
            openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -keyout /dev/null -out ca.crt 2>/dev/null
            exec "$@"
        """
        command = ["unshare", "--mount", "sh", "-ec", script, "sh", *command]
        environment["KUBERNETES_SERVICE_HOST"] = "192.0.2.1"
    subprocess.run(command, check=True, env=environment)


def main():
    tree = prepare()
    # Without the secrets there is an error that names the file, and no half-made Secret.
    refused = subprocess.run(
        [KUBECTL, "kustomize", tree / "deploy/kubernetes/overlays/single"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert refused.returncode != 0 and "vc1-password" in refused.stderr, refused
    run_block("kubernetes-secrets", tree, "password\n")
    assert "kind: StatefulSet" in run_block("kubernetes-render", tree)
    mistakes = []
    for overlay in ("single", "knative"):
        for with_prometheus in (False, True):
            objects = render(tree, overlay, with_prometheus)
            assert bool(by_kind(objects, "PodMonitor")) == with_prometheus
            for rule in RULES:
                mistakes += [f"{overlay}: {rule.__name__}: {mistake}" for mistake in rule(objects)]
            find_mistakes(objects)
            which = f"{overlay} with prometheus" if with_prometheus else overlay
            print(f"{which}: {len(objects)} objects, Kubernetes {' and '.join(KUBERNETES)}", flush=True)
        if PROGRAM:
            check_configuration(overlay, objects)
    if not PROGRAM:
        print("skipped: reading the configurations, no event-router was built")
    print(f"skipped: schema of {', '.join(NO_SCHEMA)}, no package registry has it")
    assert not mistakes, "\n".join(mistakes)


main()
