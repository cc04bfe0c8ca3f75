"""What a nonlinearity does in a pass through a network: one rule per file, no network in sight."""

from dmbp_jax.rules.biases import biases_at as biases_at
from dmbp_jax.rules.masked import Masked as Masked
from dmbp_jax.rules.masked import masked_gate as masked_gate
from dmbp_jax.rules.plain import PLAIN as PLAIN
from dmbp_jax.rules.plain import Plain as Plain
from dmbp_jax.rules.record import ACTIVATIONS as ACTIVATIONS
from dmbp_jax.rules.record import Linearization as Linearization
from dmbp_jax.rules.record import Recorded as Recorded
from dmbp_jax.rules.record import Site as Site
from dmbp_jax.rules.record import find_sites as find_sites
from dmbp_jax.rules.record import linearize as linearize
from dmbp_jax.rules.record import record as record
from dmbp_jax.rules.tap import Tapped as Tapped
from dmbp_jax.rules.tap import choose_map as choose_map
from dmbp_jax.rules.tap import choose_site as choose_site
from dmbp_jax.rules.tap import lay_out as lay_out
from dmbp_jax.rules.tap import read as read
from dmbp_jax.rules.tap import tap as tap
