"""Recordings of the simulated world with known clocks, for measuring synchronisation.

What is drawn at random: length, frame rate, exposure (motion blur), light and sensor noise, video
quality; the IMU's rate, mount, bias, clock offset, drift, gaps and back-steps. And kinds of
recordings in which nothing can be synchronised, which must not be claimed to be.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from egotriad.manifests import ImuTrack, SensorStream
from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_path import HeadPath
from egotriad.pipelines.world_plan import Scene, WorldOptions, direct, plan_world
from egotriad.pipelines.world_room import HEAD_FROM_CAMERA, render
from egotriad.pipelines.world_sensors import draw_noise, ideal_imu

IMPOSSIBLE = (
    "nobody moves",
    "camera stands still",
    "too dark",
    "no texture",
    "stabilised",
    "stabilised, slow turns left",
    "IMU of another recording",
)
SECONDS_A_CLIP = 4.0
CHUNK = 128
SHUTTER_STEPS = 4
SMOOTHING_S = 0.5
FOREIGN = 50_000
MARGIN_S = 0.4

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One recording to be made; `kind` is `possible` or one of `IMPOSSIBLE`.

    `light` scales grey levels before noise of `noise_levels` is added; `shutter` is the exposure as
    a share of the frame interval; `crf` the video's quality. Clock: stamp = true (1 + drift) +
    offset - all back-steps so far, with gaps of 0.1 to 1 s.
    """

    kind: str
    seed: int
    size_wh: tuple[int, int]
    duration_s: float
    frame_rate_hz: float
    shutter: float
    light: float
    noise_levels: float
    crf: int
    imu_rate_hz: float
    offset_s: float
    drift_ppm: float
    gaps: int
    back_steps: int


def draw_take(kind: str, seed: int) -> Take:
    """A recording drawn at random; the same for the same kind and seed."""
    rng = np.random.default_rng((seed, 17))
    take = Take(
        kind=kind,
        seed=seed,
        size_wh=((96, 72), (128, 72), (128, 96), (160, 120))[rng.integers(4)],
        duration_s=float(rng.uniform(180.0, 300.0)),
        frame_rate_hz=float(rng.choice([15.0, 20.0, 24.0, 30.0])),
        shutter=float(rng.choice([0.0, 0.5, 0.9], p=[0.5, 0.25, 0.25])),
        light=float(np.exp(rng.uniform(np.log(0.15), 0.0))),
        noise_levels=float(rng.uniform(0.5, 4.0)),
        crf=int(rng.integers(12, 29)),
        imu_rate_hz=float(rng.choice([50.0, 100.0, 197.45, 200.0, 400.0])),
        offset_s=float(rng.uniform(-2.0, 2.0)),
        drift_ppm=float(rng.uniform(-200.0, 200.0)),
        gaps=int(rng.integers(0, 5)),
        back_steps=int(rng.integers(0, 3)),
    )
    if kind == "too dark":
        return replace(take, light=float(rng.uniform(0.0, 0.02)), noise_levels=2.0)
    return take


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Made:
    """A recording and its truth.

    Attributes:
        video: its file.
        track: the IMU with its faulty stamps.
        true_s: float64 (n,), when each sample was taken on the video's clock.
        camera_from_imu: float64 (3, 3), how the IMU is mounted.
    """

    video: Path
    track: ImuTrack
    true_s: Array
    camera_from_imu: Array


def make_take(take: Take, folder: Path) -> Made:
    """Renders what is missing of a recording; the video stays in the folder for the next time."""
    scene = _scene(take, take.seed)
    video = folder / f"{take.kind.replace(' ', '-').replace(',', '')}-{take.seed}.mp4"
    if not video.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = video.with_suffix(".part")
        _write_video(temporary, take, scene)
        temporary.rename(video)
    felt = _scene(take, take.seed + FOREIGN) if take.kind == "IMU of another recording" else scene
    return _felt(take, felt, video)


def _scene(take: Take, seed: int) -> Scene:
    options = WorldOptions(
        wearers=1,
        recordings_per_wearer=1,
        clips_per_recording=max(1, round(take.duration_s / SECONDS_A_CLIP)),
        seed=seed,
        size_wh=take.size_wh,
        frame_rate_hz=take.frame_rate_hz,
    )
    return direct(options, plan_world(options)[0])


