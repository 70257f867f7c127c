"""Brings every part of a build into being: what is missing is claimed, built and accounted for."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from egotriad.manifests.errors import DiskFull, EgotriadError
from egotriad.manifests.progress import Meter
from egotriad.pipelines.claims import Claims
from egotriad.pipelines.disk import DiskGuard, is_full
from egotriad.pipelines.engine import EngineConfig, stream
from egotriad.pipelines.outline import Outline, replan
from egotriad.pipelines.part import Part, PartJob, build_part, read_part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.quarantine import Failure, Quarantine, failure_of
from egotriad.pipelines.run_config import RunConfig
from egotriad.pipelines.signals import Signals

__all__ = ["PartBuilder", "sweep"]

MACHINE_ATTEMPTS = 2
"""A recording that took its worker with it is tried once more, alone."""

WAIT_S = 2.0
CALM_BYTES_PER_S = 320_000
"""Of a part with full event spans of a calm scene, until parts of this build say better: too little
is noticed while it grows, too much would refuse what fits."""


@dataclass(slots=True, kw_only=True)
class PartBuilder:
    """The parts of one build while they are made.

    Attributes:
        folder: of the parts.
        config: the build's configuration.
        engine: where parts are built.
        run: when to stop, what to try again.
        claims: of this driver.
        quarantine: the build's.
        guard: of the disk.
        signals: that may ask to end.
        parts: recording -> part, of all that are finished.
        failed: recording -> why it is not.
        reused: how many parts were there before; built: how many were made here.
    """

    folder: Path
    config: BuildConfig
    engine: EngineConfig
    run: RunConfig
    claims: Claims
    quarantine: Quarantine
    guard: DiskGuard
    signals: Signals
    parts: dict[str, Part] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    reused: int = 0
    built: int = 0
    _full: DiskFull | None = field(init=False, default=None)
    _attempts: dict[str, int] = field(init=False, default_factory=dict)
    _progress: "_Progress" = field(init=False)
    _kept_us: int = field(init=False, default=0)
    _kept_bytes: int = field(init=False, default=0)

    def find(self, outlines: Sequence[Outline]) -> list[Outline]:
        """Takes up what is finished or has failed for good; returns the rest."""
        missing = [outline for outline in outlines if not self._is_settled(outline)]
        self.reused = len(self.parts)
        return missing

    def build(self, missing: Sequence[Outline]) -> None:
        """Builds parts, the longest first, until none is missing.

        What another driver has claimed is waited for. A recording that cannot be built goes into
        quarantine, and the rest goes on.

        Raises:
            KeyboardInterrupt: a signal asked to end; what was running is finished or dropped.
            DiskFull: the disk has no room for more.
            EgotriadError: more failed than --max-failures.
        """
        todo = sorted(missing, key=lambda outline: -outline.window_us)
        total_us = sum(outline.window_us for outline in missing)
        alone = replace(self.engine, workers=1)
        # What runs in this process cannot be waited for: there a signal must strike at once.
        here = self.engine.engine == "serial"
        with Meter() as meter, nullcontext() if here else self.signals.deferred():
            self._progress = _Progress(meter, len(missing), total_us)
            while todo:
                again, todo = self._round(todo, self.engine)
                while again:
                    again, _ = self._round(again, alone)
                if todo:
                    meter("recordings that another build has claimed", 0, len(todo))
                    time.sleep(WAIT_S)
                    self._check_stop()

    def _round(
        self, todo: Sequence[Outline], engine: EngineConfig
    ) -> tuple[list[Outline], list[Outline]]:
        """Builds what can be claimed; returns what to try again and what others are building."""
        again: list[Outline] = []
        elsewhere: list[Outline] = []
        outlines: dict[str, Outline] = {}
        jobs = self._jobs(todo, outlines, elsewhere)
        try:
            results = stream(
                build_part,
                jobs,
                engine,
                stop=self._must_stop,
                grace_s=self.run.grace_s,
                told=lambda job, share: self._progress.tell(
                    outlines[job.plan.recording.recording_id], share
                ),
            )
            with closing(results):
                for job, result in results:
                    name = job.plan.recording.recording_id
                    outline = outlines.pop(name)
                    if self._take(outline, result):
                        self.claims.release(outline.part_name)
                        self._progress.add(outline, self.parts.get(name))
                    else:
                        again.append(outline)
        finally:
            for outline in outlines.values():  # dropped
                self.claims.release(outline.part_name)
            if outlines:
                sweep(self.folder, self.claims)
        self._check_stop()
        return again, elsewhere

    def _jobs(
        self, todo: Sequence[Outline], outlines: dict[str, Outline], elsewhere: list[Outline]
    ) -> Iterator[PartJob]:
        """The next recording that is nobody else's, whenever a worker is free."""
        for outline in todo:
            name = outline.recording.recording_id
            if not self.claims.take(outline.part_name):
                elsewhere.append(outline)
                continue
            if self._is_settled(outline):  # since it was last looked at, by another driver
                self.claims.release(outline.part_name)
                self._progress.add(outline, self.parts.get(name))
                continue
            try:
                needed = sum(self._bytes_expected(o) for o in (*outlines.values(), outline))
                self.guard.require(needed, f"the part of {name} with those being built")
            except DiskFull as exc:
                self._full = exc
                self.claims.release(outline.part_name)
                return
            outlines[name] = outline
            plan = replan(outline, self.config)
            yield PartJob(plan=plan, config=self.config, folder=self.folder)

    def _take(self, outline: Outline, result: Part | Exception) -> bool:
        """Files a result; False when it shall be tried again."""
        name = outline.recording.recording_id
        if isinstance(result, Part):
            self._keep(result)
            self.built += 1
            return True
        if is_full(result):
            self._full = DiskFull(
                f"{name}: the disk is full ({result}); free space and run the same command again"
            )
            return True
        attempts = self._attempts[name] = self._attempts.get(name, 0) + 1
        files = outline.recording.files
        failure = failure_of(name, outline.key, result, files, attempts=attempts)
        if failure.kind == "machine" and attempts < MACHINE_ATTEMPTS:
            return False
        self.failed[name] = failure
        self.quarantine.add(failure)
        self._check_failures(failure)
        return True

    def _check_failures(self, latest: Failure) -> None:
        most, count = self.run.max_failures, len(self.failed)
        if most is not None and count > most:
            raise EgotriadError(
                f"{count} recordings failed, --max-failures allows {most}; the latest: "
                f"{latest.message}; what is finished stays, see quarantine/"
            )

    def _is_settled(self, outline: Outline) -> bool:
        name = outline.recording.recording_id
        part = read_part(self.folder / f"{outline.part_name}.done.json")
        if part is not None:
            self._keep(part)
            return True
        if self.run.retry_quarantined:
            return name in self.failed
        failure = self.quarantine.stands(name, outline.key)
        if failure is not None:
            self.failed[name] = failure
        return name in self.failed

    def _bytes_expected(self, outline: Outline) -> int:
        """Size of a part, by those that are finished; at first by what is typical."""
        if self._kept_us:
            return round(outline.window_us * self._kept_bytes / self._kept_us)
        return round(outline.events_us * CALM_BYTES_PER_S / 1e6)

    def _must_stop(self) -> bool:
        return self.signals.received is not None or self._full is not None or self.guard.is_low()

    def _check_stop(self) -> None:
        if self.signals.received is not None:
            raise KeyboardInterrupt
        if self._full is not None:
            raise self._full
        if self.guard.is_low():
            self.guard.require(0, "going on")

    def _keep(self, part: Part) -> None:
        self.parts[part.recording] = part
        self.quarantine.clear(part.recording)
        self._kept_us += part.duration_us
        self._kept_bytes += sum(file["bytes"] for file in part.files.values())


