"""Whom a model was trained on: named at home, hashed where others can read it.

At home `trained_on` holds the ids of wearers and recordings. A pushed model holds salted hashes in
their place: nobody reads an id from them, and whoever evaluates on the same source can still tell
that a clip is not held out. An id that can be guessed can be confirmed; so can its presence in the
shards themselves, for those who may have them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["NOUNS", "among", "concealed"]

NOUNS = ("wearers", "recordings")


def concealed(trained_on: Mapping[str, Any]) -> dict[str, Any]:
    """`trained_on` with sorted hashes (`wearers_sha256`) in place of ids (`wearers`)."""
    hidden = {key: value for key, value in trained_on.items() if key not in NOUNS}
    for noun in NOUNS:
        if noun in trained_on:
            hashes = (_hashed(name, trained_on) for name in trained_on[noun])
            hidden[f"{noun}_sha256"] = sorted(hashes)
    return hidden


def among(ids: Iterable[str], trained_on: Mapping[str, Any], noun: str) -> set[str] | None:
    """Which of the ids a model was trained on; None when it does not say.

    Args:
        ids: of wearers or recordings.
        trained_on: of the model's meta, as trained or as pushed.
        noun: wearers | recordings.
    """
    if noun in trained_on:
        return set(ids) & set(trained_on[noun])
    hashes = trained_on.get(f"{noun}_sha256")
    if hashes is None:
        return None
    return {name for name in set(ids) if _hashed(name, trained_on) in hashes}


def _hashed(name: str, trained_on: Mapping[str, Any]) -> str:
    salt = trained_on.get("shards_sha256", "")
    return hashlib.sha256(f"{salt}\x1f{name}".encode()).hexdigest()
