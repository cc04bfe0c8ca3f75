"""From checkpoints to parameters: the manifest, the hub, torchvision's and TorchRay's files."""

from dmbp_jax.pretrained.fetch import cache_folder as cache_folder
from dmbp_jax.pretrained.fetch import fetch as fetch
from dmbp_jax.pretrained.fetch import find_fetched as find_fetched
from dmbp_jax.pretrained.load import Model as Model
from dmbp_jax.pretrained.load import load_model as load_model
from dmbp_jax.pretrained.load import register_network as register_network
from dmbp_jax.pretrained.manifest import Manifest as Manifest
from dmbp_jax.pretrained.manifest import WeightsEntry as WeightsEntry
from dmbp_jax.pretrained.manifest import read_manifest as read_manifest
from dmbp_jax.pretrained.port import port_checkpoint as port_checkpoint
from dmbp_jax.pretrained.spec import ModelSpec as ModelSpec
