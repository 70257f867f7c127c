"""Files that are either whole or absent, and the hashes and canonical JSON that name them."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError

__all__ = [
    "atomic",
    "canonical_json",
    "open_sealed",
    "seal",
    "sha256_file",
    "sha256_text",
    "short_hash",
    "write_text",
]

SEAL = "seal_sha256"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; moves it there, flushed to disk, when all went well.

    A process killed inside leaves at most `<name>.tmp-<pid>`, never a half-written `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text as UTF-8, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def seal(values: Mapping[str, Any]) -> str:
    """One line of canonical JSON that carries the hash of its own content.

    For files that no SHA256SUMS can name, because they hold times or are written before it.
    """
    return canonical_json({**values, SEAL: sha256_text(canonical_json(values))}) + "\n"


def open_sealed(path: Path) -> dict[str, Any]:
    """The values of a sealed file.

    Raises:
        ShardError: when it is missing, or not byte for byte what was sealed.
    """
    try:
        text = path.read_bytes().decode()
        values = json.loads(text)
        del values[SEAL]
        whole = seal(values) == text
    except FileNotFoundError as exc:
        raise ShardError(f"{path.name}: is missing; rebuild or fetch it again") from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ShardError(f"{path.name}: is damaged, not sealed JSON; rebuild it") from exc
    if not whole:
        raise ShardError(f"{path.name}: is damaged, its content does not give its seal; rebuild it")
    return dict(values)


def short_hash(value: Any) -> str:
    """First 16 hex digits of the blake2b of a value's canonical JSON."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=8).hexdigest()
