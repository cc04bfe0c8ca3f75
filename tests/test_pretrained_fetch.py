"""Fetching weights: every failure is one `InputError`, and what is read is whole."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import local_hub
import numpy as np
import pytest
import safetensors.numpy
from state_dicts import random_state, run_command, same

from dmbp_jax import models
from dmbp_jax._checks import InputError
from dmbp_jax.models._claims import ARCHITECTURE_KEY
from dmbp_jax.models._fetch import cache_folder, find_fetched
from dmbp_jax.models._port import read_safetensors

REPOSITORY = "nobody/small"

# In a process of its own, since the hub's client reads its settings once, when it is imported. The pauses
# between its tries are cut short.
FETCH = """
import json, os, sys, time
pause = time.sleep
time.sleep = lambda seconds: pause(min(seconds, 0.01))
from dmbp_jax._checks import InputError
from dmbp_jax.models import WeightsEntry, fetch
if "PATIENCE" in os.environ:
    sys.modules["dmbp_jax.models._fetch"].ANSWER_SECONDS = float(os.environ["PATIENCE"])
try:
    print(fetch(WeightsEntry(**json.loads(sys.argv[1]))))
except InputError as error:
    sys.exit(f"error: {error}")
"""


def entry(**source: str) -> models.WeightsEntry:
    return models.WeightsEntry(**fields(**source))


def fields(**source: str) -> dict:
    return {
        "architecture": "squeezenet1_1",
        "tag": "local",
        "licence": "none",
        "classes": "imagenet",
        "preprocess": "caffe",
        "input_size": 224,
        "output": "softmax",
        **source,
    }


def hub_files(home: Path) -> list[Path]:
    """The weights in a hub's cache, whole or in part."""
    return [path for path in home.rglob("*") if path.is_file() and path.stat().st_size > 10_000]


@pytest.fixture(scope="module")
def content() -> bytes:
    return safetensors.numpy.save(random_state("squeezenet1_1"))


@pytest.fixture
def hub(content):
    with local_hub.serve() as server:
        server.add(REPOSITORY, content)
        yield server


@pytest.fixture
def environment(tmp_path):
    """Of a process that knows no proxy and no hub but those of the test."""
    others = re.compile(r"HF_.*|HUGGING_?FACE_.*|TRANSFORMERS_OFFLINE|.*_PROXY", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not others.fullmatch(name)} | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DMBP_JAX_CACHE": str(tmp_path / "cache"),
        "JAX_PLATFORMS": "cpu",
    }


@pytest.fixture
def start(environment):
    """Start `fetch` in a new process."""
    processes = []

    def start(endpoint: str, source: dict[str, str] | None = None, **more: str) -> subprocess.Popen:
        given = json.dumps(fields(**(source or {"hub": REPOSITORY})))
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, given],
            env=environment | {"HF_ENDPOINT": endpoint} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def succeed(process: subprocess.Popen) -> Path:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return Path(output.strip())


