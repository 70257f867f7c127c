"""Options from a TOML file, under the names that the flags have.

```
# walk.toml                 build-shards gopro --config walk.toml --out shards
input = ["walk.mp4"]
window-seconds = 5.0        # or window_seconds
events = false              # as --no-events
```
What stands on the command line wins.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from egotriad.manifests.errors import UsageError

__all__ = ["CONFIG_FLAG", "from_config_file"]

CONFIG_FLAG = "--config"


def from_config_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fills in what the command line leaves open: an `App(config=...)` of cyclopts.

    Raises:
        UsageError: the file cannot be read, is no flat table, or names an option that there is not.
    """
    named = [argument for argument in arguments if CONFIG_FLAG in argument.names]
    if not named or not named[0].tokens:
        return
    path = Path(named[0].tokens[0].value)
    values = {key.replace("_", "-"): value for key, value in _read(path).items()}
    known = sorted({name for argument in arguments for name in argument.names} - {CONFIG_FLAG})
    for key, value in values.items():
        if f"--{key}" not in known:
            near = difflib.get_close_matches(f"--{key}", known, n=1)
            hint = f"; did you mean {near[0].removeprefix('--')}?" if near else ""
            raise UsageError(f"{path}: there is no option {key!r}{hint}")
        if isinstance(value, dict):
            raise UsageError(f"{path}: {key} is a table; options stand at the top of the file")
    Dict(values, use_commands_as_keys=False, source=str(path))(app, commands, arguments)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"--config {path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise UsageError(f"--config {path}: is not TOML ({exc})") from exc
