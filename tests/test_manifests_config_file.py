"""Options from TOML: the flags' names, flags win, mistakes are named."""

from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import App, Parameter

from egotriad.manifests.cli import run_app
from egotriad.manifests.config_file import CONFIG_FLAG, from_config_file

seen: list[dict] = []


def make_app(words: list[str]) -> App:
    app = App(name="tool", version_flags=[], config=from_config_file)

    @app.command
    def cook(
        *,
        out: Path,
        input: tuple[Path, ...] = (),
        window_seconds: float = 5.0,
        events: bool = True,
        config_file: Annotated[Path | None, Parameter(name=CONFIG_FLAG)] = None,
    ) -> int:
        seen.append({"out": out, "input": input, "seconds": window_seconds, "events": events})
        return 0

    return app


def cook(tmp_path: Path, toml: str, *words: str) -> int:
    path = tmp_path / "a.toml"
    path.write_text(toml)
    seen.clear()
    return run_app(make_app, ["cook", "--config", str(path), *words])


def test_a_file_gives_what_the_flags_leave_open(tmp_path: Path) -> None:
    toml = 'out = "x"\ninput = ["a", "b"]\nwindow-seconds = 2\nevents = false\n'
    assert cook(tmp_path, toml) == 0
    assert seen == [
        {"out": Path("x"), "input": (Path("a"), Path("b")), "seconds": 2.0, "events": False}
    ]


def test_flags_win_and_underscores_do(tmp_path: Path) -> None:
    toml = 'out = "x"\ninput = ["a", "b"]\nwindow_seconds = 2\nevents = false\n'
    words = ["--out", "y", "--input", "c", "--window-seconds", "3", "--events"]
    assert cook(tmp_path, toml, *words) == 0
    assert seen == [{"out": Path("y"), "input": (Path("c"),), "seconds": 3.0, "events": True}]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('out = "x"\nwindw-seconds = 2\n', "no option 'windw-seconds'; did you mean window-sec"),
        ('out = "x"\ncolour = 2\n', "there is no option 'colour'"),
        ('out = "x"\nwindow-seconds = "long"\n', "window-seconds"),
        ("[out]\nx = 1\n", "out is a table"),
        ("out = \n", "is not TOML"),
        ("", "--out"),
    ],
)
def test_mistakes_in_a_file_are_usage_errors_that_name_it(
    toml: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cook(tmp_path, toml) == 2
    assert message in capsys.readouterr().err
    assert not seen


def test_a_file_that_is_not_there_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(make_app, ["cook", "--config", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
