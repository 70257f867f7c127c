"""The text around the sensor tokens: split at a placeholder, as LLaVA and EventGPT do."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import UsageError

__all__ = ["ANSWER_CUE", "OLD_CUE", "PromptIds", "prompt_ids"]

ANSWER_CUE = " ASSISTANT:"
OLD_CUE = "###Assistant:"
"""How Vicuna v0 and what was trained like it (OneLLM) end a prompt. What follows begins as it does
behind `ANSWER_CUE`, with a space; it ends with `###` in place of EOS (see `models/stop.py`)."""


@dataclass(frozen=True, slots=True)
class PromptIds:
    """Ids before (BOS first) and after the sensor tokens."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def prompt_ids(template: str, placeholder: str, tokenizer: PreTrainedTokenizerFast) -> PromptIds:
    """Ids of a prompt template on both sides of its placeholder.

    Each side is tokenised on its own and only the first keeps its BOS
    (XduSyL/EventGPT:common/common.py, tokenizer_event_token; LLaVA does the same). Every template
    ends with the ids of `ANSWER_CUE`: the first generated id depends on how the prompt ends, so
    draft and target must end alike. A model that was trained on `OLD_CUE` may keep it.

    Raises:
        UsageError: when the placeholder does not occur exactly once, or the prompt ends otherwise.
    """
    sides = template.split(placeholder)
    if len(sides) != 2:
        raise UsageError(
            f"prompt {template!r}: {placeholder} occurs {len(sides) - 1} times, need once"
        )
    bos = tokenizer.bos_token_id
    before, after = (tokenizer.encode(side, add_special_tokens=False) for side in sides)
    cue = tokenizer.encode(ANSWER_CUE.strip(), add_special_tokens=False)
    if after[-len(cue) :] != cue and not template.endswith(OLD_CUE):
        raise UsageError(
            f"prompt {template!r} ends with ids {after[-len(cue) :]}, need {cue} "
            f"({ANSWER_CUE!r} without a trailing space): draft and target prompts must end alike"
        )
    return PromptIds(before=(bos, *before), after=tuple(after))
