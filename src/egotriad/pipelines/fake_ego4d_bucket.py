"""The objects of Ego4D's buckets, made from a tree on disk: files, manifests, `ego4d.json`.

Media lie in the universities' buckets, all else in the consortium's. The manifest of `imu` has the
columns with which the `ego4d` program, left alone, would call an IMU file `<uid>.mp4`.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from egotriad.pipelines.ego4d_manifest import BUCKET

__all__ = ["fake_ego4d_objects"]


def fake_ego4d_objects(
    raw: Path,
    *,
    release: str = "v2_1",
    missing: Collection[str] = (),
    unlisted: Collection[str] = (),
    pathless: Collection[str] = (),
) -> dict[tuple[str, str], bytes]:
    """Every object of a release, (bucket, key) -> content.

    Args:
        raw: a tree of `fake_ego4d.write_fake_ego4d`.
        release: v1, v2 or v2_1.
        missing: names like `video_540ss/<uid>.mp4` that a manifest lists and no bucket has.
        unlisted: names that no manifest lists.
        pathless: names whose row has an empty path.
    """
    sources = {
        video["video_uid"]: video["video_source"]
        for video in json.loads((raw / "ego4d.json").read_text("utf-8"))["videos"]
    }
    objects = {(BUCKET, f"public/{release}/ego4d.json"): (raw / "ego4d.json").read_bytes()}
    for folder in sorted((raw / release.partition("_")[0]).iterdir()):
        rows = []
        for file in sorted(folder.iterdir()):
            name = f"{folder.name}/{file.name}"
            source = sources.get(file.stem) if file.suffix == ".mp4" else None
            bucket, key = f"ego4d-{source}" if source else BUCKET, f"public/v2/{name}"
            if name not in missing:
                objects[bucket, key] = file.read_bytes()
            if name not in unlisted:
                path = "" if name in pathless else f"s3://{bucket}/{key}"
                rows.append(dict(_row(folder.name, file, path)))
        objects[BUCKET, f"public/{release}/{folder.name}/manifest.csv"] = _table(rows)
    return objects


def _row(dataset: str, file: Path, path: str) -> Iterator[tuple[str, str]]:
    if dataset == "annotations":
        yield from (("file_uid", f"uid-{file.stem}"), ("annotation", file.stem), ("type", "json"))
        yield "canonical_s3_location", path
    else:
        yield from (("video_uid", file.stem), ("type", file.suffix[1:]), ("s3_path", path))
        yield "benchmarks", "[EM|FHO]"


def _table(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["video_uid", "s3_path"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
