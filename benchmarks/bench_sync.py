"""Speed of synchronisation, beside decoding the same video.

    OMP_NUM_THREADS=1 python benchmarks/bench_sync.py --cache DIR --json sync.json

A minute of the simulated world at 848x480 and 30 frames a second is rendered, encoded and repeated
to the length asked for, as is its IMU; noise of three grey levels makes it as costly to decode as
real footage is. The peer is a bare decoder with one thread, frames dropped as they come. Where an
arm gets the clock wrong by more than 2 ms, the benchmark stops.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from harness import compare, environment, table, write_json
from sync_world import Take, make_take

from egotriad.converters.sync import synchronise
from egotriad.converters.sync_report import SyncReport
from egotriad.converters.video import read_frames
from egotriad.converters.video_blocks import read_small_frames
from egotriad.converters.video_rotation import SMALL_WIDTH, camera_rotation
from egotriad.manifests import Alignment, ImuTrack, Recording, SensorStream
from egotriad.pipelines.sync import sync_recording

OFFSET_S = 0.7
MOST_ERROR_US = 2_000.0
TAKE = Take(
    kind="possible",
    seed=7,
    size_wh=(848, 480),
    duration_s=60.0,
    frame_rate_hz=30.0,
    shutter=0.0,
    light=1.0,
    noise_levels=3.0,
    crf=20,
    imu_rate_hz=200.0,
    offset_s=0.0,
    drift_ppm=0.0,
    gaps=0,
    back_steps=0,
)


def main() -> None:
    """Times all arms, prints the table, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the video")
    parser.add_argument("--minutes", type=int, default=10, help="length of the video")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each arm")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    made = make_take(TAKE, options.cache)
    video = options.cache / f"repeated-{options.minutes}.mp4"
    period_us = repeat_video(made.video, video, options.minutes)
    track = repeat_imu(made.track, options.minutes, period_us)
    recording = described(video, period_us * options.minutes)

    def whole() -> SyncReport:
        rotation = camera_rotation(read_small_frames(video, width=SMALL_WIDTH))
        return checked(synchronise(rotation, track))

    comparison = compare(
        f"{options.minutes} minutes of 848x480 at 30 frames/s",
        {
            "decode": lambda: decode(video),
            "sync, as the command": lambda: checked(sync_recording(recording, track)),
            "sync, every frame": whole,
            "read_frames": lambda: sum(len(chunk.t_us) for chunk in read_frames(video)),
        },
        peer="decode",
        rounds=options.rounds,
        work={"frame": options.minutes * period_us * TAKE.frame_rate_hz / 1e6},
    )
    print(table([comparison]))
    where = environment(("numpy", "numba", "opencv-python", "av"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        write_json(options.json, [comparison], where)


def decode(path: Path) -> None:
    """Decodes every frame with one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def checked(report: SyncReport) -> SyncReport:
    """The report, if it found the offset."""
    if report.verdict != "corrected":
        raise SystemExit(f"got {report.verdict}: {'; '.join(report.reasons)}")
    error_us = report.segments[0].offset_us + OFFSET_S * 1e6
    if abs(error_us) > MOST_ERROR_US:
        raise SystemExit(f"the offset is {error_us / 1e3:.2f} ms wrong")
    return report


def repeat_video(source: Path, target: Path, times: int) -> int:
    """Writes a video `times` over, packets as they are; returns its length in us."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        length = stream.duration
        period_us = round(length * stream.time_base * 1_000_000)
        with av.open(str(target), "w") as out:
            copy = out.add_stream_from_template(stream)
            for turn in range(times):
                for packet in packets:
                    packet.pts += length if turn else 0
                    packet.dts += length if turn else 0
                    packet.stream = copy
                    out.mux(packet)
                    packet.time_base = stream.time_base
    return period_us


def repeat_imu(track: ImuTrack, times: int, period_us: int) -> ImuTrack:
    """The IMU of the repeated video, its clock ahead by `OFFSET_S`."""
    inside = (track.gyro.t_us >= 0) & (track.gyro.t_us < period_us)
    t_us = np.concatenate([track.gyro.t_us[inside] + k * period_us for k in range(times)])
    streams = [
        SensorStream(t_us + round(OFFSET_S * 1e6), np.tile(stream.values[:, inside], times))
        for stream in (track.accel, track.gyro)
    ]
    return replace(track, accel=streams[0], gyro=streams[1])


def described(video: Path, duration_us: int) -> Recording:
    """The video as a recording."""
    return Recording(
        source="bench",
        source_version="1",
        recording_id="repeated",
        wearer=None,
        video_path=video,
        read_imu=None,
        narrations=(),
        duration_us=duration_us,
        license_id="own",
        imu_kind="synthetic",
        text_source="none",
        align=Alignment(status="assumed"),
    )


if __name__ == "__main__":
    main()
