"""OneLLM-7B from Meta's layout: rotary order, prompt, its 32 tokens, and its release's quirk."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError
from egotriad.models import draft_onellm
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_onellm import (
    ONELLM_FILE,
    OneLlmConfig,
    OneLlmDraft,
    meta_keys,
    onellm_prompt,
)
from egotriad.models.encoder_onellm import OneLlmImu, OneLlmImuConfig
from egotriad.models.llama_tokenizer import folder_tokenizer
from egotriad.models.loading import load_draft, model_sha256
from egotriad.models.placement import Placement
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

WIDTH, LAYERS, HEADS, INNER = 32, 2, 2, 48
QUESTION = "Describe the scene."
FLOAT32 = Placement(precision="float32")
PATH = {
    "width": 32,
    "heads": 2,
    "clip_layers": 1,
    "expert_layers": 1,
    "hidden": 48,
    "queries": 30,
}
DECODER = DecoderConfig(
    hidden_size=WIDTH,
    intermediate_size=INNER,
    layers=LAYERS,
    heads=HEADS,
    max_positions=2048,
    tie_embeddings=False,
    rms_norm_eps=1e-5,
)
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([onellm_prompt(QUESTION)], vocab_size=330)


@pytest.fixture(scope="module")
def weights(tokenizer: PreTrainedTokenizerFast) -> Weights:
    """The file's keys: language model and IMU path of the release, fp16, and a little besides."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, scale: float = 0.3) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).half()

    found = {
        "llma.tok_embeddings.weight": drawn(len(tokenizer), WIDTH, scale=1.0),
        "llma.norm.weight": 1 + drawn(WIDTH, scale=0.1),
        "llma.output.weight": drawn(len(tokenizer), WIDTH),
    }
    for layer in range(LAYERS):
        at = f"llma.layers.{layer}"
        found |= {f"{at}.attention.w{which}.weight": drawn(WIDTH, WIDTH) for which in "qkvo"}
        found |= {f"{at}.feed_forward.w{i}.weight": drawn(INNER, WIDTH) for i in (1, 3)}
        found[f"{at}.feed_forward.w2.weight"] = drawn(WIDTH, INNER)
        for norm in ("attention_norm", "ffn_norm"):
            found[f"{at}.{norm}.weight"] = 1 + drawn(WIDTH, scale=0.1)
    path = OneLlmImu(OneLlmImuConfig(**PATH, out=WIDTH))
    for name, like in path.state_dict().items():
        found[OneLlmImu.keys.theirs(name)] = drawn(*like.shape)
    others = {
        "llma.conv1.audio.weight": drawn(2, 2),
        "llma.clip.visual.conv1.weight": drawn(2, 2),
        "llma.clip.token_embedding.weight": drawn(2, 2),
        "llma.start_tag.image": drawn(1, 1, WIDTH),
    }
    return found | others


