"""Command line `egotriad models list|show|check|push`: what can be used, does a file fit."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from egotriad.manifests.cli import EXIT_FAILED, EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.errors import UsageError
from egotriad.models.catalogue import Entry, catalogue, entry

if TYPE_CHECKING:
    from egotriad.models.check import Checked

__all__ = ["models"]

SHOWN = 20
"""Keys of one kind that are printed; --json has them all."""
GIGA = 1e9


def models(tokens: Sequence[str] | None = None) -> int:
    """`egotriad models ...`: encoders, decoders, drafts and targets."""
    return run_app(_models_app, tokens)


def _models_app(words: list[str]) -> App:
    app = App(
        name="models",
        help="Encoders, decoders, drafts and targets: which there are, and does a file fit.",
        version_flags=[],
    )
    app.command(_list, name="list")
    app.command(_show, name="show")
    app.command(_check, name="check")
    app.command(_push, name="push")
    return app


def _list(
    *, kind: Literal["encoder", "decoder", "draft", "target"] | None = None, json: bool = False
) -> int:
    """List what can be used, with sizes, licences and sources.

    Args:
        kind: only these.
        json: print the result as one line of JSON.
    """
    entries = [found for found in catalogue() if kind in (None, found.kind)]
    return finish(
        {"models": [asdict(found) for found in entries]},
        as_json=json,
        show=lambda console: console.print(_table(entries)),
    )


def _table(entries: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "weights", "licence of the weights", "where to get it"):
        table.add_column(column, justify="right" if column == "weights" else "left")
    for found in entries:
        weights = "" if found.parameters is None else f"{found.parameters:,}"
        table.add_row(found.kind, found.name, weights, found.licence, found.source)
    return table


def _show(name: str, /, *, json: bool = False) -> int:
    """Show all that is known about one of them.

    Args:
        name: as `egotriad models list` has it.
        json: print the result as one line of JSON.
    """
    found = entry(name)

    def show(console: Console) -> None:
        for key, value in asdict(found).items():
            shown = f"{value:,}" if isinstance(value, int) else value
            line = f"{key:11} {'depends' if shown is None else shown}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if found.half_bytes is not None:
            console.print(f"{'size':11} {found.half_bytes / GIGA:.3g} GB in bfloat16")

    return finish(asdict(found), as_json=json, show=show)


def _check(
    path: Path,
    /,
    *,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    tokenizer: Path | None = None,
    visual_tower: Path | None = None,
    precision: Literal["float32", "bfloat16", "float16", "4bit"] | None = None,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Say what a checkpoint is, what is missing or unexpected in it, and whether there is room.

    Only headers and small files are read.

    Args:
        path: folder of a draft or target of this package, of a target or decoder as its authors
            publish it, or (with --as) an encoder's file.
        as_: name of the encoder that the file is for.
        tokenizer: LLaMA's tokenizer.json or tokenizer.model, where the folder has none.
        visual_tower: CLIP's own folder, where an EventGPT checkpoint lacks its tower.
        precision: of the weights in memory; bfloat16 when not given (float32 for this package's).
        device: cpu, cuda or cuda:N.
        json: print the result as one line of JSON.
    """
    from egotriad.models.check import check_encoder, check_model  # torch: list does without

    if as_ is not None:
        if tokenizer or visual_tower or precision:
            raise UsageError("--as is for an encoder's file: leave the options of decoders out")
        found = check_encoder(path, as_)
    else:
        found = check_model(
            path,
            device=device,
            precision=precision,
            tokenizer=tokenizer,
            visual_tower=visual_tower,
        )
    code = 0 if found.has_room else EXIT_INCOMPLETE
    return finish(
        {**asdict(found), "fits": found.fits, "has_room": found.has_room},
        as_json=json,
        show=lambda console: _print_checked(console, found, device),
        code=code if found.fits else EXIT_FAILED,
    )


def _push(
    folder: Path,
    repo_id: str,
    /,
    *,
    public: Annotated[bool, Parameter(negative=())] = False,
    i_have_the_right_to_redistribute: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    json: bool = False,
) -> int:
    """Push a model folder to a model repository on the Hugging Face Hub, private by default.

    Ids of wearers and recordings are sent as salted hashes. What lies on the Hub afterwards is
    compared with what was sent.

    Args:
        folder: of train-target or train-draft; a draft's text-only twin is pushed on its own.
        repo_id: NAMESPACE/NAME of the repository; it is made if it is not there.
        public: make the repository public once everything is there.
        i_have_the_right_to_redistribute: with --public: the licence of something the model was
            made from; once for each.
        json: print the result as one line of JSON.
    """
    from egotriad.models.hub import push_folder

    commit = push_folder(
        folder,
        repo_id,
        public=public,
        i_have_the_right_to_redistribute=i_have_the_right_to_redistribute,
    )
    return finish(
        {"repo_id": repo_id, "commit": commit, "public": public},
        as_json=json,
        show=lambda console: console.print(
            f"{repo_id}: sent, read back equal (commit {commit[:12]})", highlight=False
        ),
    )


def _print_checked(console: Console, found: "Checked", device: str) -> None:
    lines = [f"{found.kind} {found.name}, {found.parameters:,} weights"]
    for what in ("missing", "unexpected", "misshapen"):
        keys: tuple[str, ...] = getattr(found, what)
        lines += [f"{what}: {key}" for key in keys[:SHOWN]]
        if len(keys) > SHOWN:
            lines.append(f"{what}: and {len(keys) - SHOWN} more (all of them with --json)")
    lines += [f"note: {warning}" for warning in found.warnings]
    if found.masked_ids:
        lines.append(f"note: {found.masked_ids} ids beyond the vocabulary are left out")
    if found.tokenizer_sha256:
        lines.append(f"tokenizer sha256 {found.tokenizer_sha256}")
    free = "unknown" if found.free_bytes is None else f"{found.free_bytes / GIGA:.1f} GB"
    lines.append(f"memory: {found.needed_bytes / GIGA:.3g} GB of weights, {free} free on {device}")
    if not found.has_room:
        lines.append("too little memory: choose another --device, or --precision 4bit")
    lines.append("fits: every weight is there and nothing else" if found.fits else "does not fit")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
