"""YAML enough for a dataset card's front matter; the base installation needs no YAML library."""

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["to_yaml"]

KEYWORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
"""Bare words that YAML 1.1 does not read as text."""


def to_yaml(value: dict[str, Any]) -> str:
    """Block-style YAML of dicts, lists, strings, numbers and booleans, keys in their order."""
    return "".join(line + "\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                yield f"{_scalar(key)}:"
                indent = "  " if isinstance(item, dict) else ""
                yield from (indent + line for line in _lines(item))
            else:
                yield f"{_scalar(key)}: {_scalar(item)}"
    else:
        for item in value:
            if isinstance(item, dict | list) and item:
                first, *rest = _lines(item)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
            else:
                yield f"- {_scalar(item)}"


def _scalar(value: Any) -> str:
    """A word as it stands; everything else as JSON, which YAML contains."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]*( [\w-]+)*", value, re.ASCII):
        return json.dumps(value) if value.lower() in KEYWORDS else value
    return json.dumps(value, ensure_ascii=False)
