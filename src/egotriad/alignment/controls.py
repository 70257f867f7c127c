"""What an evaluation needs around the draft: held-out checks and deliberately wrong IMUs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from egotriad.manifests import Clip, Imu
from egotriad.manifests.errors import ClipRejected, EvaluationError
from egotriad.models.seen import among

__all__ = ["Sample", "overlap", "shuffled_donors", "zeroed_imu"]


class Sample(Protocol):
    """Anything that knows where it was recorded: a clip, or a cached output of the target."""

    @property
    def recording(self) -> str:
        """Id of the recording."""

    @property
    def wearer(self) -> str | None:
        """Id of the person, None when unknown."""


def overlap(
    evaluated: Iterable[Sample], trained_on: Mapping[str, Collection[str]], name: str
) -> str:
    """Why the evaluated clips are not held out for a model, in words; empty when they are.

    Args:
        evaluated: the clips.
        trained_on: `wearers` and `recordings` the model was trained on (its meta), or their hashes.
        name: what the sentence calls the model.
    """
    samples = list(evaluated)
    wearers = among((s.wearer for s in samples if s.wearer is not None), trained_on, "wearers")
    recordings = among((s.recording for s in samples), trained_on, "recordings")
    if wearers is None or recordings is None:
        return f"{name} does not say which wearers and recordings it was trained on"
    shared = [
        f"{len(found)} {noun} ({', '.join(sorted(found)[:5])}{', ...' if len(found) > 5 else ''})"
        for noun, found in (("wearers", wearers), ("recordings", recordings))
        if found
    ]
    return f"{name} was trained on {' and '.join(shared)} of the evaluated clips" if shared else ""


def zeroed_imu(clip: Clip) -> Clip:
    """The clip with an IMU that reads exactly 0 m/s^2 and 0 rad/s throughout, gravity included.

    These are zeros in sensor units, before any normalisation of the model: a dead sensor, which
    no recording of the training set resembles. (Zeros after normalisation would be the training
    set's mean, a plausible wearer at rest.)

    Raises:
        ClipRejected: when the clip has no IMU.
    """
    if clip.imu is None:
        raise ClipRejected("no-imu", f"{clip.window_id}: has no IMU to set to zero")
    dead = Imu(
        data=np.zeros_like(clip.imu.data),
        rate_hz=clip.imu.rate_hz,
        valid=np.ones_like(clip.imu.valid),
    )
    return replace(clip, imu=dead)


def shuffled_donors(recordings: Sequence[str], seed: int) -> list[int]:
    """For every clip the index of a clip of another recording, whose IMU it is to get.

    A seeded permutation, so that each IMU is used exactly once and the control sees the same
    IMUs as the draft. Only when one recording holds more than half of the clips is that
    impossible; the donors are then drawn with replacement.

    Args:
        recordings: recording of each clip.
        seed: of the permutation.

    Raises:
        EvaluationError: when all clips are of one recording.
    """
    names = sorted(set(recordings))
    if len(names) < 2:
        raise EvaluationError(
            f"shuffling the IMU across recordings needs at least 2 of them, got {len(names)}; "
            "hold out more recordings"
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5F1E]))
    rank = {name: int(r) for name, r in zip(names, rng.permutation(len(names)), strict=True)}
    n = len(recordings)
    order = sorted(rng.permutation(n).tolist(), key=lambda i: rank[recordings[i]])
    largest = max(np.bincount([rank[name] for name in recordings]))
    donors = [0] * n
    if 2 * largest <= n:
        # In an order grouped by recording, a shift of at least the largest group leaves none.
        shift = int(rng.integers(largest, n - largest + 1))
        for position, index in enumerate(order):
            donors[index] = order[(position + shift) % n]
        return donors
    for index, name in enumerate(recordings):
        donors[index] = int(rng.choice([i for i in order if recordings[i] != name]))
    return donors
