#!/usr/bin/env bash
# jax.custom_derivatives.linear_call is JAX's documented way to give a linear function its own transpose, and the
# one that keeps forward mode, which custom_vjp does not. Yet it has no batching rule: it works alone, under jit,
# jvp and grad, and fails under vmap, and so under jacfwd, jacrev and hessian, which are made of vmap, also for
# a function of one vector. Its documentation does not say so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
from jax.custom_derivatives import linear_call

print("jax", jax.__version__)


def triple(x):
    return linear_call(lambda _, x: 3 * x, lambda _, cotangent: 3 * cotangent, None, x)


x = jnp.arange(3.0)
ways = {
    "call": lambda: triple(x),
    "jit": lambda: jax.jit(triple)(x),
    "jvp": lambda: jax.jvp(triple, (x,), (x,))[1],
    "grad": lambda: jax.grad(lambda x: triple(x).sum())(x),
    "vmap": lambda: jax.vmap(triple)(x),
    "jacfwd": lambda: jax.jacfwd(triple)(x),
    "jacrev": lambda: jax.jacrev(triple)(x),
}
found = {}
for name, run in ways.items():
    try:
        seen = str(run().tolist())
    except NotImplementedError as error:
        seen = f"NotImplementedError: {error}"
    found[name] = not seen.startswith("NotImplementedError")
    print(f"{name}: {seen}")
as_found = [name for name, works in found.items() if works] == ["call", "jit", "jvp", "grad"]
print("as found" if as_found else "the behaviour has changed")
sys.exit(not as_found)
PYTHON
