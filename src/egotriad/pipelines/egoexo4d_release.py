"""What Ego-Exo4D's server holds: the manifest of each part of the release.

    s3://ego4d-consortium-sharing/egoexo-public/v2/<part>/manifest.json
    [{"uid": "...", "paths": [{"source_path": "s3://...", "relative_path": "takes/...", "size": 7,
      "views": ["ego"], ...}], "splits": ["train"], "benchmarks": ["keystep"]}, ...]

`uid` is a take's, a capture's, or the beginning of an annotation file's name; `size` may be null.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from egotriad.manifests.errors import DownloadError
from egotriad.pipelines.s3_access import Terms, refusal, s3_errors

__all__ = ["BUCKET", "RELEASE", "RemoteFile", "manifest_key", "read_parts"]

BUCKET, RELEASE = "ego4d-consortium-sharing", "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the server.

    Attributes:
        name: below the root of the tree.
        part: of the release.
        bucket, key: where it is.
        size_bytes: its size.
    """

    name: str
    part: str
    bucket: str
    key: str
    size_bytes: int


def manifest_key(part: str) -> str:
    """Where the manifest of a part is in the bucket."""
    return f"egoexo-public/{RELEASE}/{part}/manifest.json"


def read_parts(
    client: Any, terms: Terms, wanted: Mapping[str, Iterable[str]]
) -> tuple[dict[str, RemoteFile], dict[str, str]]:
    """Finds files on the server: one request per part, and one per file of unknown size.

    Args:
        client: of S3.
        terms: of the data set.
        wanted: part -> names of files.

    Returns:
        The files by name; and why, for those that are not there.

    Raises:
        DownloadError: a part cannot be read at all (AccessDenied: for want of keys).
    """
    found: dict[str, RemoteFile] = {}
    absent: dict[str, str] = {}
    for part, names in wanted.items():
        listed = _manifest(client, terms, part)
        for name in names:
            if name not in listed:
                absent[name] = f"missing-object: part {part} of release {RELEASE} has no such file"
                continue
            source, size = listed[name]
            bucket, _, key = source.removeprefix("s3://").partition("/")
            try:
                if size is None:
                    size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
            except s3_errors() as exc:
                absent[name] = str(refusal(exc, terms, source).error())
                continue
            found[name] = RemoteFile(
                name=name, part=part, bucket=bucket, key=key, size_bytes=int(size)
            )
    return found, absent


def _manifest(client: Any, terms: Terms, part: str) -> dict[str, tuple[str, int | None]]:
    """Where each file of a part is, and its size."""
    key = manifest_key(part)
    try:
        text = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except s3_errors() as exc:
        raise refusal(exc, terms, f"s3://{BUCKET}/{key}").error() from exc
    try:
        return {
            path["relative_path"]: (path["source_path"], path.get("size"))
            for entry in json.loads(text)
            for path in entry["paths"]
        }
    except (ValueError, TypeError, KeyError) as exc:
        raise DownloadError(
            f"s3://{BUCKET}/{key}: is no manifest of Ego-Exo4D ({type(exc).__name__}: {exc}); "
            "the server has changed, so has the download program: see docs/egoexo4d.md"
        ) from exc
