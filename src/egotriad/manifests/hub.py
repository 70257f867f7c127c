"""The Hugging Face Hub's client, and what its errors mean: for pushing shards and models alike."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from egotriad.manifests.errors import MissingDependency, PushError, PushInterrupted

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

__all__ = ["hub_api", "hub_errors"]


def hub_api() -> "HfApi":
    """The client, with whatever login huggingface_hub finds.

    Raises:
        MissingDependency: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.logging import set_verbosity
    except ImportError as exc:
        raise MissingDependency(
            "pushing needs huggingface_hub (and datasets, for shards): pip install 'egotriad[hub]'"
        ) from exc
    if not sys.stderr.isatty():
        set_verbosity(logging.INFO)  # a line every 30 s in place of its live display
    return HfApi(library_name="egotriad")


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into messages with a next step.

    Raises:
        PushError: the Hub says no (login, rights, bad request).
        PushInterrupted: it did not answer, or failed; running again goes on.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalTokenNotFoundError as exc:
        raise PushError(f"{repo_id}: not logged in; run `hf auth login`") from exc
    except errors.OfflineModeIsEnabled as exc:
        raise PushError(f"{repo_id}: HF_HUB_OFFLINE is set; unset it to push") from exc
    except errors.HfHubHTTPError as exc:
        raise _refusal(repo_id, exc) from exc
    except ValueError as exc:  # a card whose metadata it does not take
        said = " ".join(str(exc).split())
        raise PushError(f"{repo_id}: the Hub does not take it: {said}") from exc
    except PermissionError as exc:  # what large-file storage says to a token without rights
        raise PushError(_login(repo_id, str(exc))) from exc
    except (errors.HTTPError, ConnectionError, TimeoutError, RuntimeError) as exc:  # type: ignore[attr-defined]
        cause = exc.__cause__
        if isinstance(cause, errors.HfHubHTTPError):  # large files are sent by threads
            raise _refusal(repo_id, cause) from exc
        raise PushInterrupted(_interrupted(repo_id, cause or exc)) from exc


def _refusal(repo_id: str, error: "HfHubHTTPError") -> PushError:
    status = error.response.status_code
    if status in (401, 403):
        return PushError(_login(repo_id, str(status)))
    if status == 429 or status >= 500:
        return PushInterrupted(_interrupted(repo_id, error))
    said = error.server_message or str(error).splitlines()[0]
    return PushError(f"{repo_id}: the Hub refused ({status}): {said}")


def _login(repo_id: str, said: str) -> str:
    return (
        f"{repo_id}: the Hub refused ({said}); log in with `hf auth login`, with a token that may "
        f"write to {repo_id.split('/')[0]}"
    )


def _interrupted(repo_id: str, error: BaseException) -> str:
    said = (str(error).splitlines() or [""])[0]
    return (
        f"{repo_id}: interrupted ({type(error).__name__}: {said}); "
        "run the same command again, what is there already is not sent twice"
    )
