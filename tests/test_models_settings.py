"""Config dataclasses as JSON, and random streams."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from egotriad.manifests.errors import UsageError
from egotriad.models.seeding import numpy_generator, torch_stream
from egotriad.models.settings import ADDED_LATER, settings_from_json, settings_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    widths: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str = "x"
    inner: Inner = field(default_factory=Inner)


def test_settings_survive_json_with_their_types() -> None:
    settings = Outer(name="é", inner=Inner(widths=(3,)))
    assert settings_from_json(Outer, json.loads(json.dumps(settings_to_json(settings)))) == settings


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown fields \['nmae'\], missing fields \['name'\]"):
        settings_from_json(Outer, {"nmae": "y", "inner": {"widths": [1]}})
    with pytest.raises(
        UsageError, match=r"Inner: unknown fields \[\], missing fields \['widths'\]"
    ):
        settings_from_json(Outer, {"name": "y", "inner": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown(Outer):
    depth: int = field(default=1, metadata=ADDED_LATER)


def test_files_from_before_a_field_was_added_mean_its_default() -> None:
    assert settings_from_json(Grown, settings_to_json(Outer())) == Grown(depth=1)
    assert settings_from_json(Grown, {**settings_to_json(Outer()), "depth": 2}).depth == 2
    with pytest.raises(UsageError, match=r"missing fields \['inner'\]"):
        settings_from_json(Grown, {"name": "y"})


def test_a_users_partial_settings_take_the_defaults() -> None:
    assert settings_from_json(Outer, {"inner": {}}, partial=True) == Outer()
    with pytest.raises(UsageError, match="unknown fields"):
        settings_from_json(Outer, {"inner": {"depth": 1}}, partial=True)


def test_streams_differ_by_seed_and_key_and_leave_the_global_state_alone() -> None:
    def draw(seed: int, key: str) -> float:
        with torch_stream(seed, key):
            return float(torch.rand(()))

    before = torch.random.get_rng_state()
    assert draw(0, "a") == draw(0, "a")
    assert len({draw(0, "a"), draw(1, "a"), draw(0, "b")}) == 3
    assert torch.equal(before, torch.random.get_rng_state())
    assert numpy_generator(0, "a").random() == numpy_generator(0, "a").random()
    assert numpy_generator(0, "a").random() != numpy_generator(0, "b").random()
