"""Nearest training text as a draft."""

from collections.abc import Callable

import pytest
import torch

from egotriad.alignment.retrieval import RetrievalIndex, RetrievalProposer, sensor_embeddings
from egotriad.alignment.speculate import speculate
from egotriad.manifests import Clip
from egotriad.manifests.errors import EvaluationError, UsageError
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.encoder_imu2clip import Imu2Clip, Imu2ClipConfig
from egotriad.models.seeding import torch_stream
from egotriad.models.tokenizer import train_tokenizer

EOS = 2
TEXTS = [[5, 6, 7, EOS], [9, 6, 8, 8, EOS], [4, EOS]]
INDEX = RetrievalIndex(torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]), TEXTS)


def test_the_nearest_text_is_that_of_the_largest_cosine() -> None:
    assert INDEX.nearest(torch.tensor([0.1, 9.0])) == [TEXTS[1]]
    assert INDEX.nearest(torch.tensor([5.0, 4.0]), count=2) == [TEXTS[2], TEXTS[0]]
    assert INDEX.nearest(torch.tensor([-1.0, -1.0])) == [TEXTS[0]]  # equal: the earlier row
    assert len(INDEX.nearest(torch.tensor([1.0, 0.0]), count=9)) == 3


def test_equal_cosines_go_to_the_earlier_row() -> None:
    twins = RetrievalIndex(torch.ones(3, 4), [[7], [8], [9]])
    assert twins.nearest(torch.ones(4), count=3) == [[7], [8], [9]]


def test_the_retrieved_text_is_drafted_from_its_beginning_to_its_end() -> None:
    proposer = RetrievalProposer(INDEX.nearest(torch.tensor([1.0, 0.0])), EOS)
    assert proposer.propose([], 2).ids == [5, 6]
    assert proposer.propose([5], 8).ids == [6, 7, EOS]
    assert proposer.propose([5, 6, 7], 8).ids == [EOS]
    assert proposer.propose([5], 0).ids == []


def test_after_a_correction_it_goes_on_where_the_last_ids_stand() -> None:
    proposer = RetrievalProposer([[5, 6, 7, 6, 8, EOS]], EOS)
    assert proposer.propose([9, 6], 3).ids == [8, EOS]  # the last 6
    assert proposer.propose([5, 6], 2).ids == [7, 6]  # a longer ending decides
    assert proposer.propose([5, 9], 3).ids == []  # the last id stands nowhere
    assert RetrievalProposer([[5, 6, 7], [1, 9, 3]], EOS).propose([5, 9], 3).ids == [3]
    assert RetrievalProposer([[5, 6, 7], [5, 6, 3]], EOS).propose([5, 6], 1).ids == [7]


def test_teacher_forced_matches_are_the_first_proposed_id_at_every_position() -> None:
    proposer = RetrievalProposer([TEXTS[1]], EOS)
    assert proposer.matches([9, 6, 8, 8, EOS]) == [True] * 4 + [True]
    assert proposer.matches([9, 6, 7, 8]) == [True, True, False, False]


def test_what_cannot_be_an_index_or_a_query_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\[2, 3\] for 1 texts, need one row"):
        RetrievalIndex(torch.zeros(2, 3), [[1]])
    with pytest.raises(EvaluationError, match="no training text"):
        RetrievalIndex(torch.zeros(0, 3), [])
    with pytest.raises(EvaluationError, match="the index hold NaN or infinity"):
        RetrievalIndex(torch.tensor([[float("nan")]]), [[1]])
    with pytest.raises(UsageError, match=r"a query \[3\] for 1 texts, need \[2\]"):
        INDEX.nearest(torch.zeros(3))
    with pytest.raises(UsageError, match="0 texts and endings of 8 ids"):
        RetrievalProposer([], EOS)


def test_embeddings_are_unit_rows_of_an_encoders_mean_features(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    tokenizer = train_tokenizer(["USER: What is the wearer doing? ASSISTANT:"])
    with torch_stream(0, "retrieval"):
        draft = ImuDraft(ImuDraftConfig(), tokenizer).eval()
    clips = toy_clips(70)  # more than one batch
    inputs = torch.stack([draft.prepare(clip, clip.event_spans[1]) for clip in clips])
    rows = sensor_embeddings(draft.encoder, inputs)
    assert rows.shape == (70, draft.encoder.width)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(70))
    mean = draft.encoder(inputs[67:68]).mean(dim=1)[0]
    torch.testing.assert_close(rows[67], mean / mean.norm())


def test_a_clip_finds_the_text_of_a_clip_of_its_own_kind(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    """IMU2CLIP's architecture, random: its convolutions alone tell the toy frequencies apart."""
    with torch_stream(0, "imu2clip"):
        encoder = Imu2Clip(Imu2ClipConfig(tokens="conv")).eval()
    tone = torch.arange(1000) / 200.0

    def window(label: int, seed: int) -> torch.Tensor:
        noise = torch.randn(6, 1000, generator=torch.Generator().manual_seed(seed))
        noise[label] += 4 * torch.sin(2 * torch.pi * (1 + label) * tone)
        return noise

    known = torch.stack([window(label, label) for label in range(4)])
    index = RetrievalIndex(sensor_embeddings(encoder, known), [[10 + i, EOS] for i in range(4)])
    asked = sensor_embeddings(encoder, torch.stack([window(i % 4, 50 + i) for i in range(8)]))
    found = [index.nearest(row)[0][0] - 10 for row in asked]
    assert sum(one == i % 4 for i, one in enumerate(found)) >= 6


def test_it_drafts_for_a_target_without_changing_its_text() -> None:
    class Scripted:
        """A target that says TEXTS[1] whatever it is fed."""

        length = 0
        prefix_logits = torch.eye(10)[9]

        def feed(self, ids: list[int], *, keep: int | None = None) -> torch.Tensor:
            self.length += len(ids)
            said = [*TEXTS[1], EOS, EOS, EOS, EOS, EOS]
            rows = torch.eye(10)[said[self.length - len(ids) + 1 : self.length + 1]]
            return rows[-(keep or len(ids)) :]

        def rollback(self, n: int) -> None:
            self.length -= n

    for texts in ([TEXTS[1]], [TEXTS[0]]):
        proposer = RetrievalProposer(texts, EOS)
        done = speculate(Scripted(), proposer, gamma=3, max_new_tokens=9, eos_id=EOS)
        assert done.ids == TEXTS[1]
        assert (len(done.rounds) == 2) == (texts == [TEXTS[1]])  # 3 + 1, then the end
