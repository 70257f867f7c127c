"""The Hub's side of a push: settings, and what lies there."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from egotriad.manifests.errors import PushError
from egotriad.pipelines.push_plan import TABLE_FOLDERS, LocalFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

__all__ = ["Differences", "Hub", "differences"]


class _Where(TypedDict):
    repo_id: str
    repo_type: str


@dataclass(frozen=True, slots=True)
class Hub:
    """One dataset repository.

    Attributes:
        api: huggingface_hub's client.
        repo_id: `NAMESPACE/NAME`.
    """

    api: "HfApi"
    repo_id: str

    @property
    def where(self) -> _Where:
        """What every call names it by."""
        return {"repo_id": self.repo_id, "repo_type": "dataset"}

    def is_private(self) -> bool:
        """Whether the repository is private now."""
        return bool(self.api.repo_info(**self.where).private)

    def prepare(self, *, public: bool, gate: Literal["manual", False]) -> None:
        """Makes the repository, private and gated, before any file is sent.

        A new repository is public unless `private` is said, and `private` is ignored where the
        repository exists: hence the look afterwards. One that is public already stays so only if
        the push is to be public.

        Raises:
            PushError: the repository is public, or does not become private.
        """
        self.api.create_repo(**self.where, private=True, exist_ok=True)
        if self.is_private():
            self.api.update_repo_settings(**self.where, gated="manual", private=True)
            if not self.is_private():
                raise PushError(f"{self.repo_id}: does not become private; nothing was sent")
        elif public:
            self._gate_open_repository(gate)
        else:
            raise PushError(
                f"{self.repo_id}: is public; nothing was sent. Make it private on its settings "
                "page, or push to another name"
            )

    def publish(self, gate: Literal["manual", False]) -> None:
        """Makes the repository public, with its gate; private again if the gate does not hold."""
        self.api.update_repo_settings(**self.where, gated=gate, private=False)
        try:
            self._check_gate(gate)
        except PushError:
            self.api.update_repo_settings(**self.where, gated="manual", private=True)
            raise

    def _gate_open_repository(self, gate: Literal["manual", False]) -> None:
        self.api.update_repo_settings(**self.where, gated=gate)
        self._check_gate(gate)

    def _check_gate(self, gate: Literal["manual", False]) -> None:
        found = self.api.repo_info(**self.where).gated
        if gate and found != gate:
            raise PushError(
                f"{self.repo_id}: access is gated {found!r} on the Hub, need {gate!r}; "
                "not published"
            )

    def tag_commit(self, tag: str) -> str | None:
        """The commit that a tag names, None where there is no such tag."""
        tags = self.api.list_repo_refs(**self.where).tags
        return next((item.target_commit for item in tags if item.name == tag), None)

    def files(self, revision: str) -> dict[str, "RepoFile"]:
        """Path -> size and hashes of every file of a revision."""
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(**self.where, recursive=True, revision=revision)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How a revision differs from the local files.

    Attributes:
        unlike: paths that are missing there, or of another size or content.
        stale: data files there that the build does not have.
    """

    unlike: tuple[str, ...]
    stale: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.unlike or self.stale)


def differences(
    folder: Path, local: Mapping[str, LocalFile], remote: Mapping[str, "RepoFile"]
) -> Differences:
    """Compares sizes and hashes: SHA-256 of what lies in large-file storage, git's for the rest."""
    unlike = tuple(
        path
        for path, file in local.items()
        if path not in remote or not _equal(folder / path, file, remote[path])
    )
    stale = tuple(
        path for path in remote if path.split("/")[0] in TABLE_FOLDERS and path not in local
    )
    return Differences(unlike=unlike, stale=stale)


def _equal(path: Path, local: LocalFile, remote: "RepoFile") -> bool:
    if remote.size != local.bytes:
        return False
    if remote.lfs is not None:
        return remote.lfs.sha256 == local.sha256
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return remote.blob_id == blob.hexdigest()
