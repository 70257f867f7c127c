"""Large JSON files value by value, in little memory."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from egotriad.manifests.errors import RecordingError

__all__ = ["JsonStream", "open_json"]

BLOCK = 1 << 20


class JsonStream:
    """Reads a JSON text in its order; the caller says at each place how deep to go.

    Example:
        with open_json(path) as stream:
            for key in stream.members():
                value = stream.value()
    """

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self._text = ""
        self._at = 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\n\r":
                    return self._text[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._fill():
                    raise
                continue
            # A number that reaches the end of the block, or 1 of "1.", may go on in the next one.
            if self._text[end : end + 1] in "0123456789+-.eE" and self._fill():
                continue
            self._at = end
            return value

    def items(self) -> Iterator[Any]:
        """The values of the array that comes next."""
        self._take("[")
        if self.peek() != "]":
            yield self.value()
            while self.peek() == ",":
                self._at += 1
                yield self.value()
        self._take("]")

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; each value is to be read before the next key."""
        self._take("{")
        if self.peek() != "}":
            yield self._key()
            while self.peek() == ",":
                self._at += 1
                yield self._key()
        self._take("}")

    def skip(self) -> None:
        """Passes over the next value; a long array is never held whole."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def skip_to(self, key: re.Pattern[str]) -> None:
        """Passes over the next value without decoding it, as far as the next key of a kind.

        Four times as fast as `skip`; without such a key the value is passed over as there.

        Args:
            key: matches the next member's key, from its quote to its colon, in at most 100
                characters, and nothing inside the value.
        """
        self.peek()
        searched = 0
        while True:
            found = key.search(self._text, self._at + searched)
            if found:
                self._at = self._text.rindex(",", self._at, found.start())
                return
            searched = max(0, len(self._text) - self._at - 100)
            if not self._fill():
                self.value()
                return

    def _key(self) -> str:
        if self.peek() != '"':
            raise json.JSONDecodeError("a key was expected", self._text, self._at)
        key = str(self.value())
        self._take(":")
        return key

    def _take(self, mark: str) -> None:
        if self.peek() != mark:
            raise json.JSONDecodeError(f"{mark!r} was expected", self._text, self._at)
        self._at += 1

    def _fill(self) -> bool:
        """Reads on; false at the end of the file."""
        # As much as is left over, so that a long value is not decoded over and over.
        more = self._handle.read(max(BLOCK, len(self._text) - self._at))
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(more)


@contextmanager
def open_json(path: Path) -> Iterator[JsonStream]:
    """Opens a UTF-8 JSON file.

    Raises:
        RecordingError: no such file; inside, whatever is no JSON or no UTF-8 in what is read.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    try:
        with path.open(encoding="utf-8-sig") as handle:
            yield JsonStream(handle)
    except (json.JSONDecodeError, RecursionError) as exc:
        raise RecordingError(f"{path.name}: not JSON ({exc}); download it again") from exc
    except UnicodeDecodeError as exc:
        raise RecordingError(f"{path.name}: not UTF-8 ({exc.reason}); download it again") from exc
