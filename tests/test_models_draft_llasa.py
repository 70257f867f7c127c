"""LLaSA as its authors publish it: keys, towers, prompts, sizes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import speculate
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.decoders import DECODERS
from egotriad.models.draft_llasa import LlasaConfig, LlasaDraft, llasa_prompt
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.llama_tokenizer import folder_tokenizer
from egotriad.models.loading import load_draft, load_target
from egotriad.models.placement import Placement
from egotriad.models.published import open_published
from egotriad.models.seeding import torch_stream
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

WIDTH = 32
QUESTION = "What is the wearer doing?"
TOWER = "model.vision_tower.vision_tower.0."
FLOAT32 = Placement(precision="float32")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([llasa_prompt(QUESTION)], vocab_size=330)


@pytest.fixture
def llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        rms_norm_eps=1e-5,
        max_position_embeddings=2048,
    )
    with torch_stream(0, "llasa"):
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def weights(llama: LlamaForCausalLM) -> dict[str, Tensor]:
    """Every weight under the authors' names, float16 as LLaVA saves them."""
    found = dict(llama.state_dict())
    with torch_stream(1, "llasa"):
        tower = LimuBert(LimuBertConfig())
        projector = torch.nn.Sequential(
            torch.nn.Linear(72, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH)
        )
    found |= {f"model.mm_projector.{key}": like for key, like in projector.state_dict().items()}
    found |= {f"{TOWER}{key}": like for key, like in tower.transformer.state_dict().items()}
    return {key: like.half().clone() for key, like in found.items()}


