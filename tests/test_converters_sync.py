"""Synchronisation on motions in closed form: what it finds, and what it refuses to claim."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from egotriad.converters.sync import SyncConfig, synchronise
from egotriad.converters.sync_report import SyncReport, correct
from egotriad.converters.video_rotation import CameraRotation
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, UsageError

MOUNT = Rotation.from_euler("xyz", [80.0, -30.0, 100.0], degrees=True).as_matrix()
"""Camera from IMU."""


class Head:
    """A head that turns by sums of sines about three axes: rates and angles are exact."""

    def __init__(self, seed: int = 0, size: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.rate_hz = rng.uniform(0.1, 2.5, (12, 3))
        self.phase = rng.uniform(0, 2 * np.pi, (12, 3))
        self.amplitude = size * rng.uniform(0.05, 0.3, (12, 3))

    def omega(self, t_s: np.ndarray) -> np.ndarray:
        """Angular velocity (n, 3), camera axes."""
        turn = 2 * np.pi * self.rate_hz * t_s[:, None, None] + self.phase
        return (self.amplitude * np.sin(turn)).sum(axis=1)

    def mean_omega(self, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """Its mean over stretches (n, 3)."""
        w = 2 * np.pi * self.rate_hz
        angle = [
            (-self.amplitude / w * np.cos(w * t[:, None, None] + self.phase)).sum(axis=1)
            for t in (start_s, end_s)
        ]
        return (angle[1] - angle[0]) / (end_s - start_s)[:, None]


def camera(
    head: Head, duration_s: float = 60.0, rate_hz: float = 20.0, noise: float = 0.02
) -> CameraRotation:
    """What a camera of half the true focal length shows of it."""
    t = np.arange(round(duration_s * rate_hz) + 1) / rate_hz
    omega = head.mean_omega(t[:-1], t[1:]) * [2.0, 2.0, 1.0]
    count = len(omega)
    stamps = np.rint(t * 1e6).astype(np.int64)
    speed = np.linalg.norm(omega, axis=1)
    return CameraRotation(
        start_us=stamps[:-1],
        end_us=stamps[1:],
        omega=omega + noise * np.random.default_rng(1).standard_normal((count, 3)),
        sigma=np.full(count, max(noise, 1e-4)),
        corners=np.full(count, 50),
        agreement=np.full(count, 0.9),
        brightness=np.full(count, 100.0),
        event_rate_hz=5.0 * speed + 0.2,
        size_wh=(160, 120),
        focal_px=80.0,
        focal_known=False,
    )


def imu(
    head: Head,
    duration_s: float = 60.0,
    rate_hz: float = 200.0,
    offset_s: float = 0.0,
    drift_ppm: float = 0.0,
    back_steps_s: tuple[tuple[float, float], ...] = (),
) -> tuple[ImuTrack, np.ndarray]:
    """An IMU whose stamps are true (1 + drift) - offset - back-steps so far, and the true times."""
    true_s = -0.3 + np.arange(round((duration_s + 0.6) * rate_hz)) / rate_hz
    stamp_s = true_s * (1 + drift_ppm * 1e-6) - offset_s
    for moment, step in back_steps_s:
        stamp_s = stamp_s - step * (true_s >= moment)
    gyro = head.omega(true_s) @ MOUNT + 0.01
    t_us = np.rint(stamp_s * 1e6).astype(np.int64)
    return ImuTrack(
        accel=SensorStream(t_us, np.ascontiguousarray(np.tile([0.0, 0.0, 9.81], (len(t_us), 1)).T)),
        gyro=SensorStream(t_us, np.ascontiguousarray(gyro.T)),
        rate_hz=rate_hz,
        notes={},
    ), true_s


def test_an_offset_and_a_drift_are_found_to_a_tenth_of_a_millisecond() -> None:
    head = Head()
    track, true_s = imu(head, 120.0, offset_s=1.2345, drift_ppm=-150.0)
    report = synchronise(camera(head, 120.0), track)
    assert report.verdict == "corrected"
    (segment,) = report.segments
    assert report.drift_ppm == pytest.approx(150.0 / (1 - 150e-6), abs=2.0)
    assert abs(report.drift_ppm - 150.0) <= 1.5 * report.drift_interval_ppm
    at_middle = np.interp(segment.middle_us, track.gyro.t_us, true_s * 1e6) - segment.middle_us
    assert segment.offset_us == pytest.approx(at_middle, abs=100.0)
    assert abs(segment.offset_us - at_middle) <= 1.5 * segment.interval_us
    error = correct(track, report).gyro.t_us / 1e6 - true_s
    assert np.abs(error).max() < 3e-4


@pytest.mark.parametrize("offset_s", [-4.8, 0.5])
def test_the_offset_is_what_is_added_to_imu_time(offset_s: float) -> None:
    head = Head(1)
    track, _ = imu(head, offset_s=offset_s)
    report = synchronise(camera(head), track)
    assert report.segments[0].offset_us == pytest.approx(offset_s * 1e6, abs=500.0)


def test_a_clock_that_is_right_is_left_alone() -> None:
    head = Head(2)
    track, _ = imu(head, offset_s=0.004)
    report = synchronise(camera(head), track)
    assert report.verdict == "ok"
    assert "+4." in report.reasons[0]
    same = correct(track, report)
    assert np.array_equal(same.gyro.t_us, track.gyro.t_us)
    assert same.notes["sync_verdict"] == "ok"
    assert synchronise(camera(head), track, SyncConfig(tolerance_ms=2.0)).verdict == "corrected"


def test_mount_and_focal_length_are_recovered() -> None:
    head = Head(3)
    report = synchronise(camera(head, noise=0.005), imu(head, offset_s=0.3)[0])
    between = np.array(report.camera_from_imu).T @ MOUNT
    assert np.degrees(np.arccos((np.trace(between) - 1) / 2)) < 0.2
    assert report.focal_per_width == pytest.approx(1.0, rel=0.01)
    assert not report.mirrored_axes


def test_a_gyroscope_with_a_flipped_axis_is_named() -> None:
    head = Head(3)
    track, _ = imu(head, offset_s=0.3)
    flipped = replace(
        track, gyro=SensorStream(track.gyro.t_us, track.gyro.values * [[-1], [1], [1]])
    )
    report = synchronise(camera(head), flipped)
    assert report.verdict == "corrected"
    assert report.mirrored_axes


def test_every_clock_segment_gets_its_own_offset() -> None:
    head = Head(4)
    track, true_s = imu(
        head, 120.0, offset_s=-0.7, drift_ppm=80.0, back_steps_s=((40.0, 0.2), (75.0, 0.45))
    )
    report = synchronise(camera(head, 120.0), track)
    assert report.verdict == "corrected"
    assert report.clock_segments == len(report.segments) == 3
    offsets = np.diff([segment.offset_us for segment in report.segments])
    assert offsets == pytest.approx([0.2e6, 0.45e6], abs=6000.0)  # the drift adds a few ms
    assert np.abs(correct(track, report).gyro.t_us / 1e6 - true_s).max() < 5e-4


def test_samples_of_a_segment_too_short_to_measure_are_left_out() -> None:
    head = Head(5)
    track, true_s = imu(head, offset_s=0.5, back_steps_s=((40.0, 0.3), (44.0, 0.3)))
    report = synchronise(camera(head), track)
    assert [segment.number for segment in report.segments] == [0, 2]
    assert any("too short" in reason for reason in report.reasons)
    moved = correct(track, report)
    kept = (true_s < 40.0) | (true_s >= 44.0)
    assert len(moved.gyro) == len(moved.accel) == kept.sum()
    assert np.abs(moved.gyro.t_us / 1e6 - true_s[kept]).max() < 1e-3
    assert moved.notes["sync_dropped_samples"] == str((~kept).sum())


def test_jitter_of_the_stamps_is_no_back_step() -> None:
    head = Head(6)
    track, _ = imu(head, offset_s=0.5)
    late = 8000 * (np.arange(len(track.gyro)) // 200 % 2)  # every other second 8 ms late
    stream = SensorStream(track.gyro.t_us + late, track.gyro.values)
    report = synchronise(camera(head), replace(track, gyro=stream))
    assert report.clock_segments == 1
    assert report.segments[0].offset_us == pytest.approx(496_000, abs=1000.0)


def test_a_gap_of_the_imu_is_bridged_by_its_clock() -> None:
    head = Head(7)
    track, true_s = imu(head, offset_s=0.5)
    kept = (true_s < 20.0) | (true_s > 31.0)
    streams = [SensorStream(s.t_us[kept], s.values[:, kept]) for s in (track.accel, track.gyro)]
    cut = replace(track, accel=streams[0], gyro=streams[1])
    report = synchronise(camera(head), cut)
    assert report.clock_segments == 1
    assert report.segments[0].offset_us == pytest.approx(0.5e6, abs=500.0)
    assert report.compared_s < 50.0


def test_a_back_step_hidden_in_a_gap_is_found() -> None:
    head = Head(7)
    track, true_s = imu(head, offset_s=0.5, back_steps_s=((30.0, 0.3),))
    kept = (true_s < 30.0) | (true_s > 30.8)
    streams = [SensorStream(s.t_us[kept], s.values[:, kept]) for s in (track.accel, track.gyro)]
    hidden = replace(track, accel=streams[0], gyro=streams[1])
    report = synchronise(camera(head), hidden)
    assert report.verdict == "corrected"
    assert report.cut_at_gaps
    assert [s.offset_us for s in report.segments] == pytest.approx([0.5e6, 0.8e6], abs=1000.0)
    assert np.abs(correct(hidden, report).gyro.t_us / 1e6 - true_s[kept]).max() < 1e-3


def test_a_clock_that_jumps_unseen_is_suspect() -> None:
    head = Head(8)
    track, true_s = imu(head, 100.0, offset_s=0.2)
    jumped = track.gyro.t_us + 90_000 * (true_s > 88.0)  # forward, no gap to speak of
    report = synchronise(
        camera(head, 100.0), replace(track, gyro=SensorStream(jumped, track.gyro.values))
    )
    assert report.verdict == "suspect"
    assert report.reasons[0].startswith("at 95 s the offset is -80 ms from that of the rest")
    assert report.jumps_us == (-80_000.0,)


def test_a_second_witness_that_disagrees_makes_it_suspect() -> None:
    head = Head(9)
    rotation = camera(head)
    elsewhere = np.roll(rotation.event_rate_hz, 20)  # a second later
    report = synchronise(replace(rotation, event_rate_hz=elsewhere), imu(head, offset_s=0.5)[0])
    assert report.verdict == "suspect"
    assert report.witnesses_agree is False
    assert report.event_offset_us == pytest.approx(1e6, abs=0.1e6)
    assert "event rate, disagrees by +1" in report.reasons[0]


def test_a_silent_second_witness_does_no_harm() -> None:
    head = Head(9)
    steady = replace(camera(head), event_rate_hz=np.full(len(camera(head)), 3.0))
    report = synchronise(steady, imu(head, offset_s=0.5)[0])
    assert report.verdict == "corrected"
    assert report.witnesses_agree is None


def test_without_enough_time_the_drift_is_left_open() -> None:
    head = Head(10)
    report = synchronise(camera(head, 12.0, noise=0.1), imu(head, 12.0, offset_s=0.5)[0])
    assert report.drift_interval_ppm > 100.0
    assert abs(report.drift_ppm) < report.drift_interval_ppm
    assert report.segments[0].offset_us == pytest.approx(0.5e6, abs=3000.0)


def refusal(rotation: CameraRotation, track: ImuTrack) -> str:
    """The reason of a report that must not claim anything."""
    report = synchronise(rotation, track)
    assert report.verdict == "cannot tell"
    assert not report.segments
    return report.reasons[0]


def test_the_imu_of_another_recording_is_refused() -> None:
    assert "do not turn alike" in refusal(camera(Head(11)), imu(Head(12))[0])


def test_a_still_camera_is_refused() -> None:
    still = camera(Head(13, size=0.0))
    assert "the picture turns less than the IMU" in refusal(still, imu(Head(13))[0])


def test_a_still_head_is_refused() -> None:
    still = Head(14, size=0.0)
    assert "the head hardly turns" in refusal(camera(still), imu(still)[0])


def test_footage_that_keeps_only_slow_turns_is_refused_as_stabilised() -> None:
    head = Head(15)
    head.amplitude[:4] *= 3.0
    head.rate_hz[:4] = np.random.default_rng(0).uniform(0.05, 0.2, (4, 3))
    rotation = camera(head)
    smooth = replace(rotation, omega=gaussian_filter1d(rotation.omega, 8, axis=0))
    assert "stabilised" in refusal(smooth, imu(head)[0])


def test_one_turn_is_too_little_motion() -> None:
    head = Head(16)
    rotation, (track, true_s) = camera(head, 30.0, noise=0.002), imu(head, 30.0, offset_s=0.1)
    middle_s = (rotation.start_us + rotation.end_us) / 2e6
    rotation.omega[:] *= np.exp(-((middle_s - 21.0) ** 2) / 0.3)[:, None]
    track.gyro.values[:] *= np.exp(-((true_s - 21.0) ** 2) / 0.3)
    assert "one turn is too little" in refusal(rotation, track)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corners": 1, "brightness": 4.0}, "too dark"),
        ({"corners": 1, "brightness": 120.0}, "no texture"),
        ({"corners": 40, "brightness": 120.0}, "does not move as one"),
    ],
)
def test_a_picture_that_tells_no_rotation_is_refused_with_its_reason(
    changes: dict[str, float], words: str
) -> None:
    rotation = camera(Head(17))
    blind = replace(
        rotation,
        omega=np.full_like(rotation.omega, np.nan),
        **{name: np.full(len(rotation), value) for name, value in changes.items()},
    )
    assert words in refusal(blind, imu(Head(17))[0])


def test_short_imu_and_short_video_are_refused_with_numbers() -> None:
    head = Head(18)
    assert "5.6 s, need 8 s" in refusal(camera(head), imu(head, 5.0)[0])
    assert "5.0 s, need 8 s" in refusal(camera(head, 5.0), imu(head)[0])


def test_an_offset_beyond_the_search_is_refused_and_found_by_a_wider_one() -> None:
    head = Head(19)
    track, _ = imu(head, offset_s=9.0)
    assert synchronise(camera(head), track).verdict == "cannot tell"
    report = synchronise(camera(head), track, SyncConfig(search_s=12.0))
    assert report.segments[0].offset_us == pytest.approx(9e6, abs=500.0)


def test_a_report_is_plain_json_and_comes_back() -> None:
    head = Head(20)
    report = synchronise(camera(head), imu(head, offset_s=0.5)[0])
    values = json.loads(json.dumps(asdict(report)))
    assert values["verdict"] == "corrected"
    assert values["segments"][0]["offset_us"] == report.segments[0].offset_us


def test_correcting_needs_the_same_segments_in_both_sensors() -> None:
    head = Head(21)
    track, _ = imu(head, offset_s=0.5)
    report = synchronise(camera(head), track)
    t_us = track.accel.t_us - 500_000 * (np.arange(len(track.accel)) > 500)
    broken = replace(track, accel=SensorStream(t_us, track.accel.values))
    with pytest.raises(RecordingError, match="2 segments, the synchronised one 1"):
        correct(broken, report)


def test_an_unsynchronised_track_is_returned_with_the_reason() -> None:
    track, _ = imu(Head(22), 10.0)
    same = correct(track, SyncReport(verdict="cannot tell", reasons=("too dark",)))
    assert np.array_equal(same.accel.t_us, track.accel.t_us)
    assert same.notes == {"sync_verdict": "cannot tell", "sync_reason": "too dark"}


@pytest.mark.parametrize(("name", "value"), [("search_s", 0.0), ("tolerance_ms", -1.0)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"got {value}"):
        SyncConfig(**{name: value})


MENDED = camera(Head(23), 20.0)


@settings(max_examples=25, deadline=None)
@given(
    t_us=st.lists(st.integers(-(10**15), 10**15), max_size=40),
    value=st.sampled_from([0.0, 1.0, np.nan, np.inf, 1e9, -1e300]),
    spread=st.booleans(),
)
def test_hostile_imus_get_a_verdict_and_no_crash(
    t_us: list[int], value: float, spread: bool
) -> None:
    stamps = np.array(t_us, np.int64)
    if spread and len(stamps):  # make some of it long enough to be looked at
        stamps = np.concatenate([stamps, np.arange(0, 20_000_000, 100_000)])
    values = np.full((3, len(stamps)), value)
    values[1, ::2] = 0.1
    track = ImuTrack(
        accel=SensorStream(stamps, values), gyro=SensorStream(stamps, values), rate_hz=1.0, notes={}
    )
    report = synchronise(MENDED, track)
    assert report.verdict in ("cannot tell", "suspect")
