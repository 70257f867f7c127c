"""From finished parts to shards: packed by one driver at a time, and never twice."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import canonical_json, open_sealed, seal, sha256_file, write_text
from egotriad.manifests.shards import read_manifest
from egotriad.pipelines.claims import Claims
from egotriad.pipelines.disk import DiskGuard
from egotriad.pipelines.pack import pack, remove_leftovers
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig

__all__ = ["finish_build"]

WAIT_S = 0.5
PASSING = ("sha256sums", "utc", "seal_sha256")
"""Of a provenance record, what does not say what was built."""


def finish_build(
    parts: Sequence[Part],
    out: Path,
    config: BuildConfig,
    provenance: Mapping[str, Any],
    *,
    title: str,
    started: datetime,
    claims: Claims,
    guard: DiskGuard,
) -> None:
    """Packs the shards of a build, unless those that lie there are just these.

    Args:
        parts: every finished part.
        out: the build's folder, its parts in `parts/`.
        config: the build's configuration.
        provenance: the build's record, without times and hashes.
        title: name for the dataset card.
        started: when the build began.
        claims: of this driver; another that is packing is waited for.
        guard: of the disk.

    Raises:
        DiskFull: the shards would not fit; nothing was touched.
    """
    while not claims.take("pack"):
        time.sleep(WAIT_S)
    if not _is_packed(out, provenance):
        remove_leftovers(out)  # their space counts
        size = sum(file["bytes"] for part in parts for file in part.files.values())
        guard.require(size, "packing the shards")
        record = _recorder(out, provenance, started)
        pack(parts, out / "parts", out, config, title=title, record=record)
    claims.release("pack")


def _recorder(out: Path, provenance: Mapping[str, Any], started: datetime) -> Callable[[str], None]:
    def record(sums_sha256: str) -> None:
        ended = datetime.now(UTC)
        whole = {
            **provenance,
            "sha256sums": sums_sha256,
            "utc": {
                "start": started.isoformat(timespec="seconds"),
                "end": ended.isoformat(timespec="seconds"),
            },
        }
        # Times cannot be computed again: `verify-shards --repair` takes the record from its copy.
        for place in (out / "parts", out):
            write_text(place / "provenance.json", seal(whole))

    return record


def _is_packed(out: Path, provenance: Mapping[str, Any]) -> bool:
    """Whether the shards of just this build lie there whole."""
    try:
        lying = open_sealed(out / "provenance.json")
        lines = read_manifest(out)
    except ShardError:
        return False
    if sha256_file(out / "SHA256SUMS") != lying.get("sha256sums"):
        return False
    said = {key: value for key, value in lying.items() if key not in PASSING}
    if canonical_json(said) != canonical_json(dict(provenance)):
        return False
    files = [(out / line["path"], line["bytes"]) for line in lines]
    return all(file.is_file() and file.stat().st_size == size for file, size in files)
