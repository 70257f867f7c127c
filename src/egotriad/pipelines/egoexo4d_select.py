"""Which takes of Ego-Exo4D are asked for."""

import difflib
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from egotriad.manifests import Unreadable
from egotriad.manifests.errors import UsageError
from egotriad.pipelines.ego4d_options import check_choice
from egotriad.pipelines.ego4d_select import read_uids
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_takes import Take, file_safe

__all__ = ["select_takes"]


def select_takes(
    takes: Sequence[Take | Unreadable],
    options: EgoExo4DOptions,
    *,
    present: Callable[[Take], bool],
    splits: Mapping[str, str],
    described: Callable[[], Collection[str]],
) -> list[Take | Unreadable]:
    """The takes asked for in the order of takes.json, then what was asked for and cannot be had.

    Takes given by name come first; then every filter must hold. Without a name and a filter (and,
    without names, under --no-download) the takes that lie there are meant.

    Args:
        takes: all of the release.
        options: what is asked.
        present: whether the raw folder holds files of a take.
        splits: official split by uid.
        described: gives the uids that have atomic descriptions; called only when that matters.

    Raises:
        UsageError: nothing is chosen, or a filter's word is unknown.
        RecordingError: a list of uids cannot be read.
    """
    named = read_uids(options.uids)
    known = [take for take in takes if isinstance(take, Take)]
    damaged = [take for take in takes if isinstance(take, Unreadable)]
    if named:
        pool = [take for take in known if not {take.uid, take.name.lower()}.isdisjoint(named)]
        damaged = [take for take in damaged if take.recording_id in named]
    elif options.selects:
        pool = known
    else:
        pool, damaged = [take for take in known if present(take)], []
    refused = _unknown(named, takes)
    if not (pool or damaged or refused):
        raise UsageError(
            "nothing is chosen and the raw folder holds no take: choose with --uids, "
            "--universities, --scenarios, --splits, --limit-hours, or --has imu,narration for all"
        )
    pool = _filtered(pool, known, options, splits)
    if "imu" in options.has:
        pool = _kept(pool, lambda take: bool(take.vrs or take.full_vrs), "imu", named, refused)
    if "narration" in options.has:
        uids = described()
        pool = _kept(pool, lambda take: take.uid in uids, "narration", named, refused)
    chosen = {take.uid for take in _limited(pool, options.limit_hours)}
    return [*(take for take in pool if take.uid in chosen), *damaged, *refused]


def _unknown(named: Iterable[str], takes: Sequence[Take | Unreadable]) -> list[Unreadable]:
    names: list[str] = []
    for take in takes:
        names += [take.uid, take.name.lower()] if isinstance(take, Take) else [take.recording_id]
    known = set(names)
    unknown = []
    for name in named:
        if name in known:
            continue
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        hint = f"did you mean {near[0]}?" if near else "check it for a typing error"
        message = f"unknown-uid: no take of takes.json has the uid or name {name}; {hint}"
        unknown.append(Unreadable(recording_id=file_safe(name), message=message))
    return unknown


def _kept(
    pool: list[Take],
    having: Callable[[Take], bool],
    need: str,
    named: Collection[str],
    refused: list[Unreadable],
) -> list[Take]:
    """Those that have what is needed; the others are refused where they were named."""
    if named:
        message = f"no-{need}: the release has none of this take"
        refused += [
            Unreadable(recording_id=take.uid, message=f"{take.name}: {message}")
            for take in pool
            if not having(take)
        ]
    return [take for take in pool if having(take)]


def _filtered(
    pool: list[Take], known: list[Take], options: EgoExo4DOptions, splits: Mapping[str, str]
) -> list[Take]:
    if options.universities:
        universities = _words("--universities", options.universities, {t.university for t in known})
        pool = [take for take in pool if take.university in universities]
    if options.scenarios:
        scenarios = _words("--scenarios", options.scenarios, {take.scenario for take in known})
        pool = [take for take in pool if take.scenario in scenarios]
    if options.splits:
        pool = [take for take in pool if splits.get(take.uid) in options.splits]
    return pool


def _words(flag: str, asked: Iterable[str], known: Iterable[str]) -> set[str]:
    """The metadata's own spelling of what was asked for in any case."""
    spelling = {name.lower(): name for name in sorted(known) if name}
    for word in asked:
        check_choice(flag, word.lower(), list(spelling))
    return {spelling[word.lower()] for word in asked}


def _limited(pool: list[Take], hours: float | None) -> list[Take]:
    """The first takes in a fixed, arbitrary order, until the hours are full."""
    if hours is None:
        return pool
    left_s = hours * 3600
    chosen = []
    for take in sorted(pool, key=lambda take: hashlib.blake2b(take.uid.encode()).digest()):
        left_s -= take.duration_s
        if left_s < 0:
            break
        chosen.append(take)
    return chosen
