"""Preflight of Ego-Exo4D: what `build-shards egoexo4d` with the same options would meet."""

from pathlib import Path

from egotriad.manifests import Unreadable
from egotriad.manifests.errors import DownloadError
from egotriad.pipelines.disk import free_bytes
from egotriad.pipelines.egoexo4d_download import Download, bring_tables
from egotriad.pipelines.egoexo4d_files import TABLES, ReleaseFile, take_files
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_tables import Tables
from egotriad.pipelines.egoexo4d_takes import Take
from egotriad.pipelines.preflight import Preflight

__all__ = ["check_takes"]


def check_takes(raw: Path, options: EgoExo4DOptions) -> Preflight:
    """Counts takes and bytes; of takes nothing is fetched, only the tables that tell of them are.

    With --no-download, or without a selection, the network is not used at all.

    Raises:
        RecordingError: there is no takes.json, or tables that are not Ego-Exo4D's.
        UsageError: nothing is chosen and nothing is there; the licence is not said to be signed.
        DownloadError: the tables cannot be had (AccessDenied: for want of keys).
    """
    download = Download(raw, options)
    online = options.download and options.selects
    if online and download.missing(TABLES):
        with download.ledger.claimed():
            bring_tables(raw, download)
    tables = Tables(raw)
    chosen = tables.chosen(options)
    takes = [take for take in chosen if isinstance(take, Take)]
    lacking = {
        take.uid: download.missing(take_files(raw, take, options).values()) for take in takes
    }
    problems = {take.recording_id: take.message for take in chosen if isinstance(take, Unreadable)}
    keys = "not needed"
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    if any(lacking.values()) and online:
        keys, sizes, counts = _ask(download, lacking, problems)
    else:
        problems |= {
            uid: f"missing-file: {files[0].name} is not there"
            for uid, files in lacking.items()
            if files
        }
    return Preflight(
        keys=keys,
        counts=_counts(takes, len(chosen), tables, lacking),
        fetch_bytes=sizes,
        fetch_files=counts,
        free_bytes=free_bytes(raw),
        problems=problems,
    )


def _ask(
    download: Download, lacking: dict[str, list[ReleaseFile]], problems: dict[str, str]
) -> tuple[str, dict[str, int], dict[str, int]]:
    """What the keys are good for, and bytes and files to fetch by part; adds to the problems."""
    files = {file.name: file for of_take in lacking.values() for file in of_take}
    try:
        found, absent = download.ask(files.values())
    except DownloadError as exc:
        problems |= {uid: str(exc) for uid, of_take in lacking.items() if of_take}
        return str(exc), {}, {}
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for file in found.values():
        sizes[file.part] = sizes.get(file.part, 0) + file.size_bytes
        counts[file.part] = counts.get(file.part, 0) + 1
    for uid, of_take in lacking.items():
        reasons = [absent[file.name] for file in of_take if file.name in absent]
        if reasons:
            problems[uid] = "; ".join(reasons)
    return "ok", sizes, counts


def _counts(
    takes: list[Take], asked: int, tables: Tables, lacking: dict[str, list[ReleaseFile]]
) -> dict[str, int]:
    described = {uid for uid, text in tables.texts.items() if text.narrations}
    return {
        "asked for": asked,
        "in takes.json": len(takes),
        "with IMU": sum(bool(take.vrs or take.full_vrs) for take in takes),
        "described": sum(take.uid in described for take in takes),
        "present": sum(not lacking[take.uid] for take in takes),
        "hours": round(sum(take.duration_s for take in takes) / 3600),
    }
