"""WebDataset: tars of samples that any reader streams from front to back.

`{split}-{i:06d}.tar` holds `windows_per_tar` samples (the last one of a split what is left), named
by the number of the window in its split; their members are in `webdataset_sample`. The same shards
give the same bytes. A tar holds no checksums: `SHA256SUMS` does.
"""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import located
from egotriad.manifests.files import canonical_json, sha256_file, write_text
from egotriad.pipelines.export_source import ExportSource
from egotriad.pipelines.webdataset_sample import MEMBERS, sample_of

__all__ = ["QUESTIONS", "REJECTED", "export_webdataset"]

QUESTIONS, REJECTED = "questions.jsonl", "rejected.jsonl"


def export_webdataset(source: ExportSource, folder: Path, windows_per_tar: int) -> dict[str, Any]:
    """Writes the tars, their hashes, and what the build has besides: rejected windows, questions.

    Args:
        source: what to write.
        folder: where to.
        windows_per_tar: samples in a tar.

    Returns:
        For the export's record: the tars in the order of their windows, the members of a sample,
        and the hashes of the files.
    """
    tars: list[str] = []
    for split in source.splits:
        clips = enumerate(source.clips(split))
        for index, few in groupby(clips, key=lambda numbered: numbered[0] // windows_per_tar):
            tars.append(f"{split}-{index:06d}.tar")
            with tarfile.open(folder / tars[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
                for number, clip in few:
                    with located(clip.window_id):
                        _add(tar, number, sample_of(clip))
                    source.wrote(clip.events)
    rejected = source.text(REJECTED)
    if rejected is not None:
        write_text(folder / REJECTED, rejected)
    if source.asked:
        with (folder / QUESTIONS).open("w", encoding="utf-8") as file:
            file.writelines(canonical_json(asdict(row)) + "\n" for row in source.questions())
    names = sorted(path.name for path in folder.iterdir())
    hashes = {name: sha256_file(folder / name) for name in names}
    sums = "".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items())
    write_text(folder / "SHA256SUMS", sums)
    return {"tars": tars, "members": list(MEMBERS), "sha256": hashes}


def _add(tar: tarfile.TarFile, number: int, sample: Mapping[str, bytes]) -> None:
    for name, data in sample.items():
        member = tarfile.TarInfo(f"{number:09d}.{name}")
        member.size = len(data)  # owner, time and mode stay TarInfo's own, the same everywhere
        tar.addfile(member, io.BytesIO(data))
