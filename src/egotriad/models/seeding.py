"""Random streams derived from (seed, key): no global seed is ever set for good."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["numpy_generator", "torch_stream"]


def stream_seed(seed: int, key: str) -> int:
    """A 63-bit seed that differs for every (seed, key)."""
    digest = hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, key: str) -> np.random.Generator:
    """The NumPy generator of this purpose."""
    return np.random.default_rng(stream_seed(seed, key))


@contextmanager
def torch_stream(seed: int, key: str) -> Iterator[None]:
    """Inside, torch's own random state is that of (seed, key); afterwards it is what it was.

    Weight initialisation and dropout of torch and transformers draw from the global state and take
    no generator, so the state is set aside rather than passed around.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(stream_seed(seed, key))
        yield
