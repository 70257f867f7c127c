import logging
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.clock import fit_rate
from egotriad.converters.vrs import open_vrs, read_vrs_frames, read_vrs_imu
from egotriad.converters.vrs_container import FILE_HEADER, check_vrs
from egotriad.manifests.errors import MissingDependency, RecordingError, UsageError
from egotriad.pipelines.fake_aria import (
    BOOT_NS,
    DATA,
    IMU_LEFT,
    VrsRecord,
    write_fake_aria,
    write_vrs,
)

pytest.importorskip("projectaria_tools", reason="needs projectaria-tools (egotriad[aria])")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_aria(tmp_path_factory.mktemp("aria"))


def test_streams_are_found_by_label(path: Path):
    recording = open_vrs(path)
    assert {
        label: (s.kind, s.count, s.nominal_rate_hz) for label, s in recording.streams.items()
    } == {
        "camera-rgb": ("IMAGE", 120, 20.0),
        "imu-right": ("IMU", 6107, 1000.0),
        "imu-left": ("IMU", 4869, 800.0),
    }
    assert recording.origin_ns == BOOT_NS
    assert recording.tags["device_type"] == "Aria"
    for label, kind in (("imu-middle", "IMU"), ("camera-rgb", "IMU")):
        with pytest.raises(
            RecordingError, match=rf"has no IMU stream '{label}', only camera-rgb \(120"
        ):
            recording.stream(label, kind)


@pytest.mark.parametrize(("label", "rate_hz"), [("imu-right", 1001.1), ("imu-left", 798.2)])
def test_both_imus_say_the_same_in_device_axes(path: Path, label: str, rate_hz: float):
    track = read_vrs_imu(path, label)
    assert track.rate_hz == pytest.approx(rate_hz, abs=1e-3)
    assert track.accel.t_us[0] == track.gyro.t_us[0] == -40_000, "its delay is taken off"
    t_s = track.accel.t_us / 1e6
    walk = 2.0 * np.sin(2 * np.pi * 2.0 * t_s)
    assert np.abs(track.accel.values[0] + 9.81 - walk).max() < 1e-4
    assert np.abs(track.gyro.values[1] - walk / 10).max() < 1e-4
    assert track.gyro.values[2] == pytest.approx(0.3, abs=1e-6)
    assert track.notes["imu_axes"] == "device, rectified"


def test_an_imu_can_be_had_as_stored(path: Path):
    stored = open_vrs(path).imu("imu-left", rectify=False)
    assert stored.accel.t_us[0] == -39_000
    assert stored.accel.values[0].mean() == pytest.approx(-9.81, abs=0.1)
    assert stored.gyro.values[2] == pytest.approx(-0.3, abs=1e-6)
    assert stored.notes["imu_axes"] == "imu-left, as stored"


def test_chunks_are_the_whole_in_pieces(path: Path):
    recording = open_vrs(path)
    chunks = list(recording.imu_chunks("imu-right", chunk_samples=1000))
    assert [len(accel) for accel, _ in chunks] == [1000] * 6 + [107]
    whole = recording.imu("imu-right")
    assert np.array_equal(np.concatenate([gyro.values for _, gyro in chunks], 1), whole.gyro.values)
    assert np.array_equal(np.concatenate([accel.t_us for accel, _ in chunks]), whole.accel.t_us)


