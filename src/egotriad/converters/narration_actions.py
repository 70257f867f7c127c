"""What a narration says was done, as far as words tell: a verb and its object.

"C picks the knife with his right hand." -> verb `take`, object `knife`. The rule is made for the
plain sentences of Ego4D and Ego-Exo4D and errs on the side of calling two actions different.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["Action", "action_of", "same_action", "words_of"]


@lru_cache(maxsize=4096)  # narrations are compared with all their neighbours
def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words, possessive endings removed."""
    return tuple(re.findall(r"\w+(?:-\w+)*", re.sub(r"['’]s\b", "", text.lower())))


VERB_GROUPS = (
    "adjust regulate change",
    "apply spread smear",
    "arrange straighten sort distribute align",
    "attach plug join fasten connect",
    "clean sweep scrub mop dust",
    "consume taste sip eat drink",
    "cut trim slice chop",
    "detach unplug unhook disconnect",
    "divide split separate",
    "drive ride",
    "hit knock hammer",
    "hold support grip grasp",
    "inspect check look examine view",
    "measure weigh",
    "move transfer pass exchange",
    "operate use dial click",
    "put place leave drop",
    "sew weave stitch",
    "stick tape glue",
    "take pick grab get collect gather",
    "talk interact converse",
    "throw toss dump dispose",
    "turn spin rotate flip switch",
)
"""Verbs that count as one: the groups of Ego4D's verb taxonomy as its class names list them
(`take_(pick,_grab,_get)`); `collect` and `gather` from EgoVLP's README; `switch` joins `turn`,
since Ego4D's `turn_on` and `turn_off` are told apart by `DIRECTIONS` here."""

DIRECTIONS = (
    ("left", "right"),
    ("up", "down"),
    ("on", "off"),
    ("in", "out"),
    ("forward", "backward"),
    ("clockwise", "anticlockwise"),
)
"""Words that must not contradict each other: of each pair, the first one in a text counts."""

_PAIR_OF = {word: index for index, pair in enumerate(DIRECTIONS) for word in pair}
_DIRECTION_FORMS = {
    "forwards": "forward",
    "backwards": "backward",
    "back": "backward",
    "counterclockwise": "anticlockwise",
    "anti-clockwise": "anticlockwise",
}
_PEOPLE = frozenset(
    words_of("the a an and another other man woman person lady boy girl child kid baby")
)
_AUXILIARIES = frozenset(words_of("is are was were be being been then again also"))
_DETERMINERS = frozenset(words_of("the a an his her their its some this that these those of own"))
_BOUNDARIES = frozenset(
    words_of(
        "about across against along and around as at away back backward backwards behind beside "
        "between by down for forward forwards from in inside into near off on onto out over "
        "through to toward towards under up upon using while with"
    )
)
_UNKNOWN_OBJECTS = frozenset(words_of("something it them object item thing"))
_LY_WORDS = frozenset(words_of("apply family fly assembly butterfly reply supply"))
_IRREGULAR = {
    "does": "do",
    "feet": "foot",
    "goes": "go",
    "has": "have",
    "knives": "knife",
    "shelves": "shelf",
}


@dataclass(frozen=True, slots=True)
class Action:
    """A verb and what it is done to.

    Attributes:
        verb: stem, or the first word of its group; empty when a text has no words.
        objects: words of the object, the noun last; empty without an object.
        directions: for each pair of `DIRECTIONS` the word that the text uses first, or empty.
        word: the verb as the text has it, without the s of the third person.
    """

    verb: str
    objects: tuple[str, ...]
    directions: tuple[str, ...]
    word: str = field(default="", compare=False)


@lru_cache(maxsize=4096)
def action_of(text: str) -> Action:
    """The first action that a cleaned narration tells.

    Leading persons ("C", "man X", "the lady"), auxiliaries and adverbs are passed over; the next
    word is the verb. The object is what follows, without determiners, up to the next preposition;
    prepositions directly after the verb ("looks at", "picks up") are passed over.
    """
    words = list(words_of(text))
    forms = [_DIRECTION_FORMS.get(word, word) for word in words]
    directions = [""] * len(DIRECTIONS)
    for word in forms:
        pair = _PAIR_OF.get(word)
        if pair is not None:
            directions[pair] = directions[pair] or word
    while words and (words[0] in _PEOPLE or (len(words[0]) == 1 and words[0].isalpha())):
        words.pop(0)
    while words and (words[0] in _AUXILIARIES or _is_adverb(words[0])):
        words.pop(0)
    if not words:
        return Action("", (), tuple(directions))
    rest = words[1:]
    while rest and rest[0] in _BOUNDARIES:
        rest.pop(0)
    end = next((k for k, word in enumerate(rest) if word in _BOUNDARIES), len(rest))
    objects = tuple(
        _singular(word) for word in rest[:end] if word not in _DETERMINERS and not _is_adverb(word)
    )
    stem = _verb_stem(words[0])
    verb = _canonical_verbs().get(stem, stem)
    return Action(verb, objects, tuple(directions), _singular(words[0]))


def same_action(first: str, second: str) -> bool:
    """Whether two cleaned narrations tell the same action, by their words.

    The verbs agree (stem or group); the objects end in the same noun, or one is a single word
    inside the other ("wood", "piece of wood") or unknown ("something"); no direction contradicts
    (left hand, right hand; on, off). Texts of the same words always agree; one with an object and
    one without do not.
    """
    if words_of(first) == words_of(second):
        return True
    a, b = action_of(first), action_of(second)
    if a.verb != b.verb or not a.verb:
        return False
    if a.directions != b.directions and any(
        x and y and x != y for x, y in zip(a.directions, b.directions, strict=True)
    ):
        return False
    if not a.objects or not b.objects:
        return a.objects == b.objects
    return (
        a.objects[-1] == b.objects[-1]
        or not _UNKNOWN_OBJECTS.isdisjoint((a.objects[-1], b.objects[-1]))
        or (len(a.objects) == 1 and a.objects[0] in b.objects)
        or (len(b.objects) == 1 and b.objects[0] in a.objects)
    )


@lru_cache(maxsize=1)
def _canonical_verbs() -> dict[str, str]:
    """Stem -> first verb of its group."""
    return {_verb_stem(verb): group.split()[0] for group in VERB_GROUPS for verb in group.split()}


def _is_adverb(word: str) -> bool:
    return len(word) > 5 and word.endswith("ly") and word not in _LY_WORDS


def _verb_stem(verb: str) -> str:
    """One form for slice, slices, slicing, sliced: no ending, doubled letter or last e."""
    stem = _singular(verb)
    for ending in ("ing", "ed"):
        if stem.endswith(ending) and len(stem) > len(ending) + 2:
            stem = stem.removesuffix(ending)
            break
    if len(stem) > 2 and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem.removesuffix("e")


def _singular(word: str) -> str:
    """Without the s of a plural or of the third person: plates, touches, carries, potatoes."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes")) or (word.endswith("oes") and len(word) > 5):
        return word[:-2]
    return word[:-1]
