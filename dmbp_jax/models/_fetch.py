"""Weights from a hub: fetched once, checked, kept."""

import contextlib
import functools
import http.client
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dmbp_jax._checks import InputError
from dmbp_jax.images._files import check_writable
from dmbp_jax.models._claims import CONFIG
from dmbp_jax.models._manifest import WeightsEntry, weights_folder
from dmbp_jax.models._port import check_sha256, port_checkpoint, read_safetensors

# Waiting for others, and not for ever.

T = TypeVar("T")


class GaveUpError(Exception):
    """Nothing came for as long as one waits."""


def wait_for(work: Callable[[], T], *, seconds: float, arrived: Callable[[], int] = lambda: 0) -> T:
    """What `work` returns or raises; `GaveUpError` once `arrived`, a count, has stood still for `seconds`.

    Work that is given up goes on by itself, in a thread that does not keep the process alive: no library of
    downloads can be interrupted from outside.

    >>> wait_for(lambda: "here", seconds=1.0)
    'here'
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="wait_for", daemon=True)
    thread.start()
    before, since = arrived(), time.monotonic()
    while thread.is_alive():
        thread.join(min(0.1, seconds))
        now = arrived()
        if now != before:
            before, since = now, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > seconds:
            raise GaveUpError(f"nothing came in {seconds:g} s")
    if errors:
        # Out of the list: an error holds the frames that it passed, and these the list.
        raise errors.pop()
    return results.pop()


# Fetching weights on demand: the hub's safetensors, or a published checkpoint that is then ported.

HUB_FILE = "model.safetensors"
ANSWER_SECONDS = 30
"""So long a server may be silent before it answers, or amid a checkpoint; a larger `HF_HUB_ETAG_TIMEOUT`
holds in its place."""
SLOWEST = 8_000
"""Bytes a second below which a download is given up: a modem's."""

UNTOLD = 600_000_000
"""Bytes of a file whose size a server does not tell: none of the manifest's is larger."""


def cache_folder() -> Path:
    """Where ported weights and compiled programs are kept: `$DMBP_JAX_CACHE`, or `dmbp_jax` in the user's
    cache folder.

    Files of the Hugging Face hub stay in the hub's own cache (`$HF_HOME`).
    """
    given = os.environ.get("DMBP_JAX_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dmbp_jax"


def find_fetched(entry: WeightsEntry) -> Path | None:
    """The file of an entry if it is already on this machine, else None. Nothing is downloaded."""
    if entry.file is not None:
        return weights_folder() / entry.file
    if _ported(entry).is_file():
        return _ported(entry)
    if entry.hub is not None:
        import huggingface_hub

        path = huggingface_hub.try_to_load_from_cache(entry.hub, HUB_FILE)
        return Path(path) if isinstance(path, str) else None
    return None


def fetch(entry: WeightsEntry) -> Path:
    """The safetensors file of an entry, downloaded if need be and checked.

    Hub files come with a progress bar and resume, and with the `config.json` that says what they are;
    `HF_ENDPOINT` and `HF_HUB_OFFLINE` are respected.
    Checkpoints need PyTorch (`pip install 'dmbp_jax[port]'`). Files appear whole or not at all, also when
    several processes fetch the same one.

    A server that does not answer within 30 s is given up (a larger `HF_HUB_ETAG_TIMEOUT` waits longer), and
    so is a download that is slower than 8 kB a second.

    Raises `InputError` if it cannot be had or its hash is wrong.
    """
    path = find_fetched(entry)
    if path == _ported(entry):
        try:
            read_safetensors(path)
        except InputError:
            path.unlink(missing_ok=True)
            path = None
    if path is None:
        path = _fetch_from_hub(entry.hub) if entry.hub else _fetch_checkpoint(entry)
    if entry.file is not None and entry.sha256 is not None:
        check_sha256(path, entry.sha256)
    # The hub's cache names a large file's content by its SHA-256. Behind that name may stand one more link,
    # to a store whose names are other hashes.
    blob = path.readlink().name if path.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        try:
            check_sha256(path, blob)
        except InputError:
            # As long as it is there, the hub's client would not fetch it again.
            with contextlib.suppress(OSError):
                path.resolve().unlink()
            raise
    return path


def _ported(entry: WeightsEntry) -> Path:
    return cache_folder() / f"{entry.name}.safetensors"


def _fetch_from_hub(repository: str) -> Path:
    import huggingface_hub
    import huggingface_hub.errors

    patience = _patience()
    # The hub's client tries a silent server a dozen times, for seven minutes. Asked here for the file's size
    # alone, it tries once; from the size follows how long the rest may take.
    address = huggingface_hub.hf_hub_url(repository, HUB_FILE)
    size = 0
    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            size = wait_for(lambda: _size_of(address, 2 * patience), seconds=patience)
        download = functools.partial(huggingface_hub.hf_hub_download, repository, HUB_FILE)
        path = Path(wait_for(download, seconds=4 * patience + size / SLOWEST))
        # Not every repository has one, and what is not said cannot be compared.
        with contextlib.suppress(Exception):
            wait_for(lambda: huggingface_hub.hf_hub_download(repository, CONFIG), seconds=patience)
        return path
    except huggingface_hub.errors.LocalEntryNotFoundError:
        reason = "the hub cannot be reached, or offline mode is on, and the file is not in the cache"
    except GaveUpError as error:
        reason = (
            f"{error}. Try again, name a mirror by HF_ENDPOINT, or wait longer with "
            "HF_HUB_ETAG_TIMEOUT=SECONDS"
        )
    except Exception as error:
        # Which HTTP library fails here, and with what, depends on the version of the hub's client.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise InputError(
        f"could not fetch {HUB_FILE} of {repository}: {reason}. With a checkpoint file at hand, "
        "`dmbp-jax weights port FILE --arch NAME -o OUT.safetensors` needs no network"
    )


def _size_of(address: str, timeout: float) -> int:
    import huggingface_hub

    # Whatever is wrong, the download says again, after more tries.
    with contextlib.suppress(Exception):
        return huggingface_hub.get_hf_file_metadata(address, timeout=timeout).size or UNTOLD
    return 0


def _patience() -> float:
    import huggingface_hub.constants

    return float(max(ANSWER_SECONDS, huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT))


def _fetch_checkpoint(entry: WeightsEntry) -> Path:
    if entry.checkpoint is None:
        raise InputError(f"the manifest names no source for {entry.name}")
    try:
        import torch.hub
    except ImportError:
        raise InputError(
            f"{entry.name} is published as a PyTorch checkpoint, and reading it needs PyTorch; "
            "install it with: pip install 'dmbp_jax[port]'"
        ) from None
    check_writable(_ported(entry))
    # Every process downloads into a folder of its own, so that none reads or removes another's file.
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        downloaded = Path(folder) / entry.checkpoint.rpartition("/")[2]
        download = functools.partial(
            torch.hub.download_url_to_file, entry.checkpoint, str(downloaded), entry.sha256
        )
        try:
            # PyTorch waits without end.
            wait_for(download, seconds=_patience(), arrived=lambda: _bytes_in(Path(folder)))
        except GaveUpError as error:
            raise InputError(
                f"could not fetch {entry.checkpoint}: {error}. Try again, or fetch it by other means and run "
                f"`dmbp-jax weights port FILE --arch {entry.architecture} -o OUT.safetensors`"
            ) from None
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise InputError(f"could not fetch {entry.checkpoint}: {error}") from None
        port_checkpoint(downloaded, entry.architecture, _ported(entry))
    return _ported(entry)


def _bytes_in(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
