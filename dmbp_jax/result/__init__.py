"""What an explanation is: its arrays, how they are told in a line, drawn, and kept in a file."""

from dmbp_jax.result._attribution import Attribution, Method, Scores

__all__ = [
    "Attribution",
    "Method",
    "Scores",
]
