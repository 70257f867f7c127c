"""Splits by person: a salted hash of the group, so that nothing ever moves when data is added."""

import hashlib

from egotriad.manifests.errors import UsageError
from egotriad.manifests.recording import Recording

__all__ = ["SPLITS", "hash_split", "split_of"]

SPLITS = ("train", "validation", "test")
SALT = "split-v1"


def unit_hash(group: str) -> float:
    """A number in [0, 1) that depends on nothing but the group's name and the salt."""
    digest = hashlib.blake2b(f"{SALT}\x1f{group}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)


def hash_split(group: str) -> str:
    """90 % train, 5 % validation, 5 % test of all possible groups."""
    u = unit_hash(group)
    return "train" if u < 0.90 else "validation" if u < 0.95 else "test"


def split_of(recording: Recording) -> tuple[str, str, str]:
    """(split, the group that decides it, official | hash) of a recording.

    The group is the wearer where known, else the recording: never the window, because two windows
    of one recording share everything a model could remember.
    """
    group = recording.split_group or (
        f"{recording.source}/{recording.wearer or recording.recording_id}"
    )
    if recording.official_split is None:
        return hash_split(group), group, "hash"
    if recording.official_split not in SPLITS:
        raise UsageError(
            f"{recording.source}/{recording.recording_id}: official split is "
            f"{recording.official_split!r}, need one of {', '.join(SPLITS)}"
        )
    return recording.official_split, group, "official"
