"""Encoders against what others computed: golden activations, and plain second implementations."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.converters.imu_presets import LIMU_BERT_GRAVITY
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.checkpoints import read_tensors
from egotriad.models.encoder_imagebind import ImageBindImu, ImageBindImuConfig
from egotriad.models.encoder_imu2clip import Imu2Clip, Imu2ClipConfig
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.encoder_onellm import OneLlmImu, OneLlmImuConfig
from egotriad.models.encoder_primus import Primus, PrimusConfig
from egotriad.models.seeding import torch_stream

PRETRAINED = ("hhar", "motion", "shoaib", "uci")


def random_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """Fills everything, gains and biases too, so that a forgotten one shows."""
    with torch_stream(0, "reference"), torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape) / max(tensor.shape[-1:] or (1,)) ** 0.5)
    return encoder.eval().state_dict()


def windows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def scaled(windows_si: np.ndarray) -> Tensor:
    """Accelerations over 9.8, as LIMU-BERT wants them."""
    divisor = np.repeat([LIMU_BERT_GRAVITY, 1.0], 3)
    return torch.from_numpy((windows_si / divisor).astype(np.float32))


@pytest.mark.parametrize("corpus", PRETRAINED)
def test_all_four_published_limu_berts_load(corpus: str, shared: Callable[[str], Path]) -> None:
    file = shared(f"real/limu_bert_weights/pretrain_base_{corpus}_20_120.pt")
    encoder = LimuBert.load(file)
    assert sum(p.numel() for p in encoder.parameters()) == 51_552
    assert not any(p.requires_grad for p in encoder.parameters())
    assert encoder(windows(2, 120, 6)).shape == (2, 120, 72)
    assert LimuBert.load(file, LimuBertConfig(trainable=True)).transformer.proj.weight.requires_grad


def test_limu_bert_gives_the_golden_activations(shared: Callable[[str], Path]) -> None:
    folder = shared("real/limu_bert_weights")
    encoder = LimuBert.load(folder / "pretrain_base_uci_20_120.pt")
    with np.load(folder / "golden_uci_first4.npz") as golden:
        embedding = encoder(scaled(golden["input_ms2_rads"]))
        np.testing.assert_allclose(embedding.numpy(), golden["embedding"], atol=1e-5)


class GruClassifier(nn.Module):
    """LIMU-BERT's classifier: two GRUs over 20 steps of features, the last step, six classes."""

    def __init__(self) -> None:
        super().__init__()
        self.gru0 = nn.GRU(72, 20, num_layers=2, batch_first=True)
        self.gru1 = nn.GRU(20, 10, batch_first=True)
        self.lin0 = nn.Linear(10, 6)

    def forward(self, features: Tensor) -> Tensor:
        return self.lin0(self.gru1(self.gru0(features)[0])[0][:, -1])


def test_the_published_classifier_reaches_its_accuracy_on_our_features(
    shared: Callable[[str], Path],
) -> None:
    folder = shared("real/limu_bert_weights")
    encoder = LimuBert.load(folder / "pretrain_base_uci_20_120.pt")
    file = folder / "classifier_base_gru_uci_20_120.pt"
    classifier = GruClassifier()
    classifier.load_state_dict(read_tensors(file, classifier.state_dict()))
    with np.load(shared("real/hapt_phone/limu_bert_windows_20hz_120.npz")) as data:
        whole = scaled(data["data"])  # (171, 120, 6)
        truth = torch.from_numpy(data["activity_id"]).repeat_interleave(6) - 1
    with torch.inference_mode():
        logits = classifier(encoder(whole).reshape(-1, 20, 72))  # the authors cut features
    with np.load(folder / "golden_uci_first4.npz") as golden:
        np.testing.assert_allclose(logits[:24].numpy(), golden["classifier_logits"], atol=1e-4)
    assert round((logits.argmax(1) == truth).float().mean().item(), 4) == 0.9337


def test_a_shorter_window_is_the_start_of_nothing_but_itself(
    shared: Callable[[str], Path],
) -> None:
    file = shared("real/limu_bert_weights/pretrain_base_uci_20_120.pt")
    short = LimuBert.load(file, LimuBertConfig(samples=60))
    assert short.contract.window_us == 3_000_000
    inputs = windows(2, 60, 6)
    torch.testing.assert_close(short(inputs), LimuBert.load(file)(inputs))


