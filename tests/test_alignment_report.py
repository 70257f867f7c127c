import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from egotriad.alignment.arms import ArmRun, ClipResult
from egotriad.alignment.cost import StepCosts
from egotriad.alignment.evaluate import Evaluation
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.lossless import ChiSquare
from egotriad.alignment.offline import Forced
from egotriad.alignment.report import acceptance_table, choose_examples, write_html
from egotriad.alignment.report_files import write_report
from egotriad.alignment.report_parts import curves_svg, stacked_svg, table, token_stream
from egotriad.alignment.run_split import Failure
from egotriad.alignment.speculate import Round, verify_greedy
from egotriad.alignment.speed import ClipSpeed, speed_of
from egotriad.alignment.summary import summarise, verdict
from egotriad.alignment.target_quality import TargetQuality
from egotriad.manifests import Clip

SCHEMA = Path(__file__).parents[1] / "docs" / "acceptance.schema.json"
EOS, GAMMA = 2, 3
TEXTS = [[5, 6, 7, 8, EOS], [5, 9, 10, 11, 12, EOS], [5, 13, 7, EOS], [5, 14, 15, 16, EOS]]
WORDS = ("walks", "forward", ".", "slowly", "turns", "left", "<b>&", "fast", "sits", "down", "pot")
PIECES = {EOS: "</s>", 5: "▁C", **{6 + k: f"▁{word}" for k, word in enumerate(WORDS)}}


def rounds(text: Sequence[int], agrees: Sequence[bool]) -> tuple[Round, ...]:
    """What the loop does with a draft that agrees with the target where it is told to."""
    done: list[Round] = []
    start = 0
    while start < len(text):
        block = range(start, min(start + GAMMA, len(text)))
        drafted = [text[i] if agrees[i] else 17 for i in block]
        done.append(verify_greedy(drafted, [*text[start : start + GAMMA + 1], 0][:5], EOS))
        start += len(done[-1].emitted)
    return tuple(done)


@pytest.fixture
def clips(toy_clips: Callable[..., list[Clip]]) -> list[Clip]:
    """Sixteen clips of four recordings; one says something that is not harmless in HTML."""
    made = [
        replace(clip, recording=f"rec{k // 4}", split="test")
        for k, clip in enumerate(toy_clips(16))
    ]
    made[0] = replace(made[0], narration="C <script>alert(1)</script> & walks")
    return made


def evaluation(clips: Sequence[Clip], *, text_draft: bool = True) -> Evaluation:
    rng = np.random.default_rng(0)
    shares = {"draft": 0.9, "text_only": 0.6, "ngram": 0.6, "shuffled_imu": 0.5, "oracle": 1.0}
    if not text_draft:
        del shares["text_only"]
    results = []
    for k, clip in enumerate(clips):
        text = TEXTS[k % 4]
        runs = {}
        for name, share in shares.items():
            agrees = (rng.random(len(text)) < share).tolist()
            seen = Forced(
                tuple(agrees), (0.5,) * len(agrees), (1.0,) * len(agrees), (2.0,) * len(agrees)
            )
            runs[name] = ArmRun(
                rounds(text, agrees), tuple(agrees), None, None if name == "ngram" else seen
            )
        results.append(
            ClipResult(
                window_id=clip.window_id,
                recording=clip.recording,
                wearer=clip.wearer,
                narration=clip.narration,
                target_ids=tuple(text),
                target_text=" ".join(PIECES[i].strip("▁") for i in text[:-1]),
                arms=runs,
                facts={"verb": ("walk", "turn")[k % 2], "events_per_s": float(k), "wearer": None},
            )
        )
    summary = summarise(results, gamma=GAMMA, draws=200)
    timings = tuple(
        ClipSpeed(
            window_id=r.window_id,
            recording=r.recording,
            prefix_target_s=0.03,
            prefix_draft_s=0.01,
            plain_s=0.02,
            speculative_s=0.016 if k else 0.03,
            tokens=5,
            rounds=2,
        )
        for k, r in enumerate(results)
    )
    return Evaluation(
        config=EvaluationConfig(gamma=GAMMA),
        environment=dict.fromkeys(("egotriad", "python", "torch", "transformers"), "1"),
        models={"draft": {"name": "imu"}},
        sources={},
        requested=len(clips) + 1,
        clips=tuple(results),
        failures=(Failure("toy/rec9/0", "no IMU <in> it"),),
        summary=summary,
        verdict=verdict(summary),
        recorded=False,
        costs=StepCosts(t_target_step_s=1e-3, t_verify_s=1.3e-3, t_draft_step_s=4e-4),
        speed=speed_of(timings),
        speed_clips=timings,
        chi_square=ChiSquare(0.4, 4000, 30, 0.7),
        ngram_texts=40,
        quality=TargetQuality(
            clips=16,
            distinct_texts=4,
            mean_tokens=5.0,
            ended=1.0,
            accuracy=0.75,
            confusion={"walk": {"walk": 4}, "turn": {"": 1, "turn": 3}},
        ),
        overlaps=(),
        tokens=PIECES | {17: "▁wrong"},
    )


