"""Model cards: front matter that the Hub reads, and nothing that nobody said."""

from typing import Any

import pytest
import yaml

from egotriad.models.card import CardFacts, ingredients, model_card

BASE = {
    "name": "JackFram/llama-160m",
    "revision": "abc",
    "sha256": "1" * 64,
    "licence": "Apache-2.0",
}
SEEN = {"wearers": ["a", "b"], "recordings": ["r"], "clips": 9, "licences": ["own"]}


def record(**changes: Any) -> dict[str, Any]:
    """An IMU draft's record."""
    decoder = {"layers": 2, "hidden_size": 48, "heads": 4, "max_positions": 512}
    return {
        "kind": "draft",
        "name": "imu",
        "config": {
            "decoder": decoder,
            "encoder": "conv",
            "projector": "linear",
            "template": "USER: <imu> ASSISTANT:",
        },
        "tokenizer_sha256": "2" * 64,
        "base_decoder": None,
        "adapter": None,
        "meta": {"trained_on": SEEN},
    } | changes


def front_matter(values: dict[str, Any]) -> dict[str, Any]:
    _, front, _ = model_card(values).split("---\n", 2)
    return yaml.safe_load(front)


def test_the_front_matter_of_a_draft_of_ones_own_claims_no_licence() -> None:
    assert front_matter(record()) == {
        "language": ["en"],
        "library_name": "egotriad",
        "tags": ["egotriad", "draft", "imu", "egocentric", "speculative-decoding"],
    }
    card = model_card(record())
    assert "None was stated." in card
    assert "9 clips, 2 wearers" not in card
    assert "9 clips, 1 recording, 2 wearers, of the train split." in card
    assert "## Results" not in card
    assert card.endswith("\n")


@pytest.mark.parametrize(
    ("changes", "relation"),
    [
        ({"base_decoder": BASE, "adapter": {"rank": 8, "alpha": 16.0}}, "adapter"),
        ({"meta": {"decoder": BASE}}, "finetune"),
    ],
)
def test_the_base_model_is_named_with_what_became_of_it(
    changes: dict[str, Any], relation: str
) -> None:
    found = front_matter(record(**changes))
    assert found["base_model"] == "JackFram/llama-160m"
    assert found["base_model_relation"] == relation
    card = model_card(record(**changes))
    held = "is not in this repository" if relation == "adapter" else "has been trained further"
    assert f"`JackFram/llama-160m`, revision abc (sha256 {'1' * 64}), which {held}" in card
    assert ("LoRA of rank 8, alpha 16" in card) == (relation == "adapter")


def test_a_file_in_a_repository_and_a_local_folder_are_not_taken_for_hub_ids() -> None:
    file = BASE | {"name": "karpathy/tinyllamas/stories15M.bin"}
    assert front_matter(record(base_decoder=file))["base_model"] == "karpathy/tinyllamas"
    assert "base_model" not in front_matter(record(base_decoder=BASE | {"name": "my-llama"}))


@pytest.mark.parametrize(
    ("licences", "name"),
    [
        (["ego4d", "own"], "ego4d-derived"),
        (["ego4d", "egoexo4d"], "ego4d-egoexo4d-derived"),
        (["made-up"], "made-up-derived"),
        (["cc-by-4.0"], None),
    ],
)
def test_data_that_may_not_be_handed_on_show_in_the_licence(
    licences: list[str], name: str | None
) -> None:
    found = front_matter(record(meta={"trained_on": SEEN | {"licences": licences}}))
    assert found.get("license") == (name and "other")
    assert found.get("license_name") == name


def test_weights_of_others_bring_their_licence() -> None:
    encoder = {"name": "imagebind_huge.pth", "encoder": "imagebind", "licence": "CC BY-NC-SA 4.0"}
    values = record(base_decoder=BASE, meta={"trained_on": SEEN, "encoder_weights": encoder})
    found = {part.what: (part.licence, part.free) for part in ingredients(values)}
    assert found == {
        "data: the owner of the recordings": ("own", True),
        "decoder: JackFram/llama-160m": ("Apache-2.0", True),
        "encoder: imagebind_huge.pth": ("CC BY-NC-SA 4.0", False),
    }
    assert front_matter(values)["license_name"] == "cc-by-nc-sa-4.0-derived"
    assert "CC BY-NC-SA 4.0 (not free to hand on)" in model_card(values)


def test_what_nobody_recorded_is_unknown_and_not_free() -> None:
    old = record(meta={"trained_on": {"wearers": [], "recordings": []}, "decoder": {"name": "x"}})
    old["meta"]["decoder"] = BASE | {"licence": None}
    assert [(part.licence, part.free) for part in ingredients(old)] == [("unknown", False)] * 2
    assert "license" not in front_matter(old)
    assert "Not recorded." in model_card(record(meta={}))


def test_what_the_user_says_stands_as_said() -> None:
    facts = CardFacts(licence="apache-2.0", metrics={"acceptance": 0.41, "tau": "2.1 [1.9, 2.3]"})
    seen = {"trained_on": SEEN | {"licences": ["ego4d"]}}
    values = record(meta=seen | facts.meta())
    assert front_matter(values)["license"] == "apache-2.0"
    card = model_card(values)
    assert "`apache-2.0`, as its author says." in card
    assert "- data: Ego4D: ego4d (not free to hand on)" in card
    assert "| acceptance | 0.41 |\n| tau | 2.1 [1.9, 2.3] |" in card
