import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egotriad.converters.gpmf import read_gopro_imu, stamped_by_camera
from egotriad.converters.gpmf_blocks import sensor_blocks
from egotriad.converters.gpmf_payloads import read_payloads
from egotriad.converters.klv import item_bytes, nest_bytes
from egotriad.manifests.errors import RecordingError


def sensor(
    key: str,
    values: np.ndarray,
    *,
    scale: int = 100,
    unit: bytes | None = None,
    stamp_us: int | None = None,
    total: int | None = None,
    axes: str = "",
) -> bytes:
    """A stream of int16 samples (n, channels), as a camera writes it."""
    items = []
    if stamp_us is not None:
        items.append(item_bytes("STMP", "J", 8, struct.pack(">Q", stamp_us)))
    if total is not None:
        items.append(item_bytes("TSMP", "L", 4, struct.pack(">L", total)))
    if axes:
        items.append(item_bytes("ORIN", "c", 1, axes.encode()))
    unit = {"ACCL": b"m/s\xb2", "GYRO": b"rad/s"}.get(key, b"s") if unit is None else unit
    items.append(item_bytes("SIUN", "c", len(unit), unit))
    items.append(item_bytes("SCAL", "s", 2, struct.pack(">h", scale)))
    stored = np.rint(values * scale).astype(">i2")
    items.append(item_bytes(key, "s", 2 * values.shape[1], stored.tobytes()))
    return nest_bytes("STRM", *items)


def recording(
    *,
    payloads: int = 5,
    counts: tuple[int, ...] = (198, 198, 197),
    rate_hz: float = 197.45,
    stamped: bool = True,
    axes: str = "XzY",
    device: str = "Test Cam",
    accel_unit: bytes | None = None,
    gyro: bool = True,
    lost: int | None = None,
) -> bytes:
    """Payloads of a camera whose IMU begins 5 ms before frame 0 and reads 1, 2, 3."""
    out, first = b"", 0
    for k in range(payloads):
        count = counts[k % len(counts)]
        stamp_us = 1_000_000 + round(first * 1e6 / rate_hz) if stamped else None
        frame_us = 1_005_000 + k * 1_001_000 if stamped else None
        first += count
        options = {"stamp_us": stamp_us, "total": first, "axes": axes}
        values = np.tile([1.0, 2.0, 3.0], (count, 1))
        streams = [sensor("ACCL", values, unit=accel_unit, **options)]
        if gyro:
            streams.append(sensor("GYRO", values / 10, **options))
        streams.append(sensor("SHUT", np.full((30, 1), 0.01), stamp_us=frame_us))
        if k != lost:
            out += nest_bytes("DEVC", item_bytes("DVNM", "c", 1, device.encode()), *streams)
    return out


def split_payloads(content: bytes) -> list[bytes]:
    """A recording's payloads one by one."""
    payloads, start = [], 0
    while start < len(content):
        _, _, size, repeat = struct.unpack_from(">4scBH", content, start)
        end = start + 8 + (size * repeat + 3 & ~3)
        payloads.append(content[start:end])
        start = end
    return payloads


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_samples_lie_on_the_line_through_the_payloads_stamps(tmp_path: Path):
    track = read_gopro_imu(written(tmp_path / "a.raw", recording()))
    assert track.rate_hz == pytest.approx(197.45, abs=1e-3)
    count = 198 + 198 + 197 + 198 + 198
    assert len(track.accel) == len(track.gyro) == count
    expected = -5000 + np.arange(count) * 1e6 / 197.45
    assert np.abs(track.accel.t_us - expected).max() <= 2
    assert track.notes["imu_clock"] == "camera (STMP)"
    assert track.notes["imu_device"] == "Test Cam"


