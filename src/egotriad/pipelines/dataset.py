"""What a dataset plug-in provides: `pipelines/dataset_<name>.py` defines `DATASET`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from egotriad.manifests import Recording, Unreadable

__all__ = ["Dataset"]


class Dataset(Protocol):
    """One source of recordings.

    Attributes:
        name: the file's name and the word on the command line.
        licence_id: licence of what it yields (`own` for the user's own recordings).
        build_defaults: values of `BuildConfig` fields that fit this source; the user's flags win.
        Options: frozen dataclass of the dataset's own command-line options.
    """

    name: ClassVar[str]
    licence_id: ClassVar[str]
    build_defaults: ClassVar[Mapping[str, Any]]
    Options: ClassVar[type]

    def download(self, raw: Path, options: Any) -> None:
        """Brings the raw files under `raw` (resumable; nothing to do when they are there)."""

    def recordings(self, raw: Path, options: Any) -> Iterable[Recording | Unreadable]:
        """Describes every recording asked for, in a fixed order, decoding nothing."""

    def fake(self, raw: Path) -> Any:
        """Writes a tiny raw tree in the true on-disk format; returns the options that read it."""
