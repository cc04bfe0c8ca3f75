"""The XML files in which PASCAL VOC says what is where in a photograph."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

from dmbp_jax.checks import InputError
from dmbp_jax.data.sample import Box


def read_annotation(path: Path) -> tuple[Box, ...]:
    """The objects of a VOC annotation in its order, difficult ones included and the parts of objects not.

    VOC counts pixels from 1 and includes the last, so `xmin` 1 is the left edge 0, and `xmax` the right edge.
    Some coordinates are fractions; they are converted alike. Source: Everingham and Winn, "The PASCAL Visual
    Object Classes Challenge 2012 Development Kit".

    Raises `InputError`, whose message does not repeat the path, if the file is missing or malformed.
    """
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        raise InputError("its annotation is missing") from None
    except (ET.ParseError, UnicodeError, LookupError, ValueError) as error:
        # `LookupError` is an encoding that Python does not know.
        raise InputError(f"its annotation is not XML: {error}") from None
    except OSError as error:
        raise InputError(f"its annotation cannot be read: {error.strerror or error}") from None
    if root.tag != "annotation":
        raise InputError(f"its annotation is no VOC annotation: it begins with <{root.tag}>")
    return tuple(_read_object(number, node) for number, node in enumerate(root.findall("object"), start=1))


def _read_object(number: int, node: ET.Element) -> Box:
    # `find` looks at direct children only: a part has a box of its own, one level further down.
    name = _text(node, "name")
    frame = node.find("bndbox")
    if not name or frame is None:
        raise InputError(f"object {number} of its annotation has no {'bndbox' if name else 'name'}")
    xmin, ymin, xmax, ymax = (_number(number, frame, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmax < xmin or ymax < ymin:
        raise InputError(f"the box of object {number} of its annotation has no extent")
    difficult = _text(node, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise InputError(
            f"object {number} of its annotation has the difficult flag {difficult!r}, not 0 or 1"
        )
    return Box(name, xmin - 1, ymin - 1, xmax, ymax, difficult == "1")


def _number(number: int, frame: ET.Element, tag: str) -> float:
    text = _text(frame, tag)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"the box of object {number} of its annotation has the {tag} {text!r}, not a number")
    return value


def _text(node: ET.Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()
