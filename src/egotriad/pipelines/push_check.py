"""What must hold of a build before anything of it leaves the machine."""

from collections.abc import Callable, Iterable
from pathlib import Path

from egotriad.manifests.errors import MissingDependency, ShardError
from egotriad.manifests.files import canonical_json, write_text
from egotriad.manifests.progress import Meter
from egotriad.manifests.verify import verify as verify_build
from egotriad.pipelines.push_plan import PushPlan

__all__ = ["Verify", "check_loading", "check_soundness", "remember_soundness"]

Verify = Callable[[Path], Iterable[object]]
"""Gives the faults of a build, each with a text."""

RECEIPT = "parts/verified.json"
MOST_SHOWN = 5


def check_soundness(plan: PushPlan, verify: Verify | None = None) -> None:
    """Verifies the build, unless these very files have passed before.

    Args:
        plan: what is to be sent.
        verify: instead of `manifests.verify`, all of it.

    Raises:
        ShardError: verification found something.
    """
    receipt = plan.folder / RECEIPT
    if receipt.is_file() and receipt.read_text(encoding="utf-8") == _receipt(plan):
        return
    faults = [str(fault) for fault in (verify or _verify)(plan.folder)]
    if faults:
        shown = "\n".join(faults[:MOST_SHOWN])
        raise ShardError(
            f"{plan.folder.name}: verification found {len(faults)} faults, nothing was sent; "
            f"see verify-shards\n{shown}"
        )
    remember_soundness(plan)


def remember_soundness(plan: PushPlan) -> None:
    """Notes that these files have passed: going on with a push must not read terabytes again."""
    write_text(plan.folder / RECEIPT, _receipt(plan))


def _verify(folder: Path) -> Iterable[object]:
    with Meter() as meter:
        return verify_build(folder, progress=meter).findings


def _receipt(plan: PushPlan) -> str:
    """The hash over everything, and size and time of every file: a changed file has others."""
    times = {name: (plan.folder / name).stat().st_mtime_ns for name in plan.files}
    return canonical_json(
        {
            "sha256sums": plan.files["SHA256SUMS"].sha256,
            "files": {name: [file.bytes, times[name]] for name, file in plan.files.items()},
        }
    )


def check_loading(folder: Path) -> None:
    """Reads the card and the first row of every configuration as a user of the Hub will.

    Raises:
        MissingDependency: huggingface_hub or datasets is not installed.
        ShardError: the card or the rows cannot be read.
    """
    try:
        from datasets import load_dataset
        from huggingface_hub import DatasetCard
    except ImportError as exc:
        raise MissingDependency(
            "pushing needs huggingface_hub and datasets: pip install 'egotriad[hub]'"
        ) from exc
    try:
        card = DatasetCard.load(folder / "README.md").data.to_dict()
        for config in card["configs"]:
            name = config["config_name"]
            for split, rows in load_dataset(str(folder), name, streaming=True).items():
                if not next(iter(rows), None):
                    raise ShardError(f"README.md: {name}/{split} has no rows; run build-shards")
    except (KeyError, ValueError, OSError) as exc:
        said = (str(exc).splitlines() or [""])[0]
        raise ShardError(
            f"{folder.name}: `datasets` cannot load it ({type(exc).__name__}: {said}); "
            "run build-shards again"
        ) from exc
