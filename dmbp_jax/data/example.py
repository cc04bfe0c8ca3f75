"""The photograph that ships with the package."""

from pathlib import Path


def example_photo() -> Path:
    """The path of `chelsea.png`, a tabby cat.

    Photograph by Stefan van der Walt, released to the public domain (CC0); from scikit-image's data folder.

    >>> example_photo().name
    'chelsea.png'
    """
    return Path(__file__).with_name("chelsea.png")
