"""What is known of the licences of sources: may their data be handed on, and who is asked.

Unknown licences are treated like those that forbid it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Licence", "licence", "licences_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """One licence id of the `license_id` column.

    Attributes:
        id: as it stands in shards (`ego4d`, `own`, `cc-by-4.0`, ...).
        title: what people call it.
        url: where its text is or is signed; None where there is no such page.
        redistributable: whether whoever holds the data may hand it on without asking anybody.
        on_hub: whether the Hub has a licence identifier of that name.
    """

    id: str
    title: str
    url: str | None
    redistributable: bool
    on_hub: bool = False


def _restricted(name: str, title: str, url: str | None) -> Licence:
    return Licence(id=name, title=title, url=url, redistributable=False)


def _creative_commons(name: str, title: str, path: str) -> Licence:
    url = f"https://creativecommons.org/{path}/"
    return Licence(id=name, title=title, url=url, redistributable=True, on_hub=True)


# The agreements' texts could not be read; until somebody has, what is derived from such videos
# (IMU, narrations, events) counts as covered by them.
_KNOWN = {
    item.id: item
    for item in (
        _restricted("ego4d", "Ego4D", "https://ego4ddataset.com/"),
        _restricted("egoexo4d", "Ego-Exo4D", "https://ego4d.dev/request/ego-exo4d"),
        _restricted("imhd", "IMHD", None),
        Licence(id="own", title="the owner of the recordings", url=None, redistributable=True),
        _creative_commons("cc0-1.0", "CC0 1.0", "publicdomain/zero/1.0"),
        _creative_commons("cc-by-4.0", "CC BY 4.0", "licenses/by/4.0"),
        _creative_commons("cc-by-sa-4.0", "CC BY-SA 4.0", "licenses/by-sa/4.0"),
    )
}


def licence(name: str) -> Licence:
    """The facts of a licence id; an unknown one is not redistributable."""
    return _KNOWN.get(name) or _restricted(name, name, None)


def licences_of(names: Iterable[str]) -> tuple[Licence, ...]:
    """The facts of several ids, each once, in the order of their names."""
    return tuple(licence(name) for name in sorted(set(names)))