def test_frames_come_in_chunks_on_the_recordings_clock(path: Path):
    chunks = list(read_vrs_frames(path, chunk_frames=50))
    assert [len(chunk.t_us) for chunk in chunks] == [50, 50, 20]
    assert {chunk.luma.shape[1:] for chunk in chunks} == {(48, 64)}
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    assert t_us.tolist() == list(range(0, 6_000_000, 50_000))
    y, x = np.mgrid[:48, :64]
    drawn = 128 + 60 * np.sin((x + 70) / 5) * np.cos(y / 7)
    assert np.abs(chunks[1].luma[20] - drawn).max() < 12, "JPEG keeps it nearly"
    (small,) = read_vrs_frames(path, size_wh=(20, 20), fit="stretch", chunk_frames=120)
    assert small.luma.shape == (120, 20, 20)
    with pytest.raises(UsageError, match="fit: got 'tile'"):
        next(read_vrs_frames(path, fit="tile"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 frames a chunk"):
        next(read_vrs_frames(path, chunk_frames=0))


def test_time_code_is_a_clock_shared_with_other_devices(path: Path):
    recording = open_vrs(path)
    assert recording.shared_clocks() == ("TIME_CODE",)
    hour_ns = 3_600_000_000_000
    assert recording.to_shared_ns(1_500_000) == BOOT_NS + 1_500_000_000 + hour_ns
    assert recording.from_shared_ns(BOOT_NS + hour_ns + 2_000_000_499) == 2_000_000
    assert recording.from_shared_ns(BOOT_NS + hour_ns + 2_000_000_500) == 2_000_001
    with pytest.raises(
        RecordingError, match="holds no clock TIC_SYNC, only device time, TIME_CODE"
    ):
        recording.to_shared_ns(0, "TIC_SYNC")


def imu_records(times_ns: list[int], valid: list[tuple[bool, bool]]) -> list[VrsRecord]:
    first = VrsRecord(stream=IMU_LEFT, time_s=5e-324, kind=2, data=struct.pack("<IQd", 1, 1, 800.0))
    return [first] + [
        VrsRecord(
            stream=IMU_LEFT,
            time_s=t_ns / 1e9,
            kind=DATA,
            data=struct.pack("<???q3f3f", *flags, False, t_ns, 1, 2, 3, 4, 5, 6),
        )
        for t_ns, flags in zip(times_ns, valid, strict=True)
    ]


def test_a_file_without_a_camera_or_calibration_begins_with_its_imu(tmp_path: Path):
    path = tmp_path / "bare.vrs"
    times = [BOOT_NS + k * 1_250_000 for k in range(6)]
    flags = [(True, True), (False, True), (True, True), (True, False), (True, False), (True, True)]
    write_vrs(path, imu_records(times, flags), {"device_type": "Aria"})
    recording = open_vrs(path)
    assert recording.imu_calibration("imu-left") is None
    track = recording.imu("imu-left")
    assert track.accel.t_us.tolist() == [0, 2500, 3750, 5000, 6250]
    assert track.gyro.t_us.tolist() == [0, 1250, 2500, 6250]
    assert track.accel.values[:, 0].tolist() == [1, 2, 3]
    assert track.notes["imu_invalid"] == "accel 1, gyro 2 of 6, left out"
    assert track.notes["imu_axes"] == "imu-left, as stored"
    with pytest.raises(RecordingError, match="has no IMAGE stream 'camera-rgb'"):
        next(recording.frames())


def test_a_file_without_a_known_stream_says_so(tmp_path: Path):
    path = tmp_path / "empty.vrs"
    write_vrs(path, imu_records([], []), {"device_type": "Aria"})
    with pytest.raises(RecordingError, match=r"empty.vrs: has neither camera-rgb nor an IMU, only"):
        open_vrs(path)


def test_the_library_is_silent(path: Path, capfd: pytest.CaptureFixture[str], caplog):
    with caplog.at_level(logging.DEBUG, "egotriad.converters.vrs_library"):
        read_vrs_imu(path, "imu-left")
        with pytest.raises(RecordingError):
            open_vrs(path).imu("imu-middle")
    os.write(2, b"still there")
    assert capfd.readouterr() == ("", "still there")
    assert "imu-left activated" in caplog.text


def test_without_the_library_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "projectaria_tools.core.data_provider", None)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[aria\]'"):
        open_vrs(path)


def header_with(path: Path, **changed: object) -> bytes:
    names = (
        "magic",
        "id",
        "header",
        "record",
        "index",
        "description",
        "first",
        "pad",
        "end",
        "version",
    )
    content = path.read_bytes()
    values = dict(zip(names, FILE_HEADER.unpack(content[: FILE_HEADER.size]), strict=True))
    return FILE_HEADER.pack(*(values | changed).values()) + content[FILE_HEADER.size :]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"magic": b"nonsense"}, "no VRS file"),
        ({"end": b"none"}, "VRS of version"),
        ({"version": b"VRS9"}, r"VRS of version b'VRS9', need one of VRS1, VRS2, VRS3"),
        ({"record": 4000}, "it has headers of 80 and 4000 bytes"),
        ({"index": 0}, "has no index, so its recording was interrupted"),
        ({"index": 10**9}, "cut off: got .* its index needs 1000000032"),
        ({"index": -5}, "it has a record at byte -5"),
        ({"description": 10**12}, "cut off"),
        ({"index": 200}, "damaged VRS file|cut off"),
    ],
)
def test_a_damaged_header_is_refused_before_the_library_sees_it(
    tmp_path: Path, path: Path, changed: dict[str, object], message: str
):
    damaged = tmp_path / "a.vrs"
    damaged.write_bytes(header_with(path, **changed))
    with pytest.raises(RecordingError, match=f"a.vrs: .*({message})"):
        open_vrs(damaged)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, path: Path):
    content = path.read_bytes()
    cut = tmp_path / "cut.vrs"
    for length in (0, 7, 79, 80, 100, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(RecordingError, match=r"cut.vrs: (no VRS file|the file is cut off)"):
            check_vrs(cut)
    with pytest.raises(RecordingError, match="no such file"):
        check_vrs(tmp_path / "none.vrs")


READ_ALL = """
import pathlib, sys
from egotriad.converters.vrs import open_vrs
from egotriad.manifests.errors import RecordingError
for name in sys.argv[1:]:
    try:
        recording = open_vrs(pathlib.Path(name))
        for label, stream in recording.streams.items():
            if stream.kind == "IMU":
                recording.imu(label)
        if "camera-rgb" in recording.streams:
            list(recording.frames(chunk_frames=200))
        print("read")
    except RecordingError as exc:
        assert str(exc).startswith(pathlib.Path(name).name), exc
        print("refused")
"""


def run_over_damaged(content: bytes, tmp_path: Path, *, files: int, head: int) -> list[str]:
    """Reads mutated files in another process, which a crash of the library would end."""
    rng, names = random.Random(0), []
    for number in range(files):
        data = bytearray(content)
        reach = head if number % 2 else len(data)
        for _ in range(rng.choice([1, 5, 20])):
            data[rng.randrange(reach)] = rng.randrange(256)
        names.append(tmp_path / f"{number}.vrs")
        names[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, names)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_damaged_files_are_read_or_refused(tmp_path: Path, path: Path):
    verdicts = run_over_damaged(path.read_bytes(), tmp_path, files=24, head=4000)
    assert len(verdicts) == 24
    assert {"read", "refused"} == set(verdicts)


def test_the_real_clip_damaged_is_read_or_refused(tmp_path: Path, shared: Callable[[str], Path]):
    content = shared("real/aria_aea_clip/recording.vrs").read_bytes()
    verdicts = run_over_damaged(content, tmp_path, files=16, head=38_000)
    assert len(verdicts) == 16


def test_the_real_clip_gives_the_measured_numbers(shared: Callable[[str], Path]):
    recording = open_vrs(shared("real/aria_aea_clip/recording.vrs"))
    counts = {label: stream.count for label, stream in recording.streams.items()}
    assert counts == {
        "camera-rgb": 8, "camera-slam-left": 4, "camera-slam-right": 4, "camera-et": 4,
        "imu-right": 400, "imu-left": 319, "mag0": 4, "baro0": 20, "mic": 4,
    }  # fmt: skip
    right, left = (recording.imu(label, rectify=False) for label in ("imu-right", "imu-left"))
    assert right.rate_hz == pytest.approx(1001.1, abs=0.05)
    assert left.rate_hz == pytest.approx(798.2, abs=0.05)
    assert right.accel.values[:, 0] == pytest.approx([-7.893683, 2.142811, 2.659958], abs=1e-6)
    assert right.gyro.values[:, 0] == pytest.approx([0.774055, -0.171953, -0.326338], abs=1e-6)
    assert left.accel.values[:, 0] == pytest.approx([-0.231040, -8.942344, 2.658761], abs=1e-6)
    assert fit_rate(recording.frame_times_us()).rate_hz == pytest.approx(20.0, abs=0.01)
    assert recording.shared_clocks() == ()
    assert not set(recording.tags) & {"", "none"}


def test_the_real_cameras_are_upright_and_calibrated(shared: Callable[[str], Path]):
    recording = open_vrs(shared("real/aria_aea_clip/recording.vrs"))
    camera = recording.camera_calibration()
    assert (camera.model, camera.size_wh, camera.quarter_turns) == ("FISHEYE624", (1408, 1408), 1)
    assert np.linalg.det(camera.device_from_camera[:3, :3]) == pytest.approx(1.0, abs=1e-6)
    (chunk,) = recording.frames(size_wh=(346, 260))
    assert chunk.luma.shape == (8, 260, 346)
    assert chunk.t_us[0] == 0
    (slam,) = recording.frames("camera-slam-left")
    assert slam.luma.shape == (4, 640, 480), "480 lines of 640, turned"


def test_the_real_imus_agree_within_the_hardware_truth(shared: Callable[[str], Path]):
    """Two IMUs on one frame: with axes and delays corrected they turn together, within 0.3 ms."""
    recording = open_vrs(shared("real/aria_aea_clip/recording.vrs"))
    right, left = recording.imu("imu-right"), recording.imu("imu-left")
    gravity = [track.accel.values.mean(axis=1) for track in (right, left)]
    assert gravity[0] == pytest.approx(gravity[1], abs=0.15)
    assert np.linalg.norm(gravity[0]) == pytest.approx(9.7, abs=0.2)
    grid_us = np.arange(0, 300_000, 1000)

    def turning(shift_us: float, track) -> np.ndarray:
        smooth = np.ones(25) / 25
        rows = [np.convolve(row, smooth, "same") for row in track.gyro.values]
        return np.stack([np.interp(grid_us + shift_us, track.gyro.t_us, row) for row in rows])

    lags_us = np.arange(-4000, 4001, 100)
    still = turning(0, left)
    worst = [np.square(turning(lag, right) - still).sum() for lag in lags_us]
    assert abs(lags_us[int(np.argmin(worst))]) <= 300
