"""What no output may hold: paths and names of this machine, e-mail addresses, tokens."""

import getpass
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["private_text"]

PATH, EMAIL, TOKEN = "absolute path", "e-mail address", "token"
# (kind, what every match begins with, the match): most texts hold none of the beginnings.
RULES = tuple(
    (kind, start, re.compile(pattern))
    for kind, start, pattern in (
        # Two components, or a folder that holds users' files: annotators write "and /or".
        (
            PATH,
            "/",
            r"/(?<![\w.~:/<>*+-]/)(?:[\w.+@-]+/[\w.+@-]|(?:root|home|tmp|Users)\b)[^\s\"',;]*",
        ),
        (PATH, "~/", r"~/(?<!\w~/)[\w.][^\s\"',;]*"),
        (PATH, "file://", r"file://[^\s\"']+"),
        (PATH, ":\\", r":(?<=\b[A-Za-z]:)\\+\w[^\s\"'\\]*\\[^\s\"']*"),
        (PATH, "\\\\", r"\\\\+(?<![\w:]\\\\)\w[\w.-]*\\+\w[^\s\"']*"),
        (EMAIL, "@", r"@(?<=[\w+-]@)[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
        (TOKEN, "hf_", r"hf_[A-Za-z0-9]{30,}"),
        (TOKEN, "gh", r"gh[pousr]_[A-Za-z0-9]{30,}"),
        (TOKEN, "github_pat_", r"github_pat_\w{30,}"),
        (TOKEN, "glpat-", r"glpat-[\w-]{20,}"),
        (TOKEN, "sk-", r"sk-(?<![\w-]sk-)[\w-]{20,}"),
        (TOKEN, "xox", r"xox[abprs]-[\w-]{10,}"),
        (TOKEN, "AKIA", r"AKIA[0-9A-Z]{16}\b"),
        (TOKEN, "eyJ", r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}"),
        (TOKEN, "-----BEGIN", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    )
)
SHOWN = {PATH: 60, EMAIL: 60, TOKEN: 8}
"""How much of a match a report repeats."""

SHORTEST_NAME = 4
COMMON_NAMES = re.compile(
    "admin|administrator|build|builder|centos|container|data|debian|default|demo|docker|events|"
    "fedora|guest|home|host|jovyan|linux|local|localhost|main|master|node|nobody|root|runner|"
    "server|test|tester|train|ubuntu|user|users|vagrant|video|windows|worker|workspace",
    re.IGNORECASE,
)
"""Names of users and hosts that tell nothing about anybody."""


def private_text(text: str, *, names: bool = True) -> Iterator[tuple[str, str]]:
    """(kind, the start of it) of everything in a text that names a machine, a person or a key.

    Args:
        text: any text; JSON as it is written.
        names: also look for this machine's host and user names as whole words; False for what
            annotators wrote, where a first name is just a word.
    """
    for kind, start, rule in RULES:
        if start in text:
            for match in rule.finditer(text):
                yield kind, match[0][: SHOWN[kind]]
    pattern = _own_names() if names else None
    if pattern is not None:
        for match in pattern.finditer(text):
            yield "host or user name", match[0]


@cache
def _own_names() -> re.Pattern[str] | None:
    """This machine's host name, user and home folder, as far as they tell anything."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name}
    with suppress(OSError, KeyError):  # a container's user need not have an entry
        names.add(getpass.getuser())
    telling = {n for n in names if len(n) >= SHORTEST_NAME and not COMMON_NAMES.fullmatch(n)}
    if not telling:
        return None
    words = "|".join(re.escape(name) for name in sorted(telling))
    return re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])")
