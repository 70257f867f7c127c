"""Batches of what is held in memory."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from egotriad.alignment.loader_memory import FrameStore, pad_ids, shuffled_batches
from egotriad.manifests import Clip
from egotriad.manifests.errors import UsageError
from egotriad.models.target_tiny import event_frames


def test_an_epoch_shows_every_example_at_most_once_and_each_in_the_long_run() -> None:
    batches = shuffled_batches(10, 3, np.random.default_rng(0))
    epochs = [np.concatenate([next(batches) for _ in range(3)]) for _ in range(40)]
    assert all(len(set(epoch.tolist())) == 9 for epoch in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(10))


def test_few_examples_make_smaller_batches() -> None:
    batches = shuffled_batches(2, 5, np.random.default_rng(0))
    assert sorted(next(batches).tolist()) == [0, 1]
    assert sorted(next(batches).tolist()) == [0, 1]


def test_padding_is_zeros_on_the_right_outside_the_mask() -> None:
    ids, mask = pad_ids([(5, 2), (7, 8, 2)])
    assert ids.tolist() == [[5, 2, 0], [7, 8, 2]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]


def test_stored_frames_come_back_bit_for_bit(toy_clips: Callable[[int], list[Clip]]) -> None:
    store, frames = FrameStore(), []
    for clip in toy_clips(3):
        frames.append(event_frames(clip, clip.event_spans[0], 5))
        store.add(frames[-1])
    assert len(store) == 3
    assert torch.equal(store.batch(np.array([2, 0])), torch.stack([frames[2], frames[0]]))
    picked = store.batch(np.array([1, 1]), np.array([[4, 0], [2, 2]]))
    assert torch.equal(picked[0], frames[1][[4, 0]])
    assert torch.equal(picked[1], frames[1][[2, 2]])


def test_frames_of_another_sensor_are_refused(toy_clips: Callable[[int], list[Clip]]) -> None:
    clip = toy_clips(1)[0]
    store = FrameStore()
    store.add(event_frames(clip, clip.event_spans[0], 5))
    with pytest.raises(UsageError, match="train on shards of one sensor size"):
        store.add(torch.zeros(5, 3, 10, 10, dtype=torch.uint8))
