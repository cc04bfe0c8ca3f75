"""What is done to a good file to make a bad one: small programs that Hypothesis draws and shrinks."""

from hypothesis import strategies as st

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)
"""Numbers at which lengths and offsets go wrong."""

# Hypothesis likes small numbers, and a file is not to be spoiled at its beginning alone.
_PLACE = st.integers(0, 9999).map(lambda number: number * 7919 % 10000 / 10000)
_GENTLE = st.one_of(
    st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
    st.tuples(st.just("byte"), _PLACE, st.integers(0, 255)),
)
_STEP = st.one_of(
    _GENTLE,
    st.tuples(st.just("write"), _PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(
        st.just("number"), _PLACE, st.sampled_from(EXTREMES), st.sampled_from([1, 2, 4, 8]), st.booleans()
    ),
    st.tuples(st.just("cut"), _PLACE),
    st.tuples(st.just("drop"), _PLACE, st.integers(1, 64)),
    st.tuples(st.just("insert"), _PLACE, st.binary(min_size=1, max_size=32)),
    st.tuples(st.just("repeat"), _PLACE, st.integers(1, 64), st.integers(2, 200)),
    st.tuples(st.just("move"), _PLACE, _PLACE, st.integers(1, 64)),
)


def programs() -> st.SearchStrategy[list[tuple]]:
    """One to six steps; half of them within the first tenth of the file, where formats say most."""
    near = _STEP.map(lambda step: (step[0], step[1] * 0.1 if step[0] != "cut" else step[1], *step[2:]))
    step = st.one_of(_GENTLE, _GENTLE, _STEP, near)
    return st.one_of(_GENTLE.map(lambda one: [one]), st.lists(step, min_size=1, max_size=6))


def mutate(content: bytes, program: list[tuple]) -> bytes:
    """The file after the steps of a program."""
    data = bytearray(content)
    for name, where, *rest in program:
        place = int(where * len(data))
        if name == "flip" and data:
            data[place] ^= 1 << rest[0]
        elif name == "byte" and data:
            data[place] = rest[0]
        elif name == "write":
            data[place : place + len(rest[0])] = rest[0]
        elif name == "number":
            number, width, little = rest
            data[place : place + width] = (number % 256**width).to_bytes(width, "little" if little else "big")
        elif name == "cut":
            del data[place:]
        elif name == "drop":
            del data[place : place + rest[0]]
        elif name == "insert":
            data[place:place] = rest[0]
        elif name == "repeat":
            length, times = rest
            data[place:place] = data[place : place + length] * times
        elif name == "move":
            target, length = rest
            piece = data[place : place + length]
            at = int(target * len(data))
            data[at : at + length] = piece
    return bytes(data)


def of_files(files: dict[str, bytes]) -> st.SearchStrategy:
    """A name, and the file of that name or another, mutated."""
    names, contents = list(files), list(files.values())
    return st.tuples(
        st.sampled_from(names),
        st.integers(0, len(names) - 1),
        st.booleans(),
        programs(),
    ).map(lambda c: (c[0], mutate(contents[names.index(c[0]) if c[2] else c[1]], c[3])))
