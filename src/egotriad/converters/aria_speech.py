"""Words an Aria wearer spoke, as speech recognition heard them, joined into utterances.

Aria Everyday Activities ships them per recording: `speech.csv`, one word a row, in device time.

    startTime_ns,endTime_ns,written,confidence
    101217000000,102217000000,and,0.02034984529018402
"""

import csv
import math
from pathlib import Path

from egotriad.manifests import Narration
from egotriad.manifests.errors import RecordingError

__all__ = ["read_speech"]

COLUMNS = ("startTime_ns", "endTime_ns", "written", "confidence")
PASS = "speech-recognition"


def read_speech(
    path: Path, *, origin_ns: int, pause_us: int = 1_000_000, least_confidence: float = 0.5
) -> tuple[Narration, ...]:
    """Utterances of a speech.csv: words with no longer pause between them, at the first one's time.

    Args:
        path: the file.
        origin_ns: device time at which the recording's clock begins.
        pause_us: silence that ends an utterance.
        least_confidence: words the recogniser was less sure of are left out.

    Returns:
        In time order; times may lie outside the recording (an excerpt keeps the whole file).

    Raises:
        RecordingError: not such a file; it names the line.
    """
    words = sorted(
        word for word in _words(path, origin_ns) if word[3] >= least_confidence and word[2]
    )
    utterances: list[tuple[int, list[str]]] = []
    end_us = 0
    for start_us, word_end_us, written, _ in words:
        if not utterances or start_us - end_us > pause_us:
            utterances.append((start_us, []))
            end_us = word_end_us
        utterances[-1][1].append(written)
        end_us = max(end_us, word_end_us)
    return tuple(
        Narration(t_us=t_us, text=" ".join(spoken), annotation_pass=PASS)
        for t_us, spoken in utterances
    )


def _words(path: Path, origin_ns: int) -> list[tuple[int, int, str, float]]:
    """Start, end (microseconds on the recording's clock), word and confidence of each row."""
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = set(COLUMNS) - set(rows.fieldnames or ())
            if missing:
                raise RecordingError(
                    f"{path.name}: has no column {', '.join(sorted(missing))}; need "
                    f"{', '.join(COLUMNS)}"
                )
            for row in rows:
                start_ns, end_ns = int(row["startTime_ns"]), int(row["endTime_ns"])
                confidence = float(row["confidence"])
                if end_ns < start_ns or not math.isfinite(confidence):
                    raise ValueError(f"{start_ns} to {end_ns} ns, confidence {confidence}")
                times = ((start_ns - origin_ns + 500) // 1000, (end_ns - origin_ns + 500) // 1000)
                found.append((*times, row["written"].strip(), confidence))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise RecordingError(f"{path.name}: cannot be read as a table ({exc})") from exc
    except (ValueError, TypeError, AttributeError) as exc:
        line = len(found) + 2
        raise RecordingError(f"{path.name}, line {line}: no spoken word ({exc})") from exc
    return found
