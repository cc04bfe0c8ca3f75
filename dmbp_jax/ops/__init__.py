"""Plain array operations that networks are made of. Nothing here knows of attribution."""

from dmbp_jax.ops.affine import BatchNorm as BatchNorm
from dmbp_jax.ops.affine import conv2d as conv2d
from dmbp_jax.ops.affine import fold_batch_norm as fold_batch_norm
from dmbp_jax.ops.affine import linear as linear
from dmbp_jax.ops.along import full_along as full_along
from dmbp_jax.ops.blur import folded_gaussian_blur as folded_gaussian_blur
from dmbp_jax.ops.blur import gaussian_blur as gaussian_blur
from dmbp_jax.ops.cast import cast_floats as cast_floats
from dmbp_jax.ops.derivatives import held as held
from dmbp_jax.ops.derivatives import largest as largest
from dmbp_jax.ops.derivatives import square_root as square_root
from dmbp_jax.ops.kept import KEPT as KEPT
from dmbp_jax.ops.kept import kept_jit as kept_jit
from dmbp_jax.ops.loop import Loop as Loop
from dmbp_jax.ops.loop import iterative as iterative
from dmbp_jax.ops.loop import loop_of as loop_of
from dmbp_jax.ops.loop import run_loop as run_loop
from dmbp_jax.ops.maps import min_max as min_max
from dmbp_jax.ops.maps import upsample as upsample
from dmbp_jax.ops.pool import adaptive_avg_pool as adaptive_avg_pool
from dmbp_jax.ops.pool import max_pool as max_pool
from dmbp_jax.ops.pool import pick as pick
from dmbp_jax.ops.pool import pool_selected as pool_selected
from dmbp_jax.ops.pool import pool_windows as pool_windows
from dmbp_jax.ops.pool import select_max as select_max
from dmbp_jax.ops.target import target_score as target_score
