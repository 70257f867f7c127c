"""Published checkpoint formats: real key names, prefixes and types load; the rest is listed."""

import argparse
import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from egotriad.manifests.errors import CheckpointError
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.checkpoints import KeyMap, check_fits, fill, read_headers, read_tensors

State = dict[str, Tensor]


def drawn(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> State:
    generator = torch.Generator().manual_seed(0)
    return {
        key: (0.1 * torch.randn(shape, generator=generator)).to(dtype)
        for key, shape in shapes.items()
    }


def linear(key: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.weight": (rows, columns), f"{key}.bias": (rows,)}


def vectors(key: str, width: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {f"{key}.{name}": (width,) for name in names or ("weight", "bias")}


def limu_bert(positions: int) -> State:
    """dapowan/LIMU-BERT-Public `saved/pretrain_base_uci_20_120/uci.pt`."""
    body = {"embed.pos_embed.weight": (positions, 72), **linear("embed.lin", 72, 6)}
    for name in ("attn.proj_q", "attn.proj_k", "attn.proj_v", "proj"):
        body |= linear(name, 72, 72)
    for name in ("embed.norm", "norm1", "norm2"):
        body |= vectors(name, 72, "gamma", "beta")
    body |= linear("pwff.fc1", 144, 72) | linear("pwff.fc2", 72, 144)
    head = linear("fc", 72, 72) | linear("linear", 72, 72) | linear("decoder", 6, 72)
    head |= vectors("norm", 72, "gamma", "beta")
    return drawn({**{f"transformer.{key}": shape for key, shape in body.items()}, **head})


def conv_gru(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        **vectors("0", 6),
        "1.net.0.weight": (32, 6, 10),
        "2.net.0.weight": (32, 32, 5),
        "3.net.0.weight": (32, 32, 5),
        **vectors("4", 32),
        "5.weight_ih_l0": (1536, 32),
        "5.weight_hh_l0": (1536, 512),
        "5.bias_ih_l0": (1536,),
        "5.bias_hh_l0": (1536,),
    }
    return {prefix + key: shape for key, shape in shapes.items()}


def primus() -> State:
    """Zenodo 15147513: a Lightning module with the text and video towers beside the encoder."""
    shapes = conv_gru("imu_encoder.backbone.")
    shapes |= linear("imu_encoder.ssl_head", 512, 512) | linear("imu_encoder.mmcl_head", 512, 512)
    others = {"text_encoder.clip.ln.weight": (512,), "video_encoder.clip.ln.weight": (512,)}
    return drawn(shapes | others)


def imagebind() -> State:
    """`imagebind_huge.pth`, its IMU branch and a little of another modality."""
    shapes: dict[str, tuple[int, ...]] = {
        "modality_preprocessors.imu.pos_embed": (1, 251, 512),
        "modality_preprocessors.imu.cls_token": (1, 1, 512),
        "modality_preprocessors.imu.imu_stem.proj.weight": (512, 48),
        **vectors("modality_preprocessors.imu.imu_stem.norm_layer", 512),
        **vectors("modality_heads.imu.0", 512),
        "modality_heads.imu.3.weight": (1024, 512),
        "modality_postprocessors.imu.1.log_logit_scale": (),
        "modality_preprocessors.thermal.cls_token": (1, 1, 768),
        "modality_trunks.thermal.blocks.0.norm_1.weight": (768,),
    }
    for index in range(6):
        block = f"modality_trunks.imu.blocks.{index}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (1536, 512),
            f"{block}.attn.in_proj_bias": (1536,),
            f"{block}.attn.bias_k": (1, 1, 512),
            f"{block}.attn.bias_v": (1, 1, 512),
            **linear(f"{block}.attn.out_proj", 512, 512),
            **vectors(f"{block}.norm_1", 512),
            **vectors(f"{block}.norm_2", 512),
            **linear(f"{block}.mlp.fc1", 2048, 512),
            **linear(f"{block}.mlp.fc2", 512, 2048),
        }
    return drawn(shapes)


ONELLM_SMALL = {"width": 32, "heads": 4, "clip_layers": 2, "expert_layers": 2, "hidden": 48}


def onellm_shapes(
    width: int = 1024,
    clip_layers: int = 24,
    expert_layers: int = 8,
    hidden: int = 2816,
    out: int = 4096,
    **_: int,
) -> dict[str, tuple[int, ...]]:
    """`consolidated.00-of-01.pth`, its IMU path."""
    shapes: dict[str, tuple[int, ...]] = {
        "llma.conv1.imu.weight": (width, 6, 10),
        "llma.positional_embedding.imu": (392, width),
        "llma.clip.visual.class_embedding": (width,),
        **vectors("llma.clip.visual.ln_pre", width),
        **vectors("llma.clip.visual.ln_post", width),
        **linear("llma.clip_proj1.imu.0", width, width),
        **vectors("llma.clip_proj1.imu.1", width),
        "llma.resample_tokens.imu": (1, 30, width),
        **linear("llma.routers.imu.fc1", 4 * width, width),
        **linear("llma.routers.imu.fc2", 3, 4 * width),
        **linear("llma.clip_proj2.imu.0", out, width),
        **vectors("llma.clip_proj2.imu.1", out),
        "llma.start_tag.imu": (1, 1, out),
        "llma.end_tag.imu": (1, 1, out),
    }
    for index in range(clip_layers):
        block = f"llma.clip.visual.transformer.resblocks.{index}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            **linear(f"{block}.attn.out_proj", width, width),
            **vectors(f"{block}.ln_1", width),
            **vectors(f"{block}.ln_2", width),
            **linear(f"{block}.mlp.c_fc", 4 * width, width),
            **linear(f"{block}.mlp.c_proj", width, 4 * width),
        }
    for expert in range(3):
        for index in range(expert_layers):
            block = f"llma.resample_layers.{expert}.{index}"
            shapes |= {f"{block}.attention.w{x}.weight": (width, width) for x in "qkvo"}
            shapes |= {
                f"{block}.feed_forward.w1.weight": (hidden, width),
                f"{block}.feed_forward.w2.weight": (width, hidden),
                f"{block}.feed_forward.w3.weight": (hidden, width),
                f"{block}.attention_norm.weight": (width,),
                f"{block}.ffn_norm.weight": (width,),
            }
    return shapes


def onellm() -> State:
    others: dict[str, tuple[int, ...]] = {
        "llma.tok_embeddings.weight": (8, 64),
        "llma.layers.0.attention.wq.weight": (64, 64),
        "llma.clip.visual.conv1.weight": (32, 3, 14, 14),
        "llma.clip.transformer.resblocks.0.ln_1.weight": (32,),
        "llma.conv1.audio.weight": (32, 1, 16, 16),
    }
    return drawn(onellm_shapes(**ONELLM_SMALL, out=64) | others, torch.float16)


CASES: dict[str, tuple[Callable[[], State], dict[str, Any], str, str]] = {
    # name: file, settings, a key to remove, a key to add
    "limu_bert": (lambda: limu_bert(120), {}, "transformer.norm2.beta", "transformer.norm3.beta"),
    "limu_bert_x": (lambda: limu_bert(20), {}, "transformer.proj.bias", "classifier.weight"),
    "primus": (primus, {}, "imu_encoder.mmcl_head.bias", "imu_encoder.nn_head.weight"),
    "imu2clip": (lambda: drawn(conv_gru("net.")), {}, "net.5.bias_ih_l0", "net.6.weight"),
    "imagebind": (
        imagebind,
        {},
        "modality_trunks.imu.blocks.3.attn.bias_k",
        "modality_trunks.imu.blocks.6.norm_1.bias",
    ),
    "onellm": (
        onellm,
        {**ONELLM_SMALL, "out": 64},
        "llma.resample_layers.2.1.ffn_norm.weight",
        "llma.routers.imu.fc3.weight",
    ),
}
ALL = pytest.mark.parametrize("name", CASES)


def config_of(name: str) -> tuple[Any, Any]:
    encoder: Any = ENCODERS.load(name)
    return encoder, encoder.Config(**CASES[name][1])


@ALL
def test_a_published_checkpoint_fills_every_weight(name: str, tmp_path: Path) -> None:
    state = CASES[name][0]()
    file = tmp_path / "weights.pt"
    torch.save({"state_dict": state, "epoch": 7} if name == "primus" else state, file)
    encoder, config = config_of(name)
    loaded = encoder.load(file, config)
    assert loaded.pretrained
    assert not loaded.training
    for ours, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, state[encoder.keys.theirs(ours)].float())
    inputs = torch.randn(2, *loaded.contract.shape, generator=torch.Generator().manual_seed(1))
    features = loaded(inputs)
    assert features.shape == (2, loaded.contract.tokens, loaded.width)
    assert features.isfinite().all()
    loaded.fit_normalisation(inputs)


