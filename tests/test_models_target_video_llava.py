"""Video-LLaVA against transformers' own class, on tiny random weights in both key layouts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    VideoLlavaForConditionalGeneration,
)
from transformers import VideoLlavaConfig as NativeConfig

from egotriad.converters.event_frames import event_image
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected
from egotriad.models.clip_tower import ClipTowerConfig, clip_pixels
from egotriad.models.placement import Placement
from egotriad.models.prompt import prompt_ids
from egotriad.models.published import load_published, open_published
from egotriad.models.seeding import torch_stream
from egotriad.models.target_video_llava import (
    VideoLlava,
    VideoLlavaConfig,
    video_llava_prompt,
)
from egotriad.models.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer, wrapped

QUESTION = "What is it?"
SPAN = Span(1_450_000, 200_000)
FOUR = (  # keys of 5.x -> those of 4.x
    ("model.video_tower.", "video_tower.vision_model."),
    ("model.image_tower.", "image_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["C walks forward.", video_llava_prompt(QUESTION)], vocab_size=300)


@pytest.fixture(scope="module")
def native(tokenizer: PreTrainedTokenizerFast) -> VideoLlavaForConditionalGeneration:
    ids = len(tokenizer)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=ids + 64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    config = NativeConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids,
        video_token_index=ids + 1,
        image_token_id=ids,
        video_token_id=ids + 1,
        image_seq_length=4,
        video_seq_length=40,
    )
    with torch_stream(0, "video_llava"):
        model = VideoLlavaForConditionalGeneration(config).eval()
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(20)
            model.lm_head.weight[ids:] *= 40  # rows of padding that would win
    return model


def old_key(key: str) -> str:
    new, old = next(pair for pair in FOUR if key.startswith(pair[0]))
    return old + key.removeprefix(new)


def write(
    folder: Path,
    native: VideoLlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    rename: Callable[[str], str],
) -> Path:
    folder.mkdir()
    weights: dict[str, Tensor] = {
        rename(key): value.clone() for key, value in native.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(native.config.to_json_string())
    wider = wrapped(Tokenizer.from_str(tokenizer_json(tokenizer)))
    wider.add_tokens(["<image>", "<video>", "<pad>"], special_tokens=True)
    (folder / "tokenizer.json").write_text(tokenizer_json(wider))
    return folder


@pytest.mark.parametrize("rename", [str, old_key], ids=["keys of 5.x", "keys of 4.x"])
def test_it_says_what_the_native_class_says(
    rename: Callable[[str], str],
    tmp_path: Path,
    native: VideoLlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    folder = write(tmp_path / "Video-LLaVA-7B-hf", native, tokenizer, rename)
    model, found, meta = load_published(
        folder, placement=Placement(precision="float32"), question=QUESTION
    )
    assert meta["published"]["masked_ids"] == 64
    assert len(found) == len(tokenizer)
    pixels = model.prepare(toy_clips(1)[0], SPAN)[None]
    video_id = len(tokenizer) + 1
    text = [300 - 3, 7, 259]
    ids = [*model.prompt.before, *[video_id] * 40, *model.prompt.after, *text]
    with torch.no_grad():
        expected = native(
            input_ids=torch.tensor([ids]), pixel_values_videos=pixels, logits_to_keep=4
        ).logits[0]
        state = model.state(pixels)
    rows = torch.cat([state.prefix_logits[None], state.feed(text)])
    torch.testing.assert_close(rows, expected[:, : len(tokenizer)], atol=1e-4, rtol=1e-4)
    assert (expected.argmax(-1) >= len(tokenizer)).any()  # unmasked, padding would win
    state.rollback(2)
    torch.testing.assert_close(state.feed(text[1:]), rows[2:], atol=1e-5, rtol=1e-5)


def test_the_published_size_has_the_native_classs_number_of_weights(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with torch.device("meta"):
        model = VideoLlava(VideoLlavaConfig(), tokenizer)
        whole = VideoLlavaForConditionalGeneration(
            NativeConfig(text_config=LlamaConfig(vocab_size=32_064, tie_word_embeddings=False))
        )
    native = sum(p.numel() for p in whole.parameters())
    image_tower = sum(p.numel() for p in whole.model.image_tower.parameters())
    ours = sum(p.numel() for p in model.parameters()) - 2 * len(tokenizer) * 4096
    assert ours == native - image_tower - 2 * 32_064 * 4096
    assert ours + 2 * 32_000 * 4096 == 6_738_415_616 + 303_179_776 + 20_979_712
    assert model.tokens == 2056


def test_the_prompt_is_split_as_the_native_tokenizer_splits_it(
    shared: Callable[[str], Path],
) -> None:
    llama = load_tokenizer(shared("real/llama2_tokenizer/tokenizer.json"))
    native = wrapped(Tokenizer.from_str(tokenizer_json(llama)))
    native.add_tokens(["<image>", "<video>", "<pad>"], special_tokens=True)
    prompt = video_llava_prompt("What is the wearer doing?")
    ids = prompt_ids(prompt, "<video>", llama)
    assert [*ids.before, 32_001, *ids.after] == native.encode(prompt)


def test_the_video_is_the_events_in_eight_equal_times(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    config = replace(VideoLlava.small(), tower=ClipTowerConfig(image_size=14))
    with torch.device("meta"):
        model = VideoLlava(config, tokenizer)
    clip = toy_clips(1)[0]
    events = clip.events
    found = model.prepare(clip, SPAN)
    assert found.shape == (8, 3, 14, 14)
    inside = (events.t_us >= 1_500_000) & (events.t_us < 1_525_000)  # the third of 8 x 25 ms
    third = clip_pixels([event_image(events.take(np.flatnonzero(inside)))], 14)
    assert torch.equal(found[2:3], third)
    with pytest.raises(ClipRejected, match="there is no video"):
        model.prepare(replace(clip, events=None), SPAN)


def test_another_layer_or_another_size_is_refused(
    tmp_path: Path,
    native: VideoLlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    folder = write(tmp_path / "x", native, tokenizer, str)
    values = json.loads(native.config.to_json_string())
    (folder / "config.json").write_text(json.dumps(values | {"vision_feature_layer": -1}))
    with pytest.raises(CheckpointError, match="vision_feature_layer -1, need -2"):
        open_published(folder)
    values["vision_config"]["num_hidden_layers"] = 4
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        CheckpointError, match=r"missing: video_tower.vision_model.encoder.layers.3"
    ):
        load_published(folder)
