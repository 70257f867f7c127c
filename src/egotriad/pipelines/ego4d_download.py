"""Brings what is chosen of Ego4D and not there yet, in the order that wastes least.

Metadata and narrations, then the choice; IMU; then the videos, in batches, of those whose IMU can
be used. What lies in the tree already is never fetched again, whoever laid it there; when nothing
is missing the network is not used at all. Whatever fails is one video's fate
(`ego4d_status.jsonl`); only a full disk, and keys that open nothing where nothing is there to
build, end the call.
"""

import logging
from pathlib import Path

from egotriad.converters.video import probe
from egotriad.manifests.errors import DownloadError, RecordingError, UsageError
from egotriad.pipelines.download_ledger import DownloadLedger
from egotriad.pipelines.ego4d_fetch import Fetcher
from egotriad.pipelines.ego4d_imu import read_component_imu
from egotriad.pipelines.ego4d_manifest import SIGN_URL
from egotriad.pipelines.ego4d_metadata import Ego4dMetadata, read_metadata
from egotriad.pipelines.ego4d_narrations import Ego4dNarrations
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_select import Selection, select
from egotriad.pipelines.ego4d_splits import Ego4dSplits, decide_splits
from egotriad.pipelines.ego4d_status import VideoStatus, write_status
from egotriad.pipelines.ego4d_tree import Ego4dTree

__all__ = ["choose", "download_ego4d", "missing_uids"]

_LOG = logging.getLogger(__name__)


def download_ego4d(raw: Path, options: Ego4dOptions) -> None:
    """Brings the chosen files under `raw`; see the module.

    Raises:
        UsageError: the licence is not confirmed with --yes; the folder holds another release.
        DownloadError: nothing at all could be brought and nothing is there.
        DiskFull: there is no room for what is to be brought.
        MissingDependency: the download program is not installed.
    """
    if not (options.download and (options.uids or options.filters)):
        return
    tree = Ego4dTree.of(raw, options)
    ledger = DownloadLedger(raw)
    _check_release(ledger, options)
    if not _is_complete(tree, options):
        _check_yes(tree, options)
        with ledger.claimed():
            _bring(tree, options, Fetcher(tree, options, ledger))


def choose(
    tree: Ego4dTree,
    metadata: Ego4dMetadata,
    splits: Ego4dSplits,
    options: Ego4dOptions,
    narrations: Ego4dNarrations,
) -> Selection:
    """What options choose, by the metadata and narrations of the tree.

    Raises:
        UsageError: nothing is chosen, or a filter's word is unknown.
        RecordingError: narrations matter to the choice and are not there, or malformed.
    """
    return select(metadata, splits, options, present=tree.present(), narrated=narrations.narrated)


def _chosen(tree: Ego4dTree, metadata: Ego4dMetadata, options: Ego4dOptions) -> Selection:
    return choose(tree, metadata, decide_splits(metadata), options, Ego4dNarrations(tree))


def missing_uids(
    tree: Ego4dTree, metadata: Ego4dMetadata, selection: Selection
) -> dict[str, list[str]]:
    """Per data set, the chosen videos whose file is not there; no IMU where Ego4D has none."""
    imu = [
        uid
        for uid in selection.uids
        if metadata.videos[uid].has_imu and not tree.imu(uid).is_file()
    ]
    if tree.video_set == "none":
        return {"imu": imu}
    return {
        "imu": imu,
        tree.video_set: [uid for uid in selection.uids if not tree.video(uid).is_file()],
    }


def _check_release(ledger: DownloadLedger, options: Ego4dOptions) -> None:
    entry = ledger.entry("ego4d.json")
    if entry is not None and entry.version != options.release:
        raise UsageError(
            f"--release: got {options.release}, the raw folder holds {entry.version}; give each "
            "release its own --raw"
        )


def _is_complete(tree: Ego4dTree, options: Ego4dOptions) -> bool:
    """Whether all that is chosen lies there, as far as can be told without the network."""
    if not tree.metadata().is_file() or tree.narrations() is None:
        return False
    metadata = read_metadata(tree.metadata())
    selection = _chosen(tree, metadata, options)
    return not any(missing_uids(tree, metadata, selection).values())


def _check_yes(tree: Ego4dTree, options: Ego4dOptions) -> None:
    if not options.yes:
        raise UsageError(
            "licence: Ego4D is handed out under a licence that every user signs, at "
            f"{SIGN_URL}; when you have, add --yes to start the download ('egotriad check ego4d' "
            "with the same options says what and how much), or --no-download to build what is there"
        )


def _bring(tree: Ego4dTree, options: Ego4dOptions, fetcher: Fetcher) -> None:
    try:
        fetcher.metadata()
        fetcher.narrations()
    except DownloadError as exc:
        if not tree.metadata().is_file():
            raise
        _LOG.warning("ego4d: %s", exc)
    metadata = read_metadata(tree.need_metadata())
    selection = _chosen(tree, metadata, options)
    fates = {
        uid: VideoStatus(uid=uid, state="missing", reason=why.partition(":")[0], message=why)
        for uid, why in selection.refused.items()
    }
    try:
        _bring_media(tree, options, fetcher, metadata, selection)
    finally:
        fates |= {uid: _fate(tree, metadata, fetcher, uid) for uid in selection.uids}
        write_status(tree.raw, fates.values())
    if fetcher.stopped and all(fate.state == "missing" for fate in fates.values()):
        raise fetcher.stopped.error()


def _bring_media(
    tree: Ego4dTree,
    options: Ego4dOptions,
    fetcher: Fetcher,
    metadata: Ego4dMetadata,
    selection: Selection,
) -> None:
    fetcher.bring("imu", missing_uids(tree, metadata, selection)["imu"])
    lacking = missing_uids(tree, metadata, selection).get(tree.video_set, [])
    if "imu" in options.has:
        lacking = [uid for uid in lacking if _usable(tree, metadata, fetcher, uid)]
    if lacking:
        fetcher.bring(tree.video_set, lacking)


def _usable(tree: Ego4dTree, metadata: Ego4dMetadata, fetcher: Fetcher, uid: str) -> bool:
    """Whether a video's IMU is worth its pictures."""
    if uid in fetcher.failures:
        return False
    video = metadata.videos[uid]
    try:
        read_component_imu(
            tree.imu(uid), duration_us=video.duration_us, components=video.components
        )
    except RecordingError as exc:
        fetcher.failures[uid] = VideoStatus(
            uid=uid,
            state="skipped",
            reason="unusable-imu",
            message=f"its pictures were not fetched, because {exc}",
        )
        return False
    return True


def _fate(tree: Ego4dTree, metadata: Ego4dMetadata, fetcher: Fetcher, uid: str) -> VideoStatus:
    failure = fetcher.failures.get(uid)
    if failure is not None:
        return failure
    lacking = missing_uids(tree, metadata, Selection(uids=(uid,), refused={}))
    names = [name for name, uids in lacking.items() if uids]
    if names:
        return VideoStatus(
            uid=uid,
            state="missing",
            reason="not-reached",
            message=f"the download ended before its {' and '.join(names)}; run it again",
        )
    try:
        if tree.video_set != "none":
            probe(tree.video(uid))
    except RecordingError as exc:
        return VideoStatus(uid=uid, state="broken", reason="broken-video", message=str(exc))
    return VideoStatus(uid=uid, state="done")
