"""Models to and from the Hub: a Hub in memory that records every call, and a cache's layout."""

import fnmatch
import hashlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from egotriad.alignment.controls import overlap
from egotriad.manifests.errors import (
    CheckpointError,
    DownloadError,
    PushError,
    PushInterrupted,
    UsageError,
)
from egotriad.models.card import CardFacts
from egotriad.models.cli import models
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_files import open_decoder
from egotriad.models.draft_text import TextDraft, TextDraftConfig
from egotriad.models.folder import save_model
from egotriad.models.hub import model_folder, push_folder
from egotriad.models.placement import Placement
from egotriad.models.seen import among, concealed
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

TOKENIZER = train_tokenizer(["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"])
SHAPE = DecoderConfig(hidden_size=16, intermediate_size=16, heads=2)
SEEN = {
    "wearers": ["w1", "w2"],
    "recordings": ["kitchen-anna"],
    "licences": ["own"],
    "clips": 7,
    "shards_sha256": "5" * 64,
}
REPO = "user/draft"


class FakeHub:
    """As much of HfApi as a push of a model uses; every call is recorded."""

    def __init__(self, *, private: bool | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.private, self.gated = private, False
        self.files: dict[str, bytes] = {".gitattributes": b"*.safetensors lfs"}
        self.damage: str | None = None
        self.broken = False

    def called(self, name: str, **given: Any) -> None:
        """Records a call that the real client would take."""
        inspect.signature(getattr(HfApi, name)).bind(None, **given)
        self.calls.append((name, given))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def create_repo(self, repo_id: str, **given: Any) -> None:
        self.called("create_repo", repo_id=repo_id, **given)
        if self.private is None:
            self.private = bool(given.get("private"))

    def repo_info(self, repo_id: str, **given: Any) -> Any:
        self.called("repo_info", repo_id=repo_id, **given)
        return SimpleNamespace(private=self.private, sha="commit1")

    def upload_folder(self, **given: Any) -> None:
        self.called("upload_folder", **given)
        if self.broken:
            raise ConnectionError("connection reset by peer")
        sent = {path.name: path.read_bytes() for path in Path(given["folder_path"]).iterdir()}
        self.files = {
            name: content
            for name, content in self.files.items()
            if not any(fnmatch.fnmatch(name, pattern) for pattern in given["delete_patterns"])
        } | sent
        if self.damage:
            self.files[self.damage] = bytes(len(self.files[self.damage]))

    def list_repo_tree(self, repo_id: str, **given: Any) -> list[Any]:
        self.called("list_repo_tree", repo_id=repo_id, **given)
        return [
            SimpleNamespace(
                path=name,
                size=len(content),
                lfs=SimpleNamespace(sha256=hashlib.sha256(content).hexdigest())
                if name.endswith(".safetensors")
                else None,
            )
            for name, content in self.files.items()
        ]

    def update_repo_settings(self, repo_id: str, **given: Any) -> None:
        self.called("update_repo_settings", repo_id=repo_id, **given)
        self.private, self.gated = given.get("private", self.private), given["gated"]


def text_draft(seen: dict[str, Any] | None = None) -> TextDraft:
    model = TextDraft(TextDraftConfig(decoder=SHAPE), TOKENIZER).eval()
    model.meta = {"trained_on": SEEN if seen is None else seen, "seed": 3}
    return model


def test_a_model_goes_to_a_private_repository_and_is_read_back() -> None:
    hub = FakeHub()
    assert text_draft().push_to_hub(REPO, api=hub) == "commit1"
    assert hub.names == [
        "create_repo",
        "repo_info",
        "upload_folder",
        "repo_info",
        "list_repo_tree",
    ]
    where = {"repo_id": REPO, "repo_type": "model"}
    assert hub.calls[0][1] == where | {"private": True, "exist_ok": True}
    assert hub.calls[4][1] == where | {"recursive": True, "revision": "commit1"}
    assert set(hub.files) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert hub.private


def test_nobody_reads_an_id_of_a_person_from_what_was_sent(tmp_path: Path) -> None:
    hub, model = FakeHub(), text_draft()
    model.push_to_hub(REPO, api=hub)
    for content in hub.files.values():
        assert b"kitchen-anna" not in content
    sent = json.loads(hub.files["config.json"])["meta"]["trained_on"]
    assert not {"wearers", "recordings"} & set(sent)
    assert (len(sent["wearers_sha256"]), len(sent["recordings_sha256"])) == (2, 1)
    assert sent["clips"] == 7
    assert "1 recording, 2 wearers" in hub.files["README.md"].decode()
    assert model.meta["trained_on"] == SEEN  # here nothing has changed


def test_a_pushed_model_still_tells_what_is_not_held_out() -> None:
    sent = concealed(SEEN)
    sample = SimpleNamespace(recording="kitchen-anna", wearer="w9")
    other = SimpleNamespace(recording="r9", wearer=None)
    for seen in (SEEN, sent):
        assert among(["w2", "w3"], seen, "wearers") == {"w2"}
        assert "trained on 1 recordings (kitchen-anna)" in overlap([sample, other], seen, "draft")
        assert overlap([other], seen, "draft") == ""
    assert among(["w2"], {}, "wearers") is None
    assert "does not say" in overlap([other], {}, "draft")
    salted = concealed(SEEN | {"shards_sha256": "6" * 64})
    assert not set(salted["wearers_sha256"]) & set(sent["wearers_sha256"])


def test_publishing_takes_the_right_to_every_licence_in_it() -> None:
    hub, seen = FakeHub(), SEEN | {"licences": ["ego4d", "own"]}
    with pytest.raises(UsageError, match="made from what is under ego4d, own; who may publish"):
        text_draft(seen).push_to_hub(REPO, public=True, api=hub)
    with pytest.raises(UsageError, match="under ego4d; who may"):
        text_draft(seen).push_to_hub(
            REPO, public=True, i_have_the_right_to_redistribute=("own",), api=hub
        )
    with pytest.raises(UsageError, match="got imhd, the model was made from ego4d, own"):
        text_draft(seen).push_to_hub(
            REPO, public=True, i_have_the_right_to_redistribute=("imhd",), api=hub
        )
    with pytest.raises(UsageError, match="belongs to public"):
        text_draft(seen).push_to_hub(REPO, i_have_the_right_to_redistribute=("own",), api=hub)
    with pytest.raises(UsageError, match="under unknown"):
        text_draft({"clips": 1}).push_to_hub(REPO, public=True, api=hub)
    assert hub.calls == []
    text_draft(seen).push_to_hub(
        REPO, public=True, i_have_the_right_to_redistribute=("ego4d", "own"), api=hub
    )
    assert hub.names[-1] == "update_repo_settings"
    assert (hub.private, hub.gated) == (False, "manual")
    card = hub.files["README.md"].decode()
    assert "license: other\nlicense_name: ego4d-derived" in card
    assert "data: Ego4D: ego4d (not free to hand on)" in card


def test_what_is_free_to_hand_on_is_published_without_a_gate() -> None:
    hub = FakeHub()
    facts = CardFacts(licence="apache-2.0", metrics={"acceptance": 0.41})
    text_draft().push_to_hub(
        REPO, public=True, i_have_the_right_to_redistribute=("own",), card=facts, api=hub
    )
    assert (hub.private, hub.gated) == (False, False)
    card = hub.files["README.md"].decode()
    assert "license: apache-2.0\n" in card
    assert "| acceptance | 0.41 |" in card


def test_nothing_is_sent_to_a_repository_that_is_public() -> None:
    hub = FakeHub(private=False)
    with pytest.raises(PushError, match=r"user/draft: is public; nothing was sent"):
        text_draft().push_to_hub(REPO, api=hub)
    assert "upload_folder" not in hub.names
    with pytest.raises(UsageError, match="got 'draft', need NAMESPACE/NAME"):
        text_draft().push_to_hub("draft", api=hub)


def test_a_public_repository_is_gated_before_what_is_held_is_sent() -> None:
    hub, seen = FakeHub(private=False), SEEN | {"licences": ["ego4d"]}
    text_draft(seen).push_to_hub(
        REPO, public=True, i_have_the_right_to_redistribute=("ego4d",), api=hub
    )
    assert hub.names.index("update_repo_settings") < hub.names.index("upload_folder")
    assert (hub.private, hub.gated) == (False, "manual")


def test_what_arrives_otherwise_or_not_at_all_is_an_error() -> None:
    hub = FakeHub()
    hub.damage = "model.safetensors"
    with pytest.raises(PushError, match=r"model\.safetensors there is not what was sent"):
        text_draft().push_to_hub(
            REPO, public=True, i_have_the_right_to_redistribute=("own",), api=hub
        )
    assert hub.private  # what is damaged is not published
    hub.broken = True
    with pytest.raises(PushInterrupted, match="run the same command again"):
        text_draft().push_to_hub(REPO, api=hub)


def test_files_of_an_older_model_are_taken_away() -> None:
    hub = FakeHub(private=True)
    hub.files |= {
        "model-00001-of-00002.safetensors": b"",
        "adapter_config.json": b"",
        "LICENSE": b"",
    }
    text_draft().push_to_hub(REPO, api=hub)
    assert set(hub.files) == {
        ".gitattributes",
        "LICENSE",
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_a_model_on_a_decoder_that_only_this_machine_has_is_not_sent(tmp_path: Path) -> None:
    llama = tmp_path / "mine"
    llama.mkdir()
    decoder = build_decoder(replace(SHAPE, tie_embeddings=False), len(TOKENIZER))
    save_file(dict(decoder.state_dict()), llama / "model.safetensors")
    (llama / "config.json").write_text(decoder.config.to_json_string())
    (llama / "tokenizer.json").write_text(tokenizer_json(TOKENIZER))
    files = open_decoder(llama)
    config = TextDraftConfig(decoder=files.config)
    model = TextDraft(config, TOKENIZER, files.load(Placement(precision="float32"))).eval()
    model.base = files.base()
    hub = FakeHub()
    with pytest.raises(UsageError, match=r"decoder 'mine' are in a local folder.*--merge"):
        model.push_to_hub(REPO, api=hub)
    assert hub.calls == []
    save_model(tmp_path / "whole", model, TOKENIZER, model.meta, whole=True)
    push_folder(tmp_path / "whole", REPO, api=hub)
    assert "model.safetensors" in hub.files


def test_a_model_comes_from_the_hubs_cache_at_a_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = text_draft()
    blobs = tmp_path / "blobs"
    model.save_pretrained(blobs)
    cached = tmp_path / "models--user--draft" / "snapshots" / "abc123"
    cached.mkdir(parents=True)
    for file in blobs.iterdir():
        (cached / file.name).symlink_to(file)
    asked: list[tuple[str, Any]] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        wanted = {"config.json", "model-00001-of-00002.safetensors", "adapter_config.json"}
        for file in wanted | {"tokenizer.json", "model.safetensors.index.json"}:
            assert any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns)
        return str(cached)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    loaded = ConditionedLM.from_pretrained(REPO, revision="v1")
    assert asked == [(REPO, "v1")]
    assert torch.equal(loaded.vectors, model.vectors)  # type: ignore[attr-defined]
    assert loaded.meta["trained_on"] == SEEN


def test_a_model_that_is_nowhere_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        DownloadError, match=r"user/draft: no such folder.*\(no route\).*auth login"
    ):
        model_folder(REPO)
    with pytest.raises(CheckpointError, match="no such folder, and no hub id"):
        model_folder("one/two/three")
    assert model_folder(tmp_path) == tmp_path


def test_a_folder_is_pushed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    monkeypatch.setattr("egotriad.models.hub.hub_api", lambda: hub)
    text_draft().save_pretrained(tmp_path / "draft")
    assert models(["push", str(tmp_path / "draft"), REPO, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"repo_id": REPO, "commit": "commit1", "public": False}
    assert hub.private
    assert "model.safetensors" in hub.files
    assert models(["push", str(tmp_path / "draft"), REPO, "--public"]) == 2
    assert "who may publish that says so" in capsys.readouterr().err
    assert models(["push", str(tmp_path), REPO]) == 1
    assert "not a model folder" in capsys.readouterr().err
