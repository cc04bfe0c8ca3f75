"""Image files written by hand, whose numbers are known."""

import struct
import zlib

import numpy as np


def tiff(
    values: np.ndarray,
    *,
    order: str = "<",
    bits: int | None = None,
    white: int = 1,
    packed: bool = False,
    data: bytes | None = None,
    **tags: int,
) -> bytes:
    """A TIFF file of one strip: greys `(h, w)`, or `(h, w, channels)`; `white` is its photometric tag.

    `packed` with deflate; `data` in place of the values' bytes; `tags` such as `t284=2`.
    """
    height, width, *channels = values.shape
    count = channels[0] if channels else 1
    if data is None:
        data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if packed:
        data = zlib.compress(data)
    shorts = [bits or 8 * values.dtype.itemsize] * count
    number = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    fields = {256: width, 257: height, 259: 8 if packed else 1, 262: white, 277: count, 278: height}
    fields |= {279: len(data), 339: number} | {int(name[1:]): value for name, value in tags.items()}
    after = 8 + 2 + 12 * (len(fields) + 2) + 4
    apart = struct.pack(f"{order}{count}H", *shorts) if count > 2 else b""
    fields |= {273: after + len(apart)}
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in fields.items()}
    inline = (
        struct.pack(f"{order}I", after) if apart else struct.pack(f"{order}{count}H", *shorts).ljust(4, b"\0")
    )
    entries[258] = struct.pack(f"{order}HHI", 258, 3, count) + inline
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return start + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + apart + data


def png(values: np.ndarray, bits: int, *, clear: tuple[int, ...] = ()) -> bytes:
    """A PNG file of greys `(h, w)`, or `(h, w, 2, 3 or 4)`, of `bits` each; `clear` is transparent."""
    height, width, *channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    if bits < 8:
        each = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
        rows = np.packbits(each.reshape(height, -1), axis=-1)
    else:
        rows = values.astype(f">u{bits // 8}").reshape(height, -1).view(np.uint8)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    chunks += [(b"tRNS", struct.pack(f">{len(clear)}H", *clear))] if clear else []
    chunks += [(b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