class Balance(HTMLParser):
    """Checks that every element is closed, in order, and keeps what the page shows."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_self_contained_and_escapes_what_it_quotes(
    clips: list[Clip], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "report.html"
    write_html(evaluation(clips), clips, out)
    page = parse(out.read_text(encoding="utf-8"))
    text = "".join(page.text)
    assert "script" not in page.seen
    assert "C <script>alert(1)</script> & walks" in text
    assert "no IMU <in> it" in text
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.addresses) == 12 * 5
    assert page.seen.count("table") == 7  # two of them groups of clips
    assert "http://" not in re.sub(r'xmlns="[^"]*"', "", out.read_text(encoding="utf-8"))


def test_the_page_shows_verdict_cautions_arms_target_and_examples(
    clips: list[Clip], tmp_path: Path
) -> None:
    made = evaluation(clips)
    write_html(made, clips, tmp_path / "report.html")
    text = "".join(parse((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    for piece in (
        made.verdict,
        "1 of 17 clips could not be evaluated",
        "Intervals over only 4 recordings are rough.",
        "IMU draft",
        "text-only draft",
        "n-gram table",
        "IMU shuffled",
        "oracle (target)",
        "4 different texts about 16 clips, 5.0 tokens on average.",
        "It names the true activity in 75% of the clips.",
        "unknown",
        f"{made.summary.arms['draft'].metrics.tau_incl_bonus:.2f}",
        clips[0].window_id,
        '"gamma": 3',
    ):
        assert piece in text


def test_the_page_does_without_text_draft_and_judged_target(
    clips: list[Clip], tmp_path: Path
) -> None:
    made = replace(evaluation(clips, text_draft=False), quality=None, failures=())
    write_html(made, clips, tmp_path / "report.html")
    text = "".join(parse((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    assert "text-only draft can tell" in text
    assert "true activity" not in text


def test_a_token_stream_colours_accepted_rejected_discarded_and_own_tokens() -> None:
    done = (
        verify_greedy([5, 17, 8], [5, 6, 7, 8], EOS),
        verify_greedy([7, 8], [7, 8, EOS], EOS),
    )
    stream = token_stream(done, PIECES | {17: "▁wr<ng"})
    assert re.findall(r'class="(\w+)">([^<]*)<', stream) == [
        ("tokens", ""),
        ("round", ""),
        ("ok", " C"),
        ("no", " wr&lt;ng"),
        ("cut", " ."),
        ("own", " walks"),
        ("round", ""),
        ("ok", " forward"),
        ("ok", " ."),
        ("own", "&lt;/s&gt;"),
    ]


def test_a_matched_end_of_sequence_is_shown_as_accepted_with_nothing_behind() -> None:
    stream = token_stream((verify_greedy([7, EOS], [7, EOS, 0], EOS),), PIECES)
    assert re.findall(r'class="(ok|own|no|cut)"', stream) == ["ok", "ok"]


def test_examples_are_spread_over_recordings_and_do_not_depend_on_results(
    clips: list[Clip],
) -> None:
    results = evaluation(clips).clips
    chosen = choose_examples(results, 4)
    assert [c.recording for c in chosen] == ["rec0", "rec1", "rec2", "rec3"]
    assert len({c.target_ids for c in chosen}) == 4
    everything = choose_examples(results, 99)
    assert {c.window_id for c in everything} == {c.window_id for c in results}
    same = [replace(r, arms={}) for r in results]
    assert [c.window_id for c in choose_examples(same, 4)] == [c.window_id for c in chosen]


def test_tables_escape_and_align_numbers() -> None:
    html = table(["a", "b"], [["<x>", "1"]])
    assert "<td>&lt;x&gt;</td>" in html
    assert '<th class="num">b</th>' in html
    parse(html)


def test_curves_leave_out_positions_nobody_compared() -> None:
    svg = curves_svg({"draft": [1.0, 0.5, None]})
    assert svg.count("<circle") == 2
    assert svg.count("<polyline") == 1


def test_stacked_bars_share_one_scale_and_end_with_their_sums() -> None:
    bars = {"a": {"load": 1.0, "decode": 3.0}, "b": {"load": 0.5, "decode": 0.0}}
    svg = stacked_svg(bars, unit="s")
    widths = re.findall(r'width="([0-9.]+)" height="24.0"', svg)
    assert [float(width) for width in widths] == [130.0, 390.0, 65.0, 0.0]
    assert re.findall(r">([0-9.]+) s<", svg) == ["4", "0.5"]
    assert svg.count(">load<") == 1
    parse(svg)


def test_the_terminal_table_holds_every_arm_and_the_cautions(clips: list[Clip]) -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(acceptance_table(evaluation(clips)))
    text = capture.get()
    for piece in ("IMU draft", "oracle", "tau", "rounds per clip", "1 of 17 clips"):
        assert piece in text


def test_the_report_is_what_the_schema_describes(clips: list[Clip], tmp_path: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for made in (evaluation(clips), replace(evaluation(clips), speed=None, speed_clips=())):
        write_report(made, tmp_path)
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        report["arms"]["zeroed_imu"] = report["arms"]["shuffled_imu"]
        validator.validate(report)
    published = SCHEMA.parent / "results" / "demo-report.json"
    validator.validate(json.loads(published.read_text(encoding="utf-8")))
    # The schema can fail: every value is described, and none is optional.
    for path in (("cost", "c"), ("arms", "draft", "offline"), ("data", "recordings")):
        broken = json.loads(json.dumps(report))
        inner = broken
        for key in path[:-1]:
            inner = inner[key]
        inner["other"] = inner.pop(path[-1])
        assert len(list(validator.iter_errors(broken))) >= 2
