"""Overlay tables for a fake Ego4D: MMG-Ego4D's labels as a user would lay them, EgoVid-5M's CSV."""

import csv
import json
from pathlib import Path

import numpy as np

from egotriad.converters.imu_files import read_ego4d_imu
from egotriad.manifests.files import atomic

__all__ = ["EGOVID_CLIPS", "write_fake_egovid", "write_fake_labels"]

LABELS = ((1.0, 4.2, "bend_down", "train"), (5.0, 8.4, "look around", "test"))
EGOVID_CLIPS = ((0, 162), (150, 280))
"""First and last frame of each video's clips; they overlap."""
IMU = ("gyro_x", "gyro_y", "gyro_z", "accl_x", "accl_y", "accl_z")
SCORES = ("flow_mean", "flow_0_4", "flow_4_8", "flow_8_12", "flow_12_16", "flow_16_")


def write_fake_labels(raw: Path) -> Path:
    """Writes labels.csv beside a fake Ego4D tree: two stretches of each of its videos."""
    lines = ["video_uid,start_sec,end_sec,label,split"]
    for uid in _uids(raw):
        lines += [f"{uid},{start},{end},{label},{split}" for start, end, label, split in LABELS]
    path = raw / "labels.csv"
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_fake_egovid(raw: Path) -> Path:
    """Writes egovid-kinematic.csv beside a fake Ego4D tree: two clips of each of its videos."""
    path = raw / "egovid-kinematic.csv"
    heading = ["video_id", "frame_num", "fps", "noun_cls", "verb_cls", "llava_cap", "name"]
    heading += [*SCORES, "ti_sim", "ii_sim", "dover_score", "egovideo_score", *IMU]
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(heading)
        for uid in _uids(raw):
            for number, (first, last) in enumerate(EGOVID_CLIPS):
                caption = f'The video shows clip {number}, seen from the wearer.\nIt is "calm".'
                row: list[object] = [f"{uid}_{first}_{last}", last - first, 30.0, 3, 7, caption]
                row += [f"C acts in clip {number}", *range(len(SCORES)), "0.2,0.3", "0.9,0.8"]
                table.writerow([*row, 0.6, 0.4, *_frame_values(raw, uid, first, last)])
    return path


def _uids(raw: Path) -> list[str]:
    content = json.loads((raw / "ego4d.json").read_text("utf-8"))
    return [video["video_uid"] for video in content["videos"]]


def _frame_values(raw: Path, uid: str, first: int, last: int) -> list[str]:
    """Cells of the IMU columns: the sample nearest to each frame."""
    track = read_ego4d_imu(raw / "v2" / "imu" / f"{uid}.csv")
    t_us = np.arange(first, last) * 1e6 / 30
    nearest = np.abs(track.gyro.t_us[:, None] - t_us).argmin(axis=0)
    rows = [*track.gyro.values[:, nearest], *track.accel.values[:, nearest]]
    return [f"[{', '.join(f'{value:.6f}' for value in row)}]" for row in rows]
