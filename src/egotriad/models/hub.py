"""Models from and to the Hugging Face Hub; public only with the right to publish typed out.

`folder or id -> local folder`;
`model -> staged folder (ids of people hashed) -> repository, private -> read back -> (public)`
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from egotriad.manifests.errors import CheckpointError, DownloadError, PushError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.hub import hub_api, hub_errors
from egotriad.models.card import CardFacts, ingredients
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.folder import model_files, read_record, save_model, write_record
from egotriad.models.seen import concealed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["model_folder", "push_folder", "push_model"]

ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
WANTED = ("config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json", "adapter_*")
STALE = ("*.safetensors", "*.safetensors.index.json", "adapter_*")
"""Files of an older model that a push takes away when it does not replace them."""


def model_folder(folder: Path | str, revision: str | None = None) -> Path:
    """The local folder of a model: itself, or what the hub's cache holds of a repository.

    Args:
        folder: a local folder, or a hub id.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: neither a folder nor a hub id.
        DownloadError: it cannot be brought from the hub.
    """
    if Path(folder).is_dir():
        return Path(folder)
    name = str(folder)
    if not ID.fullmatch(name):
        raise CheckpointError(f"{name}: no such folder, and no hub id (NAMESPACE/NAME)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
    except Exception as exc:  # the hub raises its own, its HTTP library's and ValueError
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DownloadError(
            f"{name}: no such folder here, and it cannot be brought from the hub ({reason}); log "
            "in with `hf auth login` if it is private, or download it and give its folder"
        ) from exc


def push_model(
    model: ConditionedLM,
    repo_id: str,
    *,
    public: bool = False,
    i_have_the_right_to_redistribute: Sequence[str] = (),
    card: CardFacts | None = None,
    api: "HfApi | None" = None,
) -> str:
    """Saves a model to a folder of its own and pushes that; see `push_folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(folder, model, model.tokenizer, model.meta, card=card)
        return push_folder(
            folder,
            repo_id,
            public=public,
            i_have_the_right_to_redistribute=i_have_the_right_to_redistribute,
            api=api,
        )


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    public: bool = False,
    i_have_the_right_to_redistribute: Sequence[str] = (),
    api: "HfApi | None" = None,
) -> str:
    """Pushes a model folder to a model repository; returns the commit.

    Only the model's files and its card are sent. Ids of wearers and recordings are replaced by
    salted hashes (`egotriad.models.seen`), so `config.json` there differs from the one here.

    Args:
        folder: of `save_model`.
        repo_id: NAMESPACE/NAME; made if it is not there.
        public: make the repository public once everything is there; access stays on request where
            something in the model may not be handed on.
        i_have_the_right_to_redistribute: with `public`: the licence of everything the model was
            made from, each once.
        api: huggingface_hub's client; one with the login it finds when not given.

    Raises:
        CheckpointError: the folder holds no model.
        UsageError: the right to publish was not typed for every licence, or the model needs a
            decoder that the Hub does not have.
        PushError: the Hub refuses, the repository is public, or holds something else afterwards.
        PushInterrupted: the connection failed; the same call goes on.
        MissingDependency: huggingface_hub is not installed.
    """
    record = read_record(folder)
    held = _check(record, repo_id, public, i_have_the_right_to_redistribute)
    gate: Literal["manual", False] = "manual" if held else False
    with tempfile.TemporaryDirectory() as scratch, hub_errors(repo_id):
        staged = _staged(folder, Path(scratch), record)
        api = api or hub_api()
        api.create_repo(repo_id, repo_type="model", private=True, exist_ok=True)
        private = api.repo_info(repo_id, repo_type="model").private
        if not private and not public:
            raise PushError(
                f"{repo_id}: is public; nothing was sent. Make it private on its settings page, "
                "or push to another name"
            )
        if not private:
            api.update_repo_settings(repo_id, repo_type="model", gated=gate)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="model",
            folder_path=staged,
            delete_patterns=list(STALE),
            commit_message="Model (egotriad)",
        )
        commit = api.repo_info(repo_id, repo_type="model").sha or ""
        _read_back(api, repo_id, commit, staged)
        if private and public:
            api.update_repo_settings(repo_id, repo_type="model", gated=gate, private=False)
    return commit


def _check(record: dict[str, Any], repo_id: str, public: bool, typed: Sequence[str]) -> bool:
    """Whether something in the model may not be handed on; refuses what may not be pushed."""
    if not ID.fullmatch(repo_id):
        raise UsageError(f"repository: got {repo_id!r}, need NAMESPACE/NAME")
    base = record["base_decoder"]
    if base is not None and "/" not in base["name"]:
        raise UsageError(
            f"{repo_id}: the weights of decoder {base['name']!r} are in a local folder that the "
            "Hub does not have; save the model whole first (train-draft --merge, or "
            "save_pretrained(..., whole=True))"
        )
    found = ingredients(record)
    licences = {part.licence for part in found}
    if typed and not public:
        raise UsageError("i_have_the_right_to_redistribute belongs to public; leave it out")
    if set(typed) - licences:
        raise UsageError(
            f"i_have_the_right_to_redistribute: got {', '.join(sorted(set(typed) - licences))}, "
            f"the model was made from {', '.join(sorted(licences)) or 'nothing of others'}"
        )
    missing = sorted(licences - set(typed))
    if public and missing:
        raise UsageError(
            f"{repo_id}: the model was made from what is under {', '.join(missing)}; who may "
            "publish that says so, licence by licence, with i_have_the_right_to_redistribute; "
            "everybody else pushes without public"
        )
    return not all(part.free for part in found)


def _staged(folder: Path, staged: Path, record: dict[str, Any]) -> Path:
    """The folder as it is sent: links to large files, its record without ids of people."""
    meta = dict(record["meta"])
    if "trained_on" in meta:
        meta["trained_on"] = concealed(meta["trained_on"])
    for name in model_files(folder):
        if name != "config.json":
            (staged / name).symlink_to((folder / name).resolve())
    write_record(staged, {**record, "meta": meta})
    return staged


def _read_back(api: "HfApi", repo_id: str, commit: str, staged: Path) -> None:
    """Compares names, sizes and, of large files, hashes with what was sent.

    Raises:
        PushError: naming the first file that differs.
    """
    entries = api.list_repo_tree(repo_id, repo_type="model", recursive=True, revision=commit)
    there = {entry.path: entry for entry in entries if hasattr(entry, "size")}
    for path in sorted(staged.iterdir()):
        found = there.get(path.name)
        lfs = getattr(found, "lfs", None)
        if (
            found is None
            or found.size != path.stat().st_size
            or (lfs is not None and lfs.sha256 != sha256_file(path))
        ):
            raise PushError(f"{repo_id}: {path.name} there is not what was sent; push again")
