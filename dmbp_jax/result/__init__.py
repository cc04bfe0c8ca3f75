"""`Attribution`, the result of every method: its arrays, its text, its figures, its file."""

from dmbp_jax.result._attribution import Attribution, Method, Scores

__all__ = [
    "Attribution",
    "Method",
    "Scores",
]