def test_a_camera_without_stamps_is_timed_by_its_container(tmp_path: Path):
    ends = np.rint(np.arange(21) * 1.001 * 197.45).astype(int)
    counts = tuple(np.diff(ends).tolist())
    payloads = split_payloads(recording(payloads=20, counts=counts, stamped=False))
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_data_stream("bin_data")
        track.time_base = Fraction(1, 1000)
        for k, payload in enumerate(payloads):
            packet = av.Packet(payload)
            packet.stream, packet.time_base = track, track.time_base
            packet.pts = packet.dts = 1001 * k
            packet.duration = 1001
            container.mux(packet)
    track = read_gopro_imu(path)
    assert track.rate_hz == pytest.approx(197.45, rel=1e-3)
    # Samples do not begin where payloads do: half a sample is what this clock can promise.
    assert np.abs(track.accel.t_us - np.arange(ends[-1]) * 1e6 / 197.45).max() < 5065
    assert track.notes["imu_clock"] == "container payload times"
    assert not stamped_by_camera(path)


def test_a_lost_payload_leaves_a_gap_and_no_shift(tmp_path: Path):
    track = read_gopro_imu(written(tmp_path / "a.raw", recording(lost=2)))
    step = np.diff(track.accel.t_us)
    assert (step > 50_000).sum() == 1
    assert step.max() == pytest.approx(198e6 / 197.45, abs=2)
    assert track.rate_hz == pytest.approx(197.45, abs=1e-3)


@pytest.mark.parametrize(
    ("axes", "device", "expected"),
    [
        ("XYZ", "any", [1, 2, 3]),
        ("XzY", "any", [1, 3, -2]),
        ("YxZ", "Hero7 Black", [-2, 1, 3]),
        ("ZXY", "HERO11 Black", [2, 3, 1]),
        ("", "Camera", [2, 3, 1]),
        ("", "Hero6 Black", [-2, 1, 3]),
        ("", "Fusion", [2, -1, 3]),
        ("", "Never Heard Of", [1, 2, 3]),
    ],
)
def test_channels_become_camera_axes(tmp_path: Path, axes: str, device: str, expected: list[float]):
    path = written(tmp_path / "a.raw", recording(axes=axes, device=device))
    track = read_gopro_imu(path)
    assert track.accel.values[:, 0].tolist() == expected
    assert track.gyro.values[:, -1] == pytest.approx(np.array(expected) / 10)
    assert ("stored order" in track.notes["imu_axes"]) == (device == "Never Heard Of")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stamped": False}, r"a.raw: a bare GPMF file of Test Cam has no clock \(no STMP\)"),
        ({"payloads": 1}, "one payload is not enough to measure a sample rate"),
        ({"gyro": False}, "no GYRO samples, only ACCL, SHUT"),
        ({"accel_unit": b"g"}, "ACCL: got unit 'g', need m/s² or"),
        ({"accel_unit": b""}, "ACCL: got unit '', need m/s² or"),
        ({"axes": "XXY"}, "ORIN: got 'XXY', need one order"),
        ({"rate_hz": 1e7, "counts": (4000,)}, "no IMU's rate"),
    ],
)
def test_an_imu_that_cannot_be_trusted_is_refused(
    tmp_path: Path, options: dict[str, object], message: str
):
    if options.get("accel_unit") == b"":
        content = recording().replace(
            item_bytes("SIUN", "c", 4, b"m/s\xb2"), item_bytes("NOUN", "c", 4, b"m/s2")
        )
    else:
        content = recording(**options)
    with pytest.raises(RecordingError, match=message):
        read_gopro_imu(written(tmp_path / "a.raw", content))


def test_files_without_telemetry_are_named(tmp_path: Path):
    with pytest.raises(RecordingError, match="no such file"):
        read_gopro_imu(tmp_path / "a.mp4")
    with pytest.raises(RecordingError, match="not a media file"):
        read_gopro_imu(written(tmp_path / "a.bin", b"DEVI" + bytes(100)))


def test_an_ordinary_video_lists_its_streams(shared: Callable[[str], Path]):
    path = shared("real/nasa_webb_subtitles/nasa_13013.mp4")
    for read in (read_gopro_imu, stamped_by_camera):
        with pytest.raises(
            RecordingError, match=r"no GPMF track .* only 0 video \(h264\), 1 audio"
        ):
            read(path)


SEED = recording(payloads=2, counts=(6, 5), rate_hz=5.5)


