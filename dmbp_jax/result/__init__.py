"""What an explanation is: its arrays, how they are told in a line, drawn, and kept in a file."""

from dmbp_jax.result.attribution import Attribution as Attribution
from dmbp_jax.result.attribution import Method as Method
from dmbp_jax.result.scores import Scores as Scores