class _Progress:
    """Tells a meter how far a build is, weighing recordings by their length.

    Events are those of finished recordings.
    """

    def __init__(self, meter: Meter, total: int, total_us: int) -> None:
        self._meter = meter
        self._total, self._total_us = total, total_us
        self._done = self._done_us = self._events = 0
        self._begun_us: dict[str, float] = {}

    def tell(self, outline: Outline, share: float) -> None:
        """Notes how much of a recording is built that is not finished."""
        self._begun_us[outline.part_name] = share * outline.window_us
        self._show()

    def add(self, outline: Outline, part: Part | None) -> None:
        """Counts a recording that is finished, or has failed for good (None)."""
        self._done += 1
        self._done_us += outline.window_us
        self._events += 0 if part is None else part.event_count or 0
        self._begun_us.pop(outline.part_name, None)
        self._show()

    def _show(self) -> None:
        built_us = self._done_us + sum(self._begun_us.values())
        amounts = {"events": float(self._events)} if self._done else {}
        self._meter(
            "recordings built",
            self._done,
            self._total,
            share=built_us / self._total_us if self._total_us else None,
            amounts=amounts | {"recorded s": built_us / 1e6},
        )


def sweep(folder: Path, claims: Claims) -> None:
    """Deletes what killed workers have left of parts that nobody is building."""
    for file in folder.glob("*.tmp-*"):
        part_name = file.name.rsplit(".", 3)[0]
        if claims.take(part_name):
            file.unlink(missing_ok=True)
            claims.release(part_name)
