"""What training takes, against what torch really keeps, and what is said when it is too much."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models import room
from egotriad.models.checkpoints import fill
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.memory import (
    TrainingBatch,
    activation_bytes,
    decoder_parameters,
    require_room_to_train,
    training_bytes,
)
from egotriad.models.room import free_bytes, require_room
from egotriad.models.seeding import torch_stream

SHAPES = (
    DecoderConfig(hidden_size=64, intermediate_size=128, layers=3, heads=4),
    DecoderConfig(hidden_size=96, intermediate_size=384, layers=2, heads=4, kv_heads=2),
    DecoderConfig(hidden_size=192, intermediate_size=768, layers=2, heads=6, tie_embeddings=False),
)
BATCH = TrainingBatch(rows=4, positions=60, text=10)


def kept_bytes(config: DecoderConfig, vocabulary: int, batch: TrainingBatch) -> int:
    """What one forward pass, as `ConditionedLM.prefix_loss` makes it, keeps for the backward."""
    with torch_stream(0, "kept"):
        decoder = build_decoder(config, vocabulary)
    weights = {weight.untyped_storage().data_ptr() for weight in decoder.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros(batch.rows, batch.text, dtype=torch.long)
    shape = (batch.rows, batch.positions - batch.text, config.hidden_size)
    prefix = torch.zeros(shape).normal_().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        text = decoder.get_input_embeddings()(ids[:, :-1])
        logits = decoder(
            inputs_embeds=torch.cat([prefix, text], dim=1),
            use_cache=False,
            logits_to_keep=batch.text,
        ).logits
        F.cross_entropy(logits[torch.ones_like(ids, dtype=torch.bool)], ids.flatten())
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("config", SHAPES, ids=lambda config: str(config.hidden_size))
def test_the_estimate_of_activations_is_just_above_what_torch_keeps(config: DecoderConfig) -> None:
    kept, estimate = kept_bytes(config, 64, BATCH), activation_bytes(config, 64, BATCH)
    assert kept <= estimate <= 1.25 * kept


def test_a_wide_vocabulary_adds_three_times_its_logits() -> None:
    narrow, wide = (activation_bytes(SHAPES[0], ids, BATCH) for ids in (100, 32_000))
    assert wide - narrow == 4 * 3 * 4 * 10 * 31_900


def test_training_holds_weights_gradients_and_two_moments() -> None:
    assert training_bytes(1000, 1000) == 16_000
    assert training_bytes(1000, 0) == 4_000
    count = decoder_parameters(SHAPES[2], 300)
    assert count == sum(weight.numel() for weight in build_decoder(SHAPES[2], 300).parameters())


def test_what_does_not_fit_is_refused_with_its_parts_and_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: 10 * 10**9)
    billion = 10**9
    require_room_to_train(billion, billion // 10)  # an adapter: 5.2 GB
    with pytest.raises(
        UsageError,
        match=r"16\.0 GB \(4\.0 GB of weights, 12\.0 GB of gradients and Adam's moments\), 10\.0 GB"
        r" are free on cpu; lower --batch, take --train-decoder lora or frozen",
    ):
        require_room_to_train(billion, billion)
    with pytest.raises(UsageError, match=r"11\.2 GB .*6\.0 GB of activations"):
        require_room_to_train(billion, billion // 10, activations=6 * billion)
    require_room_to_train(billion, billion // 10, activations=6 * billion, held=4 * billion)
    monkeypatch.setattr(room, "free_bytes", lambda device: None)
    require_room_to_train(billion, billion)  # not known: no guess


def test_an_encoder_that_does_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch_stream(0, "limu"):
        encoder = LimuBert(LimuBertConfig())
    torch.save(encoder.state_dict(), tmp_path / "limu.pt")
    assert LimuBert.load(tmp_path / "limu.pt").pretrained
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(
        "egotriad.models.checkpoints.read_tensors", lambda *_: pytest.fail("weights were read")
    )
    with pytest.raises(
        CheckpointError, match=r"LimuBert takes 0\.0 GB in memory, 0\.0 GB are free"
    ):
        fill(encoder, tmp_path / "limu.pt", LimuBert.keys)


def test_free_memory_is_the_systems_own_number() -> None:
    free = free_bytes("cpu")
    assert free is None or free > 10**6
    require_room(Path("x"), "nothing", 0)