@ALL
def test_missing_unexpected_and_misshapen_keys_are_one_error(name: str, tmp_path: Path) -> None:
    make, _, removed, added = CASES[name]
    state = make()
    encoder, config = config_of(name)
    misshapen = next(key for key in state if encoder.keys.names([key])[0] and key != removed)
    del state[removed]
    state |= {added: torch.zeros(3), misshapen: torch.zeros(2, 9)}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError) as error:
        encoder.load(tmp_path / "weights.pt", config)
    text = str(error.value)
    assert f"missing: {removed};" in text
    assert f"unexpected: {added};" in text
    assert f"{misshapen} ([2, 9] torch.float32, need " in text
    assert str(tmp_path / "weights.pt") in text


def test_a_full_size_onellm_is_checked_from_its_headers_alone(tmp_path: Path) -> None:
    header: dict[str, Any] = {}
    end = 0
    for key, shape in onellm_shapes().items():
        begin, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file = tmp_path / "onellm.safetensors"
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + end)  # 1.2 GB that take no room on the disk
    encoder: Any = ENCODERS.load("onellm")
    with torch.device("meta"):
        full = encoder(encoder.Config())
    found = check_fits(full, file, encoder.keys)
    assert len(found) == len(header) == len(full.state_dict())


def test_another_systems_checkpoint_is_refused_with_a_short_list(tmp_path: Path) -> None:
    torch.save(limu_bert(120), tmp_path / "limu.pt")
    encoder, config = config_of("imagebind")
    with pytest.raises(
        CheckpointError,
        match=r"29 tensors there, 93 needed.* and 73 more; .*the file has decoder.bias",
    ):
        encoder.load(tmp_path / "limu.pt", config)


