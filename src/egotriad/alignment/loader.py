"""Shards as torch datasets, and a loader that can stop in the middle of an epoch and go on.

```
reader = ShardReader("user/name@v1", split="train", events=False)
ShardLoader(reader, order, collate)         batches; num_workers, rank, ranks; state_dict()
ShardDataset(reader), EpochBatches(...)     map-style, for a DataLoader of your own
ShardStream(reader, order, collate)         iterable, for a DataLoader of your own
```
All give the same batches in the same order (`loader_order`), in this process and in workers however
they were started. A batch is what `collate` makes of a list of `Clip`s (`list` leaves it as it is),
and `collate` runs where the rows are decoded.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Generic, TypeVar

import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from egotriad.alignment.loader_order import BatchOrder, epoch_batches
from egotriad.manifests import Clip
from egotriad.manifests.errors import UsageError
from egotriad.manifests.shards import ShardReader

__all__ = ["EpochBatches", "ShardDataset", "ShardLoader", "ShardStream", "State"]

Batch = TypeVar("Batch")
State = dict[str, int | bool | str]
"""Where in which epoch of what a training is: JSON values."""


class ShardDataset(Dataset[Clip]):
    """A build's clips by index (map-style)."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Clip:
        return self.reader.clip(index)


class EpochBatches(Sampler[list[int]]):
    """The indices of one rank's batches, from a place in an epoch to the epoch's end.

    It does not move by itself: a DataLoader asks for batches well before they are used.

    Args:
        reader: what is loaded.
        order: of the batches.
        rank: which rank this is.
        ranks: how many share each epoch.

    Attributes:
        epoch: which epoch comes.
        batches: how many of its batches, those of all ranks counted, have been used.
    """

    def __init__(
        self, reader: ShardReader, order: BatchOrder, *, rank: int = 0, ranks: int = 1
    ) -> None:
        if not 0 <= rank < ranks:
            raise UsageError(f"rank {rank} of {ranks}, need 0 <= rank < ranks")
        self.epoch = 0
        self.batches = 0
        self._reader, self._order = reader, order
        self._rank, self._ranks = rank, ranks

    def __len__(self) -> int:
        """Batches left in this epoch, for this rank."""
        rows, size = len(self._reader), self._order.batch_size
        if self._order.even_steps:
            return max(0, rows // size - self.batches) // self._ranks
        return len(range(self.batches + self._rank, -(-rows // size), self._ranks))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._left())

    def advance(self) -> None:
        """Every rank has used one more batch."""
        self.batches += self._ranks

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch."""
        self.epoch, self.batches = epoch, 0

    def state_dict(self) -> State:
        """Where the training is; the same on every rank."""
        return {"epoch": self.epoch, "batches": self.batches, **self._identity()}

    def load_state_dict(self, state: State) -> None:
        """Goes to where a training was; it may have had another number of ranks and workers.

        Raises:
            UsageError: when the state is of other shards or of another order.
        """
        for name, have in self._identity().items():
            if state.get(name) != have:
                raise UsageError(
                    f"{self._reader.name}: the state was saved with {name} {state.get(name)}, "
                    f"here it is {have}; go on with the same shards and order, or start anew"
                )
        self.epoch, self.batches = int(state["epoch"]), int(state["batches"])

    def _left(self) -> list[list[int]]:
        batches = epoch_batches(
            self._reader.group_rows,
            self._order,
            self.epoch,
            start=self.batches,
            rank=self._rank,
            ranks=self._ranks,
        )
        return [rows.tolist() for rows in batches]

    def _identity(self) -> State:
        rows = len(self._reader)
        return {**asdict(self._order), "rows": rows, "shards_sha256": self._reader.sha256}


class ShardLoader(Generic[Batch]):
    """Batches of shards, epoch after epoch, that can be left and taken up anywhere.

    Iterating gives the rest of the current epoch and then moves to the next; after a `break` the
    following loop goes on behind the last batch that came out.

    Args:
        reader: what is loaded; see `ShardReader` for what it leaves unread.
        order: of the batches.
        collate: makes a batch of its clips, in the worker; give tensors to more than one worker,
            they travel without being copied.
        rank: which rank this is.
        ranks: how many share each epoch.
        num_workers: processes that decode (spawned, kept from epoch to epoch); 0 = this one.
        pin_memory: for tensors on their way to a GPU.

    Raises:
        UsageError: when the reader holds too few rows for the order's mixing.
        ShardError: when a file is missing, damaged or of another version.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: BatchOrder,
        collate: Callable[[list[Clip]], Batch],
        *,
        rank: int = 0,
        ranks: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        check_fit(reader, order, ranks, num_workers)
        self._place = EpochBatches(reader, order, rank=rank, ranks=ranks)
        workers: dict[str, Any] = {
            "num_workers": num_workers,
            "multiprocessing_context": "spawn",  # Arrow's and fsspec's threads do not survive fork
            "persistent_workers": True,
            "worker_init_fn": _start_worker,
        }
        self._loader = DataLoader(
            ShardDataset(reader),
            batch_sampler=self._place,
            collate_fn=collate,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else every epoch would move torch's global one
            **(workers if num_workers else {}),
        )

    @property
    def epoch(self) -> int:
        """Which epoch comes, or is being read."""
        return self._place.epoch

    def __len__(self) -> int:
        """Batches left in this epoch, for this rank."""
        return len(self._place)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            self._place.advance()
            yield batch
        self._place.set_epoch(self._place.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch."""
        self._place.set_epoch(epoch)

    def state_dict(self) -> State:
        """The place behind the last batch that came out; the same on every rank."""
        return self._place.state_dict()

    def load_state_dict(self, state: State) -> None:
        """See `EpochBatches.load_state_dict`."""
        self._place.load_state_dict(state)


class ShardStream(IterableDataset[Batch], Generic[Batch]):
    """The rest of one epoch, batch by batch (iterable).

    Use it as `DataLoader(stream, batch_size=None, num_workers=...)`. It stays where it is: call
    `set_epoch` before each epoch, which reaches persistent workers too.

    Args:
        reader: what is loaded.
        order: of the batches.
        collate: makes a batch of its clips.
        rank: which rank this is.
        ranks: how many share each epoch.

    Raises:
        UsageError: when the reader holds too few rows for the order's mixing.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: BatchOrder,
        collate: Callable[[list[Clip]], Batch],
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._reader, self._order, self._collate = reader, order, collate
        self._ranks = ranks
        self._batches = EpochBatches(reader, order, rank=rank, ranks=ranks)
        self._shared = torch.zeros(2, dtype=torch.int64)  # epoch, batches used
        self._shared.share_memory_()  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if worker == 0:
            check_fit(self._reader, self._order, self._ranks, workers)
        place = self._place()
        for rows in list(place)[worker::workers]:
            yield self._collate([self._reader.clip(row) for row in rows])

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch."""
        self._shared.copy_(torch.tensor([epoch, 0]))

    def state_dict(self, batches: int) -> State:
        """The place when this rank has used so many batches since the last call that moved it."""
        place = self._place()
        place.batches += batches * self._ranks
        return place.state_dict()

    def load_state_dict(self, state: State) -> None:
        """See `EpochBatches.load_state_dict`."""
        place = self._place()
        place.load_state_dict(state)
        self._shared.copy_(torch.tensor([place.epoch, place.batches]))

    def _place(self) -> EpochBatches:
        self._batches.epoch, self._batches.batches = self._shared.tolist()
        return self._batches


def check_fit(reader: ShardReader, order: BatchOrder, ranks: int, workers: int) -> None:
    """Warns when processes outnumber shards; refuses mixing that would decode rows over and over.

    Raises:
        UsageError: when the reader keeps too few decoded rows.
    """
    processes = ranks * max(workers, 1)
    if reader.shards < processes and processes > 1:
        warnings.warn(
            f"{reader.name}: {reader.shards} shards for {ranks} ranks x {max(workers, 1)} workers; "
            "every row still comes once, but processes read and decode parts of the same files: "
            "use fewer workers, or build with a smaller --shard-mib",
            stacklevel=3,
        )
    need = 2 * order.mixed_rows * -(-order.lanes // processes) if order.shuffle else 0
    if reader.cached_rows < need:
        raise UsageError(
            f"{reader.name}: keeps {reader.cached_rows} decoded rows, need {need} to mix "
            f"{order.mixed_rows} in {order.lanes} lanes over {processes} processes; open it with "
            f"ShardReader(..., cached_rows={need}) or mix fewer"
        )


def _start_worker(_: int) -> None:
    pa.set_cpu_count(1)  # there are as many workers as the user gave cores
