"""`dmbp-jax weights`: list, fetch and convert trained weights."""

import sys
from pathlib import Path
from typing import Annotated

import rich.console
import rich.table
import typer

from dmbp_jax import models
from dmbp_jax.models._fetch import find_fetched

app = typer.Typer(help="List, fetch and port trained weights.", no_args_is_help=True)


@app.command("list")
def list_weights() -> None:
    """List the known weights, and which of them are on this machine."""
    headers = ("name", "classes", "licence", "here", "source")
    table = rich.table.Table(*(rich.table.Column(h, overflow="fold") for h in headers), box=None)
    for entry in models.read_manifest().entries:
        here = "embedded" if entry.file else "yes" if find_fetched(entry) else "no"
        table.add_row(entry.name, entry.classes, entry.licence, here, entry.source)
    # A pipe has no width, and addresses must not be cut.
    width = None if sys.stdout.isatty() else 160
    rich.console.Console(width=width).print(table)


@app.command("fetch")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="As `weights list` prints it; the tag may be left out.")],
) -> None:
    """Download weights into the cache, unless they are there, and check them."""
    architecture, _, tag = name.partition(".")
    entry = models.read_manifest().find(architecture, tag or None)
    path = models.fetch(entry)
    models.load_model(architecture, entry.tag)
    typer.echo(f"{entry.name}: {path}")


@app.command("port")
def port_weights(
    file: Annotated[
        Path,
        typer.Argument(help="A .pth of torchvision, a .pth.tar of TorchRay, a .ckpt of Lightning."),
    ],
    *,
    arch: Annotated[str, typer.Option("--arch", help="The architecture that it holds.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors to write.")],
) -> None:
    """Convert a PyTorch checkpoint to a safetensors file for --weights."""
    note = models.port_checkpoint(file, arch, output)
    if note:
        typer.echo(note)
    typer.echo(f"wrote {output}")