def test_the_version_for_one_second_does_not_fill_the_one_for_six(tmp_path: Path) -> None:
    torch.save(limu_bert(20), tmp_path / "x.pt")
    encoder, config = config_of("limu_bert")
    key = "transformer.embed.pos_embed.weight"
    with pytest.raises(CheckpointError, match=re.escape(f"{key} ([20, 72] torch.float32, need")):
        encoder.load(tmp_path / "x.pt", config)


def test_integers_do_not_pass_for_weights(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, 2, dtype=torch.int64)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"torch\.int64"):
        fill(nn.Linear(2, 2, bias=False), tmp_path / "w.pt", KeyMap(take=(("", ""),)))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "sharded", "sharded bin"])
def test_every_form_of_file_gives_the_same_headers_and_tensors(form: str, tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    path = tmp_path / "weights.pt"
    if form == "zip":
        torch.save({**state, "step": 3}, path)
    elif form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    else:
        name = "model.safetensors" if form == "sharded" else "pytorch_model.bin"
        suffix = name.rsplit(".", maxsplit=1)[1]
        path = tmp_path
        for key, tensor in state.items():
            file = tmp_path / f"{key}.{suffix}"
            save_file({key: tensor}, file) if form == "sharded" else torch.save({key: tensor}, file)
        index = {"weight_map": {key: f"{key}.{suffix}" for key in state}}
        (tmp_path / f"{name}.index.json").write_text(json.dumps(index))
    headers = read_headers(path)
    assert {k: (h.shape, h.dtype) for k, h in headers.items()} == {
        "a": ((2, 3), torch.float32),
        "b": ((4,), torch.bfloat16),
    }
    tensors = read_tensors(path, ["b", "a"])
    assert all(torch.equal(tensors[key], state[key]) for key in state)
    with pytest.raises(CheckpointError, match="missing: c"):
        read_tensors(path, ["a", "c"])


def test_tensors_outlive_the_file_they_came_from(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"a": torch.ones(5)}, file)
    tensor = read_tensors(file, ["a"])["a"]
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(tensor, torch.ones(5))


def test_a_pickle_with_objects_is_refused_and_says_how_to_convert_it(tmp_path: Path) -> None:
    file = tmp_path / "lightning.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": argparse.Namespace(lr=1)}, file)
    with pytest.raises(CheckpointError, match=r"Python objects besides tensors.*convert it once"):
        read_headers(file)


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file, and no folder with"):
        read_headers(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="no such file, and no folder with"):
        read_headers(tmp_path)
    text = tmp_path / "page.pt"
    text.write_text("<html>Not found</html>")
    with pytest.raises(CheckpointError, match=r"page\.pt"):
        read_headers(text)
    whole = tmp_path / "whole.pt"
    torch.save({"a": torch.ones(1000)}, whole)
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=r"whole\.pt"):
        read_headers(whole)
    cut = tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(1000)}, cut)
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged or no safetensors"):
        read_headers(cut)
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list, need a dict"):
        read_headers(tmp_path / "list.pt")


def test_an_index_whose_shards_are_missing_names_them(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match="missing: model-00001-of-00002"):
        read_headers(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not the index"):
        read_headers(tmp_path)
