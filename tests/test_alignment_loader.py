"""Exact epochs over ranks and workers, and going on in the middle of one."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from egotriad.alignment.loader import EpochBatches, ShardDataset, ShardLoader, ShardStream
from egotriad.alignment.loader_order import BatchOrder, epoch_batches, epoch_rows
from egotriad.manifests import Clip
from egotriad.manifests import shards_read as reading
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import ShardReader, TableWriter

ROWS = 23
GROUPS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@pytest.fixture
def build(toy_clips: Callable[..., list[Clip]], tmp_path: Path) -> Path:
    """23 clips with IMU, in four shards with row groups of two rows."""
    every = [replace(clip, split="train", events=None) for clip in toy_clips(ROWS)]
    lines = []
    for index, part in enumerate(np.array_split(np.arange(ROWS), 4)):
        path = tmp_path / "data" / f"train-{index:05d}-of-00004.parquet"
        path.parent.mkdir(exist_ok=True)
        with TableWriter(path, "windows", builder="test 1", config_hash="c") as writer:
            for rows in np.split(part, range(2, len(part), 2)):
                clips = [every[row] for row in rows]
                writer.write_windows(clips, [None] * len(clips), [None] * len(clips))
        lines.append({"config": "windows", "split": "train", "path": f"data/{path.name}"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_file(tmp_path / 'manifest.jsonl')}  x\n")
    return tmp_path


def rows_of(batches: Iterator[list[Clip]] | list[list[Clip]]) -> list[list[int]]:
    """Batches of clips as batches of row numbers (clips are 3.2 s apart)."""
    return [[clip.t_start_us // 3_200_000 for clip in batch] for batch in batches]


def in_order(build: Path, order: BatchOrder, epoch: int = 0) -> list[list[int]]:
    """What every loader has to give."""
    groups = ShardReader(build).group_rows
    return [rows.tolist() for rows in epoch_batches(groups, order, epoch)]


# The order itself


@settings(deadline=None)
@given(
    groups=GROUPS,
    batch=st.integers(1, 7),
    lanes=st.integers(1, 6),
    ranks=st.integers(1, 5),
    epoch=st.integers(0, 3),
    mixed=st.sampled_from([1, 4, 1000]),
    shuffle=st.booleans(),
)
def test_every_row_comes_once_and_ranks_share_one_sequence(
    groups: list[int], batch: int, lanes: int, ranks: int, epoch: int, mixed: int, shuffle: bool
) -> None:
    order = BatchOrder(batch_size=batch, lanes=lanes, mixed_rows=mixed, shuffle=shuffle)
    alone = epoch_batches(groups, order, epoch)
    assert sorted(np.concatenate(alone).tolist()) == list(range(sum(groups)))
    assert {len(rows) for rows in alone[:-1]} <= {batch}
    shares = [epoch_batches(groups, order, epoch, rank=r, ranks=ranks) for r in range(ranks)]
    for index, rows in enumerate(alone):
        assert np.array_equal(shares[index % ranks][index // ranks], rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sum(map(len, shares)) == len(alone)


@given(groups=GROUPS, batch=st.integers(1, 7), ranks=st.integers(1, 5), steps=st.integers(0, 3))
def test_even_steps_give_all_ranks_equally_many_whole_batches(
    groups: list[int], batch: int, ranks: int, steps: int
) -> None:
    order = BatchOrder(batch_size=batch, even_steps=True)
    rows = sum(groups)
    start = min(steps, rows // (batch * ranks)) * ranks
    shares = [
        epoch_batches(groups, order, 0, start=start, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    assert {len(share) for share in shares} == {(rows // batch - start) // ranks}
    assert {len(batch_rows) for share in shares for batch_rows in share} <= {batch}


@given(groups=GROUPS, mixed=st.integers(1, 30), seed=st.integers(0, 5))
def test_rows_are_mixed_within_stretches_of_whole_row_groups(
    groups: list[int], mixed: int, seed: int
) -> None:
    rows = epoch_rows(groups, BatchOrder(batch_size=1, mixed_rows=mixed, seed=seed), 0)
    owner = np.repeat(np.arange(len(groups)), groups)[rows]
    for group, size in enumerate(groups):
        where = np.flatnonzero(owner == group)
        assert len(where) == size
        assert where[-1] - where[0] < mixed + max(groups)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return epoch_rows([50] * 8, BatchOrder(batch_size=4, seed=seed), epoch).tolist()

    torch.manual_seed(1)
    first = rows(0, 0)
    torch.manual_seed(2)
    assert rows(0, 0) == first
    assert len({tuple(rows(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_mixing_everything_puts_each_row_everywhere() -> None:
    order = BatchOrder(batch_size=1, mixed_rows=10**6)
    places = np.array([np.argsort(epoch_rows([3] * 4, order, epoch)) for epoch in range(2000)])
    counts = np.array([np.bincount(places[:, row], minlength=12) for row in range(12)])
    # Each of 12 places is a binomial(2000, 1/12): mean 166.7, standard deviation 12.4.
    assert np.abs(counts - 2000 / 12).max() < 5 * 12.4


def test_the_batches_of_a_step_do_not_depend_on_how_many_ranks_share_them() -> None:
    groups = [7, 9, 16, 3, 13]

    def steps(ranks: int) -> list[set[int]]:
        order = BatchOrder(batch_size=8 // ranks, mixed_rows=16, even_steps=True)
        shares = [epoch_batches(groups, order, 0, rank=r, ranks=ranks) for r in range(ranks)]
        return [set(np.concatenate(step).tolist()) for step in zip(*shares, strict=True)]

    assert steps(1) == steps(2) == steps(4) == steps(8)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"mixed_rows": 0}, {"lanes": 0}])
def test_orders_without_rows_are_refused(wrong: dict[str, int]) -> None:
    name = next(iter(wrong))
    with pytest.raises(UsageError, match=f"{name}: got 0, need 1 or more"):
        BatchOrder(**({"batch_size": 1} | wrong))


# In this process


def test_loader_map_style_and_stream_give_the_same_batches(build: Path) -> None:
    reader = ShardReader(build, events=False)
    order = BatchOrder(batch_size=4, mixed_rows=6, lanes=2)
    want = in_order(build, order)
    assert rows_of(ShardLoader(reader, order, list)) == want
    mapped = DataLoader(
        ShardDataset(reader), batch_sampler=EpochBatches(reader, order), collate_fn=list
    )
    assert rows_of(mapped) == want
    stream = ShardStream(reader, order, list)
    assert rows_of(DataLoader(stream, batch_size=None)) == want
    assert rows_of(stream) == want


@pytest.mark.parametrize("even_steps", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_number_of_batches_left_is_known(build: Path, ranks: int, even_steps: bool) -> None:
    order = BatchOrder(batch_size=4, even_steps=even_steps)
    for rank in range(ranks):
        batches = EpochBatches(ShardReader(build), order, rank=rank, ranks=ranks)
        for _ in range(3):
            assert len(batches) == len(list(batches))
            batches.advance()


def test_epochs_follow_one_another(build: Path) -> None:
    order = BatchOrder(batch_size=5, mixed_rows=6)
    loader = ShardLoader(ShardReader(build), order, list)
    for epoch in range(3):
        assert loader.epoch == epoch
        assert len(loader) == 5
        assert rows_of(loader) == in_order(build, order, epoch)
    loader.set_epoch(1)
    assert rows_of(loader) == in_order(build, order, 1)


@pytest.mark.parametrize("taken", [0, 1, 3, 6])
def test_a_saved_state_goes_on_behind_the_last_batch(taken: int, build: Path) -> None:
    order = BatchOrder(batch_size=4, mixed_rows=6, seed=3)
    first = ShardLoader(ShardReader(build), order, list)
    first.set_epoch(2)
    batches = iter(first)
    seen = [next(batches) for _ in range(taken)]
    state = json.loads(json.dumps(first.state_dict()))
    second = ShardLoader(ShardReader(build), order, list)
    second.load_state_dict(state)
    assert second.epoch == 2
    assert rows_of(seen) + rows_of(second) == in_order(build, order, 2)
    assert rows_of(second) == in_order(build, order, 3)


def test_after_a_break_the_next_loop_goes_on(build: Path) -> None:
    order = BatchOrder(batch_size=4)
    loader = ShardLoader(ShardReader(build), order, list)
    seen = []
    for batch in loader:
        seen.append(batch)
        if len(seen) == 2:
            break
    assert rows_of(seen) + rows_of(loader) == in_order(build, order)


def test_another_number_of_ranks_goes_on_exactly(build: Path) -> None:
    order = BatchOrder(batch_size=2)
    seen: Counter[int] = Counter()
    states = []
    for rank in range(2):
        loader = ShardLoader(ShardReader(build), order, list, rank=rank, ranks=2)
        batches = iter(loader)
        for _ in range(3):
            seen.update(rows_of([next(batches)])[0])
        states.append(loader.state_dict())
    assert states[0] == states[1]
    for rank in range(3):
        loader = ShardLoader(ShardReader(build), order, list, rank=rank, ranks=3)
        loader.load_state_dict(states[0])
        for batch in rows_of(loader):
            seen.update(batch)
    assert seen == Counter(range(ROWS))


def test_a_stream_saves_and_takes_up_the_same_states(build: Path) -> None:
    order = BatchOrder(batch_size=4, mixed_rows=6)
    stream = ShardStream(ShardReader(build), order, list)
    stream.set_epoch(1)
    batches = iter(DataLoader(stream, batch_size=None))
    seen = [next(batches) for _ in range(2)]
    state = stream.state_dict(2)
    loader = ShardLoader(ShardReader(build), order, list)
    loader.load_state_dict(state)
    assert state == loader.state_dict()
    rest = in_order(build, order, 1)[2:]
    assert rows_of(seen) == in_order(build, order, 1)[:2]
    assert rows_of(loader) == rest
    stream.load_state_dict(state)
    assert rows_of(stream) == rest


def test_a_state_of_other_shards_or_another_order_is_refused(build: Path) -> None:
    reader = ShardReader(build)
    loader = ShardLoader(reader, BatchOrder(batch_size=4), list)
    state = loader.state_dict()
    other = ShardLoader(reader, BatchOrder(batch_size=3), list)
    with pytest.raises(UsageError, match="saved with batch_size 4, here it is 3"):
        other.load_state_dict(state)
    with pytest.raises(UsageError, match="saved with shards_sha256 0"):
        loader.load_state_dict({**state, "shards_sha256": "0"})
    with pytest.raises(UsageError, match="saved with batch_size None"):
        loader.load_state_dict({"epoch": 0, "batches": 0})


def test_loading_leaves_torchs_global_random_state_alone(build: Path) -> None:
    loader = ShardLoader(ShardReader(build), BatchOrder(batch_size=4), list)
    before = torch.random.get_rng_state()
    assert len(list(loader)) == 6
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_worker_with_a_lane_of_its_own_decodes_each_row_group_once(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = BatchOrder(batch_size=1, mixed_rows=4, lanes=2)
    decoded: list[tuple[str, int]] = []
    read = reading.read_group
    monkeypatch.setattr(
        reading, "read_group", lambda *args: decoded.append((args[2], args[1])) or read(*args)
    )
    groups = len(ShardReader(build).group_rows)
    for worker in range(2):  # as DataLoader deals batches to two workers
        reader = ShardReader(build, cached_rows=2 * order.mixed_rows)
        for rows in list(EpochBatches(reader, order))[worker::2]:
            assert all(reader.clip(row) for row in rows)
    shared = sum(count > 1 for count in Counter(decoded).values())
    assert len(decoded) <= groups + 4
    assert shared <= 4  # of one stretch, where the lanes meet


# Warnings and refusals


def test_more_processes_than_shards_are_warned_about(build: Path) -> None:
    reader, order = ShardReader(build), BatchOrder(batch_size=2)
    with pytest.warns(UserWarning, match="4 shards for 5 ranks x 1 workers; every row still"):
        ShardLoader(reader, order, list, ranks=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ShardLoader(reader, order, list, ranks=4)


def test_mixing_more_than_the_reader_keeps_is_refused(build: Path) -> None:
    reader = ShardReader(build, cached_rows=100)
    with pytest.raises(UsageError, match=r"keeps 100 decoded rows, need 102 to mix 51"):
        ShardLoader(reader, BatchOrder(batch_size=2, mixed_rows=51), list)
    ShardLoader(reader, BatchOrder(batch_size=2, mixed_rows=51, shuffle=False), list)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_outside_is_refused(rank: int, build: Path) -> None:
    with pytest.raises(UsageError, match=f"rank {rank} of 2, need 0 <= rank < ranks"):
        EpochBatches(ShardReader(build), BatchOrder(batch_size=2), rank=rank, ranks=2)


# In worker processes

few_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@few_cores
def test_spawned_workers_change_nothing_and_a_state_outlives_them(build: Path) -> None:
    order = BatchOrder(batch_size=4, mixed_rows=6)
    loader = ShardLoader(ShardReader(build, events=False), order, list, num_workers=2)
    assert rows_of(loader) == in_order(build, order, 0)
    seen = []
    for batch in loader:  # the same processes, the next epoch, left in the middle
        seen.append(batch)
        if len(seen) == 3:
            break
    alone = ShardLoader(ShardReader(build), order, list)
    alone.load_state_dict(loader.state_dict())
    assert rows_of(seen) + rows_of(alone) == in_order(build, order, 1)
    assert rows_of(loader) == in_order(build, order, 1)[3:]


@pytest.mark.slow
def test_what_a_worker_cannot_read_keeps_its_class_and_message(build: Path) -> None:
    reader = ShardReader(build)
    assert len(reader) == ROWS
    next((build / "data").iterdir()).unlink()
    with pytest.raises(ShardError, match=r"parquet: is missing or out of reach; rebuild or fetch"):
        list(ShardLoader(reader, BatchOrder(batch_size=4), list, num_workers=1))


@pytest.mark.slow
@few_cores
def test_two_ranks_of_three_spawned_workers_share_every_epoch_exactly(build: Path) -> None:
    order = BatchOrder(batch_size=3, mixed_rows=6, lanes=6)
    reader = ShardReader(build, events=False)
    with pytest.warns(UserWarning, match="4 shards for 2 ranks x 3 workers"):
        loaders = [
            ShardLoader(reader, order, list, rank=rank, ranks=2, num_workers=3) for rank in range(2)
        ]
    for epoch in range(2):
        shares = [rows_of(loader) for loader in loaders]
        want = in_order(build, order, epoch)
        assert shares == [want[0::2], want[1::2]]
        assert Counter(row for share in shares for batch in share for row in batch) == Counter(
            range(ROWS)
        )


@pytest.mark.slow
@few_cores
def test_a_stream_in_persistent_workers_hears_of_the_next_epoch(build: Path) -> None:
    order = BatchOrder(batch_size=3, mixed_rows=6)
    stream = ShardStream(ShardReader(build, events=False), order, list)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    for epoch in range(2):
        stream.set_epoch(epoch)
        assert rows_of(loader) == in_order(build, order, epoch)
    batches = iter(loader)
    seen = [next(batches) for _ in range(3)]
    stream.load_state_dict(stream.state_dict(3))
    assert rows_of(seen) + rows_of(loader) == in_order(build, order, 1)
