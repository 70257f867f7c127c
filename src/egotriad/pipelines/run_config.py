"""How a build is run: nothing of it changes a byte of the shards."""

import hashlib
import re
from dataclasses import dataclass

from egotriad.manifests.errors import UsageError

__all__ = ["RunConfig", "Share"]


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` parts of the recordings, the same whoever asks and whatever is added."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Reads `I/N`: part I, counted from 0, of N.

        Raises:
            UsageError: it says something else.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None or not int(match[1]) < int(match[2]):
            raise UsageError(f"--partition: got {text!r}, need I/N with I from 0 to N - 1")
        return cls(int(match[1]), int(match[2]))

    def holds(self, recording_id: str) -> bool:
        """Whether a recording belongs to this part."""
        digest = hashlib.blake2b(recording_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What of a build is done now, and when it stops.

    Attributes:
        partition: build only share `I/N` of the recordings (I from 0) and pack nothing; whoever
            runs without it later packs what all have built.
        pack_only: pack what is built, build nothing.
        retry_quarantined: try all failed recordings again, those with bad input too.
        max_failures: stop when more recordings than this fail; never when not given.
        reserve_gib: space on the disk, in GiB, that is always left free.
        grace_s: seconds that running recordings are given to finish after Ctrl-C or SIGTERM.
        verify: decode and check everything that was written, at the end.
    """

    partition: str | None = None
    pack_only: bool = False
    retry_quarantined: bool = False
    max_failures: int | None = None
    reserve_gib: float = 1.0
    grace_s: float = 3.0
    verify: bool = False

    def __post_init__(self) -> None:
        if self.partition is not None and (self.pack_only or self.verify):
            raise UsageError("--partition packs nothing; drop --pack-only and --verify, or run it")
        if self.max_failures is not None and self.max_failures < 0:
            raise UsageError(f"--max-failures: got {self.max_failures}, need 0 or more")
        if not (self.reserve_gib >= 0 and self.grace_s >= 0):
            raise UsageError("--reserve-gib and --grace-seconds must be at least 0")
        self.share  # noqa: B018  (a bad value is a usage error before any work is done)

    @property
    def share(self) -> Share | None:
        """The recordings to be built, None for all."""
        return None if self.partition is None else Share.parse(self.partition)

    @property
    def reserve_bytes(self) -> int:
        """Space that is always left free."""
        return round(self.reserve_gib * 2**30)
