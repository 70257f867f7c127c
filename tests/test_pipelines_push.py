"""`push` against a Hub in memory that records every call: order, refusals, going on."""

import dataclasses
import fnmatch
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from egotriad.manifests.errors import (
    PushError,
    PushInterrupted,
    ShardError,
    UsageError,
)
from egotriad.manifests.files import open_sealed
from egotriad.pipelines import push_plan
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_simulated import Simulated
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.push import push
from egotriad.pipelines.push_cli import push_shards
from egotriad.pipelines.push_plan import MARKERS, PushConfig

hub_errors = pytest.importorskip("huggingface_hub.errors")
pytest.importorskip("datasets")
from huggingface_hub.hf_api import RepoFile  # noqa: E402

REPO = "user/shards"


class Licensed(Simulated):
    """The simulated world under a licence of our choice."""

    licence_id: ClassVar[str] = "ego4d"

    def recordings(self, raw: Path, options: Any) -> Iterator[Any]:
        for recording in super().recordings(raw, options):
            yield dataclasses.replace(recording, license_id=self.licence_id)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Builds of a tiny world: the user's own, under Ego4D's licence, and with other windows."""
    root = tmp_path_factory.mktemp("builds")
    raw = root / "raw"
    options = Simulated().fake(raw)
    settings = dict(Simulated.build_defaults)
    for name, dataset, changed in (
        ("own", Simulated(), {}),
        ("ego4d", Licensed(), {}),
        ("other", Simulated(), {"window_s": 2.0}),
    ):
        config = BuildConfig(**(settings | changed))
        build(dataset, options, config, raw=raw, out=root / name, workers=1)
    return {name: root / name for name in ("own", "ego4d", "other")}


@pytest.fixture
def shards(builds: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a build to push from."""
    return lambda name="own": shutil.copytree(builds[name], tmp_path / name)


class FakeHub:
    """As much of the Hub as a push uses, in memory; every call is recorded with its arguments."""

    def __init__(self, *, exists: bool = False, private: bool = True) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.exists, self.private, self.gated = exists, private, False
        self.commits: list[dict[str, bytes]] = [{".gitattributes": b"*.parquet lfs"}]
        self.branches = {"main": 0}
        self.tags: dict[str, int] = {}
        self.files_per_upload: int | None = None  # then the connection breaks
        self.damage: str | None = None  # path that arrives with a flipped bit
        self.stays_public = self.forgets_gate = False

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        if revision in self.branches:
            return self.commits[self.branches[revision]]
        return self.commits[int(revision.removeprefix("commit"))]

    def create_repo(self, **given: Any) -> None:
        self.calls.append(("create_repo", given))
        if not self.exists:
            self.exists, self.private = True, bool(given.get("private"))

    def repo_info(self, **given: Any) -> Any:
        self.calls.append(("repo_info", given))
        sha = f"commit{self.branches[given.get('revision') or 'main']}"
        return SimpleNamespace(private=self.private, gated=self.gated, sha=sha)

    def update_repo_settings(self, **given: Any) -> None:
        self.calls.append(("update_repo_settings", given))
        if not self.forgets_gate:
            self.gated = given.get("gated", self.gated)
        self.private = given.get("private", self.private) and not self.stays_public

    def list_repo_refs(self, **given: Any) -> Any:
        self.calls.append(("list_repo_refs", given))
        tags = [
            SimpleNamespace(name=tag, target_commit=f"commit{number}")
            for tag, number in self.tags.items()
        ]
        return SimpleNamespace(tags=tags)

    def list_repo_tree(self, **given: Any) -> Iterator[RepoFile]:
        self.calls.append(("list_repo_tree", given))
        for path, content in self.files(given["revision"]).items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"path": path, "size": len(content), "oid": blob}
            if path.endswith(".parquet"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "oid": digest, "pointerSize": 130}
                entry["oid"] = "of the pointer"
            yield RepoFile(**entry)

    def create_branch(self, **given: Any) -> None:
        self.calls.append(("create_branch", given))
        self.branches.setdefault(given["branch"], self.branches["main"])

    def create_tag(self, **given: Any) -> None:
        self.calls.append(("create_tag", given))
        assert given["tag"] not in self.tags
        self.tags[given["tag"]] = int(given["revision"].removeprefix("commit"))

    def hf_hub_download(self, **given: Any) -> str:
        self.calls.append(("hf_hub_download", given))
        path = Path(given["local_dir"]) / given["filename"]
        path.write_bytes(self.files(given["revision"])[given["filename"]])
        return str(path)

    def upload_folder(self, **given: Any) -> None:
        self.calls.append(("upload_folder", given))
        root, branch = Path(given["folder_path"]), given["revision"]
        chosen = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and _matches(path.relative_to(root), given["allow_patterns"])
        }
        chosen = {
            path: content
            for path, content in chosen.items()
            if not _matches(path, given["ignore_patterns"])
        }
        if self.damage in chosen:
            chosen[self.damage] = bytes([chosen[self.damage][0] ^ 1]) + chosen[self.damage][1:]
        gone = given["delete_patterns"] or []
        kept = {
            path: content
            for path, content in self.files(branch).items()
            if path in chosen or not _matches(path, gone)
        }
        new = {path: c for path, c in chosen.items() if kept.get(path) != c}
        self.calls[-1][1]["sent"] = sorted(new)
        broken = self.files_per_upload is not None and len(new) > self.files_per_upload
        arrived = dict(list(new.items())[: self.files_per_upload] if broken else new)
        self.commits.append(kept | arrived)
        self.branches[branch] = len(self.commits) - 1
        if broken:
            raise ConnectionError("connection reset by peer")


