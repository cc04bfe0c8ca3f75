"""DMBP in optimised plain PyTorch, with which `bench --against torch` compares.

Everything constant is computed beforehand: batch-norm is folded; gates and pool selections are frozen; by
duality (`y^s` is the output of the masked forward pass) a step is a forward and a backward pass of each
branch; nothing is differentiated with respect to weights; the first layer's output, which does not change, is
computed once. PyTorch is imported when `dmbp` is called.

Tried, and not faster on CPUs: both branches in one batch (slower at batch 8), channels-last activations, an
`autograd.Function` for masks and gates, boolean gates with `where`, the pool's own backward operator.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dmbp_jax.bench._torch.network import TorchNetwork, run_graph, to_nhwc


class TorchExplanation(NamedTuple):
    """NHWC maps and scores per image, as NumPy arrays."""

    values: np.ndarray
    positive: np.ndarray
    """`y+`, `(n,)`."""
    negative: np.ndarray
    """`y-`, `(n,)`."""


class FrozenGates(NamedTuple):
    """What is constant while the masks are learned; all tensors."""

    logits: Any
    """`(n, k)`."""
    first: Any
    """The first layer's output."""
    gates: dict[str, Any]
    """ReLUs: 0 or 1 in the dtype of the activations, which multiplies faster than a flag."""
    selections: dict[str, Any]
    """Max-pools: the index of each window's maximum."""
    masks: dict[str, tuple[int, ...]]
    """The shape of each masked node's output."""


def dmbp(
    network: TorchNetwork,
    x: Any,
    targets: Sequence[int],
    *,
    steps: int,
    learning_rate: float = 0.01,
    decay: float = 0.99,
    eps: float = 1e-8,
    start: float = 0.0,
) -> TorchExplanation:
    """DMBP of NCHW images, with the objective and the masks of the package's defaults.

    Activations have the dtype of `x`; masks and the optimiser are float32.
    """
    import torch

    rows, classes = torch.arange(len(x)), torch.as_tensor(targets)
    frozen = freeze(network, x)
    total = frozen.logits[rows, classes].float()
    thetas = [torch.full(shape, start, requires_grad=True) for shape in frozen.masks.values()]
    optimizer = torch.optim.RMSprop(thetas, lr=learning_rate, alpha=decay, eps=eps)

    def score(halves: Sequence[Any], images: Any = None) -> Any:
        masks = dict(zip(frozen.masks, halves, strict=True))
        return masked_forward(network, frozen, masks, images).float()[rows, classes]

    for _ in range(steps):
        masks = [torch.sigmoid(theta) for theta in thetas]
        positive, negative = score(masks), score([1 - mask for mask in masks])
        loss = (negative - positive + (total - positive - negative).abs()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    image = x.clone().requires_grad_(True)
    masks = [torch.sigmoid(theta.detach()) for theta in thetas]
    positive, negative = score(masks, image), score([1 - mask for mask in masks], image)
    (gradient,) = torch.autograd.grad((positive + negative).sum(), image)
    return TorchExplanation(to_nhwc(gradient * x), positive.detach().numpy(), negative.detach().numpy())


def freeze(network: TorchNetwork, x: Any) -> FrozenGates:
    """The plain pass of NCHW images, recording gates and selections."""
    import torch
    from torch import nn

    first: list[Any] = []
    gates, selections, masks = {}, {}, {}

    def call(node: str, module: Any, h: Any) -> Any:
        if isinstance(module, nn.MaxPool2d):
            options = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
            output, chosen = nn.functional.max_pool2d(h, *options, return_indices=True)
            selections[node] = chosen
            return output
        output = module(h)
        if isinstance(module, nn.ReLU):
            gates[node] = (output > 0).to(output.dtype)
        if node in network.masked:
            masks[node] = tuple(output.shape)
        if node == network.first:
            first.append(output)
        return output

    with torch.no_grad():
        logits = run_graph(network, x, call)
    return FrozenGates(logits, first[0], gates, selections, masks)


def masked_forward(
    network: TorchNetwork, frozen: FrozenGates, masks: dict[str, Any], images: Any = None
) -> Any:
    """The logits of a masked pass; without `images`, from the first layer's stored output."""
    from torch import nn

    def call(node: str, module: Any, h: Any) -> Any:
        mask = masks.get(node)
        if isinstance(module, nn.MaxPool2d):
            chosen = frozen.selections[node]
            return h.flatten(2).gather(2, chosen.flatten(2)).view_as(chosen)
        if isinstance(module, nn.ReLU):
            gate = frozen.gates[node]
            return h * (gate if mask is None else mask.to(gate.dtype) * gate)
        known = node == network.first and images is None
        output = frozen.first if known else module(h)
        return output if mask is None else output * mask.to(output.dtype)

    return run_graph(network, images, call)
