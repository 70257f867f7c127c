"""Recorded options and configurations back into the objects that they were."""

import types
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from egotriad.manifests.errors import ShardError

__all__ = ["restored"]

Options = TypeVar("Options")


def restored(kind: type[Options], record: dict[str, Any], places: Sequence[Path]) -> Options:
    """What `provenance.options_record` made a record of.

    Args:
        kind: a dataclass.
        record: its fields as JSON values.
        places: folders to look for files in: a record holds only the last name of a path.

    Raises:
        ShardError: when the record is of another version, or a file is in none of the folders.
    """
    try:
        return _value(kind, record, places)
    except (TypeError, KeyError, AttributeError) as exc:
        raise ShardError(
            f"{kind.__name__}: the recorded options are of another version of egotriad ({exc}); "
            "repair with the version in provenance.json, or run build-shards again"
        ) from exc


def _value(kind: Any, value: Any, places: Sequence[Path]) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin in (Union, types.UnionType):
        choices = [argument for argument in arguments if argument is not type(None)]
        return _value(choices[0], value, places) if len(choices) == 1 else value
    if origin is tuple:
        each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(k, v, places) for k, v in zip(each, value, strict=True))
    if kind is Path:
        return _found(value, places)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _value(hints[name], item, places) for name, item in value.items()})
    return value


def _found(name: str, places: Sequence[Path]) -> Path:
    for place in places:
        if name and (place / name).exists():
            return place / name
    folders = ", ".join(str(place) for place in places)
    raise ShardError(f"{name!r} is in none of {folders}; name its folder with --sources")
