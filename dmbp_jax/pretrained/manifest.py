"""`weights/manifest.toml`: which weights there are, where they come from, what they expect."""

import dataclasses
import functools
import tomllib
from pathlib import Path
from typing import Any

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.data import Preprocess
from dmbp_jax.typing import OutputActivation


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One trained set of weights of one architecture."""

    architecture: str
    tag: str
    licence: str
    classes: str
    """The key of a list of class names."""
    preprocess: str
    """The key of a preprocessing."""
    input_size: int
    output: OutputActivation
    """How logits become probabilities."""
    file: str | None = None
    """In the folder `weights/`: embedded, nothing to fetch."""
    hub: str | None = None
    """A Hugging Face repository with a `model.safetensors`."""
    checkpoint: str | None = None
    """The address of a PyTorch checkpoint, which is ported after download."""
    sha256: str | None = None
    """The hash of `file`, or of `checkpoint` (there its first digits, as in the file's name)."""

    @property
    def name(self) -> str:
        """`architecture.tag`, as timm writes it."""
        return f"{self.architecture}.{self.tag}"

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        return self.file or self.hub or self.checkpoint or "nowhere"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The manifest, read."""

    entries: tuple[WeightsEntry, ...]
    classes: dict[str, tuple[str, ...]]
    wnids: dict[str, tuple[str, ...]]
    """WordNet ids, for those lists of classes that have them."""
    preprocess: dict[str, Preprocess]

    def find_for_file(self, architecture: str, name: str) -> WeightsEntry:
        """The entry whose facts hold for a file of that name: its own if embedded, else the published."""
        found = [entry for entry in self.entries if entry.architecture == architecture]
        own = [entry for entry in found if entry.file == name]
        return next(iter(own or [entry for entry in found if entry.file is None]))

    def find(self, architecture: str, tag: str | None = None) -> WeightsEntry:
        """The entry of an architecture with that tag, by default its first.

        Raises `InputError` if there is none, naming the tags that there are.
        """
        found = [entry for entry in self.entries if entry.architecture == architecture]
        if not found:
            raise InputError(f"the manifest has no weights for {architecture!r}")
        if tag is None:
            return found[0]
        check_choice(f"weights of {architecture}", tag, [entry.tag for entry in found])
        return next(entry for entry in found if entry.tag == tag)


def weights_folder() -> Path:
    """The folder `weights/`: inside the package when installed, beside it in a checkout."""
    installed = Path(__file__).parents[1] / "weights"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights"


@functools.cache
def read_manifest() -> Manifest:
    """The manifest that ships with the package.

    >>> read_manifest().find("squeezenet1_1").tag
    'caffe'
    """
    folder = weights_folder()
    content = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))

    def lists(table: str) -> dict[str, tuple[str, ...]]:
        return {
            key: tuple((folder / name).read_text("utf-8").splitlines())
            for key, name in content[table].items()
        }

    return Manifest(
        entries=tuple(WeightsEntry(**entry) for entry in content["weights"]),
        classes=lists("classes"),
        wnids=lists("wnids"),
        preprocess={key: _preprocess(one) for key, one in content["preprocess"].items()},
    )


def _preprocess(table: dict[str, Any]) -> Preprocess:
    # TOML has lists where the dataclass has tuples; what TOML leaves out, the crop above all, is not done.
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return Preprocess(**{"resize": None, "crop": None, **fields})
