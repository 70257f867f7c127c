"""Planning at the size of the whole release; slow because the files must be written first."""

import json
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

VIDEOS, WITH_IMU, NARRATIONS = 9611, 2400, 400
THINGS = ("knife", "bowl", "cloth", "phone")

PROGRAM = """
import json, sys, time
from pathlib import Path
from egotriad.pipelines.dataset_ego4d import DATASET
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.plan import BuildConfig, plan_recording

started = time.process_time()
options = Ego4dOptions(has=("imu", "narration"))
config = BuildConfig(**DATASET.build_defaults)
recordings = windows = 0
for recording in DATASET.recordings(Path(sys.argv[1]), options):
    recordings += 1
    windows += len(plan_recording(recording, config).windows)
# Not getrusage: a process begins with the peak of the one that started it.
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps([recordings, windows, time.process_time() - started, peak]))
"""


def write_release(raw: Path) -> None:
    rng = random.Random(0)
    folder = raw / "v2" / "annotations"
    folder.mkdir(parents=True)
    uids = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(VIDEOS)]
    videos = [entry(uid, number, rng) for number, uid in enumerate(uids)]
    clips = [{"clip_uid": uid, "video_uid": uid, "s3_path": "s3://x"} for uid in uids * 5]
    (raw / "ego4d.json").write_text(
        json.dumps({"version": "v2.1", "clips": clips, "videos": videos}, indent=1)
    )
    with (folder / "narration.json").open("w") as handle:
        for number, uid in enumerate(uids):
            first, second = passes(rng)
            told = {"narration_pass_1": first, "narration_pass_2": second, "status": "complete"}
            handle.write(("{" if not number else ",") + f'"{uid}":' + json.dumps(told))
        handle.write("}")


def entry(uid: str, number: int, rng: random.Random) -> dict[str, object]:
    seconds = rng.uniform(300, 2500)
    stream = {f"video_field_{k}": 1.5 * k for k in range(20)}
    spans = [{"canonical_video_start_ms": 0.0, "canonical_video_end_ms": seconds * 1e3}]
    has_imu = number % 4 == 0 and number < 4 * WITH_IMU
    return {
        "video_uid": uid,
        "duration_sec": seconds,
        "scenarios": ["Cooking", "Cleaning / laundry"],
        "video_metadata": stream,
        "split_em": rng.choice(["train", "val", None, None, None]),
        "video_source": "cmu",
        "device": "GoPro Hero Black 7",
        "fb_participant_id": number // 10,
        "has_imu": has_imu,
        "video_components": [
            {
                "component_idx": k,
                "canonical_video_start_sec": seconds / 3 * k,
                "canonical_video_end_sec": seconds / 3 * (k + 1),
                "video_metadata": stream,
            }
            for k in range(3)
        ],
        "imu_metadata": {"component_metadata": spans} if has_imu else None,
    }


def passes(rng: random.Random) -> tuple[dict[str, object], dict[str, object]]:
    """Two annotators, who say the same 0.7 s apart; half of all texts occur once."""
    told = [
        (
            at_s := rng.uniform(0, 2400),
            f"#C C picks a {rng.choice(THINGS)} {k if k % 2 else at_s}\n",
        )
        for k in range(NARRATIONS // 2)
    ]
    first, second = (
        [
            {
                "timestamp_sec": at_s + late_s,
                "timestamp_frame": int((at_s + late_s) * 30),
                "_unmapped_timestamp_sec": at_s + late_s,
                "narration_text": text,
                "annotation_uid": f"3c0ab2dc-6b9f-4a1e-8f39-{rng.getrandbits(48):012x}",
            }
            for at_s, text in told
        ]
        for late_s in (0.0, 0.7)
    )
    return {"narrations": first, "summaries": []}, {"narrations": second, "summaries": []}


@pytest.mark.slow
def test_all_videos_with_imu_are_planned_in_20_s_of_cpu_and_a_gigabyte(tmp_path: Path) -> None:
    write_release(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    recordings, windows, seconds, peak = json.loads(done.stdout)
    sys.stderr.write(f"{recordings} recordings, {windows} windows, {seconds:.1f} s, {peak:.3g} B\n")
    assert recordings == WITH_IMU
    assert windows > 100_000
    assert seconds < 20
    assert peak < 1e9
