"""What building a second costs: as measured on a trial, or as typical."""

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from egotriad.converters.sync import synchronise
from egotriad.converters.video import FrameChunk
from egotriad.converters.video_rotation import camera_rotation
from egotriad.manifests import ImuTrack, Recording, SensorStream
from egotriad.manifests.errors import EgotriadError, RecordingError
from egotriad.pipelines.outline import Outline, replan
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part, PartJob, build_part
from egotriad.pipelines.part_imu import shares_pass
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.stock import Stock
from egotriad.pipelines.sync import frames_to_compare, sync_recording

__all__ = ["Cost", "measure_cost", "typical_cost"]

_LOG = logging.getLogger(__name__)

TRIALS = 3
HASHED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a second costs.

    Attributes:
        basis: where the numbers are from.
        build_cpu_s: CPU seconds of building parts, per recorded second.
        pack_cpu_s: CPU seconds of packing, per second of windows.
        part_bytes, shard_bytes: per second of windows.
        events: per second of windows.
    """

    basis: str
    build_cpu_s: float
    pack_cpu_s: float
    part_bytes: float
    shard_bytes: float
    events: float


def typical_cost(config: BuildConfig) -> Cost:
    """Of walking in the open at 346x260, on one core of a server of 2023 (docs/results/build.md).

    Only the sizes of events know the configuration: they go with the share of a window whose events
    are kept.
    """
    share = 0.0
    if config.events:
        spans = config.span_policy
        kept_us = (spans.duration_us or 0) * spans.count
        share = kept_us / config.window_policy.length_us if kept_us else 1.0
    light = 12_000.0 if config.imu or config.preview else 1_000.0
    return Cost(
        basis="typical values, which a scene can miss tenfold; --measure 60 tells for this one",
        build_cpu_s=0.14 if config.events else 0.02,
        pack_cpu_s=0.01 * share + 0.001,
        part_bytes=3_000_000 * share + light,
        shard_bytes=3_000_000 * share + light,
        events=1_200_000 * share,
    )


def measure_cost(stock: Stock, config: BuildConfig, *, seconds: float) -> Cost:
    """Builds the first windows of a few recordings on trial, in a folder that is thrown away.

    Args:
        stock: what there is to build; recordings of several lengths are tried.
        config: the build's configuration.
        seconds: of recordings, in all.

    Raises:
        RecordingError: not one trial succeeded.
    """
    by_length = sorted((o for o in stock.outlines if o.windows), key=lambda o: o.window_us)
    if not by_length:
        raise RecordingError("there is no window to measure; see --windows and --window-seconds")
    count = min(TRIALS, len(by_length))
    chosen = [by_length[(2 * k + 1) * len(by_length) // (2 * count)] for k in range(count)]
    trials: list[_Trial] = []
    with tempfile.TemporaryDirectory(prefix="egotriad-trial-") as scratch:
        folder = Path(scratch)
        # What is compiled and loaded once must not count: the first trial runs twice.
        for warm, outline in enumerate([chosen[0], *chosen]):
            try:
                trial = _try(outline, config, seconds / count, folder / str(warm))
            except EgotriadError as exc:
                _LOG.warning("%s: not measured: %s", outline.recording.recording_id, exc)
                continue
            trials += [trial] if warm else []
        if not trials:
            raise RecordingError("not one of the recordings could be built on trial; see above")
        return _cost(trials, config, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What building the beginning of a recording took."""

    part: Part
    folder: Path
    recorded_s: float
    cpu_s: float
    whole_s: float  # CPU of what is done once for the whole recording
    whole_recorded_s: float


def _try(outline: Outline, config: BuildConfig, seconds: float, folder: Path) -> _Trial:
    plan = replan(outline, config)
    recording = plan.recording
    kept = [w for w in plan.windows if w.t_end_us <= seconds * 1e6] or list(plan.windows[:1])
    end_us = kept[-1].t_end_us
    started_s = time.process_time()
    track = None if recording.read_imu is None or not config.imu else recording.read_imu()
    whole_s = time.process_time() - started_s + _hashing_s(recording.files)
    if track is not None and config.sync != "off" and recording.video_path is not None:
        whole_s += _sync_s(recording, track, shared=shares_pass(recording, config))
    beginning = replace(
        recording,
        read_imu=None if track is None else lambda: _until(track, end_us),
        duration_us=end_us,
        files=(),
    )
    trial_plan = replace(plan, recording=beginning, windows=tuple(kept), rejected=())
    started_s = time.process_time()
    job = PartJob(plan=trial_plan, config=replace(config, sync="off"), folder=folder)
    part = build_part(job)
    return _Trial(
        part=part,
        folder=folder,
        recorded_s=end_us / 1e6,
        cpu_s=time.process_time() - started_s,
        whole_s=whole_s,
        whole_recorded_s=recording.duration_us / 1e6,
    )


def _sync_s(recording: Recording, track: ImuTrack, *, shared: bool) -> float:
    """CPU seconds of comparing clocks; without decoding where the events' frames serve for it."""
    started_s = time.process_time()
    decoding_s = 0.0
    if not shared or recording.video_path is None:
        sync_recording(recording, track)
        return time.process_time() - started_s

    def decoded(chunks: Iterator[FrameChunk]) -> Iterator[FrameChunk]:
        nonlocal decoding_s
        while True:
            asked_s = time.process_time()
            chunk = next(chunks, None)
            decoding_s += time.process_time() - asked_s
            if chunk is None:
                return
            yield chunk

    chunks = frames_to_compare(recording.video_path, track)
    synchronise(camera_rotation(decoded(iter(chunks))), track)
    return time.process_time() - started_s - decoding_s


def _cost(trials: Sequence[_Trial], config: BuildConfig, folder: Path) -> Cost:
    parts = [trial.part for trial in trials]
    for trial in trials:
        for name in trial.part.files:
            (trial.folder / name).rename(folder / name)
    window_s = sum(part.duration_us for part in parts) / 1e6
    if not window_s:
        raise RecordingError("every window of the trials was rejected; build a few with --limit 1")
    started_s = time.process_time()
    lines = pack(parts, folder, folder / "shards", config, title="trial")
    pack_s = time.process_time() - started_s
    recorded_s = sum(trial.recorded_s for trial in trials)
    whole_s = sum(trial.whole_s for trial in trials) / sum(t.whole_recorded_s for t in trials)
    size = sum(file["bytes"] for part in parts for file in part.files.values())
    return Cost(
        basis=f"measured here on {recorded_s:.0f} s of {len(trials)} recordings",
        build_cpu_s=sum(trial.cpu_s for trial in trials) / recorded_s + whole_s,
        pack_cpu_s=pack_s / window_s,
        part_bytes=size / window_s,
        shard_bytes=sum(line["bytes"] for line in lines) / window_s,
        events=sum(part.event_count or 0 for part in parts) / window_s,
    )


def _until(track: ImuTrack, end_us: int) -> ImuTrack:
    def cut(stream: SensorStream) -> SensorStream:
        keep = stream.t_us <= end_us + 1_000_000
        return SensorStream(stream.t_us[keep], np.ascontiguousarray(stream.values[:, keep]))

    return replace(track, accel=cut(track.accel), gyro=cut(track.gyro))


def _hashing_s(files: Sequence[Path]) -> float:
    """CPU seconds that hashing some files takes, by the speed of hashing a block of memory."""
    started_s = time.process_time()
    hashlib.sha256(bytes(HASHED_BYTES))
    elapsed_s = time.process_time() - started_s
    return elapsed_s / HASHED_BYTES * sum(file.stat().st_size for file in files if file.is_file())
