import pytest

from egotriad.manifests.errors import UnknownPlugin
from egotriad.manifests.plugins import DATASETS, DRAFTS, ENCODERS, TARGETS


def test_plugins_are_found_by_file_name() -> None:
    assert {"gopro", "simulated"} <= set(DATASETS.names())
    assert {"imu", "text"} <= set(DRAFTS.names())
    assert "tiny" in TARGETS.names()
    assert "conv" in ENCODERS.names()


@pytest.mark.parametrize("kind", [DATASETS, DRAFTS, ENCODERS, TARGETS])
def test_every_plugin_loads(kind) -> None:
    for name in kind.names():
        assert kind.load(name) is not None


def test_a_misspelt_name_gets_a_suggestion_and_exit_code_2() -> None:
    with pytest.raises(UnknownPlugin, match="did you mean simulated") as caught:
        DATASETS.load("simulate")
    assert caught.value.exit_code == 2
    assert "gopro" in str(caught.value)