def _matches(path: Any, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(str(path), pattern) for pattern in patterns)


def sound(folder: Path) -> list[str]:
    return []


def send(folder: Path, hub: Any, **given: Any) -> Any:
    dry_run = given.pop("dry_run", False)
    verify = given.pop("verify", sound)
    config = PushConfig(repo_id=REPO, **given)
    return push(folder, config, api=hub, dry_run=dry_run, verify=verify)


def listed(folder: Path) -> dict[str, bytes]:
    """What should lie on the Hub: all that SHA256SUMS names, itself and provenance.json."""
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return {n: (folder / n).read_bytes() for n in [*names, "SHA256SUMS", "provenance.json"]}


def test_calls_are_made_in_the_order_that_protects(shards: Any) -> None:
    folder, hub = shards(), FakeHub()
    report = send(folder, hub)
    where = {"repo_id": REPO, "repo_type": "dataset"}
    assert hub.calls[0] == ("create_repo", where | {"private": True, "exist_ok": True})
    assert hub.names == [
        "create_repo",
        "repo_info",
        "update_repo_settings",
        "repo_info",
        "list_repo_refs",
        "list_repo_tree",
        "upload_folder",
        "upload_folder",
        "upload_folder",
        "repo_info",
        "list_repo_tree",
        "hf_hub_download",
        "create_tag",
        "repo_info",
    ]
    assert hub.calls[2][1] == where | {"gated": "manual", "private": True}
    rounds = [given for name, given in hub.calls if name == "upload_folder"]
    assert [given["sent"] for given in rounds] == [
        ["README.md"],
        sorted(set(listed(folder)) - {"README.md", *MARKERS}),
        sorted(MARKERS),
    ]
    assert all(given["revision"] == "main" for given in rounds)
    assert all(given["delete_patterns"] is None for given in rounds)
    assert hub.calls[-2][1] == where | {"tag": "v1.0.0", "revision": report.commit}
    assert hub.private
    assert hub.gated == "manual"
    assert {n: c for n, c in hub.files().items() if n != ".gitattributes"} == listed(folder)
    assert report.sent == report.files == len(listed(folder))
    assert report.bytes == sum(map(len, listed(folder).values()))
    assert (report.public, report.gate, report.licences) == (False, "manual", ("own",))


def test_nothing_is_sent_to_a_repository_that_is_public(shards: Any) -> None:
    hub = FakeHub(exists=True, private=False)
    with pytest.raises(PushError, match="user/shards: is public; nothing was sent"):
        send(shards(), hub)
    assert hub.names == ["create_repo", "repo_info"]


def test_nothing_is_sent_when_the_repository_does_not_become_private(shards: Any) -> None:
    hub = FakeHub()
    hub.stays_public = True
    with pytest.raises(PushError, match="does not become private"):
        send(shards(), hub)
    assert "upload_folder" not in hub.names


def test_a_dry_run_makes_no_call(shards: Any) -> None:
    folder = shards()
    report = send(folder, object(), dry_run=True)
    assert report.commit is None
    assert report.sent == 0
    assert report.files == len(listed(folder))


def test_what_verification_finds_stops_the_push(shards: Any) -> None:
    faults = [f"data/x.parquet: row {k}: order" for k in range(7)]
    with pytest.raises(ShardError, match="found 7 faults, nothing was sent") as caught:
        send(shards(), object(), verify=lambda folder: faults)
    assert faults[4] in str(caught.value)
    assert faults[5] not in str(caught.value)


def test_a_flipped_bit_is_found_before_anything_is_sent(shards: Any) -> None:
    folder = shards()
    assert send(folder, object(), dry_run=True, verify=None).sent == 0
    path = folder / "events" / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"nothing was sent.*\nevents/train-00000-of-00001"):
        send(folder, object(), verify=None)


