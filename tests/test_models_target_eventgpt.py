"""EventGPT: shapes, counts, prompt, and the authors' checkpoint format against a plain second code.

The checkpoints are tiny and written here, with the original keys of transformers 4.37.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionModel, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.manifests import Clip, Events, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected, UsageError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_text import TextDraft, TextDraftConfig
from egotriad.models.placement import Placement, needed_bytes
from egotriad.models.published import load_published, open_published
from egotriad.models.seeding import torch_stream
from egotriad.models.target_eventgpt import EventGpt, EventGptConfig, eventgpt_prompt
from egotriad.models.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer

QUESTION = "What are the key elements in this scene?"
SPAN = Span(1_500_000, 100_000)
WIDTH, ROWS_EXTRA = 32, 1
CONFIG = {
    "model_type": "EventChat_llama",
    "mm_visual_tower": "openai/clip-vit-large-patch14-336",
    "event_feature_adaptor": True,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["C walks forward.", eventgpt_prompt(QUESTION)], vocab_size=400)


def original_weights(ids: int) -> dict[str, Tensor]:
    """A state dict as EventGPT-7b's, tiny: 4.37 keys, one row more than the tokenizer has ids."""
    with torch_stream(0, "eventgpt"):
        tower = {
            key: 0.3 * torch.randn(shape)
            for key, shape in {
                "embeddings.class_embedding": (32,),
                "embeddings.patch_embedding.weight": (32, 3, 14, 14),
                "embeddings.position_embedding.weight": (5, 32),
                "pre_layrnorm.weight": (32,),
                "pre_layrnorm.bias": (32,),
                "post_layernorm.weight": (32,),
                "post_layernorm.bias": (32,),
            }.items()
        }
        for i in range(2):
            start = f"encoder.layers.{i}."
            for part in ("q", "k", "v", "out"):
                tower[f"{start}self_attn.{part}_proj.weight"] = 0.2 * torch.randn(32, 32)
                tower[f"{start}self_attn.{part}_proj.bias"] = 0.1 * torch.randn(32)
            for norm in ("layer_norm1", "layer_norm2"):
                tower[f"{start}{norm}.weight"] = 1 + 0.1 * torch.randn(32)
                tower[f"{start}{norm}.bias"] = 0.1 * torch.randn(32)
            for name, shape in (("fc1", (48, 32)), ("fc2", (32, 48))):
                tower[f"{start}mlp.{name}.weight"] = 0.2 * torch.randn(shape)
                tower[f"{start}mlp.{name}.bias"] = 0.1 * torch.randn(shape[0])
        weights = {f"model.visual_tower.visual_tower.vision_model.{k}": v for k, v in tower.items()}
        for name, columns in (("visual_projector.0", 32), ("visual_projector.2", WIDTH)):
            weights[f"model.{name}.weight"] = 0.2 * torch.randn(WIDTH, columns)
            weights[f"model.{name}.bias"] = 0.1 * torch.randn(WIDTH)
        weights["model.feature_adaptor.weight"] = 0.2 * torch.randn(WIDTH, WIDTH)
        weights["model.feature_adaptor.bias"] = 0.1 * torch.randn(WIDTH)
        for i in range(2):
            start = f"model.layers.{i}."
            for part in ("q", "k", "v", "o"):
                weights[f"{start}self_attn.{part}_proj.weight"] = 0.3 * torch.randn(WIDTH, WIDTH)
            for part, shape in (
                ("gate", (48, WIDTH)),
                ("up", (48, WIDTH)),
                ("down", (WIDTH, 48)),
            ):
                weights[f"{start}mlp.{part}_proj.weight"] = 0.3 * torch.randn(shape)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                weights[f"{start}{norm}.weight"] = 1 + 0.1 * torch.randn(WIDTH)
            weights[f"{start}self_attn.rotary_emb.inv_freq"] = torch.ones(8)  # old buffers
        weights["model.norm.weight"] = torch.ones(WIDTH)
        weights["model.embed_tokens.weight"] = torch.randn(ids + ROWS_EXTRA, WIDTH)
        weights["lm_head.weight"] = torch.randn(ids + ROWS_EXTRA, WIDTH)
        weights["lm_head.weight"][-1] *= 50  # an id beyond the vocabulary that would win
    return weights


