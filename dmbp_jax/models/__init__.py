"""Networks as pure functions of parameters and images, and their weights: `load_model`, `init`, the
manifest."""

from dmbp_jax.models._architectures import ARCHITECTURES, Architecture, get_architecture, init
from dmbp_jax.models._fetch import cache_folder, fetch
from dmbp_jax.models._load import Model, ModelSpec, load_model, register_network, to_nnx
from dmbp_jax.models._manifest import Manifest, WeightsEntry, read_manifest
from dmbp_jax.models._port import port_checkpoint

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Manifest",
    "Model",
    "ModelSpec",
    "WeightsEntry",
    "cache_folder",
    "fetch",
    "get_architecture",
    "init",
    "load_model",
    "port_checkpoint",
    "read_manifest",
    "register_network",
    "to_nnx",
]
