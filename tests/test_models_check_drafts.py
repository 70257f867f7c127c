"""`egotriad models check` on LLaSA and OneLLM at their true sizes, without their bytes.

A tensor that repeats one stored number has any shape and no size on disk: the headers are those of
the published files.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.models.cli import models
from egotriad.models.draft_llasa import LlasaConfig, LlasaDraft
from egotriad.models.draft_onellm import ONELLM_FILE, OneLlmConfig, OneLlmDraft, meta_keys
from egotriad.models.llama_tokenizer import folder_tokenizer

TOWER = "model.vision_tower.vision_tower.0."


@pytest.fixture
def tokenizer_path(shared: Callable[[str], Path]) -> Path:
    return shared("real/llama2_tokenizer")


@pytest.fixture
def llama(tokenizer_path: Path) -> PreTrainedTokenizerFast:
    return folder_tokenizer(tokenizer_path)


def hollow(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float16).expand(like.shape)


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = models(["check", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_llasa_7b_is_judged_by_its_headers(
    tmp_path: Path,
    tokenizer_path: Path,
    llama: PreTrainedTokenizerFast,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with torch.device("meta"):
        draft = LlasaDraft(LlasaConfig(), llama)
    stored = {
        LlasaDraft.keys.theirs(name): hollow(like) for name, like in draft.state_dict().items()
    }
    values = {**json.loads(draft.decoder.config.to_json_string()), "model_type": "llava_llama"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    torch.save(stored, tmp_path / "pytorch_model.bin")
    words = (str(tmp_path), "--tokenizer", str(tokenizer_path))
    code, found = checked(capsys, *words)
    assert code in (0, 3)  # 3: this machine has less than 13.5 GB free
    assert found["fits"]
    assert (found["kind"], found["name"]) == ("draft", "llasa")
    assert found["parameters"] == 6_755_547_488
    assert found["needed_bytes"] == 2 * 6_755_547_488

    kept = {key: like for key, like in stored.items() if not key.startswith(TOWER)}
    torch.save(kept | {"model.mm_projector.4.bias": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    code, found = checked(capsys, *words)
    assert code == 1
    assert len(found["missing"]) == 21
    assert found["missing"][0] == f"{TOWER}attn.proj_k.bias"
    assert found["unexpected"] == ["model.mm_projector.4.bias"]
    assert "substitute_encoder" in " ".join(found["warnings"])


def test_onellm_7b_is_judged_by_its_headers(
    tmp_path: Path,
    tokenizer_path: Path,
    llama: PreTrainedTokenizerFast,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with torch.device("meta"):
        draft = OneLlmDraft(OneLlmConfig(), llama)
    keys = meta_keys(32)
    stored = {keys.theirs(name): hollow(like) for name, like in draft.state_dict().items()}
    stored["llma.clip.token_embedding.weight"] = torch.zeros(2, 2)
    torch.save(stored, tmp_path / ONELLM_FILE)
    words = (str(tmp_path), "--tokenizer", str(tokenizer_path))
    code, found = checked(capsys, *words)
    assert code in (0, 3)
    assert found["fits"]
    assert (found["kind"], found["name"]) == ("draft", "onellm")
    assert found["parameters"] == 7_359_031_299

    del stored["llma.layers.31.attention.wo.weight"]
    stored["llma.layers.32.attention.wo.weight"] = torch.zeros(2, 2)
    torch.save(stored, tmp_path / ONELLM_FILE)
    code, found = checked(capsys, *words)
    assert code == 1
    assert found["missing"] == ["llma.layers.31.attention.wo.weight"]
    assert found["unexpected"] == ["llma.layers.32.attention.wo.weight"]
    assert models(["check", str(tmp_path)]) == 1  # the hub's folder has no tokenizer
    assert "pass LLaMA's tokenizer" in capsys.readouterr().err
