"""CLIP's text tower from a folder, and IMU2CLIP's way to caption with it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from egotriad.alignment.retrieval import RetrievalIndex
from egotriad.manifests.errors import CheckpointError
from egotriad.models.clip_text import text_embeddings
from egotriad.models.seeding import torch_stream

WORDS = ("walks", "turns", "sits", "stirs", "the", "pot", "slowly", "C")
TEXTS = ("C walks", "C turns slowly", "C sits", "C stirs the pot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole CLIP, image tower included, small."""
    start, end = len(WORDS) + 1, len(WORDS) + 2
    text = {
        "vocab_size": end + 1,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 6,
        "bos_token_id": start,
        "eos_token_id": end,
        "projection_dim": 8,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    with torch_stream(0, "clip"):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    save_file(
        {key: like.contiguous() for key, like in model.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text(model.config.to_json_string())
    vocab = {"[UNK]": 0} | {word: i + 1 for i, word in enumerate(WORDS)}
    vocab |= {"<|startoftext|>": start, "<|endoftext|>": end}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", start), ("<|endoftext|>", end)],
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_embeddings_are_those_of_the_whole_clip_one_text_at_a_time(folder: Path) -> None:
    model = CLIPModel(CLIPConfig.from_json_file(folder / "config.json")).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = text_embeddings(folder, TEXTS * 20)  # more than one batch
    assert found.shape == (80, 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(80))
    for row, text in zip(found[:4], TEXTS, strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            pooled = model.text_model(input_ids=ids).pooler_output
            expected = model.text_projection(pooled)[0]
        torch.testing.assert_close(row, expected / expected.norm(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[0], found[76], atol=1e-6, rtol=1e-5)


def test_long_texts_are_cut_and_none_give_none(folder: Path) -> None:
    long = "C " * 50
    assert text_embeddings(folder, [long, "C walks"]).shape == (2, 8)
    assert text_embeddings(folder, []).shape == (0, 8)


def test_a_sensor_in_that_space_finds_the_nearest_sentence(folder: Path) -> None:
    rows = text_embeddings(folder, TEXTS)
    index = RetrievalIndex(rows, [[10 + i, 2] for i in range(4)])
    assert index.nearest(3 * rows[2] + 0.1) == [[12, 2]]


def test_a_folder_that_is_no_clip_is_named(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: text_projection\.weight"):
        text_embeddings(folder, TEXTS)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: not a tokenizer.json.*CLIP's own"):
        text_embeddings(folder, TEXTS)
    with pytest.raises(CheckpointError, match="need CLIP's own folder"):
        text_embeddings(tmp_path / "none", TEXTS)


def test_the_published_tower_has_63_million_weights() -> None:
    """openai/clip-vit-base-patch32, of whose defaults transformers' are."""
    from transformers import CLIPTextModelWithProjection

    with torch.device("meta"):
        tower = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=512))
    assert sum(p.numel() for p in tower.parameters()) == 63_428_096