def reference_conv_gru(w: dict[str, Tensor], x: Tensor, last: int | None) -> tuple[Tensor, Tensor]:
    """(B, channels, steps) before the GRU, and its state after every channel."""
    x = F.group_norm(x, 2, w["0.weight"], w["0.bias"])
    for index, pool in ((1, 3), (2, 3), (3, last)):
        x = F.conv1d(x, w[f"{index}.net.0.weight"], dilation=2)
        x = F.max_pool1d(x, pool) if pool else F.adaptive_avg_pool1d(x, 32)
    x = F.group_norm(x, 4, w["4.weight"], w["4.bias"])
    state, states = x.new_zeros(len(x), 512), []
    for channel in range(32):
        gates_in = F.linear(x[:, channel], w["5.weight_ih_l0"], w["5.bias_ih_l0"]).chunk(3, 1)
        gates = F.linear(state, w["5.weight_hh_l0"], w["5.bias_hh_l0"]).chunk(3, 1)
        reset, update = ((a + b).sigmoid() for a, b in zip(gates_in[:2], gates[:2], strict=True))
        state = (1 - update) * (gates_in[2] + reset * gates[2]).tanh() + update * state
        states.append(state)
    return x, torch.stack(states, dim=1)


@pytest.mark.parametrize("head", ["mmcl", "ssl", "none"])
def test_primus_is_the_stack_with_average_pooling_and_a_linear_head(head: str) -> None:
    encoder = Primus(PrimusConfig(head=head))
    state = random_weights(encoder)
    inputs = windows(3, 6, 250)
    body = {key.removeprefix("backbone."): value for key, value in state.items()}
    expected = reference_conv_gru(body, inputs, None)[1][:, -1:]
    if head != "none":
        expected = F.linear(expected, state[f"{head}_head.weight"], state[f"{head}_head.bias"])
    torch.testing.assert_close(encoder(inputs), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("samples", [978, 1000, 1004])
def test_imu2clip_reads_channels_after_each_other(samples: int) -> None:
    inputs = windows(2, 6, samples)
    state = random_weights(Imu2Clip(Imu2ClipConfig()))
    body = {key.removeprefix("net."): value for key, value in state.items()}
    convolved, states = reference_conv_gru(body, inputs, 3)
    for tokens, expected in (
        ("pooled", states[:, -1:]),
        ("sequence", states),
        ("conv", convolved.transpose(1, 2)),
    ):
        encoder = Imu2Clip(Imu2ClipConfig(tokens=tokens))
        encoder.load_state_dict(state)
        torch.testing.assert_close(encoder(inputs), expected, atol=1e-5, rtol=1e-4)


def test_units_do_not_matter_behind_a_group_norm() -> None:
    encoder = Primus(PrimusConfig())
    random_weights(encoder)
    inputs = windows(2, 6, 250)
    scale = torch.tensor([1 / 9.80665] * 3 + [180 / math.pi] * 3)[:, None]
    torch.testing.assert_close(encoder(inputs), encoder(inputs * scale), atol=1e-4, rtol=1e-3)


def reference_attention(w: dict[str, Tensor], at: str, x: Tensor, heads: int) -> Tensor:
    """Multi-head attention written out, with the extra key and value where there are any."""
    q, k, v = F.linear(x, w[f"{at}.in_proj_weight"], w[f"{at}.in_proj_bias"]).chunk(3, -1)
    if f"{at}.bias_k" in w:
        k = torch.cat([k, w[f"{at}.bias_k"].expand(len(x), 1, -1)], 1)
        v = torch.cat([v, w[f"{at}.bias_v"].expand(len(x), 1, -1)], 1)
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
    return F.linear(mixed, w[f"{at}.out_proj.weight"], w[f"{at}.out_proj.bias"])


def reference_norm(w: dict[str, Tensor], at: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], epsilon)


def reference_linear(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{at}.weight"], w.get(f"{at}.bias"))


def test_imagebind_is_patches_blocks_and_a_normalised_class_token() -> None:
    encoder = ImageBindImu(ImageBindImuConfig())
    w = random_weights(encoder)
    inputs = windows(2, 6, 2000)
    patches = torch.stack(
        [inputs[:, :, 8 * n : 8 * n + 8].reshape(2, 48) for n in range(250)], dim=1
    )
    x = reference_linear(w, "preprocessor.imu_stem.proj", patches)
    x = reference_norm(w, "preprocessor.imu_stem.norm_layer", x)
    x = torch.cat([w["preprocessor.cls_token"].expand(2, 1, -1), x], 1)
    x = x + w["preprocessor.pos_embed"]
    for n in range(6):
        normed = reference_norm(w, f"blocks.{n}.norm_1", x, 1e-6)
        x = x + reference_attention(w, f"blocks.{n}.attn", normed, 8)
        normed = reference_norm(w, f"blocks.{n}.norm_2", x, 1e-6)
        hidden = F.gelu(reference_linear(w, f"blocks.{n}.mlp.fc1", normed))
        x = x + reference_linear(w, f"blocks.{n}.mlp.fc2", hidden)
    embedding = reference_linear(w, "head.3", reference_norm(w, "head.0", x[:, :1], 1e-6))
    expected = embedding / embedding.norm(dim=-1, keepdim=True) * w["log_logit_scale"].exp()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(inputs), expected, atol=1e-5, rtol=1e-4)
        whole = ImageBindImu(ImageBindImuConfig(tokens="patches"))
        whole.load_state_dict(w)
        torch.testing.assert_close(whole(inputs), x[:, 1:], atol=1e-4, rtol=1e-4)


