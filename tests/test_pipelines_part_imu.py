"""The IMU of a part: what the synchronisation verdict does to clocks, clips and records."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from egotriad.converters.sync_report import SegmentOffset, SyncReport
from egotriad.converters.windows import Window
from egotriad.manifests import Alignment, ImuTrack, Recording, SensorStream
from egotriad.manifests.errors import RecordingError
from egotriad.manifests.files import canonical_json
from egotriad.pipelines import part_imu
from egotriad.pipelines.part_imu import PartImu
from egotriad.pipelines.plan import BuildConfig

OFFSET_US = 400_000


def swaying_track() -> ImuTrack:
    """Twelve seconds at 200 Hz; the gyroscope's x shows the time itself."""
    t_us = (np.arange(2400) * 5000).astype(np.int64)
    accel = np.zeros((3, len(t_us)))
    accel[2] = 9.81 + 0.1 * np.sin(t_us / 1e6)
    gyro = np.stack([t_us / 1e6 / 10, np.sin(t_us / 1e6), np.cos(t_us / 1e6)])
    return ImuTrack(
        accel=SensorStream(t_us, accel), gyro=SensorStream(t_us, gyro), rate_hz=200.0, notes={}
    )


def report(verdict: str) -> SyncReport:
    if verdict == "cannot tell":
        return SyncReport(verdict=verdict, reasons=("nothing moves",), clock_segments=1)
    segment = SegmentOffset(
        number=0,
        start_us=0,
        end_us=11_995_000,
        middle_us=6_000_000,
        offset_us=float(OFFSET_US),
        interval_us=900.0,
        correlation=0.97,
        peak_ratio=3.0,
    )
    return SyncReport(
        verdict=verdict,
        reasons=("off by 400 ms",),
        segments=(segment,),
        clock_segments=1,
        correlation=0.97,
    )


def recording() -> Recording:
    return Recording(
        source="made",
        source_version="1",
        recording_id="sway",
        wearer=None,
        video_path=Path("sway.mp4"),
        read_imu=swaying_track,
        narrations=(),
        duration_us=12_000_000,
        license_id="own",
        imu_kind="synthetic",
        text_source="none",
        align=Alignment(status="assumed"),
    )


def part(
    monkeypatch: pytest.MonkeyPatch, verdict: str, mode: str, *, events: bool = True
) -> tuple[PartImu, dict[str, Any]]:
    """What is only checked beside events comes of their pass, everything else of one of its own."""
    watch = SimpleNamespace(report=lambda: report(verdict))
    monkeypatch.setattr(part_imu, "SyncWatch", lambda path, track: watch)
    monkeypatch.setattr(part_imu, "sync_recording", lambda described, track: report(verdict))
    notes: dict[str, Any] = {}
    config = BuildConfig(sync=mode, events=events)
    return PartImu(recording(), config, notes), notes


def time_shown(source: PartImu) -> float:
    """What the gyroscope showed at the start of the window from 4 s on, seconds."""
    window = Window(t_start_us=4_000_000, duration_us=1_000_000, anchor=None, narrations=())
    imu, _ = source.window(window)
    return float(imu.data[3, 50]) * 10 - 50 / 200


@pytest.mark.parametrize("events", [True, False])
@pytest.mark.parametrize(
    ("verdict", "mode", "status", "moved"),
    [
        ("corrected", "correct", "estimated", True),
        ("corrected", "check", "unverified", False),
        ("suspect", "correct", "unverified", False),
        ("ok", "check", "estimated", False),
        ("cannot tell", "correct", "assumed", False),
    ],
)
def test_a_verdict_moves_the_imu_only_where_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    verdict: str,
    mode: str,
    status: str,
    moved: bool,
    events: bool,
) -> None:
    source, notes = part(monkeypatch, verdict, mode, events=events)
    assert (source.watch is not None) == (events and mode == "check")
    if source.watch is not None:
        assert source.align == Alignment(status="assumed")
        assert "sync" not in notes
    source.settle()
    source.settle()  # again comes to nothing
    assert source.watch is None
    assert source.align.status == status
    assert source.align.offset_us == (OFFSET_US if moved else None)
    shown = 4.0 - OFFSET_US / 1e6 if moved else 4.0
    assert time_shown(source) == pytest.approx(shown, abs=1e-3)
    assert notes["sync"].startswith(verdict)
    assert source.report["sync"]["verdict"] == verdict
    canonical_json(source.report)


def test_no_video_and_sync_off_leave_the_clock_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    source, notes = part(monkeypatch, "corrected", "off")
    assert source.align == Alignment(status="assumed")
    assert source.report["sync"] is None
    assert "sync" not in notes


def test_a_video_that_cannot_be_read_is_noted_and_the_imu_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(described: Recording, track: ImuTrack) -> SyncReport:
        raise RecordingError("sway.mp4: moov atom not found")

    monkeypatch.setattr(part_imu, "sync_recording", broken)
    notes: dict[str, Any] = {}
    source = PartImu(recording(), BuildConfig(events=False), notes)
    assert "moov atom" in notes["sync"]
    assert time_shown(source) == pytest.approx(4.0, abs=1e-3)


def test_a_video_that_cannot_be_opened_is_noted_before_any_pass_over_it() -> None:
    notes: dict[str, Any] = {}
    source = PartImu(recording(), BuildConfig(), notes)
    assert "sway.mp4: no such file" in notes["sync"]
    assert source.watch is None
    assert source.report["sync"] is None
