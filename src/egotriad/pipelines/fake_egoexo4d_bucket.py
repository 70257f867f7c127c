"""The objects of Ego-Exo4D's buckets, made from a tree on disk: files, and a manifest per part.

Entries are as ego4d 1.7.3 makes them (internal/download/manifest_gen.py): takes under their uid,
captures under theirs, metadata under the file's name and annotations under its beginning (so that
splits.json has an empty uid); no views in downscaled_takes; media in the universities' buckets.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from egotriad.pipelines.egoexo4d_release import BUCKET, manifest_key
from egotriad.pipelines.egoexo4d_takes import TAKES_JSON, Take, read_takes

__all__ = ["FakeObject", "fake_objects"]

PARTS = (
    "metadata",
    "annotations",
    "captures",
    "takes",
    "take_vrs",
    "take_vrs_noimagestream",
    "downscaled_takes/448",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeObject:
    """One object: where it is, and what it holds."""

    bucket: str
    key: str
    content: bytes


def fake_objects(root: Path) -> Iterator[FakeObject]:
    """Every object of a release whose files lie in a tree as the download program lays them."""
    takes = [take for take in read_takes(root / TAKES_JSON) if isinstance(take, Take)]
    entries: dict[str, dict[str, list[dict[str, object]]]] = {part: {} for part in PARTS}
    for path in sorted(file for file in root.rglob("*") if file.is_file()):
        name = path.relative_to(root).as_posix()
        part, uid, university = _belongs(name, takes)
        bucket = f"ego4d-{university}" if university else BUCKET
        key = f"egoexo-public/v2/{name}"
        yield FakeObject(bucket=bucket, key=key, content=path.read_bytes())
        ego = any(name in (take.video, take.vrs, take.full_vrs) for take in takes)
        entries[part].setdefault(uid, []).append(
            {
                "source_path": f"s3://{bucket}/{key}",
                "relative_path": name,
                "views": ["ego" if ego else "exo"] if part.startswith("take") else None,
                "universities": [university] if university else None,
                "file_type": path.suffix[1:] if university else None,
                "size": path.stat().st_size,
                "checksum": None,
            }
        )
    for part, by_uid in entries.items():
        manifest = [
            {"uid": uid, "paths": paths, "splits": None, "benchmarks": None}
            for uid, paths in by_uid.items()
        ]
        content = json.dumps(manifest).encode()
        yield FakeObject(bucket=BUCKET, key=manifest_key(part), content=content)


def _belongs(name: str, takes: list[Take]) -> tuple[str, str, str]:
    """Part, uid of the entry and university of a file."""
    if name.startswith("annotations/"):
        return "annotations", Path(name).name.rpartition("_")[0], ""
    for take in takes:
        if name.startswith(take.timesync.rpartition("/")[0] + "/"):
            return "captures", take.capture_uid, take.university
        if name.startswith(f"takes/{take.name}/"):
            part = "downscaled_takes/448" if "/downscaled/448/" in name else "takes"
            if name.endswith(".vrs"):
                part = "take_vrs_noimagestream" if name == take.vrs else "take_vrs"
            return part, take.uid, take.university
    return "metadata", Path(name).stem, ""
