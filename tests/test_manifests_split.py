import pytest

from egotriad.manifests.split import hash_split, unit_hash


@pytest.mark.parametrize(
    ("group", "value", "split"),
    [
        ("ego4d/1", 0.8086475865541431, "train"),
        ("ego4d/2", 0.5989875085801714, "train"),
        ("ego4d/17", 0.38192503110595555, "train"),
        ("ego4d/42", 0.6392114412133576, "train"),
        ("ego4d/14", 0.9297001331246638, "validation"),
        ("ego4d/23", 0.9638473043317278, "test"),
    ],
)
def test_split_hash_matches_the_published_vectors(group: str, value: float, split: str) -> None:
    assert unit_hash(group) == value
    assert hash_split(group) == split


def test_split_shares_are_those_stated() -> None:
    splits = [hash_split(f"ego4d/{k}") for k in range(1, 924)]
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (
        809,
        66,
        48,
    )
