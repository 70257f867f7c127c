"""The `egoexo` program, brought to fetch single files: `python -m ... NAMES.json ARGUMENTS`.

On its own it knows whole entries of a manifest: all cameras of a take, all of a capture's clocks.
`--uids` drops metadata and annotations (their uids are names), `--views ego` keeps every camera of
downscaled_takes, whose manifest names no views (ego4d 1.7.3: internal/download/cli.py,
manifest_gen.py). Here its manifests are cut down, as they are read, to the names in a JSON list.
"""

import json
import sys
from pathlib import Path

__all__ = ["main"]


def main(words: list[str]) -> None:
    """Runs the program with the words after the first, for the files listed in the first.

    Raises:
        SystemExit: as the program; 70 when it is not the one that is known.
    """
    wanted = set(json.loads(Path(words[0]).read_text("utf-8")))
    from ego4d.egoexo.download.cli import main as egoexo
    from ego4d.internal.download import cli

    if not hasattr(cli, "manifest_loads"):
        sys.stderr.write("this version of ego4d reads its manifests in another way; use 1.7.3\n")
        raise SystemExit(70)
    read_all = cli.manifest_loads

    def read_wanted(text: str) -> object:
        entries = json.loads(text)
        for entry in entries:
            entry["paths"] = [path for path in entry["paths"] if path["relative_path"] in wanted]
        return read_all(json.dumps([entry for entry in entries if entry["paths"]]))

    cli.manifest_loads = read_wanted
    sys.argv = ["egoexo", *words[1:]]
    egoexo()


if __name__ == "__main__":
    main(sys.argv[1:])