def fail(process: subprocess.Popen) -> str:
    """The one message of a process that ended with an `InputError`."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert errors.count("error: ") == 1
    return errors.partition("error: ")[2]


# The hub.


def test_a_fetched_file_is_read_offline_afterwards(hub, start, content):
    first = succeed(start(hub.url))
    assert first.read_bytes() == content
    asked = len(hub.requests)
    assert succeed(start(hub.url, HF_HUB_OFFLINE="1")) == first
    assert len(hub.requests) == asked


def test_content_that_is_not_what_the_hub_names_is_refused_and_fetched_again(hub, start, content, tmp_path):
    hub.etag = hashlib.sha256(content).hexdigest()
    hub.add(REPOSITORY, content[:-1] + bytes([content[-1] ^ 1]))
    assert "SHA-256" in fail(start(hub.url))
    assert not hub_files(tmp_path)
    hub.add(REPOSITORY, content)
    assert succeed(start(hub.url)).read_bytes() == content


@pytest.mark.parametrize(
    "error",
    [(404, "EntryNotFound"), (404, "RepoNotFound"), (500, "")],
    ids=str,
)
def test_an_error_of_the_hub_is_one_message(hub, start, error, tmp_path):
    hub.error = error
    assert f"could not fetch model.safetensors of {REPOSITORY}" in fail(start(hub.url))
    assert not hub_files(tmp_path)


@pytest.mark.long
def test_a_hub_that_is_down_is_one_message(start):
    assert "cannot be reached" in fail(start(local_hub.closed_url()))


@pytest.mark.long
def test_offline_without_the_file_asks_nobody(hub, start):
    assert "offline mode is on" in fail(start(hub.url, HF_HUB_OFFLINE="1"))
    assert not hub.requests


@pytest.mark.long
def test_two_processes_fetch_one_file_at_once(hub, start, content):
    # Both ask before either is answered, so neither finds what the other fetched.
    hub.let_meet(2)
    for process in [start(hub.url), start(hub.url)]:
        assert succeed(process).read_bytes() == content
    assert hub.meeting is None


@pytest.fixture
def large(hub) -> bytes:
    """A file of three parts; the hub's client writes parts of 10 MiB."""
    content = np.random.default_rng(0).bytes(24 * 2**20)
    hub.add(REPOSITORY, content)
    return content


