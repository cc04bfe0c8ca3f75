"""What a nonlinearity does in a pass through a network: one rule per file, no network in sight."""

from dmbp_jax.rules._masked import Masked as Masked
from dmbp_jax.rules._masked import biases_at as biases_at
from dmbp_jax.rules._masked import masked_gate as masked_gate
from dmbp_jax.rules._plain import PLAIN as PLAIN
from dmbp_jax.rules._plain import Plain as Plain
from dmbp_jax.rules._record import ACTIVATIONS as ACTIVATIONS
from dmbp_jax.rules._record import Linearization as Linearization
from dmbp_jax.rules._record import Recorded as Recorded
from dmbp_jax.rules._record import Site as Site
from dmbp_jax.rules._record import find_sites as find_sites
from dmbp_jax.rules._record import linearize as linearize
from dmbp_jax.rules._record import record as record
from dmbp_jax.rules._tap import Tapped as Tapped
from dmbp_jax.rules._tap import choose_map as choose_map
from dmbp_jax.rules._tap import choose_site as choose_site
from dmbp_jax.rules._tap import lay_out as lay_out
from dmbp_jax.rules._tap import read as read
from dmbp_jax.rules._tap import tap as tap