def test_going_on_does_not_verify_again_what_has_not_changed(shards: Any) -> None:
    folder, verified = shards(), []

    def verify(folder: Path) -> list[str]:
        verified.append(folder)
        return []

    hub = FakeHub()
    hub.files_per_upload = 2
    with pytest.raises(PushInterrupted):
        send(folder, hub, verify=verify)
    hub.files_per_upload = None
    send(folder, hub, verify=verify)
    assert len(verified) == 1
    shard = next((folder / "events").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes())
    send(folder, hub, verify=verify)
    assert len(verified) == 2


def test_an_interrupted_push_is_incomplete_and_goes_on_where_it_stopped(shards: Any) -> None:
    folder, hub = shards(), FakeHub()
    hub.files_per_upload = 2
    with pytest.raises(PushInterrupted, match="run the same command again") as caught:
        send(folder, hub)
    assert caught.value.exit_code == 75
    assert not set(MARKERS) & set(hub.files())
    assert hub.tags == {}
    hub.files_per_upload = None
    report = send(folder, hub)
    assert report.sent == len(listed(folder)) - 3
    assert {n: c for n, c in hub.files().items() if n != ".gitattributes"} == listed(folder)


def test_pushing_the_same_again_sends_nothing(shards: Any) -> None:
    folder, hub = shards(), FakeHub()
    first = send(folder, hub)
    hub.calls.clear()
    again = send(folder, hub)
    assert again.commit == first.commit
    assert again.sent == 0
    assert "upload_folder" not in hub.names
    assert "create_tag" not in hub.names


def test_another_build_over_an_old_one_is_never_mixed_and_complete_at_once(shards: Any) -> None:
    old, new, hub = shards("own"), shards("other"), FakeHub()
    send(old, hub)
    stale = "data/train-00007-of-00008.parquet"
    hub.commits.append(hub.files() | {stale: b"of an older build"})
    hub.branches["main"] = len(hub.commits) - 1
    seen = len(hub.commits)
    send(new, hub, version="1.1.0")
    for files in hub.commits[seen:-1]:
        assert not set(MARKERS) & set(files)
    assert {n: c for n, c in hub.files().items() if n != ".gitattributes"} == listed(new)
    assert {n: c for n, c in hub.files("commit3").items() if n in listed(old)} == listed(old)
    assert sorted(hub.tags) == ["v1.0.0", "v1.1.0"]


def test_a_tag_never_moves(shards: Any) -> None:
    hub = FakeHub()
    send(shards("own"), hub)
    before = list(hub.commits)
    with pytest.raises(PushError, match=r"v1\.0\.0 is there with other content.*--version"):
        send(shards("other"), hub)
    assert hub.commits == before


def test_a_branch_leaves_main_alone(shards: Any) -> None:
    old, new, hub = shards("own"), shards("other"), FakeHub()
    send(old, hub)
    main = hub.branches["main"]
    report = send(new, hub, version="2.0.0", branch="next")
    assert hub.branches["main"] == main
    assert {n: c for n, c in hub.files("next").items() if n != ".gitattributes"} == listed(new)
    assert f"commit{hub.tags['v2.0.0']}" == report.commit


@pytest.mark.parametrize("name", ["events/test-00000-of-00001.parquet", "stats.json"])
def test_a_file_that_arrives_damaged_is_noticed_and_not_tagged(shards: Any, name: str) -> None:
    folder, hub = shards(), FakeHub()
    hub.damage = name
    with pytest.raises(PushError, match=f"not those of the build, first {name}; not tagged"):
        send(folder, hub)
    assert hub.tags == {}
    hub.damage = None
    send(folder, hub)
    assert hub.files()[name] == (folder / name).read_bytes()


def test_publishing_needs_the_right_typed_for_every_licence(shards: Any) -> None:
    folder = shards("ego4d")
    with pytest.raises(UsageError, match="--i-have-the-right-to-redistribute ego4d, everybody"):
        send(folder, object(), public=True)
    with pytest.raises(UsageError, match="got Ego4D, the shards are under ego4d"):
        send(folder, object(), public=True, i_have_the_right_to_redistribute=("Ego4D",))
    with pytest.raises(UsageError, match="belongs to --public"):
        send(folder, object(), i_have_the_right_to_redistribute=("ego4d",))
    with pytest.raises(UsageError, match="right-to-redistribute own"):
        send(shards("own"), object(), public=True)


