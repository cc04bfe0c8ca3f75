"""models"""

from dmbp_jax.models._architectures import ARCHITECTURES as ARCHITECTURES
from dmbp_jax.models._architectures import Architecture as Architecture
from dmbp_jax.models._architectures import get_architecture as get_architecture
from dmbp_jax.models._architectures import init as init
from dmbp_jax.models._architectures import init_layout as init_layout
from dmbp_jax.models._fetch import cache_folder as cache_folder
from dmbp_jax.models._fetch import fetch as fetch
from dmbp_jax.models._fetch import find_fetched as find_fetched
from dmbp_jax.models._layers import LayerShape as LayerShape
from dmbp_jax.models._layers import nest as nest
from dmbp_jax.models._load import Model as Model
from dmbp_jax.models._load import ModelSpec as ModelSpec
from dmbp_jax.models._load import load_model as load_model
from dmbp_jax.models._load import register_network as register_network
from dmbp_jax.models._manifest import Manifest as Manifest
from dmbp_jax.models._manifest import WeightsEntry as WeightsEntry
from dmbp_jax.models._manifest import read_manifest as read_manifest
from dmbp_jax.models._port import port_checkpoint as port_checkpoint
