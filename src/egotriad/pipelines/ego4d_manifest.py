"""Ego4D's manifests: which object of which bucket is a video's file, and what S3 says of it.

`manifest.csv` of a data set has `file_uid` or `video_uid`, and `canonical_s3_location` or
`s3_path`; `type` decides what the `ego4d` program calls the file. Rows without a path make that
program crash, and a wrong `type` makes it call an IMU file `<uid>.mp4`: what it gets to read is
therefore written anew here.
"""

import csv
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import DownloadError
from egotriad.manifests.files import atomic
from egotriad.pipelines.s3_access import Refusal, Terms, probe_object, refusal

__all__ = [
    "BUCKET",
    "RemoteFile",
    "Wanted",
    "ends_all",
    "fetch_object",
    "find_rows",
    "head_all",
    "terms",
    "write_override",
]

BUCKET = "ego4d-consortium-sharing"
SIGN_URL = "https://ego4ddataset.com/"
UID_COLUMNS = ("video_uid", "file_uid")
PATH_COLUMNS = ("canonical_s3_location", "s3_path")
HEAD_THREADS = 8


def terms(profile: str) -> Terms:
    """Where Ego4D's keys come from."""
    return Terms(dataset="Ego4D", sign_url=SIGN_URL, profile=profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file to be brought.

    Attributes:
        dataset: `imu`, `video_540ss`, ...
        uid: of the video; the file's name for files that belong to none.
        file: its name in the folder of the data set.
        bucket, key: where it lies.
    """

    dataset: str
    uid: str
    file: str
    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A wanted file that S3 has.

    Attributes:
        wanted: which one.
        size_bytes: its size.
        version: the object's version id, empty where the bucket keeps none.
    """

    wanted: Wanted
    size_bytes: int
    version: str


def find_rows(
    manifest: Path, dataset: str, uids: Collection[str], *, suffix: str
) -> tuple[dict[str, Wanted], dict[str, str]]:
    """The files of these videos by a manifest.

    Args:
        manifest: `manifest.csv` of the data set.
        dataset: its name.
        uids: of videos; for annotations names of files, with an empty suffix.
        suffix: of the local files, `.csv` or `.mp4`.

    Returns:
        uid -> file, and uid -> what is wrong with its row where there is one that is no use.

    Raises:
        DownloadError: the manifest has other columns.
    """
    found: dict[str, Wanted] = {}
    useless: dict[str, str] = {}
    asked = frozenset(uids)
    for row in _read_rows(manifest, dataset):
        path = next((row[name] for name in PATH_COLUMNS if row.get(name)), "")
        names = {str(row.get(name) or "") for name in UID_COLUMNS}
        base = path.rpartition("/")[2]
        for uid in {*names, base.removesuffix(suffix), base} & asked:
            bucket, _, key = path.removeprefix("s3://").partition("/")
            if path.startswith("s3://") and key:
                found[uid] = Wanted(
                    dataset=dataset, uid=uid, file=f"{uid}{suffix}", bucket=bucket, key=key
                )
            else:
                useless[uid] = f"the manifest of {dataset} has a row without a usable path"
    return found, {uid: why for uid, why in useless.items() if uid not in found}


def _read_rows(manifest: Path, dataset: str) -> Iterator[dict[str, str]]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.DictReader(handle)
            _check_columns(manifest, dataset, rows.fieldnames or ())
            yield from rows
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DownloadError(
            f"unknown-manifest: {dataset}/{manifest.name}: is no table ({exc}); delete the file to "
            "fetch it again"
        ) from exc


def _check_columns(manifest: Path, dataset: str, columns: Collection[str]) -> None:
    if not (set(UID_COLUMNS) & set(columns) and set(PATH_COLUMNS) & set(columns)):
        raise DownloadError(
            f"unknown-manifest: {dataset}/{manifest.name}: got columns "
            f"{', '.join(columns) or '(none)'}; need {' or '.join(UID_COLUMNS)}, and "
            f"{' or '.join(PATH_COLUMNS)}; delete the file to "
            "fetch it again"
        )


def write_override(path: Path, wanted: Iterable[Wanted]) -> None:
    """Writes a manifest of exactly these files.

    The program calls a video `<uid>.mp4` and every other file as its key does.
    """
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("video_uid", "type", "s3_path"))
        for file in wanted:
            kind = "video" if file.file.endswith(".mp4") else "file"
            writer.writerow((file.uid, kind, f"s3://{file.bucket}/{file.key}"))


def ends_all(why: Refusal) -> bool:
    """Whether no other object can be had either; a denial or an absence is of one object."""
    return why.reason == "offline" or (why.of_keys and why.reason != "denied")


def head_all(
    client: Any, access: Terms, wanted: Collection[Wanted]
) -> tuple[list[RemoteFile], dict[Wanted, Refusal]]:
    """Asks S3 for sizes and versions; returns what is there, and why the rest is not.

    Stops asking once every further answer would be the same.
    """
    there: list[RemoteFile] = []
    refused: dict[Wanted, Refusal] = {}
    dead: list[Refusal] = []

    def look(file: Wanted) -> RemoteFile | Refusal:
        return dead[0] if dead else _head(client, access, file, dead)

    with ThreadPoolExecutor(HEAD_THREADS) as pool:
        for file, answer in zip(wanted, pool.map(look, wanted), strict=True):
            if isinstance(answer, Refusal):
                refused[file] = answer
            else:
                there.append(answer)
    return there, refused


def _head(client: Any, access: Terms, file: Wanted, dead: list[Refusal]) -> RemoteFile | Refusal:
    try:
        answer = client.head_object(Bucket=file.bucket, Key=file.key)
    except Exception as exc:
        found = refusal(exc, access, f"s3://{file.bucket}/{file.key}")
        if found.reason == "denied":  # a HEAD is refused without a reason, a GET with one
            found = probe_object(client, access, file.bucket, file.key) or found
        if ends_all(found):
            dead.append(found)
        return found
    # "null" is S3's name for what was stored before versions were kept.
    version = str(answer.get("VersionId") or "null").removeprefix("null")
    return RemoteFile(wanted=file, size_bytes=int(answer["ContentLength"]), version=version)


def fetch_object(client: Any, access: Terms, key: str, path: Path) -> None:
    """Brings a small object (metadata, manifests) of the sharing bucket, whole or not at all.

    Raises:
        DownloadError: under the refusal's own name.
    """
    try:
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"]
        with atomic(path) as temporary, temporary.open("wb") as handle:
            for block in body.iter_chunks(1 << 20):
                handle.write(block)
    except OSError:
        raise
    except Exception as exc:
        raise refusal(exc, access, f"s3://{BUCKET}/{key}").error() from exc