def test_what_was_typed_is_kept_and_publishing_is_the_last_step(shards: Any) -> None:
    folder, hub = shards("ego4d"), FakeHub()
    report = send(folder, hub, public=True, i_have_the_right_to_redistribute=("ego4d",))
    said = open_sealed(folder / "provenance.json")["right_to_redistribute"]
    assert said["licence_ids"] == ["ego4d"]
    assert hub.files()["provenance.json"] == (folder / "provenance.json").read_bytes()
    assert hub.names[-4:] == ["create_tag", "repo_info", "update_repo_settings", "repo_info"]
    settings = [given for name, given in hub.calls if name == "update_repo_settings"]
    assert [given["private"] for given in settings] == [True, False]
    # Public to be found; still only those with a licence are let in.
    assert (hub.private, hub.gated, report.gate) == (False, "manual", "manual")
    again = send(folder, hub, public=True, i_have_the_right_to_redistribute=("ego4d",))
    assert again.sent == 0
    assert open_sealed(folder / "provenance.json")["right_to_redistribute"] == said


def test_ones_own_recordings_can_be_opened_to_everybody(shards: Any) -> None:
    hub = FakeHub()
    report = send(shards("own"), hub, public=True, i_have_the_right_to_redistribute=("own",))
    assert (hub.private, hub.gated, report.gate) == (False, False, "none")


def test_a_gate_that_does_not_hold_takes_the_repository_back(shards: Any) -> None:
    hub = FakeHub()
    hub.forgets_gate = True
    with pytest.raises(PushError, match="gated False on the Hub, need 'manual'; not published"):
        send(shards("ego4d"), hub, public=True, i_have_the_right_to_redistribute=("ego4d",))
    assert hub.private


def http_error(status: int) -> Exception:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return hub_errors.HfHubHTTPError(f"{status} for url", response=response)


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (http_error(403), PushError, "hf auth login.*may write to user"),
        (http_error(400), PushError, r"the Hub refused \(400\)"),
        (http_error(429), PushInterrupted, "run the same command again"),
        (http_error(503), PushInterrupted, "run the same command again"),
        (TimeoutError("read timed out"), PushInterrupted, "TimeoutError: read timed out"),
        (hub_errors.LocalTokenNotFoundError("no token"), PushError, "not logged in"),
        (hub_errors.OfflineModeIsEnabled("offline"), PushError, "HF_HUB_OFFLINE"),
        (PermissionError("401 from storage"), PushError, "may write to user"),
    ],
)
def test_the_hubs_errors_become_a_sentence_with_a_next_step(
    shards: Any, raised: Exception, kind: type[Exception], said: str
) -> None:
    hub = FakeHub()

    def refuse(**given: Any) -> None:
        raise raised

    hub.create_repo = refuse  # type: ignore[method-assign]
    with pytest.raises(PushError, match=said) as caught:
        send(shards(), hub)
    assert type(caught.value) is kind


def test_files_that_the_build_does_not_name_stop_the_push(shards: Any) -> None:
    folder = shards()
    (folder / "data" / "extra.parquet").write_bytes(b"x")
    with pytest.raises(ShardError, match=r"data/extra\.parquet: is either missing or not of this"):
        send(folder, object())


def test_what_the_hub_does_not_take_is_known_before(
    shards: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shards()
    monkeypatch.setattr(push_plan, "FREE_PRIVATE_BYTES", 1000)
    send(folder, object(), dry_run=True)
    assert "free up to 100 GB" in caplog.text
    monkeypatch.setattr(push_plan, "MOST_FILES_PER_FOLDER", 1)
    with pytest.raises(ShardError, match="larger --shard-mib"):
        send(folder, object(), dry_run=True)
    monkeypatch.setattr(push_plan, "LARGEST_FILE_BYTES", 1000)
    with pytest.raises(ShardError, match="smaller --shard-mib"):
        send(folder, object(), dry_run=True)


def test_a_card_that_datasets_cannot_read_stops_the_push(shards: Any) -> None:
    folder = shards()
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(text.replace("data/train-*.parquet", "data/none-*.parquet"))
    with pytest.raises(ShardError, match="`datasets` cannot load it"):
        send(folder, object())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"repo_id": "shards"}, "need NAMESPACE/NAME"),
        ({"repo_id": "a/b/c"}, "need NAMESPACE/NAME"),
        ({"repo_id": REPO, "version": "v1"}, "need three numbers"),
    ],
)
def test_bad_names_are_usage_errors(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PushConfig(**given)


def test_the_command_line_says_what_a_dry_run_would_send(
    shards: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shards("ego4d")
    assert push_shards([str(folder), REPO, "--dry-run", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["licences"] == ["ego4d"]
    assert values["gate"] == "manual"
    assert values["commit"] is None
    assert push_shards([str(folder), REPO, "--dry-run"]) == 0
    assert "private, access on request\nlicences: ego4d\n" in capsys.readouterr().out
    assert push_shards([str(folder), REPO, "--public", "--dry-run"]) == 2
    assert "--i-have-the-right-to-redistribute ego4d" in capsys.readouterr().err
