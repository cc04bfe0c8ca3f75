"""What an explanation is: its arrays, how they are told in a line, drawn, and kept in a file."""

from dmbp_jax.result._attribution import Attribution as Attribution
from dmbp_jax.result._attribution import Method as Method
from dmbp_jax.result._attribution import Scores as Scores
