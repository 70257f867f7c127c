"""Every error this package raises on purpose.

```
EgotriadError                 anything a user, a file or a network can cause
├── UsageError                the command or a setting is wrong: exit code 2
│   └── UnknownPlugin         no dataset / encoder / draft / target of that name
├── MissingDependency         an optional package is not installed
├── DiskFull                  there is not enough room to go on: exit code 74
├── WorkerLost                the process that worked on a recording died
├── DownloadError             files could not be brought, or not those that were asked for
│   └── AccessDenied          keys are missing, expired, or not approved for these files
├── RecordingError            a recording cannot be read (the rest of the build goes on)
├── ClipRejected              one window cannot become a clip (counted under its reason)
├── ShardError                shards on disk are missing, malformed or of another version
├── PushError                 the Hub refused a push, or holds something else than was sent
│   └── PushInterrupted       the connection or the Hub failed: exit code 75, run again
├── TokenizerMismatch         draft and target do not share their vocabulary
├── CheckpointError           a model folder is incomplete or belongs to something else
└── EvaluationError           a measurement would not mean what its name says
```

A message says what, where, got, need, and the next step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "AccessDenied",
    "CheckpointError",
    "ClipRejected",
    "DiskFull",
    "DownloadError",
    "EgotriadError",
    "EvaluationError",
    "MissingDependency",
    "PushError",
    "PushInterrupted",
    "RecordingError",
    "ShardError",
    "TokenizerMismatch",
    "UnknownPlugin",
    "UsageError",
    "WorkerLost",
    "located",
]


class EgotriadError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what a command line exits with."""

    exit_code = 1


class UsageError(EgotriadError):
    """The command line or a configuration value is wrong."""

    exit_code = 2


class UnknownPlugin(UsageError):
    """No plug-in of that kind has that name."""


class MissingDependency(EgotriadError):
    """An optional package is needed and not installed."""


class DownloadError(EgotriadError):
    """Files could not be brought, or not those that were asked for."""


class AccessDenied(DownloadError):
    """Keys are missing, expired, or not approved for these files."""


class DiskFull(EgotriadError):
    """There is not enough room on a disk to go on; what is finished stays."""

    exit_code = 74


class WorkerLost(EgotriadError):
    """The process that worked on a recording died: the machine's fault, or the memory's."""


class RecordingError(EgotriadError):
    """A recording cannot be read."""


class ClipRejected(EgotriadError):
    """A window cannot become a clip.

    Args:
        reason: short class of the cause, counted in reports (`imu-gap`, `no-video`, ...).
        message: the full sentence.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ClipRejected"], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class ShardError(EgotriadError):
    """Shards on disk are missing, malformed or of another version."""


class PushError(EgotriadError):
    """The Hub refused a push, or holds something else than was sent."""


class PushInterrupted(PushError):
    """The connection or the Hub failed on the way; the same command goes on from there."""

    exit_code = 75


class TokenizerMismatch(EgotriadError):
    """Draft and target do not share their vocabulary."""


class CheckpointError(EgotriadError):
    """A model folder is incomplete or belongs to something else."""


class EvaluationError(EgotriadError):
    """A measurement would not mean what its name says."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Puts `where` (a recording id, a file) in front of the message of any error raised inside."""
    try:
        yield
    except ClipRejected as exc:
        raise ClipRejected(exc.reason, f"{where}: {exc}") from exc
    except EgotriadError as exc:
        raise type(exc)(f"{where}: {exc}") from exc
