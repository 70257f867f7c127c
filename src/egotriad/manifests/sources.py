"""Where shards lie: a folder, a URL that fsspec understands, or a dataset of the Hugging Face Hub.

```
builds/walks, /data/walks        a folder
s3://bucket/walks, https://...   fsspec (`pip install 'egotriad[hub]'` and the protocol's package)
user/name, user/name@v1          the Hub; also hf://user/name@v1 and hf://datasets/user/name@v1
```
A string like `user/name` is a folder where there is one of that name, else a dataset of the Hub. Of
the Hub's files only those that are needed are fetched, into its own cache; the commit that the
first of them came from is kept for the rest.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from egotriad.manifests.errors import MissingDependency, ShardError

__all__ = ["ShardSource", "failures", "open_source"]

HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>.+))?")


class ShardSource(Protocol):
    """The files of one build, by their path relative to its root."""

    @property
    def name(self) -> str:
        """What messages call the build."""

    def fetch(self, files: Sequence[str]) -> None:
        """Makes these files ready for `text` and `open`; those that do not exist are passed over.

        Raises:
            ShardError: when the Hub has no such dataset or cannot be reached.
            MissingDependency: without the package that the Hub needs.
        """

    def text(self, file: str) -> str | None:
        """A whole file as UTF-8 text, None where there is no such file."""

    def open(self, file: str) -> Path | BinaryIO:
        """What a Parquet reader takes; the reader or this raises one of `failures()`."""


def open_source(path: Path | str) -> ShardSource:
    """The build at a path, URL or Hub id.

    Args:
        path: see the module; a `Path` is always a folder.

    Raises:
        ShardError: when a URL is none, or of an unknown protocol.
        MissingDependency: when a URL needs a package that is not installed.
    """
    if isinstance(path, Path) or Path(path).exists():
        return FolderSource(Path(path))
    if path.startswith("hf://"):
        hub = HUB_ID.fullmatch(path.removeprefix("hf://").removeprefix("datasets/").rstrip("/"))
        if hub is None:
            raise ShardError(
                f"{path}: is no Hub dataset; write hf://user/name or .../name@revision"
            )
        return HubSource(hub["repo"], hub["revision"])
    if "://" in path:
        return _url_source(path)
    hub = HUB_ID.fullmatch(path)
    return HubSource(hub["repo"], hub["revision"]) if hub else FolderSource(Path(path))


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A build in a local folder."""

    root: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name or str(self.root)

    def fetch(self, files: Sequence[str]) -> None:
        """Nothing to do."""

    def text(self, file: str) -> str | None:
        """See `ShardSource`."""
        try:
            return (self.root / file).read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as exc:
            raise ShardError(f"{self.name}: {file} cannot be read ({exc!r})") from exc

    def open(self, file: str) -> Path:
        """See `ShardSource`."""
        return self.root / file


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A build behind an fsspec file system."""

    files: Any  # fsspec.AbstractFileSystem
    root: str

    @property
    def name(self) -> str:
        """Last part of the URL, which may hold a user's keys elsewhere."""
        return self.root.rstrip("/").rpartition("/")[2]

    def fetch(self, files: Sequence[str]) -> None:
        """Nothing to do: only the bytes that are read travel."""

    def text(self, file: str) -> str | None:
        """See `ShardSource`."""
        try:
            return self.files.cat_file(f"{self.root}/{file}").decode()
        except FileNotFoundError:
            return None
        except failures() as exc:
            raise ShardError(f"{self.name}: {file} cannot be read ({exc!r}); try again") from exc

    def open(self, file: str) -> BinaryIO:
        """See `ShardSource`."""
        # Parquet asks for exact ranges and joins them itself: read-ahead would fetch them twice.
        return self.files.open(f"{self.root}/{file}", "rb", cache_type="none")


class HubSource:
    """A build in a dataset repository of the Hub, read from the Hub's local cache."""

    def __init__(self, repo: str, revision: str | None) -> None:
        self.name = repo
        self._revision = revision
        self._folder = FolderSource(Path())

    def fetch(self, files: Sequence[str]) -> None:
        """Downloads what the cache lacks of these files, several at a time."""
        self._folder = FolderSource(self._snapshot(files))
        self._revision = self._folder.name  # the commit: a branch may move between two calls

    def text(self, file: str) -> str | None:
        """See `ShardSource`."""
        return self._folder.text(file)

    def open(self, file: str) -> Path:
        """See `ShardSource`."""
        return self._folder.open(file)

    def _snapshot(self, files: Sequence[str]) -> Path:
        try:
            from huggingface_hub import errors, snapshot_download
        except ImportError as exc:
            raise MissingDependency(
                f"{self.name}: reading from the Hub needs huggingface-hub; "
                "pip install 'egotriad[hub]'"
            ) from exc
        where = self.name + (f" at {self._revision}" if self._revision else "")
        try:
            folder = snapshot_download(
                self.name,
                repo_type="dataset",
                revision=self._revision,
                allow_patterns=list(files),
            )
        except errors.GatedRepoError as exc:
            raise ShardError(
                f"{where}: is gated; ask for access on its page at the Hub, then `hf auth login`"
            ) from exc
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as exc:
            raise ShardError(
                f"{where}: is no folder here and no dataset on the Hub that you may read; check "
                "the name and revision, or `hf auth login`"
            ) from exc
        except errors.LocalEntryNotFoundError as exc:
            raise ShardError(
                f"{where}: is no folder here, the Hub cannot be reached, and its local cache lacks "
                "files of this build; go online once, or give the folder of a copy"
            ) from exc
        except (OSError, ValueError, getattr(errors, "HTTPError", OSError)) as exc:
            raise ShardError(f"{where}: cannot be fetched from the Hub ({exc}); try again") from exc
        return Path(folder)


def failures() -> tuple[type[Exception], ...]:
    """What reading can raise when files or networks fail (aiohttp's errors are no OSErrors)."""
    aiohttp = sys.modules.get("aiohttp")
    network = (aiohttp.ClientError,) if aiohttp else ()
    return (OSError, ValueError, pa.ArrowException, *network)


def _url_source(url: str) -> UrlSource:
    try:
        from fsspec.core import url_to_fs
    except ImportError as exc:
        raise MissingDependency(
            "reading shards from a URL needs fsspec; pip install 'egotriad[hub]'"
        ) from exc
    protocol = url.partition("://")[0]
    try:
        files, root = url_to_fs(url)
    except ImportError as exc:
        raise MissingDependency(f"{protocol}:// needs another package: {exc}") from exc
    except ValueError as exc:
        raise ShardError(f"{protocol}:// cannot be opened ({exc}); check the URL") from exc
    return UrlSource(files, root.rstrip("/"))
