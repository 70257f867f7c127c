"""Which rows come in which batch of an epoch, and who loads it.

An epoch is one sequence of batches, a pure function of (seed, epoch, batch size, `mixed_rows`,
`lanes`) and of the shards' row groups. Ranks and workers decide only who loads which: of R ranks,
rank r takes batches r, r + R, r + 2R, ... So every row comes exactly once, whatever divides what;
the batches of one step are the same rows however many ranks share them, as long as the product of
ranks and batch size is; and a run that stopped after n batches goes on with any number of ranks.

Rows are mixed as far as whole row groups allow: the groups are put in random order, and the rows of
each stretch of about `mixed_rows` are shuffled among themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError
from egotriad.models.seeding import numpy_generator

__all__ = ["BatchOrder", "epoch_batches", "epoch_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """The order of an epoch's batches.

    Attributes:
        batch_size: rows of a batch, on each rank.
        seed: of the shuffling.
        shuffle: False keeps the build's order.
        mixed_rows: rows shuffled among themselves; decoded rows of twice this number are held.
        lanes: pieces of the epoch that are read side by side, batch by batch. With 1 the batches
            run through the shuffled epoch from front to back, and every worker decodes almost every
            row group. With `ranks * workers` each worker has a piece, and decodes, of its own.
        even_steps: leaves the epoch's last few rows out, so that all ranks take equally many steps
            of whole batches. Otherwise ranks differ by at most one step, and one batch is short.
    """

    batch_size: int
    seed: int = 0
    shuffle: bool = True
    mixed_rows: int = 2048
    lanes: int = 1
    even_steps: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "mixed_rows", "lanes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: got {getattr(self, name)}, need 1 or more")


def epoch_rows(group_rows: Sequence[int], order: BatchOrder, epoch: int) -> NDArray[np.int64]:
    """Every row once, in this epoch's order.

    Args:
        group_rows: rows of every row group, in the build's order.
        order: how to shuffle.
        epoch: which epoch.

    Returns:
        int64 (N,), rows counted in the build's order.
    """
    if not order.shuffle:
        return np.arange(sum(group_rows), dtype=np.int64)
    rng = numpy_generator(order.seed, f"rows of epoch {epoch}")
    sizes = np.asarray(group_rows, np.int64)
    starts = np.cumsum(sizes) - sizes
    groups = rng.permutation(len(sizes))
    rows = np.concatenate(
        [np.empty(0, np.int64)]
        + [np.arange(starts[group], starts[group] + sizes[group]) for group in groups]
    )
    before = np.cumsum(sizes[groups]) - sizes[groups]
    cuts = before[np.flatnonzero(np.diff(before // order.mixed_rows)) + 1]
    return np.concatenate([rng.permutation(stretch) for stretch in np.split(rows, cuts)])


def epoch_batches(
    group_rows: Sequence[int],
    order: BatchOrder,
    epoch: int,
    *,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> list[NDArray[np.int64]]:
    """One rank's batches of an epoch, as the rows they hold.

    The epoch's rows are cut into `lanes` pieces of equally many whole batches, which are dealt out
    in turn; what remains comes last, in order.

    Args:
        group_rows: see `epoch_rows`.
        order: see `epoch_rows`.
        epoch: which epoch.
        start: leaves out the epoch's first batches, those of all ranks counted.
        rank: which rank.
        ranks: how many share the epoch.
    """
    rows = epoch_rows(group_rows, order, epoch)
    size = order.batch_size
    each = len(rows) // (size * order.lanes)
    body = rows[: each * size * order.lanes].reshape(order.lanes, each, size)
    tail = rows[body.size :]
    batches = [*body.swapaxes(0, 1).reshape(-1, size)]
    batches += [tail[first : first + size] for first in range(0, len(tail), size)]
    if order.even_steps:
        steps = max(0, len(rows) // size - start) // ranks
        batches = batches[: start + steps * ranks]
    return batches[start + rank :: ranks]
