"""Checks the bill of materials, for scripts/test-packages: bill_of_materials.py FILE VERSION."""
import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
assert error is None, error

document = json.loads(text)
program = document["metadata"]["component"]
assert (program["name"], program["version"]) == ("event-router", sys.argv[2]), program

names = {component["name"] for component in document["components"]}
assert {"tokio", "rustls", "aws-lc-sys", "libsqlite3-sys", "sqlite", "vsphere"} <= names, names
assert not names & {"testbed", "indicatif", "rcgen", "criterion", "cc"}, "tools and tests are in the list"
unlicensed = [component["name"] for component in document["components"] if not component.get("licenses")]
assert not unlicensed, f"no licence: {unlicensed}"

references = {component["bom-ref"] for component in [program, *document["components"]]}
for row in document["dependencies"]:
    assert {row["ref"], *row["dependsOn"]} <= references, row
print(f"{len(names)} components, valid CycloneDX 1.5")
