"""The files of a build and their hashes: who vouches for whom, and what nobody names.

```
provenance.json  carries its own hash and that of SHA256SUMS
SHA256SUMS       hashes of all other files
manifest.jsonl   sizes and hashes of the data files
```
A byte that changed in any one of them contradicts another, and only the changed one is named: a
witness that is itself damaged accuses nobody.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import open_sealed, sha256_file
from egotriad.manifests.schema import FOLDERS
from egotriad.manifests.split import SPLITS
from egotriad.manifests.verify_findings import Finding, Place, refused
from egotriad.manifests.verify_text import private_text

__all__ = ["DATA_PATH", "Inventory", "check_bytes", "check_text", "find_orphans", "take_inventory"]

PROVENANCE, SUMS, MANIFEST = "provenance.json", "SHA256SUMS", "manifest.jsonl"
ALWAYS_THERE = ("README.md", "rejected.jsonl")
DATA_FOLDERS = tuple(FOLDERS.values())
DATA_PATH = re.compile(
    rf"(?P<folder>{'|'.join(DATA_FOLDERS)})/(?P<split>{'|'.join(SPLITS)})"
    r"-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet"
)
TEMPORARY = re.compile(r"\.tmp-\d+$")
SUMS_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(slots=True)
class Inventory:
    """What a build says of itself; what is missing or damaged says nothing.

    Attributes:
        provenance: its values.
        sums: path -> SHA-256, as SHA256SUMS has it.
        lines: path -> line of the manifest.
        findings: faults of these three files.
    """

    provenance: dict[str, Any] | None = None
    sums: dict[str, str] | None = None
    lines: dict[str, dict[str, Any]] | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def data_paths(self) -> list[str]:
        """Every data file that is named."""
        named = [path for path in self.sums or () if path.endswith(".parquet")]
        return sorted({*named, *(self.lines or ())})

    @property
    def side_paths(self) -> list[str]:
        """Every other file that SHA256SUMS vouches for."""
        named = self.sums.keys() if self.sums is not None else ALWAYS_THERE
        return sorted({*named, *ALWAYS_THERE} - {MANIFEST, *self.data_paths})

    def config_hash(self, path: str) -> str | None:
        """Of the configuration that a data file was written under, None when it is not known.

        A merged build keeps the files of its inputs, each under its own configuration.
        """
        if self.provenance is None:
            return None
        records = [self.provenance, *self.provenance.get("merged", ())]
        configs = [record.get("config") for record in records]
        known = [config["hash"] for config in configs if isinstance(config, dict)]
        told = (self.lines or {}).get(path, {}).get("config_hash")
        if told in known or (told is None and len(known) > 1):
            return told
        return known[0] if known else None


def take_inventory(root: Path) -> Inventory:
    """Reads provenance.json, SHA256SUMS and manifest.jsonl, as far as they can be believed."""
    inventory = Inventory()
    _read_provenance(root, inventory)
    _read_sums(root, inventory)
    _read_manifest(root, inventory)
    return inventory


def _read_provenance(root: Path, inventory: Inventory) -> None:
    try:
        inventory.provenance = open_sealed(root / PROVENANCE)
    except ShardError as exc:
        what = "damaged" if (root / PROVENANCE).is_file() else "missing"
        got = str(exc).partition(": ")[2]
        inventory.findings.append(Place(file=PROVENANCE).finding(what, got, "what was sealed"))


def _read_sums(root: Path, inventory: Inventory) -> None:
    place = Place(file=SUMS)
    if not (root / SUMS).is_file():
        inventory.findings.append(place.finding("missing", "no file", "the hashes of all files"))
        return
    if inventory.provenance is not None:
        got, need = sha256_file(root / SUMS), inventory.provenance.get("sha256sums")
        if got != need:
            inventory.findings.append(place.finding("sha256", got, f"{need} (provenance.json)"))
            return
    sums: dict[str, str] = {}
    text = (root / SUMS).read_bytes().decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        match = SUMS_LINE.fullmatch(line)
        if match is None:
            where = place.at(where=f"line {number}")
            inventory.findings.append(where.finding("damaged", repr(line[:80]), "HASH  PATH"))
            return
        sums[match[2]] = match[1]
    inventory.sums = sums


def _read_manifest(root: Path, inventory: Inventory) -> None:
    place = Place(file=MANIFEST)
    findings = check_bytes(root, MANIFEST, inventory)
    inventory.findings += findings
    if findings:
        return
    lines: dict[str, dict[str, Any]] = {}
    text = (root / MANIFEST).read_bytes().decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            values = json.loads(line)
            if DATA_PATH.fullmatch(values["path"]) is None:
                raise ValueError(f"path {values['path']!r}")
            lines[values["path"]] = values
        except (ValueError, KeyError, TypeError) as exc:
            where = place.at(where=f"line {number}")
            need = "a JSON object with the path of a data file"
            inventory.findings.append(where.finding("damaged", exc, need))
            return
    inventory.lines = lines
    if inventory.sums is not None:
        hashed = {name for name in inventory.sums if name.endswith(".parquet")}
        for path in sorted(hashed ^ lines.keys()):
            missing = MANIFEST if path in hashed else SUMS
            here = Place(file=missing, where=path)
            inventory.findings.append(here.finding("manifest", "no line", "one for each data file"))


def check_bytes(root: Path, name: str, inventory: Inventory) -> list[Finding]:
    """Whether a file is there, as long as the manifest says, and has the hash it should have."""
    findings: list[Finding] = []
    place, path = Place(file=name), root / name
    line = (inventory.lines or {}).get(name, {})
    need = (inventory.sums or {}).get(name, line.get("sha256"))
    with refused(findings, place, "a file that can be read"):
        if not path.is_file():
            findings.append(place.finding("missing", "no file", "the file"))
        elif line and path.stat().st_size != line.get("bytes"):
            findings.append(place.finding("bytes", path.stat().st_size, line.get("bytes")))
        elif need is not None and (got := sha256_file(path)) != need:
            findings.append(place.finding("sha256", got, need))
    return findings


def check_text(root: Path, name: str) -> Iterator[Finding]:
    """What a text file holds that tells of this machine or its user."""
    path = root / name
    if not path.is_file():
        return
    text = path.read_bytes().decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        for kind, shown in private_text(line):
            place = Place(file=name, where=f"line {number}")
            yield place.finding("private", f"{kind} {shown!r}", "none")


def find_orphans(root: Path, inventory: Inventory) -> Iterator[Finding]:
    """Data files that nobody names, and what an interrupted write has left.

    `load_dataset` reads data files by pattern: one that is not of this build would slip in.
    """
    named = set(inventory.data_paths)
    if not named:
        return
    for folder in ("", *DATA_FOLDERS):
        if not (root / folder).is_dir():
            continue
        for path in sorted(filter(Path.is_file, (root / folder).iterdir())):
            name = path.relative_to(root).as_posix()
            stray = folder and path.suffix == ".parquet" and name not in named
            if stray or TEMPORARY.search(name):
                need = f"only what {MANIFEST} names; delete it"
                yield Place(file=name).finding("orphan", "a file nobody names", need)
