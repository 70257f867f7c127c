"""The model card of a folder: what it is, what it was made from, and what that allows.

Everything in it follows from the folder's record, `CardFacts` included. A licence is written as the
user gave it; where nobody gave one, only that is said which follows from the parts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from egotriad.manifests.licences import licence as data_licence

__all__ = ["CardFacts", "Ingredient", "ingredients", "model_card"]

UNKNOWN = "unknown"
FREE = ("MIT", "Apache-2.0")
"""Licences of weights that let anybody hand them on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What only the user knows.

    Attributes:
        licence: of the model, as the Hub calls it (`apache-2.0`, `other`).
        metrics: results by name, as measured (`evaluate-acceptance`); none are shown otherwise.
    """

    licence: str | None = None
    metrics: Mapping[str, float | str] = field(default_factory=dict)

    def meta(self) -> dict[str, Any]:
        """As a model's meta keeps it."""
        return {"card": asdict(self)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """What a record keeps of it."""
        return cls(**record["meta"].get("card", {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """Something of others that a model was made from.

    Attributes:
        what: data | decoder | encoder, and its name.
        licence: id or name of it; `unknown` where nothing says it.
        free: whether whoever holds it may hand it on without asking anybody.
    """

    what: str
    licence: str
    free: bool


def ingredients(record: Mapping[str, Any]) -> tuple[Ingredient, ...]:
    """What a model was made from, by its folder's record: data, and weights of others in it."""
    return tuple(_ingredients(record))


def model_card(record: Mapping[str, Any]) -> str:
    """`README.md` of a model folder, from its config.json."""
    from huggingface_hub import ModelCardData

    facts = CardFacts.of(record)
    parts = [
        _opening(record),
        _made_of(record),
        _trained_on(record["meta"].get("trained_on", {})),
        _licences(record, facts),
        _results(facts),
    ]
    front = ModelCardData(**_front_matter(record, facts)).to_yaml()
    return f"---\n{front}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _ingredients(record: Mapping[str, Any]) -> Iterator[Ingredient]:
    meta = record["meta"]
    trained_on = meta.get("trained_on", {})
    for name in trained_on.get("licences", [UNKNOWN] if trained_on else []):
        known = data_licence(name)
        yield Ingredient(what=f"data: {known.title}", licence=name, free=known.redistributable)
    weights = {
        "decoder": record["base_decoder"] or meta.get("decoder"),
        "encoder": meta.get("encoder_weights"),
    }
    for kind, values in weights.items():
        if values:
            name = values.get("licence") or UNKNOWN
            yield Ingredient(what=f"{kind}: {values['name']}", licence=name, free=name in FREE)


def _front_matter(record: Mapping[str, Any], facts: CardFacts) -> dict[str, Any]:
    base = record["base_decoder"] or record["meta"].get("decoder")
    values: dict[str, Any] = dict(_licence_keys(record, facts))
    if base and "/" in base["name"]:
        values["base_model"] = "/".join(base["name"].split("/")[:2])
        values["base_model_relation"] = "adapter" if record["adapter"] else "finetune"
    imu = ["imu"] if record["name"] == "imu" else []
    values["library_name"] = "egotriad"
    values["language"] = ["en"]
    values["tags"] = ["egotriad", record["kind"], *imu, "egocentric", "speculative-decoding"]
    return values


def _licence_keys(record: Mapping[str, Any], facts: CardFacts) -> dict[str, str]:
    """As given; else what the parts that may not be handed on make of it; else nothing."""
    if facts.licence is not None:
        return {"license": facts.licence}
    found = {part.licence for part in ingredients(record) if not part.free}
    held = sorted(found - {UNKNOWN})
    if not held:
        return {}
    slugs = [re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") for name in held]
    return {"license": "other", "license_name": "-".join([*slugs, "derived"])}


def _opening(record: Mapping[str, Any]) -> str:
    name, kind = record["name"], record["kind"]
    about = {
        "draft": "A small LLaMA-family language model that proposes tokens for a larger target to "
        "confirm (speculative decoding). Whatever it proposes, the target's text stays the "
        "target's.",
        "target": "A language model that writes about what an event camera saw.",
    }[kind]
    return f"""\
# {name} {kind}

{about}

```python
from egotriad.models.conditioned import ConditionedLM

model = ConditionedLM.from_pretrained("FOLDER or NAMESPACE/NAME")
```"""


def _made_of(record: Mapping[str, Any]) -> str:
    config, base = record["config"], record["base_decoder"]
    shape = config["decoder"]
    lines = [
        f"- Decoder: LLaMA, {shape['layers']} layers of {shape['hidden_size']}, "
        f"{shape['heads']} heads, {shape['max_positions']} positions."
    ]
    if "encoder" in config:
        lines.append(f"- IMU encoder `{config['encoder']}`, projector `{config['projector']}`.")
    began = base or record["meta"].get("decoder")
    if began:
        at = f", revision {began['revision']}" if began.get("revision") else ""
        held = "is not in this repository" if base else "has been trained further"
        lines.append(
            f"- It began as `{began['name']}`{at} (sha256 {began['sha256']}), which {held}."
        )
    if record["adapter"]:
        size = record["adapter"]
        lines.append(f"- Adapter: LoRA of rank {size['rank']}, alpha {size['alpha']:g} (PEFT).")
    lines.append(f"- Prompt: {config['template']!r}.")
    lines.append(f"- Tokenizer: sha256 {record['tokenizer_sha256']}.")
    return "## What it is made of\n\n" + "\n".join(lines)


def _trained_on(seen: Mapping[str, Any]) -> str:
    if not seen:
        return "## Training data\n\nNot recorded."
    counts = [f"{seen['clips']} clips"] if "clips" in seen else []
    for noun in ("recordings", "wearers"):
        ids = seen.get(noun, seen.get(f"{noun}_sha256"))
        counts += [] if ids is None else [f"{len(ids)} {noun[: None if len(ids) != 1 else -1]}"]
    hashes = [
        f"- {name.removesuffix('_sha256')}: sha256 {seen[name]}"
        for name in ("shards_sha256", "target_sha256", "target_outputs_sha256")
        if name in seen
    ]
    lines = [f"{', '.join(counts)}, of the train split."] + (["", *hashes] if hashes else [])
    return "## Training data\n\n" + "\n".join(lines)


def _licences(record: Mapping[str, Any], facts: CardFacts) -> str:
    found = ingredients(record)
    given = f"`{facts.licence}`, as its author says." if facts.licence else "None was stated."
    rows = [
        f"- {part.what}: {part.licence}" + ("" if part.free else " (not free to hand on)")
        for part in found
    ]
    bound = " What it was made from binds whoever uses it." if found else ""
    return "\n".join([f"## Licence\n\n{given}{bound}", *(["", *rows] if rows else [])])


def _results(facts: CardFacts) -> str:
    if not facts.metrics:
        return ""
    rows = [f"| {name} | {value} |" for name, value in facts.metrics.items()]
    return "\n".join(["## Results\n\n| measure | value |\n|---|---|", *rows])