@pytest.fixture
def folder(
    tmp_path: Path,
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder as the hub has it, of a OneLLM that is smaller than the only one there is."""
    path = tmp_path / "OneLLM-7B"
    path.mkdir()
    torch.save(weights, path / ONELLM_FILE)
    (path / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    tiny = functools.partial(OneLlmConfig, decoder=DECODER, encoder_settings=PATH)
    monkeypatch.setattr(draft_onellm, "OneLlmConfig", tiny)
    return path


class MetaLlama:
    """LLaMA as Meta wrote it, in float64: rotary positions turn neighbouring pairs of values.

    With a cache as the release's: `feed` writes its keys where it is told to.
    """

    def __init__(self, weights: Weights, positions: int = 256) -> None:
        self.w = {k.removeprefix("llma."): like.double() for k, like in weights.items()}
        size = WIDTH // HEADS
        rates = 10_000.0 ** (-torch.arange(0, size, 2).double() / size)
        turns = torch.outer(torch.arange(positions).double(), rates)
        self.turns = torch.polar(torch.ones_like(turns), turns)  # (P, size / 2)
        self.keys = torch.zeros(LAYERS, positions, HEADS, size, dtype=torch.float64)
        self.values = torch.zeros_like(self.keys)

    def norm(self, x: Tensor, name: str) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return x * scale * self.w[f"{name}.weight"]

    def rotate(self, x: Tensor, start: int) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        turned = pairs * self.turns[start : start + len(x), None]
        return torch.view_as_real(turned).flatten(-2)

    def embed(self, ids: list[int]) -> Tensor:
        return self.w["tok_embeddings.weight"][ids]

    def feed(self, x: Tensor, start: int) -> Tensor:
        """(n, V) logits of embeddings (n, D) that stand at positions from `start` on."""
        n, end = len(x), start + len(x)
        hidden = torch.ones(n, end, dtype=torch.bool).triu(start + 1)
        for i in range(LAYERS):
            at = f"layers.{i}"
            h = self.norm(x, f"{at}.attention_norm")
            q, k, v = (
                (h @ self.w[f"{at}.attention.w{which}.weight"].T).view(n, HEADS, -1)
                for which in "qkv"
            )
            self.keys[i, start:end], self.values[i, start:end] = self.rotate(k, start), v
            scores = torch.einsum("qhd,khd->hqk", self.rotate(q, start), self.keys[i, :end])
            scores = (scores / (WIDTH // HEADS) ** 0.5).masked_fill(hidden, -torch.inf)
            seen = torch.einsum("hqk,khd->qhd", scores.softmax(-1), self.values[i, :end])
            x = x + seen.reshape(n, -1) @ self.w[f"{at}.attention.wo.weight"].T
            h = self.norm(x, f"{at}.ffn_norm")
            gate = F.silu(h @ self.w[f"{at}.feed_forward.w1.weight"].T)
            up = h @ self.w[f"{at}.feed_forward.w3.weight"].T
            x = x + (gate * up) @ self.w[f"{at}.feed_forward.w2.weight"].T
        return self.norm(x, "norm") @ self.w["output.weight"].T


def plain_prompt(
    llama: MetaLlama, draft: OneLlmDraft, tokenizer: PreTrainedTokenizerFast, window: Tensor
) -> Tensor:
    """(P, D): BOS, start tag, 30 tokens, end tag, then the text, put together by hand."""
    human = (
        "A chat between a curious human and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the human's questions."
    )
    ids = tokenizer.encode(f"{human}###Human: {QUESTION}###Assistant:")
    assert ids[0] == 1
    with torch.no_grad():
        tokens = draft.encoder(window[None])[0].double()
    assert len(tokens) == 32
    return torch.cat([llama.embed(ids[:1]), tokens, llama.embed(ids[1:])])


def stop_of(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """First ids of `###` behind a word and behind a space."""
    behind_word = tokenizer.encode("s###", add_special_tokens=False)
    return [i for i in behind_word if "#" in tokenizer.convert_ids_to_tokens(i)][:1]


def window_of(draft: OneLlmDraft, clip: Clip) -> Tensor:
    return draft.prepare(clip, clip.event_spans[1])


def test_the_release_has_the_published_number_of_weights(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with torch.device("meta"):
        draft = OneLlmDraft(OneLlmConfig(), tokenizer)
    missing_ids = 2 * (32_000 - len(tokenizer)) * 4096
    images_stem = 1024 * 3 * 14 * 14 + 257 * 1024  # the paper's path counts CLIP's for images
    total = sum(p.numel() for p in draft.parameters()) + missing_ids
    assert total == 7_359_031_299
    assert total + images_stem == 7_359_896_579
    assert sum(p.numel() for p in draft.encoder.parameters()) + images_stem == 621_480_963
    assert draft.tokens == 32


def test_converted_weights_give_the_logits_of_interleaved_rotary_positions(
    folder: Path,
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    draft, _, _ = load_draft(folder, placement=FLOAT32)
    llama = MetaLlama(weights)
    window = window_of(draft, toy_clips(1)[0])
    ids = [300, 7, 259, 12, 301]
    prompt = plain_prompt(llama, draft, tokenizer, window)
    rows = llama.feed(torch.cat([prompt, llama.embed(ids[:-1])]), 0)[-len(ids) :]
    stops = stop_of(tokenizer)
    rows[:, 2] = rows[:, [2, *stops]].logsumexp(-1)  # "###" is its end of sequence
    rows[:, stops] = -torch.inf
    with torch.no_grad():
        found = draft.teacher_forced(draft.prefix(window[None]), torch.tensor([ids]))[0]
    torch.testing.assert_close(found.double(), rows, atol=2e-5, rtol=1e-5)
    # In Meta's row order it would be another model.
    for i, layer in enumerate(draft.decoder.model.layers):
        layer.self_attn.q_proj.weight.data = weights[f"llma.layers.{i}.attention.wq.weight"].float()
    with torch.no_grad():
        other = draft.teacher_forced(draft.prefix(window[None]), torch.tensor([ids]))[0]
    assert (other - found)[:, 3:].nan_to_num().abs().max() > 0.05


def test_the_quirk_of_the_release_is_two_lost_positions(
    folder: Path,
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    """A cache written as `forward_inference` writes it: 32 tokens put in, 30 counted."""
    draft, _, meta = load_draft(folder, placement=FLOAT32, reference_compat=True)
    assert meta["published"]["options"] == {"reference_compat": True}
    llama, window = MetaLlama(weights), window_of(draft, toy_clips(1)[0])
    prompt = plain_prompt(llama, draft, tokenizer, window)
    stops = stop_of(tokenizer)
    ids = [300, 7, 259, 12, 301, 5]
    rows = [llama.feed(prompt, 0)[-1]]
    text = len(prompt) - 32  # what the release counts as its prompt
    rows += [llama.feed(llama.embed([i]), text + n + 30)[0] for n, i in enumerate(ids[:-1])]
    expected = torch.stack(rows)
    expected[:, 2] = expected[:, [2, *stops]].logsumexp(-1)
    expected[:, stops] = -torch.inf

    state = draft.state(window[None])
    stepped = torch.cat([state.prefix_logits[None], state.feed(ids[:-1])])
    torch.testing.assert_close(stepped.double(), expected, atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        forced = draft.teacher_forced(draft.prefix(window[None]), torch.tensor([ids]))[0]
    torch.testing.assert_close(forced.double(), expected, atol=2e-5, rtol=1e-5)
    state.rollback(3)
    again = torch.cat([expected[:3].float(), state.feed(ids[2:-1])])
    torch.testing.assert_close(again.double(), expected, atol=2e-5, rtol=1e-5)
    together = draft.states([window, window])
    first = together.prefix_logits.double()
    torch.testing.assert_close(first, expected[:1].expand(2, -1), atol=2e-5, rtol=1e-5)
    stepped_too = together.feed([ids[:2], ids[:3]])[1, :3].double()
    torch.testing.assert_close(stepped_too, expected[1:4], atol=2e-5, rtol=1e-5)
    said = draft.greedy(window[None], 4)[0]
    assert said[0] == int(expected[0].argmax())
    right, _, _ = load_draft(folder, placement=FLOAT32)
    correct = right.state(window[None]).feed(ids[:1])[0]
    assert (correct - stepped[1])[3:].nan_to_num().abs().max() > 1e-3


def test_greedy_texts_of_both_ways_are_those_of_their_own_steps(
    folder: Path, toy_clips: Callable[[int], list[Clip]]
) -> None:
    for compat in (False, True):
        draft, _, _ = load_draft(folder, placement=FLOAT32, reference_compat=compat)
        inputs = torch.stack([window_of(draft, clip) for clip in toy_clips(3)])
        for row, ids in zip(inputs, draft.greedy(inputs, 6), strict=True):
            with torch.no_grad():
                logits = draft.teacher_forced(draft.prefix(row[None]), torch.tensor([ids]))[0]
            assert logits.argmax(-1).tolist() == ids


def test_a_missing_an_extra_and_a_misshapen_key_are_listed(folder: Path, weights: Weights) -> None:
    broken = dict(weights)
    del broken["llma.layers.1.attention.wk.weight"]
    del broken["llma.resample_tokens.imu"]
    broken["llma.layers.2.attention.wk.weight"] = torch.zeros(WIDTH, WIDTH)
    broken["llma.routers.imu.fc3.weight"] = torch.zeros(2)
    broken["llma.norm.weight"] = torch.zeros(3)
    torch.save(broken, folder / ONELLM_FILE)
    with pytest.raises(CheckpointError) as error:
        load_draft(folder, placement=FLOAT32)
    message = str(error.value)
    assert "missing: llma.layers.1.attention.wk.weight, llma.resample_tokens.imu" in message
    assert "unexpected: llma.layers.2.attention.wk.weight, llma.routers.imu.fc3.weight" in message
    assert "llma.norm.weight ([3] torch.float32, need [32] floating)" in message
    assert "audio" not in message


def test_weights_are_read_in_pieces_and_never_held_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egotriad.models import placement

    sizes = []
    read = placement.read_tensors

    def watched(path: Path, keys: dict[str, str]) -> Weights:
        found = read(path, keys)
        sizes.append(sum(like.numel() * like.itemsize for like in found.values()))
        return found

    monkeypatch.setattr(placement, "PIECE_BYTES", 4096)
    monkeypatch.setattr(placement, "read_tensors", watched)
    draft, _, _ = load_draft(folder, placement=FLOAT32)
    largest = max(like.numel() * 2 for like in draft.state_dict().values())  # fp16 in the file
    assert len(sizes) > 10
    assert max(sizes) <= 4096 + largest


def test_the_prompt_of_the_real_tokenizer(shared: Callable[[str], Path]) -> None:
    tokenizer = folder_tokenizer(shared("real/llama2_tokenizer"))
    with torch.device("meta"):
        draft = OneLlmDraft(OneLlmConfig(), tokenizer)
    assert draft.prompt.before == (1,)
    assert draft.prompt.after[:2] == (319, 13563)  # "A chat"
    assert draft.prompt.after[-5:] == (2277, 29937, 7900, 22137, 29901)  # "###Assistant:"
    assert draft.decoder.lm_head.stops == (835, 2277)


def test_what_identifies_a_folder_covers_its_one_file(folder: Path, weights: Weights) -> None:
    before = model_sha256(folder)
    torch.save(weights | {"llma.norm.weight": torch.ones(WIDTH).half()}, folder / ONELLM_FILE)
    assert model_sha256(folder) != before


def test_pandagpts_deltas_are_told_that_they_see_no_imu(tmp_path: Path) -> None:
    torch.save({"llama_proj.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_model.pt")
    with pytest.raises(
        CheckpointError, match="PandaGPT's released code has no entry point for IMU"
    ):
        load_draft(tmp_path)


def test_every_key_of_the_release_has_one_name(weights: Weights) -> None:
    names, unexplained = meta_keys(LAYERS).names(weights)
    assert not unexplained
    assert len(names) == len(weights) - 4  # the other modalities
    assert json.dumps(sorted(names)).count("decoder.model.layers.") == 9 * LAYERS
