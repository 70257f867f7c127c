"""`push`: a build to a dataset repository of the Hugging Face Hub, private and gated by default.

```
verify, load  ->  repository private + gated  ->  README.md  ->  shards  ->  manifest.jsonl,
SHA256SUMS, provenance.json  ->  sizes and hashes read back  ->  tag  ->  (public)
```
The three files that mark a revision as complete are sent last, and taken away first when another
build is pushed over an old one. The upload is huggingface_hub's `upload_folder`, which commits in
batches and skips what is there: run again after any interruption. (`Dataset.push_to_hub` would
encode everything anew and lose the encodings.)
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from egotriad.manifests.errors import PushError
from egotriad.manifests.files import open_sealed, seal, sha256_file, write_text
from egotriad.manifests.hub import hub_api, hub_errors
from egotriad.pipelines.push_check import (
    Verify,
    check_loading,
    check_soundness,
    remember_soundness,
)
from egotriad.pipelines.push_hub import Hub, differences
from egotriad.pipelines.push_plan import (
    MARKERS,
    TABLE_FOLDERS,
    PushConfig,
    PushPlan,
    plan_push,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["PushReport", "push"]

CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push did, or would do.

    Attributes:
        repo_id: `NAMESPACE/NAME`.
        files, bytes: of the build.
        sent: files that were not there before (0 for a dry run).
        public: whether anybody can find the repository.
        gate: `manual` (the owner lets people in) or `none`.
        licences: ids of what is in the shards.
        tag: names the revision.
        commit: that it names, None for a dry run.
    """

    repo_id: str
    files: int
    bytes: int
    sent: int
    public: bool
    gate: str
    licences: tuple[str, ...]
    tag: str
    commit: str | None


def push(
    folder: Path,
    config: PushConfig,
    *,
    dry_run: bool = False,
    api: "HfApi | None" = None,
    verify: Verify | None = None,
) -> PushReport:
    """Pushes a build; does nothing that is done already.

    Args:
        folder: of the build.
        config: where to, and with what right.
        dry_run: check everything that can be checked here, and make no call.
        api: huggingface_hub's client; one with the login it finds when not given.
        verify: instead of `manifests.verify`, all of it.

    Raises:
        ShardError: the build is not sound.
        UsageError: the right to publish was not typed for what the shards hold.
        PushError: the Hub refuses, the repository is public, the tag names something else, or what
            lies there afterwards is not what was sent.
        PushInterrupted: the connection failed; the same call goes on.
        MissingDependency: huggingface_hub or datasets is not installed.
    """
    plan = plan_push(folder, config)
    check_soundness(plan, verify)
    check_loading(folder)
    if dry_run:
        return _report(plan, sent=0, commit=None)
    if config.public:
        plan = _record_right(plan)
    with hub_errors(config.repo_id):
        hub = Hub(api or hub_api(), config.repo_id)
        hub.prepare(public=config.public, gate=plan.gate)
        sent, commit = _transfer(hub, plan)
        if config.public and hub.is_private():
            hub.publish(plan.gate)
        if not config.public and not hub.is_private():
            raise PushError(f"{config.repo_id}: was made public meanwhile; see its settings")
    return _report(plan, sent=sent, commit=commit)


def _report(plan: PushPlan, *, sent: int, commit: str | None) -> PushReport:
    return PushReport(
        repo_id=plan.config.repo_id,
        files=len(plan.files),
        bytes=plan.bytes,
        sent=sent,
        public=plan.config.public,
        gate=plan.gate or "none",
        licences=tuple(item.id for item in plan.licences),
        tag=_tag(plan),
        commit=commit,
    )


def _tag(plan: PushPlan) -> str:
    return f"v{plan.config.version}"


