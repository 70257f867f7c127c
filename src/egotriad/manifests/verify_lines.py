"""Lines of the manifest and counts of the provenance against what the data files hold."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

from egotriad.manifests.schema import FOLDERS, SCHEMA_VERSION
from egotriad.manifests.verify_files import DATA_PATH, MANIFEST, PROVENANCE, Inventory
from egotriad.manifests.verify_findings import Finding, Place

__all__ = ["check_counts", "check_line", "check_lines", "check_qa_line"]

TABLES = {folder: table for table, folder in FOLDERS.items()}


def check_lines(inventory: Inventory) -> Iterator[Finding]:
    """What the manifest says of files without opening them: names, hashes, whole series."""
    place = Place(file=MANIFEST)
    counts: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for path, line in (inventory.lines or {}).items():
        match = DATA_PATH.fullmatch(path)
        if match is None:
            continue
        index, count = int(match["index"]), int(match["count"])
        counts.setdefault((match["folder"], match["split"]), set()).add((index, count))
        need = {
            "config": TABLES[match["folder"]],
            "split": match["split"],
            "index": index,
            "count": count,
            "schema_version": SCHEMA_VERSION,
            "codec": "parquet",
            "config_hash": inventory.config_hash(path) or line.get("config_hash"),
            "sha256": (inventory.sums or {}).get(path, line.get("sha256")),
        }
        yield from _unequal(line, need, place.at(where=path))
    for (folder, split), found in counts.items():
        length = max(count for _, count in found)
        if found != {(index, length) for index in range(length)}:
            where = place.at(where=f"{folder}/{split}-*")
            yield where.finding("series", f"{len(found)} files", f"{length}, numbered from 0")


def check_line(
    inventory: Inventory,
    path: str,
    metadata: pq.FileMetaData,
    rows: Sequence[dict[str, Any]],
) -> Iterator[Finding]:
    """What the manifest says of a file that was read.

    Args:
        inventory: of the build.
        path: of the file.
        metadata: of the file.
        rows: of the windows file (of its windows with events, for an events file).
    """
    line = (inventory.lines or {}).get(path)
    if line is None:
        return
    counts = [row["num_events"] for row in rows if row["num_events"] is not None]
    need = {
        "rows": metadata.num_rows,
        "row_groups": metadata.num_row_groups,
        "events": sum(counts) if counts else None,
        "first_window_id": rows[0]["window_id"] if rows else None,
        "last_window_id": rows[-1]["window_id"] if rows else None,
        "videos": len({(row["source"], row["video_uid"]) for row in rows}),
        "wearers": len({row["split_group"] for row in rows}),
    }
    yield from _unequal(line, need, Place(file=MANIFEST, where=path))


def check_qa_line(
    inventory: Inventory, path: str, metadata: pq.FileMetaData, ids: Sequence[str]
) -> Iterator[Finding]:
    """What the manifest says of a file of questions, whose rows are about the windows `ids`."""
    line = (inventory.lines or {}).get(path)
    if line is None:
        return
    need = {
        "rows": metadata.num_rows,
        "row_groups": metadata.num_row_groups,
        "events": None,
        "first_window_id": ids[0] if ids else None,
        "last_window_id": ids[-1] if ids else None,
        "videos": None,
        "wearers": None,
    }
    yield from _unequal(line, need, Place(file=MANIFEST, where=path))


def check_counts(inventory: Inventory, windows: int) -> Iterator[Finding]:
    """What the provenance says of the whole build."""
    counts = (inventory.provenance or {}).get("counts")
    if isinstance(counts, dict):
        need = {"built_windows": windows}
        yield from _unequal(counts, need, Place(file=PROVENANCE, where="counts"))


def _unequal(values: dict[str, Any], need: dict[str, Any], place: Place) -> Iterator[Finding]:
    pairs = {key: (values.get(key, "nothing"), due) for key, due in need.items()}
    yield from place.unequal("manifest" if place.file == MANIFEST else "count", **pairs)
