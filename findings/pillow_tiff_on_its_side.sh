#!/usr/bin/env bash
# Pillow opens an uncompressed greyscale TIFF file that lies on its side (Orientation 5 to 8) in two ways: by
# its name the image is scrambled, as a file object of the same bytes it is upright and right. By name the file
# is mapped into memory after height and width were swapped, so that rows are cut at the wrong length; the
# image has the stored size, its Orientation is gone, and nothing is raised. What is compressed is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pillow==13.0.0 numpy==2.3.5 tifffile==2025.10.16
venv/bin/python - <<'PYTHON'
import io
import sys
from pathlib import Path

import numpy as np
import PIL
import PIL.Image
import tifffile

print("Pillow", PIL.__version__, "tifffile", tifffile.__version__, "NumPy", np.__version__)
stored = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
upright = np.rot90(stored, -1)  # what Orientation 6 asks for
found = {}
for compression in (None, "zlib"):
    tag = (274, "H", 1, 6, True)
    tifffile.imwrite("side.tif", stored, compression=compression, photometric="minisblack", extratags=[tag])
    assert np.array_equal(tifffile.imread("side.tif"), stored)
    for way, source in (("name", "side.tif"), ("object", io.BytesIO(Path("side.tif").read_bytes()))):
        with PIL.Image.open(source) as image:
            image.load()
            pixels, left = np.asarray(image), image.getexif().get(274)
        found[compression, way] = np.array_equal(pixels, upright)
        print(f"compression {compression}, by {way}: {pixels.shape} of {upright.shape}, Orientation then {left}, "
              f"right: {found[compression, way]}")
as_found = found == {(None, "name"): False, (None, "object"): True, ("zlib", "name"): True, ("zlib", "object"): True}
print("as found" if as_found else "the behaviour has changed")
sys.exit(not as_found)
PYTHON
