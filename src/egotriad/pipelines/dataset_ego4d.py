"""Ego4D: hours of daily life from a head-mounted camera, part of it with IMU, narrated.

Homepage ego4d-data.org; K. Grauman et al., "Ego4D: Around the World in 3,000 Hours of Egocentric
Video", CVPR 2022, arXiv:2110.07058. Sign the licence at ego4ddataset.com; AWS keys come by mail in
about 48 hours and expire after 14 days. Redistribution: not allowed as far as is known, shards
included. `docs/ego4d.md` leads from the licence to shards.

Downloads go through the `ego4d` program (`pip install 'egotriad[ego4d]'`); a tree that was
downloaded by hand is read as it is (`ego4d_tree.py` shows it), without any network.

    {"timestamp_sec": 3.34, "narration_text": "#C C picks a knife", "annotation_uid": "…"}
    component_idx,component_timestamp_ms,canonical_timestamp_ms,gyro_x,…,accl_z
    0,14.925373134328357,14.925373134328357,0.0117,…

Sensors: GoPro and others; video at constant 30 Hz, short side 540 or full scale, VP9; IMU about
200 Hz (true rate measured), rad/s and m/s^2 with gravity, axes of the camera model, uncalibrated.
Clock: seconds of the canonical video, which joins one or more camera files ("components").
Narrations are points in time by two annotators. Traps: the first IMU sample is assumed at video
time 0, some videos are off by up to a second (`--sync`); null, doubled, backward and absurd
stamps (`ego4d_imu.py`); blanked stretches, whose windows are rejected; one wearer in many videos
(`ego4d_splits.py`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.files import sha256_file
from egotriad.pipelines.ego4d_check import check_ego4d
from egotriad.pipelines.ego4d_download import choose, download_ego4d
from egotriad.pipelines.ego4d_metadata import read_metadata
from egotriad.pipelines.ego4d_narrations import Ego4dNarrations
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_recording import LICENCE, SOURCE, describe, unreadable
from egotriad.pipelines.ego4d_splits import decide_splits
from egotriad.pipelines.ego4d_status import read_status
from egotriad.pipelines.ego4d_tree import Ego4dTree
from egotriad.pipelines.fake_ego4d import write_fake_ego4d
from egotriad.pipelines.preflight import Preflight
from egotriad.pipelines.world_plan import WorldOptions

__all__ = ["DATASET", "Ego4d"]


class Ego4d:
    """Ego4D as a dataset."""

    name: ClassVar[str] = SOURCE
    licence_id: ClassVar[str] = LICENCE
    build_defaults: ClassVar[Mapping[str, Any]] = {
        "windows": "point",
        "window_s": 5.0,
        # Full spans of all of Ego4D are terabytes; EventGPT takes less than 0.1 s.
        "event_spans": "0.1s x3 /0.05s @peak",
        "sensor": "346x260",
    }
    Options: ClassVar[type] = Ego4dOptions

    def download(self, raw: Path, options: Ego4dOptions) -> None:
        """Brings what is chosen and missing: `ego4d_download.download_ego4d`."""
        download_ego4d(raw, options)

    def check(self, raw: Path, options: Ego4dOptions) -> Preflight:
        """What a build would find missing: `ego4d_check.check_ego4d`."""
        return check_ego4d(raw, options)

    def recordings(self, raw: Path, options: Ego4dOptions) -> Iterator[Recording | Unreadable]:
        """The chosen videos in the metadata's order; what cannot be had is `Unreadable`.

        Raises:
            UsageError: nothing is chosen and nothing is there.
            RecordingError: ego4d.json or the narrations are missing or malformed.
        """
        tree = Ego4dTree.of(raw, options)
        metadata = read_metadata(tree.need_metadata())
        splits = decide_splits(metadata)
        narrations = Ego4dNarrations(tree)
        chosen = choose(tree, metadata, splits, options, narrations)
        told = narrations.of(chosen.uids)
        origin = {f"source_{path.name}": sha256_file(path) for path in tree.sources()}
        status = read_status(raw)
        for uid in chosen.uids:
            yield describe(
                metadata.videos[uid],
                told.get(uid),
                status.get(uid),
                tree=tree,
                splits=splits,
                options=options,
                origin=origin,
            )
        for uid, why in chosen.refused.items():
            yield unreadable(uid, why)

    def fake(self, raw: Path) -> Ego4dOptions:
        """Writes two ten-second videos with nothing wrong."""
        world = WorldOptions(
            clips_per_recording=2, size_wh=(64, 48), frame_rate_hz=30.0, render_workers=1
        )
        write_fake_ego4d(raw, world=world)
        return Ego4dOptions(download=False)


DATASET = Ego4d()
