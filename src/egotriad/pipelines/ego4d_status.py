"""What became of every video that was asked for: `ego4d_status.jsonl` in the raw folder.

{"uid":"0a1b…","state":"missing","reason":"expired-keys","message":"…"}
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from egotriad.manifests.files import canonical_json, write_text

__all__ = ["VideoStatus", "read_status", "write_status"]

FILE = "ego4d_status.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoStatus:
    """One video's fate.

    Attributes:
        uid: of the video.
        state: `done` (all that was asked for is there), `missing` (could not be brought), `broken`
            (there and useless), `skipped` (not brought, on purpose).
        reason: short name of the cause, empty when done.
        message: the full sentence.
    """

    uid: str
    state: Literal["done", "missing", "broken", "skipped"]
    reason: str = ""
    message: str = ""


def write_status(raw: Path, found: Iterable[VideoStatus]) -> None:
    """Writes the last call's outcome; videos of earlier calls stay in the file."""
    known = read_status(raw) | {status.uid: status for status in found}
    lines = [canonical_json(asdict(known[uid])) + "\n" for uid in sorted(known)]
    write_text(raw / FILE, "".join(lines))


def read_status(raw: Path) -> dict[str, VideoStatus]:
    """The last known fate of each video; empty where nothing was downloaded yet."""
    path = raw / FILE
    if not path.is_file():
        return {}
    # Only this program writes it, whole or not at all.
    found = [VideoStatus(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    return {status.uid: status for status in found}
