"""Free memory, and the refusal to read what would not fit into it."""

from pathlib import Path

import torch

from egotriad.manifests.errors import CheckpointError

__all__ = ["free_bytes", "require_room"]


def free_bytes(device: str) -> int | None:
    """Memory that is free on a device; None where the system does not say."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    available = values.get("MemAvailable", "").split()
    return int(available[0]) * 1024 if available else None


def require_room(path: Path, what: str, need: int, *, device: str = "cpu") -> None:
    """Nothing when weights fit the device's free memory, as far as that is known.

    Args:
        path: of the weights, for the message.
        what: they are, for the message.
        need: bytes that they take.
        device: where they go.

    Raises:
        CheckpointError: saying what they take and what is free.
    """
    free = free_bytes(device)
    if free is not None and need > free:
        raise CheckpointError(
            f"{path}: {what} takes {need / 1e9:.1f} GB in memory, {free / 1e9:.1f} GB are free on "
            f"{device}; free some, or use a machine with more"
        )
