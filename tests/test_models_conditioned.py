"""What every draft and target does: prompt, prefix, loss, and both ways of greedy decoding."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected, UsageError
from egotriad.manifests.plugins import DRAFTS, TARGETS
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.prompt import prompt_ids
from egotriad.models.seeding import torch_stream
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import train_tokenizer

SMALL = DecoderConfig(hidden_size=32, intermediate_size=48, layers=2, heads=2)
KINDS = [
    (plugins, name)
    for plugins in (TARGETS, DRAFTS)
    for name in plugins.names()
    if issubclass(plugins.load(name), ConditionedLM)  # recorded texts have no decoder
]
every_model = pytest.mark.parametrize(("plugins", "name"), KINDS, ids=[name for _, name in KINDS])


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"])


def build(plugins: object, name: str, tokenizer: PreTrainedTokenizerFast) -> ConditionedLM:
    model_class = plugins.load(name)
    with torch_stream(0, name):
        model = model_class(replace(model_class.small(), decoder=SMALL), tokenizer)
        with torch.no_grad():  # larger embeddings, so that random models say different things
            model.decoder.get_input_embeddings().weight.mul_(20)
    return model.eval()


def inputs_of(model: ConditionedLM, clips: list[Clip]) -> torch.Tensor:
    return torch.stack([model.prepare(clip, clip.event_spans[1]) for clip in clips])


@every_model
def test_a_prefix_is_the_prompt_around_the_condition(
    plugins: object,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer)
    inputs = inputs_of(model, toy_clips(2))
    condition, prefix = model.condition(inputs), model.prefix(inputs)
    before, after = len(model.prompt.before), len(model.prompt.after)
    assert prefix.shape == (2, before + condition.shape[1] + after, 32)
    assert torch.equal(prefix[:, before:-after], condition)
    embed = model.decoder.get_input_embeddings()
    assert torch.equal(prefix[0, :before], embed(torch.tensor(model.prompt.before)))
    assert torch.equal(prefix[1, -after:], embed(torch.tensor(model.prompt.after)))
    assert (model.prompt.before + model.prompt.after).count(1) == 1
    assert model.prompt.before[0] == 1


@every_model
def test_prompts_of_all_models_end_with_the_same_ids(
    plugins: object, name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build(plugins, name, tokenizer)
    if name == "onellm":  # trained on a cue of its own, behind which texts begin alike
        assert model.config.template.endswith("###Assistant:")
        return
    cue = tokenizer.encode("ASSISTANT:", add_special_tokens=False)
    assert list(model.prompt.after[-len(cue) :]) == cue


@every_model
def test_cached_logits_equal_those_of_one_full_forward(
    plugins: object,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer)
    inputs = inputs_of(model, toy_clips(1))
    ids = [300, 7, 259, 12, 280, 2, 40]
    with torch.no_grad():
        full = model.teacher_forced(model.prefix(inputs), torch.tensor([ids]))[0]
    state = model.state(inputs)
    cached = torch.cat([state.prefix_logits[None], state.feed(ids[:1]), state.feed(ids[1:-1])])
    assert state.length == len(ids) - 1
    torch.testing.assert_close(cached, full, atol=1e-5, rtol=0)


@every_model
@pytest.mark.parametrize("forgotten", [0, 1, 3, 5])
def test_rolling_back_is_as_if_never_fed(
    plugins: object,
    name: str,
    forgotten: int,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer)
    inputs = inputs_of(model, toy_clips(1))
    ids = [300, 7, 259, 12, 280]
    state, fresh = model.state(inputs), model.state(inputs)
    state.feed(ids)
    state.rollback(forgotten)
    if forgotten < len(ids):
        fresh.feed(ids[: len(ids) - forgotten])
    assert state.length == fresh.length == len(ids) - forgotten
    torch.testing.assert_close(state.feed([5, 6]), fresh.feed([5, 6]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="cannot roll back"):
        state.rollback(state.length + 1)


@every_model
def test_a_batch_decodes_as_its_clips_do_one_by_one(
    plugins: object,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer)
    inputs = inputs_of(model, toy_clips(6))
    # Random models rarely say EOS: let it be an id that some of these clips do say.
    model.eos_id = model.greedy(inputs, 6)[0][2]
    together = model.greedy(inputs, 9)
    for row, ids in zip(inputs, together, strict=True):
        state = model.state(row[None])
        alone = [int(state.prefix_logits.argmax())]
        while alone[-1] != model.eos_id and len(alone) < 9:
            alone.append(int(state.feed(alone[-1:])[-1].argmax()))
        assert ids == alone
    assert model.eos_id not in [id_ for ids in together for id_ in ids[:-1]]
    assert together[0][-1] == model.eos_id


@every_model
def test_the_loss_is_the_cross_entropy_of_the_unmasked_ids(
    plugins: object,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer)
    inputs = inputs_of(model, toy_clips(2))
    ids = torch.tensor([[259, 260, 2, 0], [262, 2, 0, 0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    expected = 0.0
    for row, length in ((0, 3), (1, 2)):
        state = model.state(inputs[row : row + 1])
        logits = torch.cat([state.prefix_logits[None], state.feed(ids[row, : length - 1].tolist())])
        expected += float(F.cross_entropy(logits, ids[row, :length], reduction="sum"))
    loss = model.loss(inputs, ids, mask)
    assert loss.item() == pytest.approx(expected / 5, abs=1e-5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.decoder.get_input_embeddings().weight.grad.abs().sum() > 0


@every_model
def test_a_model_in_training_mode_refuses_to_decode(
    plugins: object,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    model = build(plugins, name, tokenizer).train()
    inputs = inputs_of(model, toy_clips(1))
    with pytest.raises(ValueError, match="training mode"):
        model.greedy(inputs, 1)
    with pytest.raises(ValueError, match="training mode"):
        model.state(inputs)


def test_no_new_tokens_is_no_request(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(DRAFTS, "text", tokenizer)
    with pytest.raises(UsageError, match="max_new_tokens: got 0, need 1 or more"):
        model.greedy(inputs_of(model, toy_clips(1)), 0)


def test_the_same_seed_builds_the_same_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    one, two = (build(TARGETS, "tiny", tokenizer).stored_weights() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_prompts_without_one_placeholder_or_the_cue_are_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(UsageError, match=r"<imu> occurs 0 times, need once"):
        prompt_ids("USER: ASSISTANT:", "<imu>", tokenizer)
    with pytest.raises(UsageError, match="prompts must end alike"):
        prompt_ids("USER: <imu> ASSISTANT: ", "<imu>", tokenizer)


def test_decoder_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(UsageError, match="even size per head"):
        DecoderConfig(hidden_size=36, heads=4)
    with pytest.raises(UsageError, match="dropout: got 1"):
        TinyTargetConfig(dropout=1.0)


def test_event_tokens_are_frame_means_first_and_patch_means_after(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(TARGETS, "tiny", tokenizer)
    assert isinstance(model, TinyTarget)
    inputs = inputs_of(model, toy_clips(3))
    features = model.features(inputs)  # (3, 5, 4, 96)
    patches = model.feature_adaptor(model.visual_projector(features))
    tokens = model.condition(inputs)
    assert tokens.shape == (3, 5 + 4, 32)
    torch.testing.assert_close(tokens[:, :5], patches.mean(dim=2), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(tokens[:, 5:], patches.mean(dim=1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(96, 128, 53), (24, 32, 9), (260, 346, 5 + 17 * 22)]
)
def test_the_number_of_event_tokens_follows_from_the_sensor_size(
    height: int, width: int, tokens: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build(TARGETS, "tiny", tokenizer)
    frames = torch.full((1, 5, 3, height, width), 255, dtype=torch.uint8)
    assert model.condition(frames).shape == (1, tokens, 32)


def test_the_tower_sees_each_frame_alone_and_blank_frames_as_zeros(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = TinyTarget(TinyTargetConfig(), tokenizer).eval()
    inputs = inputs_of(model, toy_clips(1))
    swapped = model.features(inputs.flip(1)).flip(1)
    torch.testing.assert_close(model.features(inputs), swapped)
    blank = torch.full_like(inputs, 255)
    assert not model.features(blank).any()  # fresh BatchNorm, no bias: zero in, zero out


def test_the_full_size_target_has_the_documented_shape(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = TinyTarget(TinyTargetConfig(), tokenizer)
    names = set(model.stored_weights())
    assert {
        "visual_projector.0.weight",
        "visual_projector.2.bias",
        "feature_adaptor.weight",
    } < names
    assert "decoder.model.layers.1.self_attn.q_proj.weight" in names
    assert "decoder.lm_head.weight" not in names
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.38e6, rel=0.1)


def test_the_imu_draft_prepares_the_window_around_the_spans_centre(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(DRAFTS, "imu", tokenizer)
    clip = toy_clips(1)[0]
    ramp = clip.imu.data.copy()
    ramp[0] = (torch.arange(640) / 200.0).numpy()
    clip = replace(clip, imu=replace(clip.imu, data=ramp))
    window = model.prepare(clip, Span(1_550_000, 100_000))  # centre 1.6 s: 0.1 .. 3.1 s
    assert window.shape == (6, 150)
    assert window.dtype == torch.float32
    expected = 0.1 + torch.arange(150) / 50.0
    torch.testing.assert_close(window[0, 10:-10], expected[10:-10], atol=2e-3, rtol=0)


def test_a_clip_that_lacks_what_a_model_needs_is_rejected_with_a_reason(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    clip = toy_clips(1)[0]
    draft, target = build(DRAFTS, "imu", tokenizer), build(TARGETS, "tiny", tokenizer)
    with pytest.raises(ClipRejected, match="no IMU, need 3 s") as rejected:
        draft.prepare(replace(clip, imu=None), clip.event_spans[1])
    assert rejected.value.reason == "no-imu"
    with pytest.raises(ClipRejected) as rejected:
        draft.prepare(clip, Span(0, 100_000))  # would need 1.45 s before the clip
    assert rejected.value.reason == "imu-gap"
    with pytest.raises(ClipRejected, match="no events") as rejected:
        target.prepare(replace(clip, events=None), clip.event_spans[1])
    assert rejected.value.reason == "no-events"


def test_fitting_normalises_each_channel_by_the_training_set(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(DRAFTS, "imu", tokenizer)
    inputs = inputs_of(model, toy_clips(12))
    model.fit(inputs)
    normal = (inputs - model.encoder.mean) / model.encoder.std
    torch.testing.assert_close(normal.mean(dim=(0, 2)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std(dim=(0, 2)), torch.ones(6), atol=1e-4, rtol=0)


def test_jitter_is_one_offset_per_window_and_channel_of_the_stated_size(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(DRAFTS, "imu", tokenizer)
    inputs = inputs_of(model, toy_clips(4))
    model.fit(inputs)
    with torch_stream(0, "jitter"):
        offset = model.jittered(inputs.repeat(200, 1, 1), 0.15) - inputs.repeat(200, 1, 1)
    torch.testing.assert_close(offset, offset[:, :, :1].expand_as(offset), atol=1e-5, rtol=0)
    measured = (offset[:, :, 0] / model.spread[:, 0]).std(dim=0)
    torch.testing.assert_close(measured, torch.full((6,), 0.15), atol=0.02, rtol=0)


def test_an_encoders_settings_are_kept_whole_in_the_drafts_config(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = ImuDraft(ImuDraftConfig(encoder_settings={"window_s": 2.0}), tokenizer)
    assert model.encoder.contract.samples == 100
    assert model.config.encoder_settings["window_s"] == 2.0
    assert model.config.encoder_settings["rate_hz"] == 50.0
    with pytest.raises(UsageError, match=r"unknown fields \['windows'\]"):
        ImuDraft(ImuDraftConfig(encoder_settings={"windows": 2.0}), tokenizer)


def test_the_text_draft_says_the_same_whatever_the_clip(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = build(DRAFTS, "text", tokenizer)
    clips = [replace(clip, imu=None, events=None) for clip in toy_clips(3)]
    assert len({tuple(ids) for ids in model.greedy(inputs_of(model, clips), 5)}) == 1
