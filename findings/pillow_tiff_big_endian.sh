#!/usr/bin/env bash
# Pillow swaps the bytes of a big-endian TIFF file of floats, or of integers with a sign, if it is compressed:
# libtiff has put them into the machine's order by then. Uncompressed, or of 16 bits without sign, the same
# numbers are right. Nothing is raised: 1.0 becomes 4.6e-41.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pillow==13.0.0 numpy==2.3.5 tifffile==2025.10.16
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import PIL
import PIL.Image
import tifffile

print("Pillow", PIL.__version__, "tifffile", tifffile.__version__, "NumPy", np.__version__)
found = {}
for dtype in ("uint16", "int16", "int32", "float32"):
    values = (np.arange(1, 49).reshape(6, 8) * 5).astype(dtype)
    for compression in (None, "zlib"):
        tifffile.imwrite("a.tif", values, byteorder=">", compression=compression, photometric="minisblack")
        assert np.array_equal(tifffile.imread("a.tif"), values)
        with PIL.Image.open("a.tif") as image:
            pixels = np.asarray(image)
        found[dtype, compression] = np.array_equal(pixels, values)
        print(f"{dtype}, compression {compression}: the first is {values[0, 0]}, read as {pixels[0, 0]}")
wrong = {case for case, right in found.items() if not right}
as_found = wrong == {("int16", "zlib"), ("int32", "zlib"), ("float32", "zlib")}
print("as found" if as_found else "the behaviour has changed")
sys.exit(not as_found)
PYTHON
