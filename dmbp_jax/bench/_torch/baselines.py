"""The compared methods as PyTorch users run them: Captum's, and RISE and FullGrad after their authors'
programs.

Each takes NCHW images and gives maps as NumPy arrays, NHWC. PyTorch and Captum are imported when called.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmbp_jax.bench._torch.network import TorchNetwork, to_nhwc

CHUNK = 10
"""Samples that Captum sends through the network at once: all of them need gigabytes on VGG-16."""
RISE_CHUNK = 32


def integrated_gradients(
    network: TorchNetwork, x: Any, targets: Sequence[int], *, n_steps: int
) -> np.ndarray:
    """`captum.attr.IntegratedGradients`, from a baseline of zeros."""
    import captum.attr
    import torch

    maps = captum.attr.IntegratedGradients(_in_dtype(network, x.dtype)).attribute(
        x.clone().requires_grad_(True),
        target=torch.as_tensor(targets),
        n_steps=n_steps,
        internal_batch_size=min(n_steps, CHUNK) * len(x),
    )
    return to_nhwc(maps)


def smoothgrad(network: TorchNetwork, x: Any, targets: Sequence[int], *, n_samples: int) -> np.ndarray:
    """`captum.attr.NoiseTunnel` around `Saliency`, with the noise of the package's default.

    One image after the other: Captum takes one standard deviation for all images.
    """
    import captum.attr
    import torch

    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(_in_dtype(network, x.dtype)))
    maps = [
        tunnel.attribute(
            image[None].requires_grad_(True),
            nt_type="smoothgrad",
            nt_samples=n_samples,
            nt_samples_batch_size=min(n_samples, CHUNK),
            stdevs=0.15 * float(image.max() - image.min()),
            target=target,
            abs=False,
        )
        for image, target in zip(x.clone(), targets, strict=True)
    ]
    return to_nhwc(torch.cat(maps))


def rise(
    network: TorchNetwork,
    x: Any,
    targets: Sequence[int],
    *,
    n_masks: int,
    cells: int = 7,
    probability: float = 0.5,
) -> np.ndarray:
    """RISE as in TorchRay: grids upsampled bilinearly, cropped at random shifts, in batches."""
    import torch

    height, width = x.shape[2:]
    cell_h, cell_w = -(-height // cells), -(-width // cells)
    size = ((cells + 1) * cell_h, (cells + 1) * cell_w)
    maps = []
    with torch.inference_mode():
        for image, target in zip(x, targets, strict=True):
            total = torch.zeros(height, width)
            for at in range(0, n_masks, RISE_CHUNK):
                count = min(RISE_CHUNK, n_masks - at)
                grids = (torch.rand(count, 1, cells, cells) < probability).float()
                large = torch.nn.functional.interpolate(grids, size, mode="bilinear", align_corners=False)
                tops, lefts = torch.randint(cell_h, (count,)), torch.randint(cell_w, (count,))
                masks = torch.stack(
                    [
                        one[:, top : top + height, left : left + width]
                        for one, top, left in zip(large, tops.tolist(), lefts.tolist(), strict=True)
                    ]
                )
                logits = network.module(image[None] * masks.to(x.dtype))
                seen = torch.softmax(logits.float(), dim=1)[:, target]
                total += torch.einsum("n,nhw->hw", seen, masks[:, 0])
            maps.append(total / (n_masks * probability))
    return torch.stack(maps)[..., None].numpy()


def fullgrad(network: TorchNetwork, x: Any, targets: Sequence[int]) -> np.ndarray:
    """FullGrad after its authors: a forward pass with hooks, one backward pass, each bias's map upsampled."""
    import torch
    from torch import nn

    kept: list[tuple[Any, Any]] = []
    handles = [
        module.register_forward_hook(lambda module, _, output: kept.append((module, output)))
        for module in network.module.modules()
        if isinstance(module, nn.Conv2d)
    ]
    image = x.clone().requires_grad_(True)
    logits = network.module(image)
    for handle in handles:
        handle.remove()
    score = logits[torch.arange(len(x)), torch.as_tensor(targets)].sum()
    to_image, *gradients = torch.autograd.grad(score, [image, *(output for _, output in kept)])
    total = _scaled(to_image * x).sum(dim=1, keepdim=True)
    for (module, _), gradient in zip(kept, gradients, strict=True):
        maps = _scaled(gradient * module.bias[None, :, None, None])
        maps = maps.sum(dim=1, keepdim=True)
        total = total + nn.functional.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)
    return to_nhwc(total)


def _in_dtype(network: TorchNetwork, dtype: Any) -> Callable[[Any], Any]:
    """The network as a function; Captum converts half-precision images to float32."""
    return lambda x: network.module(x.to(dtype))


def _scaled(maps: Any) -> Any:
    """Magnitudes, from 0 to 1 over each image's maps."""
    magnitude = maps.abs()
    lowest, highest = magnitude.amin((1, 2, 3), keepdim=True), magnitude.amax((1, 2, 3), keepdim=True)
    return (magnitude - lowest) / (highest - lowest).clamp_min(1e-30)