def test_an_interrupted_transfer_is_resumed(hub, start, large):
    """By the hub's client at once, or, before its version 1, when it is asked again."""
    hub.cuts = [len(large) // 2]
    process = start(hub.url)
    if process.wait(timeout=120):
        assert f"could not fetch model.safetensors of {REPOSITORY}" in fail(process)
        process = start(hub.url)
    assert succeed(process).read_bytes() == large
    first, second = hub.downloads()
    assert first is None
    assert second == f"bytes={10 * 2**20}-"


@pytest.mark.long
def test_half_a_transfer_is_never_read(hub, start, large, tmp_path):
    hub.cuts = [len(large) // 2, *[0] * 20]
    assert f"could not fetch model.safetensors of {REPOSITORY}" in fail(start(hub.url))
    assert {path.suffix for path in hub_files(tmp_path)} <= {".incomplete"}
    hub.cuts = []
    assert succeed(start(hub.url)).read_bytes() == large


IMPATIENT = {"PATIENCE": "1", "HF_HUB_ETAG_TIMEOUT": "1"}


def test_a_hub_that_never_answers_is_given_up_with_the_remedy(hub, start, tmp_path):
    hub.silent = frozenset({"HEAD", "GET"})
    message = fail(start(hub.url, **IMPATIENT))
    assert f"could not fetch model.safetensors of {REPOSITORY}: nothing came in 1 s. Try again" in message
    assert "HF_ENDPOINT" in message
    assert "weights port" in message
    # The one question was not asked again.
    assert [method for method, *_ in hub.requests] == ["HEAD"]
    assert not hub_files(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("way", ["silent", "trickle"])
def test_a_download_that_does_not_come_forward_is_given_up(hub, start, tmp_path, way):
    """Of 1000 bytes, which are allowed a moment more than four times the patience."""
    hub.add(REPOSITORY, bytes(1000))
    if way == "silent":
        hub.silent = frozenset({"GET"})
    else:
        hub.trickle = True
    assert re.search(r"nothing came in 4\.\d* s", fail(start(hub.url, **IMPATIENT)))
    assert not hub_files(tmp_path)


@pytest.mark.long
def test_a_larger_timeout_of_the_hub_is_respected(hub, start):
    """One that answers late, and yet sooner than that."""
    hub.silent = frozenset({"HEAD"})
    message = fail(start(hub.url, PATIENCE="0.1", HF_HUB_ETAG_TIMEOUT="2"))
    assert "nothing came in 2 s" in message


def lay_out_cache(
    folder: Path, named: bytes, content: bytes, *, repository: str = REPOSITORY, shared: bool = False
) -> Path:
    """The hub's cache with `content` under the SHA-256 of `named`, itself a link if `shared`."""
    repository = folder / f"models--{repository.replace('/', '--')}"
    blob = repository / "blobs" / hashlib.sha256(named).hexdigest()
    file = repository / "snapshots" / local_hub.COMMIT / "model.safetensors"
    stored = folder / "blobs" / "ab" / ("ab" * 32) if shared else blob
    for path in (blob, file, stored, repository / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(content)
    if shared:
        blob.symlink_to(stored)
    file.symlink_to(blob)
    (repository / "refs" / "main").write_text(local_hub.COMMIT)
    return file


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DMBP_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


# Newer clients keep what they fetched in one store for all repositories, under names that are not SHA-256.
@pytest.mark.parametrize("shared", [False, True])
def test_the_hubs_cache_is_checked_by_the_name_of_the_blob(hub_cache, content, shared):
    file = lay_out_cache(hub_cache, content, content, shared=shared)
    assert find_fetched(entry(hub=REPOSITORY)) == file
    assert models.fetch(entry(hub=REPOSITORY)) == file


@pytest.mark.parametrize("shared", [False, True])
def test_a_damaged_file_in_the_hubs_cache_is_refused_and_removed(hub_cache, content, shared):
    lay_out_cache(hub_cache, content, content[:-1], shared=shared)
    with pytest.raises(InputError, match="SHA-256"):
        models.fetch(entry(hub=REPOSITORY))
    assert find_fetched(entry(hub=REPOSITORY)) is None
    assert not hub_files(hub_cache)


def test_nothing_is_found_before_it_is_fetched(hub_cache):
    assert find_fetched(entry(hub=REPOSITORY)) is None
    assert find_fetched(entry(checkpoint="http://127.0.0.1/x.pth")) is None


def test_an_entry_without_a_source_cannot_be_fetched(hub_cache):
    with pytest.raises(InputError, match=r"no source for squeezenet1_1\.local"):
        models.fetch(entry())


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("DMBP_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dmbp_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dmbp_jax"
    monkeypatch.setenv("DMBP_JAX_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


# Checkpoints.


@pytest.fixture
def checkpoint(hub, monkeypatch, tmp_path):
    """Publish a checkpoint of a state dict on the server; gives its entry."""
    monkeypatch.setenv("DMBP_JAX_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def publish(state: dict[str, np.ndarray], digits: str | None = None) -> models.WeightsEntry:
        import torch

        file = io.BytesIO()
        torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, file)
        digits = digits or hashlib.sha256(file.getvalue()).hexdigest()[:8]
        path = f"/models/squeezenet1_1-{digits}.pth"
        hub.files[path] = file.getvalue()
        return entry(checkpoint=hub.url + path, sha256=digits)

    return publish


@pytest.mark.parity
def test_a_fetched_checkpoint_is_ported_into_the_cache_once(hub, checkpoint, tmp_path):
    state = random_state("squeezenet1_1")
    published = checkpoint(state)
    path = models.fetch(published)
    assert path == tmp_path / "cache" / "squeezenet1_1.local.safetensors"
    tensors, says, _ = read_safetensors(path)
    assert says[ARCHITECTURE_KEY] == "squeezenet1_1"
    assert same(tensors, state)
    assert list(path.parent.iterdir()) == [path]
    assert find_fetched(published) == models.fetch(published) == path
    assert len(hub.requests) == 1


@pytest.mark.parity
def test_a_ported_file_that_was_damaged_is_fetched_anew(hub, checkpoint):
    state = random_state("squeezenet1_1")
    published = checkpoint(state)
    path = models.fetch(published)
    path.write_bytes(path.read_bytes()[:1000])
    assert models.fetch(published) == path
    assert same(read_safetensors(path).state, state)
    assert len(hub.requests) == 2


def break_nothing(hub):
    pass


def break_error(hub):
    hub.error = (404, "")


def break_server_error(hub):
    hub.error = (500, "")


def break_off(hub):
    hub.cuts = [5_000]


def break_protocol(hub):
    hub.garbage = True


@pytest.mark.parity
@pytest.mark.parametrize(
    ("break_it", "digits"),
    [
        (break_nothing, "00000000"),
        (break_error, None),
        (break_server_error, None),
        (break_off, None),
        (break_protocol, None),
    ],
)
def test_a_checkpoint_that_does_not_arrive_whole_leaves_nothing(hub, checkpoint, tmp_path, break_it, digits):
    published = checkpoint(random_state("squeezenet1_1"), digits)
    break_it(hub)
    with pytest.raises(InputError, match=f"could not fetch {published.checkpoint}"):
        models.fetch(published)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parity
@pytest.mark.parametrize("way", ["silent", "trickle"])
def test_a_checkpoint_that_does_not_come_is_given_up_and_leaves_nothing(
    hub, checkpoint, start, tmp_path, way
):
    """PyTorch writes what arrives in large pieces: of a trickle none is whole within the patience."""
    published = checkpoint(random_state("squeezenet1_1"))
    if way == "silent":
        hub.silent = frozenset({"GET"})
    else:
        hub.trickle = True
    source = {"checkpoint": published.checkpoint, "sha256": published.sha256}
    message = fail(start(hub.url, source, **IMPATIENT))
    assert message.startswith(f"could not fetch {published.checkpoint}: nothing came in 1 s. Try again")
    assert "weights port" in message
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parity
def test_a_checkpoint_from_a_server_that_is_down_leaves_nothing(checkpoint, tmp_path):
    with pytest.raises(InputError, match="could not fetch"):
        models.fetch(entry(checkpoint=f"{local_hub.closed_url()}/squeezenet1_1-00000000.pth"))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parity
def test_a_checkpoint_of_another_network_leaves_nothing(checkpoint, tmp_path):
    state = random_state("squeezenet1_1")
    del state["features.0.bias"]
    with pytest.raises(InputError, match=r"tensor features\.0\.bias is missing"):
        models.fetch(checkpoint(state))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parity
def test_two_processes_fetch_one_checkpoint_at_once(hub, checkpoint, start, tmp_path):
    state = random_state("squeezenet1_1")
    published = checkpoint(state)
    hub.let_meet(2)
    source = {"checkpoint": published.checkpoint, "sha256": published.sha256}
    processes = [start(hub.url, source), start(hub.url, source)]
    paths = {succeed(process) for process in processes}
    assert paths == {tmp_path / "cache" / "squeezenet1_1.local.safetensors"}
    assert len(hub.requests) == 2
    tensors = read_safetensors(paths.pop()).state
    assert same(tensors, state)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parity
def test_a_cache_that_is_a_file_is_one_message(checkpoint, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write"):
        models.fetch(checkpoint(random_state("squeezenet1_1")))


def test_a_checkpoint_without_pytorch_is_one_message(hub_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs PyTorch; install it with: pip install 'dmbp_jax\[port\]'"):
        models.fetch(entry(checkpoint="http://127.0.0.1/squeezenet1_1-00000000.pth"))
    assert not hub_cache.parent.joinpath("cache").exists()


# The command.


def test_the_command_downloads_checks_and_lists(hub, environment, hub_cache, monkeypatch, capsys):
    hub.add("timm/resnet18.tv_in1k", safetensors.numpy.save(random_state("resnet18", 1000)))
    command = [sys.executable, "-c", "from dmbp_jax.cli import main; main()", "weights", "fetch", "resnet18"]
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(hub_cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    name, path = done.stdout.strip().split(": ")
    assert name == "resnet18.tv_in1k"
    assert Path(path).is_relative_to(hub_cache)
    assert run_command(monkeypatch, "weights", "list") == 0
    here = {line.split()[0]: line.split()[-2] for line in capsys.readouterr().out.splitlines()}
    assert here["resnet18.tv_in1k"] == "yes"
    assert here["resnet34.tv_in1k"] == "no"


def test_the_command_refuses_a_fetched_file_that_does_not_fit(hub_cache, content, monkeypatch, capsys):
    lay_out_cache(hub_cache, content, content, repository="timm/resnet18.tv_in1k")
    assert run_command(monkeypatch, "weights", "fetch", "resnet18") == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r"error: .*, as resnet18: tensor conv1\.weight is missing .*\n", errors)
