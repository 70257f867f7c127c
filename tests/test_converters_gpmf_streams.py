"""Every camera's own way to write its streams, synthesised, and the real ones."""

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from egotriad.converters.gpmf import read_gopro_imu, stamped_by_camera
from egotriad.converters.gpmf_streams import iterate_gpmf, list_gpmf, read_gpmf
from egotriad.converters.klv import item_bytes, nest_bytes
from egotriad.manifests.errors import RecordingError

PAYLOADS, PAYLOAD_US = 6, 1_001_000


def text(key: str, words: bytes, size: int = 1) -> bytes:
    return item_bytes(key, "c", size, words)


def stream(payload: int, key: str, kind: str, row: bytes, count: int, *before: bytes, **clock: Any):
    """A stream of `count` equal rows a payload, whose first sample is taken as frame 0 is shown."""
    first_us = payload * PAYLOAD_US
    items = [item_bytes("TSMP", "L", 4, struct.pack(">L", (payload + 1) * count))]
    if clock.get("stamped"):
        items.append(item_bytes("STMP", "J", 8, struct.pack(">Q", 7_000_000 + first_us)))
    if clock.get("ticking"):
        items.append(item_bytes("TICK", "L", 4, struct.pack(">L", 9_000 + first_us // 1000)))
    return nest_bytes("STRM", *items, *before, item_bytes(key, kind, len(row), row * count))


def scale(*numbers: int) -> bytes:
    return item_bytes("SCAL", "l", 4, struct.pack(f">{len(numbers)}l", *numbers))


def device(name: bytes, number: int, *streams: bytes) -> bytes:
    return nest_bytes(
        "DEVC", item_bytes("DVID", "L", 4, struct.pack(">L", number)), text("DVNM", name), *streams
    )


SI_ACCEL, SI_GYRO = text("SIUN", b"m/s\xb2", 4), text("SIUN", b"rad/s", 5)
XYZ = struct.pack(">3h", 100, 200, 300)
FLOAT_XYZ = struct.pack(">3f", 1.0, 2.0, 3.0)
TURN = item_bytes("MTRX", "f", 36, struct.pack(">9f", 0, 0, 1, -1, 0, 0, 0, 1, 0))


def imu(
    payload: int, accel: bytes, kind: str, rates: tuple[int, int], *before: bytes, **clock: Any
):
    div = scale(1 if kind == "f" else 100)
    return [
        stream(payload, "ACCL", kind, accel, rates[0], *before, SI_ACCEL, div, **clock),
        stream(payload, "GYRO", "s", XYZ, rates[1], *before, SI_GYRO, scale(1000), **clock),
        stream(payload, "SHUT", "f", struct.pack(">f", 0.004), 30, text("SIUN", b"s"), **clock),
    ]


def hero5(payload: int) -> bytes:
    return device(b"Camera", 1, *imu(payload, XYZ, "s", (200, 400), ticking=True))


def karma(payload: int) -> bytes:
    """A Hero5 on a drone; the drone's own accelerometer is not the camera's."""
    drone = stream(payload, "ACCL", "s", struct.pack(">3h", 9, 9, 9), 4, SI_ACCEL, scale(1))
    return hero5(payload) + device(b"GoPro Karma v1.0", 0x100E511, drone)


def hero6(payload: int) -> bytes:
    return device(b"Hero6 Black", 1, *imu(payload, XYZ, "s", (200, 200), ticking=True))


def fusion(payload: int) -> bytes:
    streams = imu(payload, FLOAT_XYZ, "f", (200, 3200), stamped=True, ticking=True)
    return device(b"Fusion", 1, *streams)


def hero7(payload: int) -> bytes:
    axes = text("ORIN", b"YxZ"), text("ORIO", b"ZXY")
    return device(b"Hero7 Black", 1, *imu(payload, XYZ, "s", (200, 200), *axes))


def hero8(payload: int) -> bytes:
    """Orientation once a frame; a sensor matrix that says what ORIN says."""
    axes = TURN, text("ORIN", b"ZXy"), text("ORIO", b"ZXY")
    turn = struct.pack(">4h", 32767, 0, -32767, 0)
    cori = stream(payload, "CORI", "s", turn, 30, scale(32767), stamped=True)
    return device(b"HERO8 Black", 1, *imu(payload, XYZ, "s", (200, 200), *axes, stamped=True), cori)


def hero11(payload: int) -> bytes:
    where = struct.pack(">7l2H", 424_261_500, -86_499_800, 34_098, 18, 10, 8298, 48_576_899, 179, 3)
    gps9 = stream(
        payload, "GPS9", "?", where, 10,
        item_bytes("GPSU", "U", 16, b"220920132938.000"),
        text("UNIT", b"degdegm\0\0m/sm/s\0\0\0s\0\0\0\0\0\0\0\0", 3),
        text("TYPE", b"lllllllSS"),
        scale(10**7, 10**7, 1000, 1000, 100, 1, 1000, 100, 1),
        stamped=True,
    )  # fmt: skip
    faces = [
        item_bytes("FACE", "?", 6, struct.pack(">BBHH", 1, 2, 65535, 0) * n) for n in (0, 2, 1)
    ]
    face = nest_bytes(
        "STRM",
        item_bytes("TSMP", "L", 4, struct.pack(">L", 3 * payload + 3)),
        item_bytes("STMP", "J", 8, struct.pack(">Q", 7_000_000 + payload * PAYLOAD_US)),
        text("TYPE", b"BBSS"),
        scale(1, 1, 65535, 65535),
        *faces,
    )
    axes = text("ORIN", b"ZXY", 3)
    return device(
        b"HERO11 Black", 1, *imu(payload, XYZ, "s", (200, 200), axes, stamped=True), gps9, face
    )


def written(path: Path, camera: Callable[[int], bytes], payloads: int = PAYLOADS) -> Path:
    """A telemetry-only mp4, as a camera writes its GPMF track; the last duration is a lie."""
    with av.open(str(path), "w") as container:
        track = container.add_data_stream("bin_data")
        track.time_base = Fraction(1, 1000)
        for k in range(payloads):
            packet = av.Packet(camera(k))
            packet.stream, packet.time_base = track, track.time_base
            packet.pts = packet.dts = k * PAYLOAD_US // 1000
            packet.duration = PAYLOAD_US // 1000 if k < payloads - 1 else 7
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("camera", "rates", "accel", "clock"),
    [
        (hero5, (200, 400), [2, 3, 1], "ticks"),
        (karma, (200, 400), [2, 3, 1], "ticks"),
        (hero6, (200, 200), [-2, 1, 3], "ticks"),
        (hero7, (200, 200), [-2, 1, 3], "container"),
        (fusion, (200, 3200), [2, -1, 3], "STMP"),
        (hero8, (200, 200), [2, -3, 1], "STMP"),
        (hero11, (200, 200), [2, 3, 1], "STMP"),
    ],
)
def test_the_imu_of_every_camera_is_read_in_its_own_way(
    tmp_path: Path,
    camera: Callable[[int], bytes],
    rates: tuple[int, int],
    accel: list[float],
    clock: str,
):
    path = written(tmp_path / "GX010001.mp4", camera)
    track = read_gopro_imu(path)
    for sensor, count in zip((track.accel, track.gyro), rates, strict=True):
        assert len(sensor) == count * PAYLOADS
        expected = np.arange(count * PAYLOADS) * PAYLOAD_US / count
        assert np.abs(sensor.t_us - expected).max() <= 1
    assert track.rate_hz == pytest.approx(rates[0] / 1.001, rel=1e-6)
    assert track.accel.values[:, 0].tolist() == accel
    assert clock in track.notes["imu_clock"]
    assert stamped_by_camera(path) == (clock == "STMP")


def test_a_bare_file_with_ticks_has_a_clock(tmp_path: Path):
    path = tmp_path / "hero5.raw"
    path.write_bytes(b"".join(map(karma, range(PAYLOADS))))
    track = read_gopro_imu(path)
    assert len(track.gyro) == 400 * PAYLOADS
    assert track.gyro.t_us[0] == 0
    assert track.gyro.t_us[-1] == pytest.approx((400 * PAYLOADS - 1) * PAYLOAD_US / 400, abs=1)


def test_a_calibrated_matrix_leads_to_the_axes_of_orio(tmp_path: Path):
    matrix = [0.0, 0.1, 1.0, 0.9, 0.0, 0.0, 0.0, -1.1, 0.0]
    mtrx = item_bytes("MTRX", "f", 36, struct.pack(">9f", *matrix))

    def camera(payload: int, orio: bytes = b"ZxY") -> bytes:
        axes = mtrx, text("ORIN", b"XYZ"), text("ORIO", orio)
        return device(b"HERO8", 1, *imu(payload, XYZ, "s", (200, 200), *axes, stamped=True))

    track = read_gopro_imu(written(tmp_path / "a.mp4", camera))
    z, minus_x, y = np.reshape(matrix, (3, 3)) @ [1, 2, 3]
    assert track.accel.values[:, 0] == pytest.approx([-minus_x, y, z], abs=1e-6)
    with pytest.raises(RecordingError, match="ORIO: got 'XX', need one order of X, Y, Z"):
        read_gopro_imu(written(tmp_path / "b.mp4", lambda payload: camera(payload, b"XX")))


def test_streams_are_listed_with_names_units_and_counts(tmp_path: Path):
    listed = {s.key: s for s in list_gpmf(written(tmp_path / "a.mp4", hero11))}
    assert list(listed) == ["ACCL", "GYRO", "SHUT", "GPS9", "FACE"]
    assert (listed["ACCL"].channels, listed["ACCL"].samples) == (3, 1200)
    assert listed["GPS9"].units == ("deg", "deg", "m", "m/s", "m/s", "", "s", "", "")
    assert (listed["FACE"].channels, listed["FACE"].samples) == (4, 3 * PAYLOADS)
    drone = list_gpmf(written(tmp_path / "b.mp4", karma))
    assert [s.key for s in drone] == ["ACCL", "GYRO", "SHUT"]
    assert {s.device for s in drone} == {"Camera"}


def test_gps9_is_decoded_by_its_types_scales_and_units(tmp_path: Path):
    gps = read_gpmf(written(tmp_path / "a.mp4", hero11), "GPS9")
    want = [42.42615, -8.64998, 34.098, 0.018, 0.1, 8298, 48576.899, 1.79, 3]
    assert gps.values.shape == (10 * PAYLOADS, 9)
    assert gps.values[-1] == pytest.approx(want)
    assert np.diff(gps.t_us) == pytest.approx(100_100, abs=1)


def test_readings_once_a_payload_are_streams_of_their_own(tmp_path: Path):
    utc = read_gpmf(written(tmp_path / "a.mp4", hero11), "GPSU")
    assert utc.values[:, 0].tolist() == [1663680578.0] * PAYLOADS  # 2022-09-20 13:29:38 UTC
    assert utc.t_us.tolist() == [k * PAYLOAD_US for k in range(PAYLOADS)]
    assert utc.units == ()


def test_findings_of_one_moment_share_its_time(tmp_path: Path):
    faces = read_gpmf(written(tmp_path / "a.mp4", hero11), "FACE")
    assert faces.values[0].tolist() == [1, 2, 1, 0]
    step = PAYLOAD_US / 3
    moments = [k * PAYLOAD_US + step * n for k in range(PAYLOADS) for n in (1, 1, 2)]
    assert faces.t_us == pytest.approx(moments, abs=1)


def test_a_late_stream_is_set_back_by_its_delay(tmp_path: Path):
    def late(payload: int) -> bytes:
        delay = item_bytes("TIMO", "f", 4, struct.pack(">f", 0.25))
        streams = imu(payload, XYZ, "s", (200, 200), delay, stamped=True)
        return device(b"HERO9", 1, *streams[:2], *imu(payload, XYZ, "s", (1, 1), stamped=True)[2:])

    assert read_gopro_imu(written(tmp_path / "a.mp4", late)).accel.t_us[0] == -250_000


@pytest.mark.parametrize(
    ("key", "kind", "row", "before", "message"),
    [
        ("NONE", "s", XYZ, (), "no ABCD samples, only ACCL, GYRO, NONE, SHUT"),
        ("ABCD", "c", b"words", (), "GPMF ABCD: type 'c'"),
        ("ABCD", "?", XYZ, (text("TYPE", b"ll"),), r"type '\?' \(ll\) with structures of 6"),
        ("ABCD", "s", XYZ, (scale(1, 2),), r"scale \[1.0, 2.0\] for 3 channels"),
        ("ABCD", "s", XYZ, (scale(0),), r"scale \[0.0\] for 3 channels"),
        ("ABCD", "s", XYZ, (item_bytes("TIMO", "f", 4, b"\x7f\xc0\0\0"),), "TIMO: got nan"),
    ],
)
def test_streams_that_cannot_be_read_say_why(
    tmp_path: Path, key: str, kind: str, row: bytes, before: tuple[bytes, ...], message: str
):
    def camera(payload: int) -> bytes:
        strange = stream(payload, key, kind, row, 9, *before)
        return device(b"HERO9", 1, *imu(payload, XYZ, "s", (200, 200)), strange)

    path = written(tmp_path / "a.mp4", camera)
    with pytest.raises(RecordingError, match=rf"a.mp4: .*{message}"):
        read_gpmf(path, "ABCD")
    assert len(read_gopro_imu(path).accel) == 200 * PAYLOADS


def test_a_long_recording_streams_in_flat_memory(tmp_path: Path):
    path = tmp_path / "a.raw"

    def peak(payloads: int) -> int:
        path.write_bytes(b"".join(map(hero11, range(payloads))))
        tracemalloc.start()
        rows = sum(len(part.t_us) for part in iterate_gpmf(path, "GYRO"))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows == 200 * payloads
        return most

    peak(5)  # what is imported and cached at first use
    assert peak(240) - peak(40) < 500_000, "200 payloads hold 1.3 MB of samples"


def test_the_real_walk_holds_every_sensor(shared: Callable[[str], Path]):
    path = shared("real/gopro_max_walk/max-heromode.mp4")
    listed = {s.key: s for s in list_gpmf(path)}
    assert listed["MAGN"].units == ("µT",)
    assert {key: s.samples for key, s in listed.items() if s.channels} == {
        "ACCL": 2082, "GYRO": 2082, "MAGN": 260, "SHUT": 316, "WBAL": 105, "WRGB": 105,
        "ISOE": 316, "YAVG": 98, "UNIF": 105, "HUES": 294, "GPS5": 191, "CORI": 316,
        "IORI": 316, "GRAV": 316,
    }  # fmt: skip
    gps, turns = read_gpmf(path, "GPS5"), read_gpmf(path, "CORI")
    assert gps.values[:, 3].mean() == pytest.approx(1.21, abs=0.01)
    assert gps.values[0, :2] == pytest.approx([33.12677, -117.32734], abs=1e-5)
    assert np.linalg.norm(turns.values, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert np.diff(turns.t_us) == pytest.approx(1_001_000 / 30, abs=2), "one a frame"
    magnetometer = read_gpmf(path, "MAGN")
    assert 1e6 / np.diff(magnetometer.t_us).mean() == pytest.approx(24.68, abs=0.01)
    gravity = read_gpmf(path, "GRAV")
    assert np.linalg.norm(gravity.values, axis=1) == pytest.approx(1.0, abs=1e-3)


def test_a_real_gps9_is_where_its_gps5_is(shared: Callable[[str], Path]):
    path = shared("real/gopro_max_walk/gpmf_payloads/hero11.raw")
    old, new = read_gpmf(path, "GPS5"), read_gpmf(path, "GPS9")
    assert new.values[:, :5] == pytest.approx(old.values, abs=1e-6)
    assert new.t_us.tolist() == old.t_us.tolist()
    assert set(new.values[:, 8]) == {3.0}
    utc = read_gpmf(path, "GPSU").values[0, 0]
    since_2000 = new.values[0, 5] * 86400 + new.values[0, 6]
    assert since_2000 + 946_684_800 == pytest.approx(utc, abs=86400)


def damaged(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 3, 30])):
        place = rng.randrange(len(data))
        data[place] = rng.choice([0, 0xFF, 1 << rng.randrange(8) ^ data[place], rng.randrange(256)])
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data))]
    return b"DEVC" + bytes(data[4:])


@pytest.mark.parametrize("name", ["hero11", "hero7", "hero5", "Fusion"])
def test_real_payloads_damaged_at_random_are_read_or_refused(
    tmp_path: Path, shared: Callable[[str], Path], name: str
):
    content = shared(f"real/gopro_max_walk/gpmf_payloads/{name}.raw").read_bytes()[:30_000]
    rng, path = random.Random(name), tmp_path / "a.raw"
    started, messages = time.process_time(), []
    for _ in range(40):
        path.write_bytes(damaged(content, rng))
        for read in (
            read_gopro_imu,
            list_gpmf,
            lambda file: read_gpmf(file, "SHUT"),
            lambda file: read_gpmf(file, "GPS5"),
        ):
            try:
                read(path)
            except RecordingError as exc:
                messages.append(str(exc))
    assert messages
    assert all(message.startswith("a.raw: ") for message in messages)
    assert time.process_time() - started < 20