@settings(deadline=2000, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), min_size=1, max_size=12
    ),
    st.integers(0, len(SEED)),
)
def test_mutated_telemetry_is_read_or_refused_but_never_crashes(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
):
    data = bytearray(SEED)
    for place, value in changes:
        data[place] = value
    for content in (bytes(data), bytes(data[:cut])):
        path = written(tmp_path / "a.raw", b"DEVC" + content[4:])
        try:
            track = read_gopro_imu(path)
        except RecordingError:
            continue
        assert np.isfinite(track.accel.values).all()
        assert np.isfinite(track.gyro.values).all()
        assert track.rate_hz > 0


def test_the_real_walk_gives_the_measured_numbers(shared: Callable[[str], Path]):
    path = shared("real/gopro_max_walk/max-heromode.mp4")
    payloads = read_payloads(path)
    accel, gyro = (list(sensor_blocks(payloads, key)) for key in ("ACCL", "GYRO"))
    counts = [198, 198, 197, 198, 198, 197, 198, 198, 197, 198, 105]
    assert [len(block.values) for block in accel] == counts
    assert [payload.t_us for payload in payloads] == [k * 1_001_000 for k in range(11)]
    assert accel[0].values[0] == pytest.approx([0.474820, -8.616307, 1.618705], abs=1e-6)
    assert gyro[0].values[0] == pytest.approx([0.072417, 0.222577, -0.155485], abs=1e-6)
    stored = np.concatenate([block.values for block in accel])
    assert stored.mean(axis=0) == pytest.approx([-0.06187, -9.69684, 1.30892], abs=1e-5)
    assert np.linalg.norm(stored, axis=1).mean() == pytest.approx(9.835, abs=1e-3)
    turns = np.concatenate([block.values for block in gyro])
    assert turns.std(axis=0) == pytest.approx([0.14674, 0.26692, 0.10986], abs=1e-5)
    track = read_gopro_imu(path)
    assert len(track.accel) == len(track.gyro) == 2082
    assert track.rate_hz == pytest.approx(197.45, abs=0.1)
    assert track.accel.t_us[0] == pytest.approx(-5050, abs=10)
    assert track.accel.values.mean(axis=1) == pytest.approx([-0.06187, 1.30892, 9.69684], abs=1e-5)
    assert stamped_by_camera(path)


@pytest.mark.parametrize(
    ("name", "payloads", "accel", "gyro", "axes", "stamped"),
    [
        ("hero5", 1, (199, 418), (399, 3755), "", False),
        ("hero6", 1, (204, 418), (204, 1878), "", False),
        ("hero7", 17, (3369, 418), (3369, 1878), "YxZ", False),
        ("hero11", 11, (2192, 417), (2192, 939), "ZXY", True),
        ("Fusion", 1, (197, 1), (3300, 939), "", True),
    ],
)
def test_real_payloads_of_five_cameras(
    shared: Callable[[str], Path],
    name: str,
    payloads: int,
    accel: tuple[int, int],
    gyro: tuple[int, int],
    axes: str,
    stamped: bool,
):
    path = shared(f"real/gopro_max_walk/gpmf_payloads/{name}.raw")
    found = read_payloads(path)
    assert len(found) == payloads
    for key, (count, scale) in (("ACCL", accel), ("GYRO", gyro)):
        blocks = list(sensor_blocks(found, key))
        assert sum(len(block.values) for block in blocks) == count
        assert {block.scale.item() for block in blocks} == {scale}
        assert {block.axes for block in blocks} == {axes}
    assert stamped_by_camera(path) == stamped


def test_a_bare_real_file_with_stamps_is_a_track_of_its_own(shared: Callable[[str], Path]):
    track = read_gopro_imu(shared("real/gopro_max_walk/gpmf_payloads/hero11.raw"))
    assert len(track.accel) == 2192
    assert track.rate_hz == pytest.approx(199.25, abs=0.01)
    assert np.linalg.norm(track.accel.values, axis=0).mean() == pytest.approx(9.8, abs=1.0)
