"""What a build will do, decided before anything is decoded."""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from egotriad.converters.dvs import DvsConfig
from egotriad.converters.interpolate import UpsampleConfig
from egotriad.converters.narration_passes import choose_narrations
from egotriad.converters.spans import SpanPolicy
from egotriad.converters.window_policy import SHORTEST_US, WindowPolicy
from egotriad.converters.windows import RejectedWindow, Window, plan_windows
from egotriad.manifests import Narration, Recording
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import short_hash
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.manifests.split import split_of

__all__ = ["BuildConfig", "RecordingPlan", "plan_build", "plan_recording"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """Everything that decides the bytes of a build, besides its inputs.

    Attributes:
        windows: `grid` (from 0, without overlap), `point` (centred on each narration), `until-next`
            (from each narration to the next) or `adaptive` (around each narration, its length from
            the density of narrations, as EgoClip). Near-duplicates of several annotators lay one.
        window_s: length of grid and point windows in seconds (to a whole number of IMU samples).
        stride_s: distance between grid windows in seconds; the window's length when not given.
        cap_s: longest until-next or adaptive window in seconds; the window's length when not given.
        alpha_s: adaptive windows last (mean gap between narrations / alpha) seconds; EgoClip's 4.9
            when not given.
        unsure: narrations whose annotator was unsure: `drop` (listed, but no window is about one)
            or `replace` (used like any other, "something" for the object that was not named).
        subject: `all` narrations, or the `wearer`'s: none marked as about another person.
        event_spans: where inside a window events are synthesised: `full`, `0.05s@center`,
            `0.1s@peak` (densest 100 ms near the narration), `0.1s x3 /0.05s @peak`, ...
        imu: whether clips need an IMU; --no-imu builds clips without.
        imu_rate_hz: rate of the IMU grid in shards.
        longest_gap_s: gaps in the IMU up to this length are interpolated over, longer ones masked.
        max_gap_fraction: a window with a larger share of masked IMU samples is rejected.
        min_imu_score: a window whose IMU scores less is rejected (1 nothing wrong, 0 useless).
        sync: whether IMU and video share their clock: `check` measures it and says so in
            `align_*`, `correct` moves the IMU where it is off and known by how much, `off`.
        events: whether clips need events; --no-events builds clips without.
        longest_frame_gap_s: a window is rejected where its events would come from two frames
            further apart than this: nobody saw what happened between.
        sensor: event sensor size, `346x260` (DAVIS346), ... or `native` (the video's own).
        fit: `crop` cuts the video to the sensor's aspect, `stretch` distorts it (as v2e does).
        preset: imperfections of the event camera: `ideal` has none, `clean` and `noisy` are v2e's,
            `v2e-defaults` those of its command line.
        pos_thres: ON contrast threshold in natural-log units; the preset's when not given.
        neg_thres: OFF contrast threshold in natural-log units; the preset's when not given.
        event_seed: of the event camera's mismatch and noise.
        upsample: frames put between the video's: `none`, `linear`, `flow` (optical flow),
            `superslomo` (with --slomo-checkpoint); `auto` is `none` with full event spans and
            `flow`, near the spans only, with others.
        slomo_checkpoint: SuperSloMo39.ckpt, for --upsample superslomo.
        timing: `crossing` (each event at its pixel's own threshold crossing) or `slots` (v2e's).
        max_events: a window with more events is rejected and reported, never truncated.
        preview: whether each row carries a PNG of its first events.
        shard_mib: size of event data after which a shard is closed, in MiB.
    """

    windows: Literal["grid", "point", "until-next", "adaptive"] = "grid"
    window_s: float = 5.0
    stride_s: float | None = None
    cap_s: float | None = None
    alpha_s: float | None = None
    unsure: Literal["drop", "replace"] = "drop"
    subject: Literal["all", "wearer"] = "all"
    event_spans: str = "full"
    imu: bool = True
    imu_rate_hz: float = 200.0
    longest_gap_s: float = 0.05
    max_gap_fraction: float = 0.0
    min_imu_score: float = 0.0
    sync: Literal["off", "check", "correct"] = "check"
    events: bool = True
    longest_frame_gap_s: float = 0.25
    sensor: str = "346x260"
    fit: Literal["crop", "stretch"] = "crop"
    preset: Literal["ideal", "clean", "noisy", "v2e-defaults"] = "clean"
    pos_thres: float | None = None
    neg_thres: float | None = None
    event_seed: int = 0
    upsample: Literal["auto", "none", "linear", "flow", "superslomo"] = "auto"
    slomo_checkpoint: Path | None = None
    timing: Literal["crossing", "slots"] = "crossing"
    max_events: int = 64_000_000
    preview: bool = True
    shard_mib: int = 512

    def __post_init__(self) -> None:
        if not (self.imu or self.events):
            raise UsageError("--no-imu and --no-events together leave nothing to build")
        if not 0 < self.imu_rate_hz <= 10_000:
            raise UsageError(f"--imu-rate-hz: got {self.imu_rate_hz}, need 0 < rate <= 10000")
        if self.subject not in ("all", "wearer"):
            raise UsageError(f"--subject: got {self.subject!r}, need 'all' or 'wearer'")
        if self.shard_mib < 1 or self.max_events < 1:
            raise UsageError("--shard-mib and --max-events must be at least 1")
        if not 0 <= self.max_gap_fraction <= 1 or self.longest_gap_s <= 0:
            raise UsageError("--max-gap-fraction must lie in [0, 1], --longest-gap-seconds above 0")
        if not 0 <= self.min_imu_score <= 1:
            raise UsageError(f"--min-imu-score: got {self.min_imu_score}, need 0 to 1")
        if not self.longest_frame_gap_s > 0:
            raise UsageError("--longest-frame-gap-seconds must be above 0")
        if self.sync not in ("off", "check", "correct"):
            raise UsageError(f"--sync: got {self.sync!r}, need 'off', 'check' or 'correct'")
        # Parsing here makes a bad value a usage error before any work is done.
        self.dvs, self.upsampling, self.sensor_wh  # noqa: B018
        spans_us, window_us = self.span_policy.reach_us, self.window_policy.length_us
        if spans_us > window_us:
            raise UsageError(
                f"--event-spans: {self.event_spans!r} reaches over {spans_us / 1e6:g} s, a "
                f"window is {window_us / 1e6:g} s (--window-seconds); take fewer or shorter spans"
            )

    @property
    def window_policy(self) -> WindowPolicy:
        """How windows are laid."""
        if self.cap_s is not None and self.windows not in ("until-next", "adaptive"):
            raise UsageError("--cap-seconds belongs to --windows until-next and adaptive; drop it")
        return WindowPolicy(
            kind=self.windows,
            duration_us=_microseconds(self.window_s if self.cap_s is None else self.cap_s),
            stride_us=None if self.stride_s is None else _microseconds(self.stride_s),
            alpha_s=self.alpha_s,
            unsure=self.unsure,
            shortest_us=max(SHORTEST_US, self.span_policy.reach_us),
            rate_hz=self.imu_rate_hz if self.imu else None,
        )

    @property
    def span_policy(self) -> SpanPolicy:
        """Where in a window events are synthesised."""
        return SpanPolicy.parse(self.event_spans)

    @property
    def dvs(self) -> DvsConfig:
        """The event camera's parameters."""
        given = {"pos_thres": self.pos_thres, "neg_thres": self.neg_thres}
        changed = {name: value for name, value in given.items() if value is not None}
        return DvsConfig.preset(self.preset, timing=self.timing, **changed)

    @property
    def upsampling(self) -> UpsampleConfig:
        """How frames are put between frames."""
        method = self.upsample
        if method == "auto":
            method = "none" if self.span_policy.duration_us is None else "flow"
        return UpsampleConfig(method=method, checkpoint=self.slomo_checkpoint)

    @property
    def event_source(self) -> dict[str, Any]:
        """Everything that decides the events of a video, fit for JSON."""
        return {
            "simulator": "dvs",
            "parameters": asdict(self.dvs),
            "seed": self.event_seed,
            "upsampling": self.upsampling.identity(),
        }

    @property
    def events_computed(self) -> bool:
        """Whether events are computed here, and not taken from files that hold them."""
        return self.events and self.event_source["simulator"] is not None

    @property
    def sim_id(self) -> str:
        """16 hex digits naming `event_source`."""
        return short_hash(self.event_source)

    @property
    def sensor_wh(self) -> tuple[int, int] | None:
        """Sensor width and height, None for the video's own."""
        if self.sensor == "native":
            return None
        try:
            width, height = (int(side) for side in self.sensor.split("x"))
        except ValueError:
            width = height = 0
        if not (0 < width <= 8192 and 0 < height <= 8192):
            raise UsageError(f"--sensor: got {self.sensor!r}, need WIDTHxHEIGHT or 'native'")
        return width, height

    @property
    def hash(self) -> str:
        """16 hex digits naming this configuration (and the schema it writes)."""
        values = asdict(self) | {"slomo_checkpoint": None, "event_source": self.event_source}
        return short_hash({"config": values, "schema": SCHEMA_VERSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPlan:
    """One unit of work: a recording and its windows.

    Attributes:
        recording: what to read.
        windows: to be built, in time order.
        rejected: windows that were laid but cannot be cut, with the reason.
        window_policy: what laid them, complete, as stored with every window.
        split, split_group, split_origin: decided here, before decoding.
        notes: what was done to the narrations, for provenance.
        key: 16 hex digits over all that decides this recording's bytes; names its part files.
    """

    recording: Recording
    windows: tuple[Window, ...]
    rejected: tuple[RejectedWindow, ...]
    window_policy: str
    split: str
    split_group: str
    split_origin: str
    notes: dict[str, str]
    key: str = field(repr=False)


def plan_recording(
    recording: Recording, config: BuildConfig, *, split: str | None = None
) -> RecordingPlan:
    """Chooses the narrations of one recording, lays its windows and assigns its split.

    Args:
        recording: what to plan.
        config: the build's configuration.
        split: where it goes because of others of its wearer; its own split when not given.
    """
    narrations, counts = choose_narrations(
        recording.narrations, recording.duration_us, wearer_only=config.subject == "wearer"
    )
    laid = plan_windows(
        config.window_policy,
        recording.duration_us,
        narrations,
        redacted_us=recording.redacted_us,
    )
    own_split, group, origin = split_of(recording)
    identity = {"config": config.hash, "recording": _description(recording)}
    if split not in (None, own_split):
        identity["split"] = split
    return RecordingPlan(
        recording=recording,
        windows=laid.windows,
        rejected=laid.rejected,
        window_policy=str(laid.policy),
        split=split or own_split,
        split_group=group,
        split_origin=origin,
        notes=recording.notes
        | {f"narrations_{name}": str(count) for name, count in counts.items()},
        key=short_hash(identity),
    )


def plan_build(recordings: Iterable[Recording], config: BuildConfig) -> Iterator[RecordingPlan]:
    """Plans every recording, in the dataset's order, one at a time.

    Raises:
        UsageError: when two recordings share an id (their shards could not be told apart).
    """
    policy = config.window_policy
    if policy.length_us != policy.duration_us:
        asked, length = policy.duration_us / 1e6, policy.length_us / 1e6
        count = round(length * config.imu_rate_hz)
        _LOG.info("windows of %g s become %g s: %d whole IMU samples", asked, length, count)
    seen: set[str] = set()
    for recording in recordings:
        name = recording.recording_id
        if name in seen:
            raise UsageError(f"two recordings are called {name!r}; rename one of the files")
        seen.add(name)
        yield plan_recording(recording, config)


def _microseconds(seconds: float) -> int:
    if not 0 < seconds < math.inf:
        raise UsageError(f"windows: got {seconds} s, need a length and a stride above 0 s")
    return round(seconds * 1e6)


def _description(recording: Recording) -> dict[str, Any]:
    """What identifies a recording's content without reading it: text, clocks, file sizes, times."""
    return {
        "id": recording.recording_id,
        "wearer": recording.wearer,
        "version": recording.source_version,
        "duration_us": recording.duration_us,
        "narrations": [_fields(narration) for narration in recording.narrations],
        "align": asdict(recording.align),
        "split": recording.official_split,
        "group": recording.split_group,
        "redacted_us": recording.redacted_us,
        "notes": recording.notes,
        "kinds": [recording.imu_kind, recording.text_source, recording.license_id],
        "files": [
            [path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in recording.files
        ],
    }


def _fields(narration: Narration) -> dict[str, Any]:
    """`dataclasses.asdict` of what holds no other dataclass, at a tenth of its time."""
    return {name: getattr(narration, name) for name in Narration.__dataclass_fields__}
