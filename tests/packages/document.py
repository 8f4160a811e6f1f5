"""The commands of docs/install.md, for scripts/test-packages.

    document.py check VERSION    fails if a block of commands has no comment that says who runs it
    document.py print NAME       prints the block that the comment `<!-- run: NAME -->` names

A comment stands above each block: `<!-- run: NAME -->` or `<!-- not run: REASON -->`.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/install.md"
RUNNERS = [ROOT / "scripts/test-packages", *(ROOT / "tests/packages").glob("*.py")]

BLOCK = re.compile(r"^(?P<mark>[^\n]*)\n(?P<indent> *)```sh\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
MARK = re.compile(r" *<!-- (?P<kind>run|not run): (?P<word>.+) -->")


def blocks():
    """Yields (kind, name or reason, commands) of each block."""
    text = DOCUMENT.read_text()
    found = list(BLOCK.finditer(text))
    assert len(found) == text.count("```sh"), "a block of commands has no line above it"
    for block in found:
        mark = MARK.fullmatch(block["mark"])
        assert mark, f"a block has no comment that says who runs it:\n{block['text']}"
        indent = len(block["indent"])
        lines = [line[indent:] if not line[:indent].strip() else line for line in block["text"].splitlines()]
        yield mark["kind"], mark["word"], "\n".join(lines) + "\n"


def check(version):
    names = [word for kind, word, _ in blocks() if kind == "run"]
    assert len(names) == len(set(names)), f"two blocks have the same name: {names}"
    runners = "".join(path.read_text() for path in RUNNERS if path.name != "document.py")
    # A call in a script or in Python.
    asked = set(re.findall(r"(?:\$\(block |\bfollow |\brun_block\(\")([a-z][a-z-]*)", runners))
    assert asked == set(names), f"tests run the blocks {sorted(asked)}, docs/install.md has {sorted(names)}"
    # The upgrade goes from this version to the next one.
    major, minor, patch = version.split("-")[0].split(".")
    allowed = {version, f"{major}.{minor}.{int(patch) + 1}"}
    written = set(re.findall(r"event-router[-_:](\d+\.\d+\.\d+[-\w.]*?)(?=-1[_.]|\.oci|\.cdx|\s|'|$)", DOCUMENT.read_text()))
    assert written == allowed, f"docs/install.md names the versions {written}, not {allowed}"
    kept = [word for kind, word, _ in blocks() if kind == "not run"]
    print(f"{len(names)} blocks are run by tests; {len(kept)} are not, each with a reason")


if sys.argv[1] == "check":
    check(sys.argv[2])
else:
    sys.stdout.write(next(text for kind, word, text in blocks() if (kind, word) == ("run", sys.argv[2])))
