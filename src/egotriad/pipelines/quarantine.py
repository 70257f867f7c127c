"""What could not be built, why, and when trying again makes sense.

```
quarantine/{recording}.json    {"recording", "class", "error", "message", "attempts", "key",
                                "builder", "traceback" (of a defect)}
```
Classes: `input` (the recording's files are not what they should be), `missing` (a file is not
there), `machine` (memory, disk, a killed worker, a package that is not installed), `defect` (this
program's fault). A recording with a record of class `input` or `defect` is passed over as long as
its files, the configuration and the version of egotriad are the same; others are tried again.
"""

import json
import re
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from egotriad.manifests.errors import EgotriadError, MissingDependency, WorkerLost
from egotriad.manifests.files import canonical_json, write_text
from egotriad.pipelines.provenance import BUILDER

__all__ = ["Failure", "Quarantine", "failure_of"]

FOLDERS_OF_A_PATH = re.compile(r"(?<![\w.:~/<>*+-])(?:~|[A-Za-z]:)?/(?:[\w.+@-]+/)+(?=[\w.+@-])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a recording could not be built.

    Attributes:
        recording: its id.
        kind: `input`, `missing`, `machine` or `defect`.
        error: name of the exception's class.
        message: what was wrong, without folders.
        attempts: how often it was tried in the run that gave up.
        key: of the part that it would have become; empty where it could not even be described.
        builder: version that failed at it.
        traceback: of a defect.
    """

    recording: str
    kind: str
    error: str
    message: str
    attempts: int = 1
    key: str = ""
    builder: str = BUILDER
    traceback: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether it would come out the same if nothing changes."""
        return self.kind in ("input", "defect")


def failure_of(
    recording: str, key: str, error: Exception, files: Collection[Path] = (), *, attempts: int = 1
) -> Failure:
    """What an exception says about a recording.

    Args:
        recording: its id.
        key: of its part.
        error: what was raised while it was built.
        files: of the recording: one that is not there explains the rest.
        attempts: how often it was tried.
    """
    kind = _kind(error, files)
    message = str(error) if isinstance(error, EgotriadError) else f"{type(error).__name__}: {error}"
    # One that comes from another process carries its traceback as a note, which is printed too.
    trace = "".join(traceback.format_exception(error)) if kind == "defect" else None
    return Failure(
        recording=recording,
        kind=kind,
        error=type(error).__name__,
        message=_without_folders(message),
        attempts=attempts,
        key=key,
        traceback=None if trace is None else _without_folders(trace),
    )


def _kind(error: Exception, files: Collection[Path]) -> str:
    if isinstance(error, WorkerLost | MissingDependency | MemoryError):
        return "machine"
    if isinstance(error, FileNotFoundError) or not all(file.exists() for file in files):
        return "missing"
    if isinstance(error, EgotriadError):
        return "input"
    if isinstance(error, OSError) or "OutOfMemory" in type(error).__name__:  # CUDA's, by torch
        return "machine"
    return "defect"


def _without_folders(text: str) -> str:
    """Paths reduced to their last names: records may be shown to anybody."""
    return FOLDERS_OF_A_PATH.sub("", text)


class Quarantine:
    """The records of a build.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, recording: str) -> Failure | None:
        """The record of a recording; None when there is none that this version understands."""
        try:
            values = json.loads(self._path(recording).read_text(encoding="utf-8"))
            values["kind"] = values.pop("class")
            return Failure(**values)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def stands(self, recording: str, key: str) -> Failure | None:
        """The record of a recording that need not be tried again: nothing has changed since."""
        found = self.find(recording)
        if found is None or not found.is_final:
            return None
        return found if (found.key, found.builder) == (key, BUILDER) else None

    def add(self, failure: Failure) -> None:
        """Leaves or replaces the record of a recording."""
        values = {
            "recording": failure.recording,
            "class": failure.kind,
            "error": failure.error,
            "message": failure.message,
            "attempts": failure.attempts,
            "key": failure.key,
            "builder": failure.builder,
            "traceback": failure.traceback,
        }
        write_text(self._path(failure.recording), canonical_json(values) + "\n")

    def clear(self, recording: str) -> None:
        """Removes the record of a recording that was built."""
        self._path(recording).unlink(missing_ok=True)

    def keep_only(self, recordings: Collection[str]) -> None:
        """Removes the records of recordings that the dataset does not have any more."""
        for record in self._folder.glob("*.json"):
            if record.stem not in recordings:
                record.unlink(missing_ok=True)

    def _path(self, recording: str) -> Path:
        return self._folder / f"{recording}.json"
