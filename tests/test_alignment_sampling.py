import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from egotriad.alignment.sampling import GREEDY, Draws, Sampling, draw
from egotriad.manifests.errors import UsageError


def logits(n: int = 64, vocabulary: int = 97) -> torch.Tensor:
    rng = np.random.default_rng(0)
    values = torch.tensor(rng.normal(size=(n, vocabulary)) * 3, dtype=torch.float32)
    values[:, 5] = values[:, 7]  # ties
    return values


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 99])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99, 1.0])
def test_probabilities_equal_those_of_transformers(
    temperature: float, top_k: int, top_p: float
) -> None:
    warpers = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = LogitsProcessorList(warpers)(None, logits()).softmax(-1)
    found = Sampling(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(logits())
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    assert torch.equal(found > 0, expected > 0)


def test_probabilities_are_float32_of_half_precision_and_float64_of_float64() -> None:
    sampling = Sampling(temperature=1.0)
    assert sampling.probabilities(logits().bfloat16()).dtype == torch.float32
    assert sampling.probabilities(logits().double()).dtype == torch.float64


def test_ids_are_drawn_as_often_as_they_are_probable() -> None:
    p = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    counts = torch.bincount(draw(p.expand(10_000, -1), u), minlength=6)
    assert counts.tolist() == [0, 5000, 0, 3000, 2000, 0]


def test_the_extremes_of_u_never_draw_what_is_impossible() -> None:
    p = torch.tensor([[0.0, 0.7, 0.3, 0.0]])
    for u, expected in ((1e-300, 1), (2.0**-54, 1), (1 - 2.0**-53, 2)):
        assert draw(p, torch.tensor([u], dtype=torch.float64)).item() == expected


def test_thirty_two_thousand_small_shares_are_drawn_to_the_end() -> None:
    p = torch.full((1, 32_000), 1 / 32_000)
    for share in (0.25, 0.5, 0.999):
        u = torch.tensor([share], dtype=torch.float64)
        assert abs(int(draw(p, u)) - share * 32_000) <= 1


def test_draws_depend_on_seed_sequence_and_position_only() -> None:
    a, longer = Draws(3, "clip", 8), Draws(3, "clip", 20)
    for name in ("draft", "accept", "own"):
        assert np.array_equal(getattr(a, name), getattr(longer, name)[:8])
    assert not np.array_equal(a.draft, a.accept)
    assert not np.array_equal(a.own, Draws(4, "clip", 8).own)
    assert not np.array_equal(a.own, Draws(3, "other", 8).own)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong, message in (
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_k": -1}, "top-k"),
        ({"temperature": 1.0, "top_p": 0.0}, "top-p"),
        ({"top_p": 0.5}, "greedy takes the best"),
    ):
        with pytest.raises(UsageError, match=message):
            Sampling(**wrong)
    with pytest.raises(UsageError, match="draws from no distribution"):
        GREEDY.probabilities(logits())