def _write_video(path: Path, take: Take, scene: Scene) -> None:
    width, height = take.size_wh
    rng = np.random.default_rng((take.seed, 18))
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    rate = Fraction(take.frame_rate_hz).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "veryfast", "crf": str(take.crf)}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1) / rate
        for start in range(0, scene.frames, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, scene.frames))
            for number, grey in zip(numbers, _frames(take, scene, numbers, rng), strict=True):
                planes[:height] = grey
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts, frame.time_base = int(number), Fraction(1) / rate
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(
    take: Take, scene: Scene, numbers: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Frames as the sensor delivers them; a frame's time is the middle of its exposure."""
    times = numbers / take.frame_rate_hz
    steps = SHUTTER_STEPS if take.shutter > 0 else 1
    picture = np.zeros((len(numbers), take.size_wh[1], take.size_wh[0]))
    for step in range(steps):
        late = ((step + 0.5) / steps - 0.5) * take.shutter / take.frame_rate_hz
        picture += _view(take, scene, times + late) / steps
    if take.kind == "no texture":
        picture[:] = 120.0
    picture = picture * take.light + rng.normal(0.0, take.noise_levels, picture.shape)
    # Limited range, as cameras write it.
    return np.clip(np.rint(16 + picture * (219 / 255)), 16, 235).astype(np.uint8)


def _view(take: Take, scene: Scene, times_s: Array) -> NDArray[np.uint8]:
    path, room = scene.choreography.path, scene.room
    still = take.kind in ("nobody moves", "camera stands still")
    positions, rotations = path.pose(np.zeros_like(times_s) if still else times_s, CAMERA_POINT)
    if take.kind == "stabilised":
        rotations = np.repeat(path.pose(np.zeros(1), CAMERA_POINT)[1], len(times_s), axis=0)
    if take.kind == "stabilised, slow turns left":
        rotations = _smooth(path, times_s)
    return render(room, positions, rotations, take.size_wh)


def _smooth(path: HeadPath, times_s: Array) -> Array:
    """The head's rotations averaged over about a second, as a stabiliser that looks ahead does."""
    rate_hz = 60.0
    first, last = max(times_s[0] - 2.0, path.start_s), min(times_s[-1] + 2.0, path.end_s)
    grid = np.arange(first, last, 1 / rate_hz)
    matrices = path.pose(grid, CAMERA_POINT)[1]
    smooth = gaussian_filter1d(matrices, SMOOTHING_S * rate_hz, axis=0, mode="nearest")
    index = np.clip(np.rint((times_s - first) * rate_hz).astype(int), 0, len(grid) - 1)
    # The projection onto the nearest rotation, by singular values.
    left, _, right = np.linalg.svd(smooth[index])
    return left @ right


def _felt(take: Take, scene: Scene, video: Path) -> Made:
    """The IMU of a recording, mounted anyhow, with its clock's faults."""
    rng = np.random.default_rng((take.seed, 19))
    true_s, stamp_s = _clock(take, scene.frames / take.frame_rate_hz, rng)
    path = scene.choreography.path
    accel, gyro = ideal_imu(path, scene.wearer, np.clip(true_s, path.start_s, path.end_s))
    if take.kind == "nobody moves":
        accel, gyro = np.repeat(accel[:1], len(accel), axis=0), np.zeros_like(gyro)
    accel_noise, gyro_noise = draw_noise(len(true_s), rng)
    gyro = gyro + gyro_noise + scene.wearer.gyro_bias
    mount = np.asarray(Rotation.random(random_state=rng).as_matrix(), np.float64)
    wearer = Rotation.from_rotvec(scene.wearer.mount_rotvec).as_matrix()
    t_us = np.rint(stamp_s * 1e6).astype(np.int64)
    return Made(
        video=video,
        track=ImuTrack(
            accel=SensorStream(t_us, np.ascontiguousarray(((accel + accel_noise) @ mount).T)),
            gyro=SensorStream(t_us, np.ascontiguousarray((gyro @ mount).T)),
            rate_hz=take.imu_rate_hz,
            notes={},
        ),
        true_s=true_s,
        camera_from_imu=HEAD_FROM_CAMERA.T @ wearer @ mount,
    )


def _clock(take: Take, duration_s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """True times and stamps of the samples, s."""
    count = int((duration_s + 2 * MARGIN_S) * take.imu_rate_hz)
    number = np.arange(count, dtype=np.float64)
    true_s: Array = (number + rng.random()) / take.imu_rate_hz - MARGIN_S
    for start in rng.uniform(0.05, 0.95, take.gaps) * duration_s:
        length = rng.uniform(0.1, 1.0)
        true_s = np.delete(true_s, np.flatnonzero((true_s >= start) & (true_s < start + length)))
    stamp_s = true_s * (1 + take.drift_ppm * 1e-6) + take.offset_s
    for moment in rng.uniform(0.1, 0.9, take.back_steps) * duration_s:
        stamp_s = stamp_s - rng.uniform(0.1, 0.5) * (true_s >= moment)
    return true_s, stamp_s
