"""Answers that end with `###` in place of EOS."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.proposers import DraftProposer
from egotriad.manifests.errors import UsageError
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.lean import runs_lean
from egotriad.models.llama_tokenizer import folder_tokenizer
from egotriad.models.seeding import torch_stream
from egotriad.models.stop import StopHead, say_eos_at, stop_ids
from egotriad.models.tokenizer import train_tokenizer

OLD = "<imu>What is the wearer doing?###Assistant:"


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["What is the wearer doing?###Assistant: C ### walks."])


def test_llamas_stop_ids_are_those_behind_a_word_and_behind_a_space(
    shared: Callable[[str], Path],
) -> None:
    tokenizer = folder_tokenizer(shared("real/llama2_tokenizer"))
    assert stop_ids(tokenizer) == (835, 2277)
    for said, stop in (("C walks.", "###Human"), ("C walks", " ###Human"), ("C", "\n###Human")):
        ids = tokenizer.encode(said + stop, add_special_tokens=False)
        end = next(i for i, found in enumerate(ids) if found in (835, 2277))
        assert tokenizer.decode(ids[:end]).strip() == said


def test_what_the_stop_would_get_goes_to_eos_and_nothing_else_changes() -> None:
    plain = nn.Linear(8, 10, bias=False)
    head = StopHead(plain, (5, 7), 2)
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    before, after = plain(x).softmax(-1), head(x).softmax(-1)
    expected = before.clone()
    expected[..., 2] += before[..., 5] + before[..., 7]
    expected[..., [5, 7]] = 0
    torch.testing.assert_close(after, expected)
    assert head.weight is plain.weight
    assert set(head.state_dict()) == {"weight"}


def test_gradients_reach_the_stops_rows_through_eos() -> None:
    plain = nn.Linear(8, 10, bias=False)
    loss = torch.nn.functional.cross_entropy(
        StopHead(plain, (5,), 2)(torch.ones(1, 8)), torch.tensor([2])
    )
    loss.backward()
    assert plain.weight.grad is not None
    assert torch.isfinite(plain.weight.grad).all()
    assert plain.weight.grad[5].abs().sum() > 0


def test_a_draft_proposes_eos_where_its_decoder_would_begin_the_stop(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    config = ImuDraftConfig(template=OLD, decoder=DecoderConfig(layers=2, tie_embeddings=False))
    with torch_stream(0, "stop"):
        draft = ImuDraft(config, tokenizer).eval()
        with torch.no_grad():  # larger embeddings, so that a random model says different things
            for embedding in (draft.decoder.get_input_embeddings(), draft.decoder.lm_head):
                embedding.weight.mul_(20)
    window = torch.zeros(1, 6, 150)
    head = draft.decoder.lm_head
    head.stops = (0,)  # unk: next to nothing is added to EOS
    said = draft.greedy(window, 6)[0]
    assert len(set(said)) > 3
    head.stops = (said[2],)
    until = said.index(said[2])
    proposer = DraftProposer(draft.state(window), 2, vocabulary=len(tokenizer))
    assert proposer.propose([], 6).ids == [*said[:until], 2]


def test_a_decoder_with_a_stop_is_run_by_transformers(tokenizer: PreTrainedTokenizerFast) -> None:
    decoder = build_decoder(DecoderConfig(), len(tokenizer))
    assert runs_lean(decoder)
    say_eos_at(decoder, tokenizer)
    assert not runs_lean(decoder)
    assert decoder.lm_head.weight is decoder.model.embed_tokens.weight  # still tied


def test_only_the_two_known_ends_of_a_prompt_pass(tokenizer: PreTrainedTokenizerFast) -> None:
    ImuDraft(ImuDraftConfig(template=OLD), tokenizer)
    with pytest.raises(UsageError, match="prompts must end alike"):
        ImuDraft(ImuDraftConfig(template=OLD + " "), tokenizer)
