"""Fetching weights from the net, or saying at once that they cannot be had.

Without this, a machine without network waits through minutes of retries.
"""

import contextlib
import io
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from teachers.errors import WeightsError, one_line


def offline() -> bool:
    """Whether the user said so (``HF_HUB_OFFLINE``), or the hub's name cannot be resolved."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    return not _resolves(constants.ENDPOINT)


def _resolves(url: str) -> bool:
    """Whether the host has an address; behind a proxy only the proxy can tell, so yes."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlparse(url).hostname, None)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def fetching(teacher: str) -> Iterator[None]:
    """Let a library fetch weights here; what it cannot fetch becomes a ``WeightsError``.

    Where the hub is out of reach the library is told so, and looks into its cache only. What
    libraries print to stdout (torch.hub does) is dropped: stdout is for results.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except OSError as error:
        why = "this machine is offline" if constants.HF_HUB_OFFLINE else one_line(error)
        raise not_here(teacher, why) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def not_here(teacher: str, why: str) -> WeightsError:
    """The error for weights that exist nowhere locally, with what to do."""
    hint = (
        "give a local folder of it as the name, hf/FOLDER"
        if teacher.startswith("hf/")
        else "give a local file with --weights FILE.safetensors, "
        "or train from random weights with --random-init"
    )
    return WeightsError(
        f"the weights of {teacher} are not on this machine and cannot be fetched ({why}); {hint}"
    )


def check_torch_hub(teacher: str, url: str) -> None:
    """Refuse at once a file that is not in torch.hub's cache and cannot be fetched."""
    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if cached.exists():
        return
    told = any(os.environ.get(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if told or not _resolves(url):
        raise not_here(teacher, "this machine is offline")
