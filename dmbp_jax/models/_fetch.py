"""Download of weights from a hub, with a checked cache."""

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

# Time-outs of blocking calls.

T = TypeVar("T")


class GaveUpError(Exception):
    """A download made no progress within the time-out."""


def wait_for(work: Callable[[], T], *, seconds: float, arrived: Callable[[], int] = lambda: 0) -> T:
    """The result or exception of `work`; `GaveUpError` once `arrived`, a count, is unchanged for `seconds`.

    Abandoned work continues in a daemon thread, which does not keep the process alive: downloads of a library
    cannot be interrupted.

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
        # Removed from the list, or error, frames and list would form a reference cycle.
        raise errors.pop()
    return results.pop()


# Download on demand: the hub's safetensors, or a published checkpoint that is then converted.

HUB_FILE = "model.safetensors"
ANSWER_SECONDS = 30
"""Seconds without data after which a server is given up; a larger `HF_HUB_ETAG_TIMEOUT` replaces it."""
SLOWEST = 8_000
"""Bytes per second below which a download is given up."""

UNTOLD = 600_000_000
"""Assumed bytes of a file whose size a server does not state: no file of the manifest is larger."""


def cache_folder() -> Path:
    """The folder of ported weights and compiled programs: `$DMBP_JAX_CACHE`, or `dmbp_jax` in the user's
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

    Hub files are downloaded with a progress bar, resumed after an interruption, and come with their
    `config.json`; `HF_ENDPOINT` and `HF_HUB_OFFLINE` are respected. Checkpoints need PyTorch (`pip install
    'dmbp_jax[port]'`). Files are written atomically, also when several processes fetch the same one.

    The time-outs are 30 s without an answer (a larger `HF_HUB_ETAG_TIMEOUT` waits longer), and a download
    speed below 8 kB/s.

    Raises `InputError` if the download fails or its hash is wrong.
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
    # The hub's cache names a large file by its SHA-256. That name may itself be a link to a store with other
    # # hashes as names.
    blob = path.readlink().name if path.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        try:
            check_sha256(path, blob)
        except InputError:
            # While the file exists, the hub's client would not fetch it again.
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
    # The hub's client retries a silent server a dozen times, for seven minutes. A request for the file's size
    # # is tried once; the size gives the time-out of the download.
    address = huggingface_hub.hf_hub_url(repository, HUB_FILE)
    size = 0
    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            size = wait_for(lambda: _size_of(address, 2 * patience), seconds=patience)
        download = functools.partial(huggingface_hub.hf_hub_download, repository, HUB_FILE)
        path = Path(wait_for(download, seconds=4 * patience + size / SLOWEST))
        # Not every repository has one; then nothing is compared.
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
        # The exception's type depends on the hub client's version and its HTTP library.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise InputError(
        f"could not fetch {HUB_FILE} of {repository}: {reason}. With a checkpoint file at hand, "
        "`dmbp-jax weights port FILE --arch NAME -o OUT.safetensors` needs no network"
    )


def _size_of(address: str, timeout: float) -> int:
    import huggingface_hub

    # The download reports the same error, after retries.
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
    # Every process downloads into its own folder, so that none reads or removes another's file.
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        downloaded = Path(folder) / entry.checkpoint.rpartition("/")[2]
        download = functools.partial(
            torch.hub.download_url_to_file, entry.checkpoint, str(downloaded), entry.sha256
        )
        try:
            # PyTorch has no time-out.
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
