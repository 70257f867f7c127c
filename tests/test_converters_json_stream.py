import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.converters import json_stream
from egotriad.converters.json_stream import JsonStream, open_json
from egotriad.manifests.errors import RecordingError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=4), values, max_size=5),
    st.sampled_from([None, 1]),
    st.integers(1, 9),
)
def test_an_object_read_member_by_member_is_the_object_whatever_the_block(
    content: dict[str, Any], indent: int | None, block: int
) -> None:
    whole, json_stream.BLOCK = json_stream.BLOCK, block
    try:
        stream = JsonStream(io.StringIO(json.dumps(content, indent=indent)))
        assert {key: stream.value() for key in stream.members()} == content
        assert stream.peek() == ""
    finally:
        json_stream.BLOCK = whole


def test_lists_are_walked_nested_objects_entered_and_the_rest_passed_over() -> None:
    stream = JsonStream(io.StringIO('{"a": [1, [2], {}], "b": {"c": [], "d": 12}, "e": [ ]}'))
    found: dict[str, Any] = {}
    for key in stream.members():
        if key == "a":
            found[key] = list(stream.items())
        elif key == "b":
            for inner in stream.members():
                stream.skip()
                found[inner] = "skipped"
        else:
            found[key] = list(stream.items())
    assert found == {"a": [1, [2], {}], "c": "skipped", "d": "skipped", "e": []}


@pytest.mark.parametrize("text", ['{"a": [1, 2', '{"a" 1}', '{"a": 1 "b": 2}', "{1: 2}", '{"a": }'])
def test_broken_text_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RecordingError, match=r"x\.json: not JSON .* download it again"):
        read_members(tmp_path / "x.json")


def read_members(path: Path) -> dict[str, Any]:
    with open_json(path) as stream:
        return {key: stream.value() for key in stream.members()}


def test_other_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(RecordingError, match="not UTF-8"), open_json(tmp_path / "x.json") as stream:
        stream.value()
    with pytest.raises(RecordingError, match="no such file"), open_json(tmp_path / "y.json"):
        pass


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_values_may_be_passed_over_as_far_as_the_next_key_of_a_kind(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    content = {f"k{n}": {"id": f"k{n}", "text": f'}}, "x": {n}', "list": [n]} for n in range(9)}
    key = re.compile(r'"k\d"\s*:')
    for indent in (None, 1):
        stream = JsonStream(io.StringIO(json.dumps(content, indent=indent)))
        found = {}
        for number, name in enumerate(stream.members()):
            if number % 3:
                stream.skip_to(key)
            else:
                found[name] = stream.value()
        assert found == {name: content[name] for name in ("k0", "k3", "k6")}
        assert stream.peek() == ""
