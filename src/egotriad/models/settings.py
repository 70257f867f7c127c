"""Frozen config dataclasses to plain JSON values and back, nothing lost and nothing guessed."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

from egotriad.manifests.errors import UsageError

__all__ = ["settings_from_json", "settings_to_json"]

Settings = TypeVar("Settings")


def settings_to_json(settings: Any) -> dict[str, Any]:
    """Every field of a config dataclass (nested ones too) as JSON values; tuples become lists."""
    return {key: plain(value) for key, value in asdict(settings).items()}


def plain(value: Any) -> Any:
    """`value` with tuples as lists, all the way down."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def settings_from_json(
    kind: type[Settings], values: Mapping[str, Any], *, partial: bool = False
) -> Settings:
    """The config dataclass those values describe.

    Args:
        kind: the dataclass.
        values: what `settings_to_json` gave.
        partial: whether missing fields take their defaults (a user's options) or are an error (a
            saved file: a default that changed since would silently make another model).

    Raises:
        UsageError: naming unknown fields, and missing ones unless `partial`.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    missing = [] if partial else [name for name in names if name not in values]
    if unknown or missing:
        raise UsageError(
            f"{kind.__name__}: unknown fields {unknown}, missing fields {missing}; "
            f"need {', '.join(names)}"
        )
    hints = get_type_hints(kind)
    return kind(**{name: typed(hints[name], value, partial) for name, value in values.items()})


def typed(hint: Any, value: Any, partial: bool) -> Any:
    """A JSON value as the field's type: nested dataclasses and tuples restored."""
    if is_dataclass(hint) and isinstance(hint, type):
        return settings_from_json(hint, value, partial=partial)
    return tuple(value) if get_origin(hint) is tuple else value