def test_imagebinds_embedding_has_norm_five() -> None:
    encoder = ImageBindImu(ImageBindImuConfig()).eval()
    with torch.inference_mode():
        norms = encoder(windows(2, 6, 2000)).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full((2, 1), 5.0))


def test_onellm_is_clip_then_routed_experts_between_tags() -> None:
    config = OneLlmImuConfig(
        width=32, heads=4, clip_layers=2, expert_layers=2, hidden=48, queries=5, out=64
    )
    encoder = OneLlmImu(config)
    w = random_weights(encoder)
    inputs = windows(2, 6, 400)
    samples = inputs.unfold(2, 10, 1).permute(0, 2, 1, 3).flatten(2)  # (B, 391, 60)
    x = samples @ w["conv1.weight"].flatten(1).T
    x = torch.cat([w["clip.class_embedding"].expand(2, 1, -1), x], 1) + w["positional_embedding"]
    x = reference_norm(w, "clip.ln_pre", x)
    for n in range(2):
        at = f"clip.transformer.resblocks.{n}"
        x = x + reference_attention(w, f"{at}.attn", reference_norm(w, f"{at}.ln_1", x), 4)
        hidden = reference_linear(w, f"{at}.mlp.c_fc", reference_norm(w, f"{at}.ln_2", x))
        x = x + reference_linear(w, f"{at}.mlp.c_proj", hidden * (1.702 * hidden).sigmoid())
    x = reference_norm(w, "clip.ln_post", x)
    x = reference_norm(w, "clip_proj1.1", reference_linear(w, "clip_proj1.0", x))
    x = torch.cat([w["resample_tokens"].expand(2, -1, -1), x], 1)  # (B, 5 + 392, 32)
    shares = reference_linear(
        w, "routers.fc2", F.gelu(reference_linear(w, "routers.fc1", x))
    ).sigmoid()
    shares = shares / shares.sum(-1, keepdim=True)
    mixed = sum(
        (reference_expert(w, f"experts.{n}", x) * shares[..., n, None])[:, :5] for n in range(3)
    )
    tokens = reference_norm(w, "clip_proj2.1", reference_linear(w, "clip_proj2.0", mixed))
    expected = torch.cat(
        [w["start_tag"].expand(2, 1, -1), tokens, w["end_tag"].expand(2, 1, -1)], 1
    )
    assert expected.shape == (2, encoder.contract.tokens, 64)
    torch.testing.assert_close(encoder(inputs), expected, atol=1e-5, rtol=1e-4)


def reference_expert(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    """Two LLaMA blocks without positions or mask."""

    def rms(key: str, values: Tensor) -> Tensor:
        return values / (values.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{key}.weight"]

    for n in range(2):
        block = f"{at}.{n}"
        normed = rms(f"{block}.attention_norm", x)
        q, k, v = (
            reference_linear(w, f"{block}.attention.w{name}", normed).unflatten(-1, (4, -1))
            for name in "qkv"
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(8)
        seen = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        x = x + reference_linear(w, f"{block}.attention.wo", seen)
        normed = rms(f"{block}.ffn_norm", x)
        gate = F.silu(reference_linear(w, f"{block}.feed_forward.w1", normed))
        inner = gate * reference_linear(w, f"{block}.feed_forward.w3", normed)
        x = x + reference_linear(w, f"{block}.feed_forward.w2", inner)
    return x


def test_the_numbers_of_weights_are_the_published_ones() -> None:
    counts = {}
    with torch.device("meta"):
        for name in ("limu_bert", "limu_bert_x", "primus", "imu2clip", "imagebind", "onellm"):
            encoder_class = ENCODERS.load(name)
            encoder = encoder_class(encoder_class.Config())
            counts[name] = sum(p.numel() for p in encoder.parameters())
        backbone = sum(
            p.numel() for p in ENCODERS.load("primus")(PrimusConfig()).backbone.parameters()
        )
    clip_image_stem = 1024 * 3 * 14 * 14 + (1 + 16 * 16) * 1024
    assert counts == {
        "limu_bert": 51_552,
        "limu_bert_x": 44_352,
        "primus": 1_376_204,
        "imu2clip": 850_892,
        "imagebind": 19_600_384,
        "onellm": 621_480_963 - clip_image_stem,
    }
    assert backbone == 850_892
