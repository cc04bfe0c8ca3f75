"""The command `dmbp-jax`."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Annotated

import typer

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax.cli._options import forget_compilation_cache

COMMANDS = {
    "explain": "_explain",
    "evaluate": "_evaluate",
    "report": "_evaluate",
    "rows": "_evaluate",
    "bench": "_bench",
    "weights": "_weights",
}
"""The module of each command; a group of commands is its module's `app`."""


def make_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command with the given subcommands, whose modules are imported."""
    app = typer.Typer(
        help="Explain which pixels are evidence for a class, against it, or neither.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in commands:
        module = importlib.import_module(f"dmbp_jax.cli.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"dmbp-jax {dmbp_jax.__version__}")
        raise typer.Exit
    return asked


def _root(
    *,
    compilation_cache: Annotated[
        bool,
        typer.Option(
            help="Keep compiled programs for the next run, in `compiled` of the package's cache folder "
            "(DMBP_JAX_CACHE, by default ~/.cache/dmbp_jax), or where JAX_COMPILATION_CACHE_DIR says."
        ),
    ] = True,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    """Disentangled Masked Backpropagation, and the methods it is compared with, in JAX."""
    if not compilation_cache:
        forget_compilation_cache()


def _in_a_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """The package's warnings without the place in the code; other warnings as Python prints them."""
    if issubclass(category, UserWarning):
        return f"warning: {message}\n"
    return _AS_PYTHON_DOES(message, category, filename, lineno, line)


_AS_PYTHON_DOES = warnings.formatwarning


def main() -> None:
    """Run the command; bad input ends with one message and exit code 2, never with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may hold bytes that are not valid text.
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _in_a_line
    if len(sys.argv) > 2 and sys.argv[1] in ("-h", "--help") and sys.argv[2] in COMMANDS:
        sys.argv[1:3] = sys.argv[2:0:-1]
    # Only the requested subcommand is imported, which is faster.
    asked = [argument for argument in sys.argv[1:] if argument in COMMANDS][:1]
    try:
        make_app(asked or COMMANDS)()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(": ".join(["stopped", *map(str, error.args)]), file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("DMBP_JAX_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            # A full disk, a missing permission or a name that is too long: the user's to fix.
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        print(
            f"internal error: {type(error).__name__}: {error}\n"
            "Please report it; DMBP_JAX_TRACEBACK=1 shows where it happened.",
            file=sys.stderr,
        )
        sys.exit(1)
