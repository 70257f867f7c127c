"""What the card and `croissant.json` tell of a configuration, or of several that were merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from egotriad.manifests.files import short_hash
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.restore import restored

__all__ = ["BuildFacts", "facts_in", "facts_of", "merged_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """How the rows of a build were made.

    Attributes:
        hash: 16 hex digits that name the configuration.
        sim_id: 16 hex digits that name the event simulator's parameters, None without events.
        events_computed: whether events were computed from video, and not taken from files.
        imu, imu_rate_hz, events, sensor, fit, timing, preset, event_seed: as in `BuildConfig`.
        pos_thres, neg_thres: contrast thresholds in natural-log units.
        upsampling: how frames were put between frames.
        windows, event_spans, unsure, subject: each rule once, in order.
    """

    hash: str
    sim_id: str | None
    imu: bool
    imu_rate_hz: float
    events: bool
    events_computed: bool
    sensor: str
    fit: str
    timing: str
    preset: str
    event_seed: int
    pos_thres: float
    neg_thres: float
    upsampling: str
    windows: tuple[str, ...]
    event_spans: tuple[str, ...]
    unsure: tuple[str, ...]
    subject: tuple[str, ...]

    @property
    def rules(self) -> str:
        """The rules that laid the windows, as words."""
        return "; or ".join(self.windows)


ONE_VALUE = ("sim_id", "imu", "imu_rate_hz", "events", "sensor", "fit")
"""What decides what a model reads from a row: the same in all builds that are merged."""

SEVERAL = ("windows", "event_spans", "unsure", "subject")
"""What every row tells of itself, or what decided only which rows there are."""


def facts_of(config: BuildConfig) -> BuildFacts:
    """The facts of a configuration."""
    return BuildFacts(
        hash=config.hash,
        sim_id=config.sim_id if config.events else None,
        imu=config.imu,
        imu_rate_hz=config.imu_rate_hz,
        events=config.events,
        events_computed=config.events_computed,
        sensor=config.sensor,
        fit=config.fit,
        timing=config.timing,
        preset=config.preset,
        event_seed=config.event_seed,
        pos_thres=config.dvs.pos_thres,
        neg_thres=config.dvs.neg_thres,
        upsampling=config.upsampling.method,
        windows=(config.window_policy.describe(),),
        event_spans=(config.event_spans,),
        unsure=(config.unsure,),
        subject=(config.subject,),
    )


def facts_in(provenance: Mapping[str, Any]) -> BuildFacts:
    """The facts of a build by its record; files that it used need not be there.

    Raises:
        ShardError: when the record is of another version of egotriad.
    """
    record = provenance["config"]
    source = provenance["event_source"] or {}
    method = source.get("upsampling", {}).get("method", "none")
    # A checkpoint is named in the record by its hash, and not needed for what is told here.
    known = {field.name for field in fields(BuildConfig)}
    values = {name: value for name, value in record["values"].items() if name in known}
    values |= {"upsample": "none", "slomo_checkpoint": None}
    facts = facts_of(restored(BuildConfig, values, ()))
    told = {
        "hash": record["hash"],
        "sim_id": source.get("sim_id"),
        "events_computed": source.get("simulator") is not None,
        "upsampling": method,
    }
    return BuildFacts(**{name: getattr(facts, name) for name in BuildFacts.__slots__} | told)


def merged_facts(builds: Sequence[BuildFacts]) -> BuildFacts:
    """The facts of builds that agree in all of `ONE_VALUE`, in any order."""
    hashes = sorted({facts.hash for facts in builds})
    values = {name: getattr(builds[0], name) for name in BuildFacts.__slots__}
    for name in SEVERAL:
        values[name] = tuple(sorted({rule for facts in builds for rule in getattr(facts, name)}))
    values["hash"] = hashes[0] if len(hashes) == 1 else short_hash(hashes)
    return BuildFacts(**values)