def _record_right(plan: PushPlan) -> PushPlan:
    """Puts into provenance.json what was typed, once."""
    typed = sorted(set(plan.config.i_have_the_right_to_redistribute))
    values = open_sealed(plan.folder / "provenance.json")
    said = values.get("right_to_redistribute", {"licence_ids": []})
    if said["licence_ids"] == typed:
        return plan
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = seal(values | {"right_to_redistribute": {"licence_ids": typed, "utc": now}})
    copy = plan.folder / "parts" / "provenance.json"  # `--repair` takes it from there
    if copy.is_file():
        write_text(copy, text)
    write_text(plan.folder / "provenance.json", text)
    recorded = plan_push(plan.folder, plan.config)
    remember_soundness(recorded)
    return recorded


def _transfer(hub: Hub, plan: PushPlan) -> tuple[int, str]:
    """Sends what is missing, reads it back, tags it; returns (files sent, commit)."""
    tag = _tag(plan)
    tagged = hub.tag_commit(tag)
    if tagged is not None:
        if differences(plan.folder, plan.files, hub.files(tagged)):
            raise PushError(
                f"{hub.repo_id}: {tag} is there with other content, and tags never move; "
                "pass another --version"
            )
        return 0, tagged
    branch = plan.config.branch or "main"
    if plan.config.branch:
        hub.api.create_branch(**hub.where, branch=branch, exist_ok=True)
    before = hub.files(branch)
    found = differences(plan.folder, plan.files, before)
    if found:
        _upload(hub, plan, branch, before.keys(), stale=bool(found.stale))
    commit = hub.api.repo_info(**hub.where, revision=branch).sha
    if commit is None:
        raise PushError(f"{hub.repo_id}: {branch} names no commit; run again")
    _read_back(hub, plan, commit)
    hub.api.create_tag(**hub.where, tag=tag, revision=commit)
    return len(found.unlike), commit


def _upload(hub: Hub, plan: PushPlan, branch: str, before: Collection[str], *, stale: bool) -> None:
    """Three rounds of commits: the card with its gate, everything else, the marks of completeness.

    `delete_patterns` act in the first commit of a round and spare what the round sends. So the
    marks of an older build are gone before its first shard is replaced: whoever reads the branch
    meanwhile finds it incomplete, not mixed.
    """
    shards = [f"{name}/*.parquet" for name in TABLE_FOLDERS]
    others = [name for name in plan.files if "/" not in name and name not in (CARD, *MARKERS)]
    old_marks = [name for name in MARKERS if name in before]
    rounds: tuple[tuple[str, list[str], list[str]], ...] = (
        ("Dataset card", [CARD], old_marks),
        ("Shards", [*shards, *others], shards if stale else []),
        ("Manifest, hashes, provenance", list(MARKERS), []),
    )
    for message, names, gone in rounds:
        hub.api.upload_folder(
            **hub.where,
            folder_path=plan.folder,
            revision=branch,
            allow_patterns=names,
            ignore_patterns=["parts/**", "quarantine/**", "*.tmp-*"],
            delete_patterns=gone or None,
            commit_message=f"{message} (egotriad, v{plan.config.version})",
        )


def _read_back(hub: Hub, plan: PushPlan, commit: str) -> None:
    """Compares every size and hash at a commit, and the manifest byte by byte.

    Raises:
        PushError: something there is not what was sent.
    """
    found = differences(plan.folder, plan.files, hub.files(commit))
    if found:
        names = [*found.unlike, *found.stale]
        raise PushError(
            f"{hub.repo_id}: {len(names)} files there are not those of the build, first "
            f"{names[0]}; not tagged. Run the same command again"
        )
    with tempfile.TemporaryDirectory() as scratch:
        fetched = hub.api.hf_hub_download(
            **hub.where, filename="manifest.jsonl", revision=commit, local_dir=scratch
        )
        if sha256_file(Path(fetched)) != plan.files["manifest.jsonl"].sha256:
            raise PushError(f"{hub.repo_id}: manifest.jsonl reads back differently; run again")
