"""The command `dmbp-jax`."""

import io
import os
import sys
from typing import Annotated

import typer

from dmbp_jax.checks import InputError
from dmbp_jax.cli import weights
from dmbp_jax.cli.bench import bench
from dmbp_jax.cli.compilation_cache import forget_compilation_cache
from dmbp_jax.cli.evaluate import evaluate, report, rows
from dmbp_jax.cli.explain import explain

app = typer.Typer(
    help="Which pixels speak for a class, which against it, and which do not matter?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(explain)
app.command()(evaluate)
app.command()(report)
app.command()(rows)
app.command()(bench)
app.add_typer(weights.app, name="weights")


@app.callback()
def _root(
    *,
    compilation_cache: Annotated[
        bool,
        typer.Option(
            help="Keep compiled programs for the next run, in `compiled` of the package's cache folder "
            "(DMBP_JAX_CACHE, by default ~/.cache/dmbp_jax), or where JAX_COMPILATION_CACHE_DIR says."
        ),
    ] = True,
) -> None:
    """Disentangled Masked Backpropagation, and the methods it is compared with, in JAX."""
    if not compilation_cache:
        forget_compilation_cache()


def main() -> None:
    """Run the command; bad input ends with one message and exit code 2, never with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may hold bytes that are no text.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("DMBP_JAX_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            # A full disk, a missing permission or a name that is too long is not ours to mend.
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        print(
            f"internal error: {type(error).__name__}: {error}\n"
            "Please report it; DMBP_JAX_TRACEBACK=1 shows where it happened.",
            file=sys.stderr,
        )
        sys.exit(1)
