"""Frozen config dataclasses to plain JSON values and back, nothing lost and nothing guessed."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from egotriad.manifests.errors import UsageError

__all__ = ["ADDED_LATER", "require_one_of", "settings_from_json", "settings_to_json"]

ADDED_LATER = {"added_later": True}
"""Metadata of a field that saved files may lack; its default says what those models are."""

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
            saved file: a default that changed since would silently make another model). Fields
            that are `ADDED_LATER` take theirs in any case.

    Raises:
        UsageError: naming unknown fields, and missing ones unless `partial`.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    later = {field.name for field in fields(kind) if "added_later" in field.metadata}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    missing = [] if partial else [name for name in names if name not in {*values, *later}]
    if unknown or missing:
        raise UsageError(
            f"{kind.__name__}: unknown fields {unknown}, missing fields {missing}; "
            f"need {', '.join(names)}"
        )
    hints = get_type_hints(kind)
    return kind(**{name: typed(hints[name], value, partial) for name, value in values.items()})


def require_one_of(what: str, value: object, choices: Any) -> None:
    """Nothing when a setting is one of a `Literal`'s values.

    Raises:
        UsageError: naming them.
    """
    if value not in get_args(choices):
        raise UsageError(f"{what}: got {value!r}, need {' or '.join(map(str, get_args(choices)))}")


def typed(hint: Any, value: Any, partial: bool) -> Any:
    """A JSON value as the field's type: nested dataclasses and tuples restored."""
    if is_dataclass(hint) and isinstance(hint, type):
        return settings_from_json(hint, value, partial=partial)
    return tuple(value) if get_origin(hint) is tuple else value
