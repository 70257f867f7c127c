"""llama2.c's files: read in their layout, and computing what llama2.c computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, TokenizerMismatch, UsageError
from egotriad.models.decoder_files import published_decoder
from egotriad.models.llama2c import read_llama2c
from egotriad.models.placement import Placement
from egotriad.models.tokenizer import train_tokenizer

WIDTH, INNER, LAYERS, HEADS, KEY_HEADS, POSITIONS = 16, 24, 2, 4, 2, 32


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["once upon a time"], vocab_size=280)


def random_weights(ids: int, *, tied: bool) -> dict[str, np.ndarray]:
    """In the file's order, by Meta's names."""
    rng = np.random.default_rng(0)
    key_width = WIDTH // HEADS * KEY_HEADS
    shapes = {
        "tok_embeddings": (ids, WIDTH),
        "attention_norm": (LAYERS, WIDTH),
        "wq": (LAYERS, WIDTH, WIDTH),
        "wk": (LAYERS, key_width, WIDTH),
        "wv": (LAYERS, key_width, WIDTH),
        "wo": (LAYERS, WIDTH, WIDTH),
        "ffn_norm": (LAYERS, WIDTH),
        "w1": (LAYERS, INNER, WIDTH),
        "w2": (LAYERS, WIDTH, INNER),
        "w3": (LAYERS, INNER, WIDTH),
        "norm": (WIDTH,),
        "freqs_cos": (POSITIONS, WIDTH // HEADS // 2),
        "freqs_sin": (POSITIONS, WIDTH // HEADS // 2),
    }
    if not tied:
        shapes["output"] = (ids, WIDTH)
    return {k: (0.5 * rng.standard_normal(s)).astype("<f4") for k, s in shapes.items()}


def write(path: Path, weights: dict[str, np.ndarray], ids: int) -> Path:
    signed = -ids if "output" in weights else ids
    header = [WIDTH, INNER, LAYERS, HEADS, KEY_HEADS, signed, POSITIONS]
    body = b"".join(value.tobytes() for value in weights.values())
    path.write_bytes(np.array(header, "<i4").tobytes() + body)
    return path


def reference(weights: dict[str, np.ndarray], ids: list[int]) -> Tensor:
    """run.c's forward in float64, position by position, pairs (i, i + 1) turned together."""
    w = {k: torch.from_numpy(v).double() for k, v in weights.items()}
    size = WIDTH // HEADS
    angles = 10_000.0 ** -(torch.arange(0, size, 2).double() / size)
    keys: list[list[Tensor]] = [[] for _ in range(LAYERS)]
    values: list[list[Tensor]] = [[] for _ in range(LAYERS)]

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return weight * x / (x.pow(2).mean() + 1e-5).sqrt()

    def turned(x: Tensor, at: int) -> Tensor:
        a, b = x[:, 0::2], x[:, 1::2]
        cos, sin = (at * angles).cos(), (at * angles).sin()
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(1)

    rows = []
    for at, i in enumerate(ids):
        x = w["tok_embeddings"][i]
        for layer in range(LAYERS):
            h = norm(x, w["attention_norm"][layer])
            q = turned((w["wq"][layer] @ h).view(HEADS, size), at)
            keys[layer].append(turned((w["wk"][layer] @ h).view(KEY_HEADS, size), at))
            values[layer].append((w["wv"][layer] @ h).view(KEY_HEADS, size))
            out = []
            for head in range(HEADS):
                shared = head // (HEADS // KEY_HEADS)
                k = torch.stack([key[shared] for key in keys[layer]])
                v = torch.stack([value[shared] for value in values[layer]])
                out.append((k @ q[head] / size**0.5).softmax(0) @ v)
            x = x + w["wo"][layer] @ torch.cat(out)
            h = norm(x, w["ffn_norm"][layer])
            gate = torch.nn.functional.silu(w["w1"][layer] @ h)
            x = x + w["w2"][layer] @ (gate * (w["w3"][layer] @ h))
        rows.append(w.get("output", w["tok_embeddings"]) @ norm(x, w["norm"]))
    return torch.stack(rows)


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_computes_what_llama2c_computes(tied: bool, tmp_path: Path) -> None:
    weights = random_weights(60, tied=tied)
    config, decoder = read_llama2c(write(tmp_path / "stories.bin", weights, 60))
    assert (config.tie_embeddings, config.kv_heads, config.max_positions) == (tied, 2, POSITIONS)
    ids = [1, 30, 7, 59, 12]
    with torch.no_grad():
        found = decoder(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(found.double(), reference(weights, ids), atol=1e-5, rtol=1e-5)


def test_it_becomes_a_drafts_decoder_when_the_vocabularies_fit(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = len(tokenizer)
    file = write(tmp_path / "stories.bin", random_weights(ids, tied=True), ids)
    config, decoder = published_decoder(file, tokenizer)
    assert config.hidden_size == WIDTH
    assert all(p.requires_grad for p in decoder.parameters())
    with pytest.raises(UsageError, match="small enough for float32"):
        published_decoder(file, tokenizer, placement=Placement(precision="4bit"))
    file = write(tmp_path / "stories260K.bin", random_weights(64, tied=True), 64)
    with pytest.raises(TokenizerMismatch, match="64 ids, the target has 280"):
        published_decoder(file, tokenizer)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "x.bin", random_weights(60, tied=True), 60)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"\d+ bytes, its header says \d+"):
        read_llama2c(file)
    file.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="shorter than"):
        read_llama2c(file)
    file.write_bytes(bytes(400))
    with pytest.raises(CheckpointError, match=r"none of llama2\.c"):
        read_llama2c(file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_llama2c(tmp_path / "absent.bin")