@pytest.fixture
def folder(
    tmp_path: Path,
    llama: LlamaForCausalLM,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    path = tmp_path / "LLaSA-7B"  # a name without "llava", over which the release stumbles
    path.mkdir()
    values = json.loads(llama.config.to_json_string()) | {
        "model_type": "llava_llama",
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": "limubert",
        "mm_hidden_size": 72,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
    }
    (path / "config.json").write_text(json.dumps(values))
    (path / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    save_file(weights, path / "model.safetensors")
    return path


def without_tower(folder: Path, weights: dict[str, Tensor]) -> None:
    kept = {key: like for key, like in weights.items() if not key.startswith(TOWER)}
    save_file(kept, folder / "model.safetensors")


def limu_bert_file(path: Path) -> Path:
    """A file as dapowan/LIMU-BERT-Public has them, its reconstruction decoder included."""
    with torch_stream(2, "substitute"):
        stored = LimuBert(LimuBertConfig()).state_dict()
    torch.save(stored | {"fc.weight": torch.zeros(72, 72), "norm.gamma": torch.ones(72)}, path)
    return path


def full_size(name: str) -> LlasaConfig:
    return LlasaConfig(decoder=DECODERS[name].config)


@pytest.mark.parametrize(
    ("decoder", "parameters"), [("vicuna-7b", 6_755_547_488), ("vicuna-13b", 13_042_509_152)]
)
def test_llasa_has_the_published_number_of_weights(
    decoder: str, parameters: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.device("meta"):
        draft = LlasaDraft(full_size(decoder), tokenizer)
    width = draft.config.decoder.hidden_size
    missing_ids = 2 * (32_000 - len(tokenizer)) * width
    assert sum(p.numel() for p in draft.parameters()) + missing_ids == parameters
    assert sum(p.numel() for p in draft.encoder.parameters()) == 51_552
    assert draft.tokens == 120


@pytest.mark.parametrize("layout", ["safetensors", "bin", "shards"])
def test_a_published_folder_says_what_a_plain_reading_of_it_says(
    layout: str,
    folder: Path,
    llama: LlamaForCausalLM,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    if layout != "safetensors":
        (folder / "model.safetensors").unlink()
    if layout == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
    if layout == "shards":
        names = sorted(weights)
        parts = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
        for file, keys in parts.items():
            save_file({key: weights[key] for key in keys}, folder / file)
        index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    draft, found, meta = load_draft(folder, placement=FLOAT32, question=QUESTION)
    assert found.encode("USER") == tokenizer.encode("USER")
    assert meta["published"]["model_type"] == "llava_llama"
    assert meta["published"]["options"] == {"question": QUESTION}

    window = torch.randn(1, 120, 6, generator=torch.Generator().manual_seed(0))
    window[..., 2] += 1.0
    ids = [300, 7, 259, 2]
    with torch.no_grad():
        ours = draft.teacher_forced(draft.prefix(window), torch.tensor([ids]))[0]
        theirs = plain_reading(llama, weights, tokenizer, window, ids)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def plain_reading(
    llama: LlamaForCausalLM,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    window: Tensor,
    ids: list[int],
) -> Tensor:
    """LLaVA's way: ids with the sentinel -200 in their midst, replaced by the 120 embeddings."""
    wide = {key: like.float() for key, like in weights.items()}
    llama.load_state_dict({key: like for key, like in wide.items() if key in llama.state_dict()})
    tower = LimuBert(LimuBertConfig())
    tower.load_state_dict(
        {f"transformer.{k.removeprefix(TOWER)}": w for k, w in wide.items() if k.startswith(TOWER)}
    )
    at = "model.mm_projector"
    hidden = F.linear(tower(window), wide[f"{at}.0.weight"], wide[f"{at}.0.bias"])
    sensor = F.linear(F.gelu(hidden), wide[f"{at}.2.weight"], wide[f"{at}.2.bias"])[0]
    text = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: <image>\n"
        f"{QUESTION} ASSISTANT:"
    )
    chunks = [tokenizer.encode(chunk) for chunk in text.split("<image>")]  # each with its BOS
    prompt = [*chunks[0], -200, *chunks[1][1:]]
    embed = llama.get_input_embeddings()
    rows = [sensor if i == -200 else embed(torch.tensor([i])) for i in [*prompt, *ids[:-1]]]
    return llama(inputs_embeds=torch.cat(rows)[None]).logits[0, -len(ids) :]


def test_prompts_are_those_of_the_release() -> None:
    human = (
        "A chat between a curious human and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the human's questions."
    )
    assert llasa_prompt("Why?", "llava_v0") == f"{human}###Human: <imu>\nWhy?###Assistant:"
    assert llasa_prompt("Why?", "llava_v1") == (
        f"{human}The user provides accelerometer and gyroscope sensor data besides the questions. "
        "The assistant understands and analyzes the sensor data in the context of the questions. "
        "USER: <imu>\nWhy? ASSISTANT:"
    )
    with pytest.raises(UsageError, match="prompt: got 'v2', need vicuna_v1 or llava_v0"):
        llasa_prompt("Why?", "v2")


def test_the_prompt_of_the_real_tokenizer_leaves_120_places(
    shared: Callable[[str], Path],
) -> None:
    tokenizer = folder_tokenizer(shared("real/llama2_tokenizer"))
    with torch.device("meta"):
        draft = LlasaDraft(full_size("vicuna-7b"), tokenizer)
    assert draft.prompt.before[0] == 1
    assert draft.prompt.before[-4:] == (3148, 1001, 29901, 29871)  # "USER: "
    assert draft.prompt.after[:2] == (29871, 13)  # a line feed of a chunk of its own
    assert draft.prompt.after[-5:] == (319, 1799, 9047, 13566, 29901)


def test_the_fallback_prompt_ends_with_eos_where_the_release_cuts_at_three_hashes(
    folder: Path,
) -> None:
    draft, tokenizer, _ = load_draft(folder, placement=FLOAT32, prompt="llava_v0")
    hashes = tokenizer.encode("a###", add_special_tokens=False)[1]
    window = torch.ones(1, 120, 6)
    with torch.no_grad():
        logits = draft.teacher_forced(draft.prefix(window), torch.tensor([[300, 7]]))
    assert torch.isneginf(logits[..., hashes]).all()
    assert torch.isfinite(logits[..., 2]).all()


def test_an_extra_and_a_missing_key_are_listed(folder: Path, weights: dict[str, Tensor]) -> None:
    del weights["model.mm_projector.2.bias"]
    weights["model.mm_projector.4.weight"] = torch.zeros(2, 2)
    weights["model.layers.1.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)  # of old versions
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_draft(folder, placement=FLOAT32)
    assert "missing: model.mm_projector.2.bias;" in str(error.value)
    assert "unexpected: model.mm_projector.4.weight" in str(error.value)
    assert "inv_freq" not in str(error.value)


def test_without_its_tower_it_is_refused(folder: Path, weights: dict[str, Tensor]) -> None:
    without_tower(folder, weights)
    with pytest.raises(CheckpointError, match="pass its file as substitute_encoder") as error:
        load_draft(folder, placement=FLOAT32)
    assert f"missing: {TOWER}attn.proj_k.bias" in str(error.value)


def test_a_substitute_must_be_allowed_and_is_on_record(
    folder: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    file = limu_bert_file(tmp_path / "uci.pt")
    with pytest.raises(UsageError, match="holds its own tower; leave substitute_encoder out"):
        load_draft(folder, placement=FLOAT32, substitute_encoder=file)
    without_tower(folder, weights)
    with pytest.raises(UsageError, match="set allow_substitute_encoder to go on"):
        load_draft(folder, placement=FLOAT32, substitute_encoder=file)
    draft, _, meta = load_draft(
        folder, placement=FLOAT32, substitute_encoder=file, allow_substitute_encoder=True
    )
    stored = torch.load(file)["transformer.embed.lin.weight"]
    assert torch.equal(draft.encoder.transformer.embed.lin.weight, stored)
    recorded = meta["published"]["options"]["substitute_encoder"]
    assert recorded["name"] == "uci.pt"
    assert len(recorded["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(meta)


def test_shorter_windows_give_fewer_tokens(
    folder: Path, toy_clips: Callable[[int], list[Clip]]
) -> None:
    draft, _, _ = load_draft(folder, placement=FLOAT32, samples=60)
    assert draft.tokens == 60
    clip = toy_clips(1)[0]
    window = draft.prepare(clip, clip.event_spans[1])
    assert window.shape == (60, 6)
    assert window[:, 2].mean().item() == pytest.approx(9.81 / 9.8, abs=0.05)  # divided once


@pytest.mark.parametrize("prompt", ["vicuna_v1", "llava_v0"])
def test_it_drafts_without_changing_the_targets_text(
    prompt: str,
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    draft, _, _ = load_draft(folder, placement=FLOAT32, samples=60, prompt=prompt)
    with torch_stream(3, "target"):
        target = TinyTarget(TinyTargetConfig(), tokenizer).eval()
        with torch.no_grad():
            target.decoder.get_input_embeddings().weight.mul_(20)
    clip = toy_clips(1)[0]
    span = clip.event_spans[1]
    plain = target.greedy(target.prepare(clip, span)[None], 12)[0]
    proposer = DraftProposer(
        draft.state(draft.prepare(clip, span)[None]), 2, vocabulary=len(tokenizer)
    )
    state = target.state(target.prepare(clip, span)[None])
    done = speculate(state, proposer, gamma=3, max_new_tokens=12, eos_id=2)
    assert done.ids == plain


def test_half_precision_drafts(folder: Path, toy_clips: Callable[[int], list[Clip]]) -> None:
    draft, _, _ = load_draft(folder, samples=60)
    clip = toy_clips(1)[0]
    state = draft.state(draft.prepare(clip, clip.event_spans[1])[None])
    assert next(draft.parameters()).dtype == torch.bfloat16
    assert state.prefix_logits.dtype == torch.float32
    assert torch.isfinite(state.feed([5, 6])).all()


def test_another_llava_and_another_kind_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds the draft llasa, need a target"):
        load_target(folder)
    with pytest.raises(UsageError, match="draft llasa: unknown options"):
        open_published(folder, reference_compat=True)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"mm_hidden_size": 1024}))
    with pytest.raises(CheckpointError, match=r"'mm_hidden_size': 1024.*this is another LLaVA"):
        load_draft(folder)
