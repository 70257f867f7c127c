"""What a wearer of the simulated world can do, when it is possible, and the words for it."""

from dataclasses import dataclass

__all__ = [
    "ACTIVITIES",
    "OBJECT_PRIOR",
    "PHRASE_PRIOR",
    "TEMPOS",
    "TEMPO_PRIOR",
    "Activity",
    "Tempo",
]

PHRASE_PRIOR = (0.62, 0.20, 0.11, 0.07)
TEMPO_PRIOR = (0.75, 0.25)
OBJECT_PRIOR = (0.65, 0.20, 0.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """A level of speed: what time is divided by, and the words for it (none for the middle)."""

    factor: float
    words: tuple[str, ...]


TEMPOS = {
    "slow": Tempo(factor=1 / 1.6, words=("slowly", "gently")),
    "normal": Tempo(factor=1.0, words=()),
    "quick": Tempo(factor=1.6, words=("quickly", "fast")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One kind of movement.

    Attributes:
        phrases: four ways to say it, the commonest first; `{}` stands for an object.
        objects: what it is done to, the commonest first; empty when there is nothing.
        gaze_deg: pitch of the head when it begins, up is positive.
        standing, sitting: whether it is possible standing, sitting.
        paced: whether it has a tempo.
        level_change: floors gained; negative going down.
    """

    phrases: tuple[str, str, str, str]
    objects: tuple[str, ...] = ()
    gaze_deg: float = 0.0
    standing: bool = True
    sitting: bool = False
    paced: bool = True
    level_change: int = 0


ACTIVITIES = {
    "walk": Activity(
        phrases=("walks forward", "walks ahead", "keeps walking", "strolls along"),
        gaze_deg=-4.0,
    ),
    "turn_left": Activity(
        phrases=("turns left", "turns to the left", "rotates left", "swings to the left"),
    ),
    "turn_right": Activity(
        phrases=("turns right", "turns to the right", "rotates right", "swings to the right"),
    ),
    "look_up": Activity(
        phrases=("looks up", "raises the head", "gazes upward", "tilts the head back"),
        sitting=True,
    ),
    "look_down": Activity(
        phrases=("looks down", "lowers the head", "gazes downward", "tilts the head forward"),
        sitting=True,
    ),
    "look_around": Activity(
        phrases=("looks around", "looks left and right", "glances about", "scans around"),
        sitting=True,
    ),
    "sit_down": Activity(
        phrases=("sits down", "takes a seat", "lowers onto the chair", "settles on the chair"),
    ),
    "stand_up": Activity(
        phrases=("stands up", "gets up", "rises from the chair", "leaves the chair"),
        standing=False,
        sitting=True,
    ),
    "climb": Activity(
        phrases=(
            "climbs the stairs",
            "goes up the stairs",
            "walks upstairs",
            "ascends the steps",
        ),
        gaze_deg=6.0,
        level_change=1,
    ),
    "descend": Activity(
        phrases=(
            "descends the stairs",
            "goes down the stairs",
            "walks downstairs",
            "comes down the steps",
        ),
        gaze_deg=-16.0,
        level_change=-1,
    ),
    "nod": Activity(
        phrases=("nods", "nods the head", "nods in agreement", "bobs the head"),
        sitting=True,
    ),
    "shake": Activity(
        phrases=("shakes the head", "shakes the head no", "wags the head", "signals no"),
        sitting=True,
    ),
    "wash": Activity(
        phrases=("washes {}", "scrubs {}", "rinses {}", "cleans {}"),
        objects=("the plate", "the pan", "the cup"),
        gaze_deg=-32.0,
    ),
    "stir": Activity(
        phrases=("stirs {}", "mixes {}", "whisks {}", "blends {}"),
        objects=("the soup", "the sauce", "the batter"),
        gaze_deg=-24.0,
        sitting=True,
    ),
    "bend": Activity(
        phrases=("bends down", "bends over", "leans down", "stoops"),
    ),
    "stand_still": Activity(
        phrases=("stands still", "waits", "stays in place", "pauses"),
        paced=False,
    ),
}
"""By key; the order is part of the world, for random choices count in it."""