def write_checkpoint(
    folder: Path, tokenizer: PreTrainedTokenizerFast, weights: dict[str, Tensor], **config: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clip").mkdir(exist_ok=True)
    (folder / "clip" / "config.json").write_text(json.dumps({"vision_config": CLIP}))
    values = {**CONFIG, "mm_visual_tower": "clip", "vocab_size": len(tokenizer) + ROWS_EXTRA}
    (folder / "config.json").write_text(json.dumps(values | config))
    (folder / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    names = sorted(weights)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2]}
    halves["pytorch_model-00002-of-00002.bin"] = names[1::2]
    for file, keys in halves.items():
        torch.save({key: weights[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in halves.items() for key in keys}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "EventGPT-7b"
    return write_checkpoint(folder, tokenizer, original_weights(len(tokenizer)))


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> tuple[EventGpt, PreTrainedTokenizerFast, dict]:
    return load_published(checkpoint, placement=Placement(precision="float32"), question=QUESTION)


def reference_frames(events: Events) -> list[np.ndarray]:
    """The released `get_event_images_list`, in a loop over events."""
    size, images = len(events) // 5, []
    for k in range(5):
        group = slice(k * size, (k + 1) * size if k < 4 else len(events))
        x, y, p = events.x[group], events.y[group], events.p[group]
        image = np.full((int(y.max()) + 1, int(x.max()) + 1, 3), 255, np.uint8)
        for xi, yi, pi in zip(x, y, p, strict=True):
            image[yi, xi] = (0, 0, 255) if pi == 0 else (255, 0, 0)
        images.append(image)
    return images


def reference_positions(
    weights: dict[str, Tensor], pixels: Tensor, tokenizer: PreTrainedTokenizerFast
) -> Tensor:
    """(1, P, D) as `EventChatModel` makes them: frame by frame, sentinel -200 replaced."""
    start = "model.visual_tower.visual_tower.vision_model."
    tower = CLIPVisionModel(CLIPVisionModel.config_class(**CLIP)).eval()
    tower.load_state_dict(
        {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
    )

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"model.{name}.weight"].T + weights[f"model.{name}.bias"]

    frames = []
    for frame in pixels:
        patches = tower(frame[None]).last_hidden_state
        hidden = torch.nn.functional.gelu(linear("visual_projector.0", patches))
        frames.append(linear("feature_adaptor", linear("visual_projector.2", hidden))[0])
    stacked = torch.stack(frames)
    events = torch.cat([stacked.mean(dim=1), stacked.mean(dim=0)])
    chunks = eventgpt_prompt(QUESTION).split("<event>")
    ids = [tokenizer(chunk).input_ids for chunk in chunks]
    ids = [*ids[0], -200, *ids[1][1:]]  # the second chunk's BOS is dropped
    at = ids.index(-200)
    embed = weights["model.embed_tokens.weight"]
    return torch.cat([embed[ids[:at]], events, embed[ids[at + 1 :]]])[None]


def test_the_published_size_has_the_published_number_of_weights(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Vocabulary apart, which is 32,000 there and as large as the tokenizer here."""
    with torch.device("meta"):
        model = EventGpt(EventGptConfig(), tokenizer)
    parts = {
        name: sum(p.numel() for p in getattr(model, name).parameters())
        for name in ("decoder", "visual_tower", "visual_projector", "feature_adaptor")
    }
    parts["decoder"] += 2 * (32_000 - len(tokenizer)) * 4096
    assert parts == {
        "decoder": 6_738_415_616,
        "visual_tower": 303_507_456,
        "visual_projector": 20_979_712,
        "feature_adaptor": 16_781_312,
    }
    assert sum(parts.values()) == 7_079_684_096
    assert model.tokens == 582


def test_the_prompt_is_the_published_60_ids_and_641_positions(
    shared: Callable[[str], Path],
) -> None:
    llama = load_tokenizer(shared("real/llama2_tokenizer/tokenizer.json"))
    with torch.device("meta"):
        model = EventGpt(EventGptConfig(template=eventgpt_prompt(QUESTION)), llama)
    before, after = len(model.prompt.before), len(model.prompt.after)
    assert before + 1 + after == 60  # the sentinel's place is one of them
    assert before + model.tokens + after == 641
    assert model.prompt.after[-5:] == (319, 1799, 9047, 13566, 29901)
    assert needed_bytes(model, Placement()) == 2 * 7_079_684_096
    four_bit = 32 * (202_383_360 - 2 * 4096)  # every linear layer of the blocks
    assert needed_bytes(model, Placement(precision="4bit")) == pytest.approx(
        0.5625 * four_bit + 2 * (7_079_684_096 - four_bit)
    )


def test_the_original_format_loads_and_says_what_a_plain_second_code_says(
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model, tokenizer, meta = loaded
    ids = len(tokenizer)
    weights = original_weights(ids)
    clip = toy_clips(1)[0]
    events = clip.events.between(SPAN.start_us, SPAN.end_us)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    images = processor(reference_frames(events), return_tensors="pt")["pixel_values"].float()
    compatible = EventGpt(replace(model.config, reference_compat=True), tokenizer)
    pixels = compatible.prepare(clip, SPAN)
    torch.testing.assert_close(pixels, images, atol=1e-6, rtol=0)

    positions = reference_positions(weights, images, tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(model.prefix(pixels[None]), positions, atol=1e-5, rtol=1e-5)
    plain = LlamaForCausalLM(model.decoder.config).eval()
    plain.load_state_dict(
        {
            key: value[:ids] if value.shape[0] == ids + ROWS_EXTRA else value
            for key, value in weights.items()
            if "visual" not in key and "feature_adaptor" not in key and "inv_freq" not in key
        }
    )
    with torch.no_grad():
        expected = plain(inputs_embeds=positions).logits[0, -1]
    state = model.state(pixels[None])
    torch.testing.assert_close(state.prefix_logits, expected, atol=1e-4, rtol=1e-4)
    assert meta["published"]["masked_ids"] == ROWS_EXTRA
    assert not any(p.requires_grad for p in model.parameters())


def test_event_tokens_are_five_frame_means_then_the_patch_means(
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
) -> None:
    model = loaded[0]
    pixels = torch.randn(2, 5, 3, 28, 28)
    tokens = model.condition(pixels)
    assert tokens.shape == (2, 5 + 5, WIDTH)
    changed = pixels.clone()
    changed[:, 3] += 1  # one frame moves its own temporal token and all spatial ones
    moved = (model.condition(changed) - tokens).abs().amax(dim=-1) > 1e-6
    assert moved.tolist() == [[False, False, False, True, False] + [True] * 5] * 2


def test_an_id_beyond_the_vocabulary_never_wins(
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model, tokenizer, _ = loaded
    pixels = torch.stack([model.prepare(clip, SPAN) for clip in toy_clips(3)])
    texts = model.greedy(pixels, 5)
    assert max(i for ids in texts for i in ids) < len(tokenizer)
    assert model.state(pixels[:1]).prefix_logits.shape == (len(tokenizer),)


@pytest.mark.parametrize("forgotten", [1, 3, 6])
def test_the_loaded_target_steps_and_rolls_back_exactly(
    forgotten: int,
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = loaded[0]
    inputs = model.prepare(toy_clips(1)[0], SPAN)[None]
    ids = [300, 7, 259, 12, 280, 40]
    with torch.no_grad():
        full = model.teacher_forced(model.prefix(inputs), torch.tensor([ids]))[0]
    state = model.state(inputs)
    rows = torch.cat([state.prefix_logits[None], state.feed(ids[:2]), state.feed(ids[2:-1])])
    torch.testing.assert_close(rows, full, atol=1e-5, rtol=1e-5)
    state.feed(ids[-1:])
    state.rollback(forgotten)
    again = state.feed(ids[len(ids) - forgotten :])
    torch.testing.assert_close(again[:-1], full[len(ids) - forgotten + 1 :], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gamma", [1, 4])
def test_drafts_with_another_prompt_leave_its_text_as_it_is(
    gamma: int,
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    target, tokenizer, _ = loaded
    small = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)
    with torch_stream(0, "draft"):
        draft = TextDraft(TextDraftConfig(decoder=small), tokenizer).eval()
    for clip in toy_clips(3):
        inputs = target.prepare(clip, SPAN)[None]
        state, limits = target.state(inputs), {"max_new_tokens": 12, "eos_id": 2}
        text = plain_greedy(state, **limits)
        for other in (draft.state(torch.empty(1, 0)), target.state(inputs)):
            done = speculate(state, DraftProposer(other, 2), gamma=gamma, **limits)
            assert done.ids == text
        assert all(found.matched == len(found.drafted) for found in done.rounds)  # its own drafts


def test_wrong_and_missing_keys_are_one_error_that_lists_them(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    weights = original_weights(len(tokenizer))
    del weights["model.feature_adaptor.bias"]
    weights["model.visual_projector.2.weight"] = torch.zeros(WIDTH, 7)
    weights["model.query_tokens"] = torch.zeros(3)
    folder = write_checkpoint(tmp_path / "wrong", tokenizer, weights)
    with pytest.raises(CheckpointError) as caught:
        load_published(folder)
    for part in (
        "missing: model.feature_adaptor.bias",
        "unexpected: model.query_tokens",
        r"model.visual_projector.2.weight ([32, 7] torch.float32, need [32, 32] floating)",
    ):
        assert part in str(caught.value)
    assert "inv_freq" not in str(caught.value)


def test_a_tower_that_is_elsewhere_is_read_from_clips_own_folder(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
) -> None:
    start = "model.visual_tower.visual_tower."
    weights = original_weights(len(tokenizer))
    tower = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
    rest = {k: v for k, v in weights.items() if not k.startswith(start)}
    folder = write_checkpoint(tmp_path / "EventGPT-7b", tokenizer, rest, mm_visual_tower="a/hub-id")
    clip = tmp_path / "clip-vit"
    clip.mkdir()
    (clip / "config.json").write_text(json.dumps({"vision_config": CLIP}))
    save_file({**tower, "text_model.embeddings.weight": torch.zeros(2)}, clip / "model.safetensors")
    with pytest.raises(CheckpointError, match="pass CLIP's own folder as visual_tower"):
        load_published(folder)
    model = load_published(
        folder, placement=Placement(precision="float32"), visual_tower=clip, question=QUESTION
    )[0]
    pixels = torch.randn(1, 5, 3, 28, 28)
    assert torch.equal(model.condition(pixels), loaded[0].condition(pixels))


def test_other_models_and_other_options_are_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    def config(**values: object) -> Path:
        folder = tmp_path / "other"
        return write_checkpoint(folder, tokenizer, {}, **values)

    with pytest.raises(CheckpointError, match="model_type 'qwen2', need EventChat_llama or"):
        open_published(config(model_type="qwen2"))
    with pytest.raises(CheckpointError, match="use_event_qformer asks for a module"):
        open_published(config(use_event_qformer=True))
    with pytest.raises(CheckpointError, match=r"rope_scaling.*is not built here"):
        open_published(config(rope_scaling={"type": "linear", "factor": 4}))
    with pytest.raises(UsageError, match=r"unknown options \['questions'\], need some of question"):
        open_published(config(), questions="?")
    with pytest.raises(UsageError, match="the released code cuts at 2048"):
        open_published(config(), question="why " * 2000)
    (tmp_path / "other" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="pass LLaMA's tokenizer"):
        open_published(tmp_path / "other")
    with pytest.raises(CheckpointError, match="as its authors publish it"):
        open_published(tmp_path)


def test_spans_and_clips_that_eventgpt_cannot_see_are_refused(
    loaded: tuple[EventGpt, PreTrainedTokenizerFast, dict],
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model, tokenizer, _ = loaded
    clip = toy_clips(1)[0]
    with pytest.raises(UsageError, match="need less than 100000 us"):
        model.prepare(clip, Span(1_450_000, 200_000))
    with pytest.raises(ClipRejected, match="EventGPT sees nothing"):
        model.prepare(replace(clip, events=None), SPAN)
    compatible = EventGpt(replace(model.config, reference_compat=True), tokenizer)
    with pytest.raises(ClipRejected, match="events for 5 images") as rejected:
        compatible.prepare(clip, Span(1_500_000, 100))
    assert rejected.value.reason == "few-events"
    assert model.prepare(clip, Span(1_500_000, 100)).shape == (5, 3, 28, 28)
