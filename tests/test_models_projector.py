"""Projectors with LLaVA's names, poolers with their budgets, and both inside an IMU draft."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip, Imu, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected, UsageError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.encoder_primus import Primus, PrimusConfig
from egotriad.models.folder import load_model, save_model
from egotriad.models.pooler import Pooler, PoolerConfig
from egotriad.models.projector import build_projector, load_projector
from egotriad.models.seeding import torch_stream
from egotriad.models.settings import settings_to_json
from egotriad.models.tokenizer import train_tokenizer

TINY = DecoderConfig(hidden_size=32, intermediate_size=64, layers=1, heads=4)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(
        ["USER: \nWhat is the wearer doing? ASSISTANT: C walks."], vocab_size=300
    )


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("hidden_size", "weights"),
    [(768, 646_656), (2048, 4_345_856), (4096, 17_080_320), (5120, 26_593_280)],
)
def test_a_llasa_projector_has_its_published_size(hidden_size: int, weights: int) -> None:
    with torch.device("meta"):
        projector = build_projector("mlp2x_gelu", 72, hidden_size)
    assert size(projector) == weights
    assert set(projector.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_sensorllms_projector_widens_in_two_steps_and_none_changes_nothing() -> None:
    projector = build_projector("sensorllm", 8, 16)
    assert [tuple(p.shape) for name, p in projector.named_parameters() if "weight" in name] == [
        (2048, 8),
        (3072, 2048),
        (16, 3072),
    ]
    x = features(2, 3, 8)
    assert projector(x).shape == (2, 3, 16)
    assert torch.equal(build_projector("none", 8, 8)(x), x)
    with pytest.raises(UsageError, match="features are 8 wide, the decoder 16; need equal"):
        build_projector("none", 8, 16)


@pytest.mark.parametrize("prefix", ["model.mm_projector.", "mm_projector."])
@pytest.mark.parametrize("kind", ["mlp2x_gelu", "linear"])
def test_llava_projectors_load_from_whole_checkpoints(
    prefix: str, kind: Any, tmp_path: Path
) -> None:
    with torch_stream(0, kind):
        original = build_projector(kind, 72, 48)
    state = {prefix + name: tensor.half() for name, tensor in original.state_dict().items()}
    state["model.embed_tokens.weight"] = torch.ones(4, 48)
    torch.save(state, tmp_path / "mm_projector.bin")
    loaded = load_projector(tmp_path / "mm_projector.bin")
    assert set(loaded.state_dict()) == set(original.state_dict())
    x = features(2, 5, 72)
    torch.testing.assert_close(loaded(x), original(x), atol=2e-3, rtol=0)


def test_projectors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mm_projector.bin"
    torch.save({"lm_head.weight": torch.ones(2, 2)}, file)
    with pytest.raises(CheckpointError, match=r"none of its 1 tensors is a projector's"):
        load_projector(file)
    torch.save({"mm_projector.proj.weight": torch.ones(2, 2)}, file)
    with pytest.raises(CheckpointError, match=re.escape("got proj.weight [2, 2]; need weight")):
        load_projector(file)
    torch.save(
        {
            "mm_projector.0.weight": torch.ones(8, 4),
            "mm_projector.0.bias": torch.ones(8),
            "mm_projector.4.weight": torch.ones(8, 8),
        },
        file,
    )
    with pytest.raises(CheckpointError) as error:
        load_projector(file)
    assert "missing: mm_projector.2.bias, mm_projector.2.weight;" in str(error.value)
    assert "unexpected: mm_projector.4.weight" in str(error.value)
    with pytest.raises(UsageError, match="got 'mlp9x'"):
        build_projector("mlp9x", 2, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "tokens", "budget", "width"),
    [
        ("none", 120, 120, 72),
        ("mean", 120, 30, 72),
        ("mean", 122, 31, 72),
        ("conv", 120, 30, 72),
        ("conv", 121, 31, 72),
        ("resampler", 120, 16, 256),
    ],
)
def test_a_pooler_keeps_its_budget(kind: Any, tokens: int, budget: int, width: int) -> None:
    pooler = Pooler(PoolerConfig(kind=kind), tokens, 72)
    assert (pooler.tokens, pooler.width) == (budget, width)
    assert pooler(features(2, tokens, 72)).shape == (2, budget, width)


def test_means_are_means_and_the_last_is_of_what_is_left() -> None:
    pooler = Pooler(PoolerConfig(kind="mean", factor=4), 10, 3)
    x = features(2, 10, 3)
    expected = torch.stack([x[:, :4].mean(1), x[:, 4:8].mean(1), x[:, 8:].mean(1)], 1)
    torch.testing.assert_close(pooler(x), expected)
    assert size(pooler) == 0


def test_a_strided_convolution_is_one_linear_layer_per_group() -> None:
    pooler = Pooler(PoolerConfig(kind="conv", factor=3), 7, 4)
    x = features(2, 7, 4)
    padded = torch.cat([x, torch.zeros(2, 2, 4)], 1).unflatten(1, (3, 3))  # (B, groups, 3, d)
    expected = torch.einsum("bgtd,odt->bgo", padded, pooler.conv.weight) + pooler.conv.bias
    torch.testing.assert_close(pooler(x), expected)


def test_the_resampler_sees_every_feature_and_their_order() -> None:
    with torch_stream(0, "resampler"):
        pooler = Pooler(PoolerConfig(kind="resampler", queries=4, width=16), 9, 5)
    x = features(1, 9, 5).requires_grad_()
    (pooler(x) * features(1, 4, 16)).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=2) > 0).all()
    assert not torch.allclose(pooler(x), pooler(x.flip(1)), atol=1e-4)
    assert all(p.grad is not None and p.grad.any() for p in pooler.parameters())


def test_poolers_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="pooler: got 'max'"):
        PoolerConfig(kind="max")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="factor is 0"):
        PoolerConfig(factor=0)
    with pytest.raises(UsageError, match="width 10 does not divide into 4 heads"):
        PoolerConfig(width=10)


def long_clip(clip: Clip) -> Clip:
    """The same clip with 9 s of IMU."""
    assert clip.imu is not None
    data = torch.from_numpy(clip.imu.data).repeat(1, 3)[:, :1800].numpy()
    imu = Imu(data=data, rate_hz=200.0, valid=torch.ones(1800, dtype=torch.bool).numpy())
    return replace(clip, imu=imu, duration_us=9_000_000)


def test_a_draft_takes_an_encoder_filled_from_a_checkpoint(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    with torch_stream(0, "limu"):
        state = LimuBert(LimuBertConfig()).state_dict()
    torch.save(state, tmp_path / "uci.pt")
    encoder = LimuBert.load(tmp_path / "uci.pt")
    config = ImuDraftConfig(
        encoder="limu_bert", decoder=TINY, pooler=PoolerConfig(kind="mean", factor=8)
    )
    draft = ImuDraft(config, tokenizer, encoder)
    assert draft.tokens == 15
    assert draft.config.encoder_settings == {"samples": 120, "trainable": False}
    span = Span(4_450_000, 100_000)
    inputs = torch.stack([draft.prepare(long_clip(clip), span) for clip in toy_clips(3)])
    assert inputs.shape == (3, 120, 6)
    draft.fit(inputs)
    assert draft.spread.shape == (1, 6)
    ids = torch.tensor([[5, 6, 2]] * 3)
    draft.train().loss(draft.jittered(inputs, 0.1), ids, torch.ones(3, 3, dtype=bool)).backward()
    assert all(p.grad is None for p in draft.encoder.parameters())
    assert all(p.grad is not None for p in draft.projector.parameters())
    save_model(tmp_path / "draft", draft.eval(), tokenizer, {})
    again, _, _ = load_model(tmp_path / "draft")
    assert again.config == draft.config
    torch.testing.assert_close(again.prefix(inputs), draft.prefix(inputs))
    with pytest.raises(ClipRejected) as rejected:
        draft.prepare(toy_clips(1)[0], Span(1_450_000, 100_000))  # 3.2 s are too short
    assert rejected.value.reason == "imu-gap"


def test_an_encoder_of_another_kind_than_the_config_says_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(UsageError, match=r"got a Primus, the config says 'limu_bert'"):
        ImuDraft(ImuDraftConfig(encoder="limu_bert"), tokenizer, Primus(PrimusConfig()))


def test_jitter_is_one_offset_per_channel_whatever_the_layout(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    config = ImuDraftConfig(encoder="limu_bert", encoder_settings={"trainable": True}, decoder=TINY)
    draft = ImuDraft(config, tokenizer)
    inputs = features(400, 120, 6) * torch.arange(1.0, 7.0)
    draft.fit(inputs)
    with torch_stream(0, "jitter"):
        offset = draft.jittered(inputs, 0.15) - inputs
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        offset[:, 0].std(dim=0) / torch.arange(1.0, 7.0),
        torch.full((6,), 0.15),
        atol=0.02,
        rtol=0,
    )


def test_drafts_saved_before_there_were_poolers_still_load(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    import json

    with torch_stream(0, "old"):
        draft = ImuDraft(ImuDraftConfig(decoder=TINY), tokenizer).eval()
    save_model(tmp_path / "draft", draft, tokenizer, {})
    file = tmp_path / "draft" / "config.json"
    record = json.loads(file.read_text())
    assert set(record["config"]) == set(settings_to_json(draft.config))
    del record["config"]["pooler"], record["config"]["projector"]
    file.write_text(json.dumps(record))
    again, _, _ = load_model(tmp_path / "draft")
    assert again.config == draft.config
    inputs = features(2, 6, 150)
    assert torch.equal(again.prefix(inputs), draft.prefix(inputs))
