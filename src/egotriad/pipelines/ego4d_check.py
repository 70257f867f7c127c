"""Preflight of Ego4D: what `build-shards ego4d` with the same options would meet."""

from dataclasses import replace
from pathlib import Path

from egotriad.manifests.errors import DownloadError
from egotriad.pipelines.download_ledger import DownloadLedger
from egotriad.pipelines.ego4d_download import choose, missing_uids
from egotriad.pipelines.ego4d_fetch import Fetcher, free_bytes
from egotriad.pipelines.ego4d_metadata import Ego4dMetadata, read_metadata
from egotriad.pipelines.ego4d_narrations import Ego4dNarrations
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_select import Selection
from egotriad.pipelines.ego4d_splits import decide_splits
from egotriad.pipelines.ego4d_tree import Ego4dTree
from egotriad.pipelines.preflight import Preflight

__all__ = ["check_ego4d"]


def check_ego4d(raw: Path, options: Ego4dOptions) -> Preflight:
    """Looks without fetching: of the network only `ego4d.json`, manifests, and sizes are asked.

    With --no-download, or without a choice, the network is not used at all.

    Raises:
        RecordingError: there is no `ego4d.json` and it cannot be had.
        UsageError: nothing is chosen and nothing is there.
        AccessDenied: `ego4d.json` is not there and the keys do not open it.
    """
    tree = Ego4dTree.of(raw, options)
    if not (options.download and (options.uids or options.filters)):
        metadata = read_metadata(tree.need_metadata())
        return _found(tree, options, metadata, None)
    ledger = DownloadLedger(raw)
    with ledger.claimed():
        fetcher = Fetcher(tree, options, ledger)
        fetcher.metadata()
        return _found(tree, options, read_metadata(tree.need_metadata()), fetcher)


def _found(
    tree: Ego4dTree, options: Ego4dOptions, metadata: Ego4dMetadata, fetcher: Fetcher | None
) -> Preflight:
    narrations = Ego4dNarrations(tree)
    known = tree.narrations() is not None
    if not known:  # cannot be judged yet
        options = replace(options, has=tuple(need for need in options.has if need != "narration"))
    selection = choose(tree, metadata, decide_splits(metadata), options, narrations)
    problems = dict(selection.refused)
    lacking = missing_uids(tree, metadata, selection)
    counts = _counts(metadata, selection, lacking)
    if known:
        counts["narrated"] = len(narrations.narrated(selection.uids))
    sizes: dict[str, int] = {}
    files: dict[str, int] = {}
    keys = "not needed"
    for dataset, uids in lacking.items():
        if fetcher is None:
            problems |= {uid: f"not-downloaded: {dataset} is not there" for uid in uids}
        elif uids:
            answer = _ask(fetcher, dataset, uids, sizes, files, problems)
            keys = answer if keys in ("ok", "not needed") else keys
    if fetcher is not None:
        unlisted = sum(why.startswith("not-in-manifest") for why in problems.values())
        counts["in the manifests"] = len(selection.uids) - unlisted
    return Preflight(
        keys=keys,
        counts=counts,
        fetch_bytes=sizes,
        fetch_files=files,
        free_bytes=free_bytes(tree.raw),
        problems=problems,
    )


def _ask(
    fetcher: Fetcher,
    dataset: str,
    uids: list[str],
    sizes: dict[str, int],
    files: dict[str, int],
    problems: dict[str, str],
) -> str:
    """Adds what S3 says of these files; returns what the keys are good for."""
    try:
        there, failures = fetcher.sizes(dataset, uids)
    except DownloadError as exc:
        problems |= dict.fromkeys(uids, str(exc))
        return str(exc)
    sizes[dataset] = sum(file.size_bytes for file in there)
    files[dataset] = len(there)
    problems |= {uid: f"{fate.reason}: {fate.message}" for uid, fate in failures.items()}
    stopped = fetcher.stopped
    return "ok" if stopped is None else f"{stopped.reason}: {stopped.message}"


def _counts(
    metadata: Ego4dMetadata, selection: Selection, lacking: dict[str, list[str]]
) -> dict[str, int]:
    chosen = [metadata.videos[uid] for uid in selection.uids]
    absent = {uid for uids in lacking.values() for uid in uids}
    return {
        "asked for": len(chosen) + len(selection.refused),
        "in ego4d.json": sum(uid in metadata.videos for uid in selection.refused) + len(chosen),
        "with IMU": sum(video.has_imu for video in chosen),
        "present": len(chosen) - len(absent),
        "hours": round(sum(video.duration_us for video in chosen) / 3.6e9),
    }
