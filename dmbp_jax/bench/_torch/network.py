"""torchvision's networks with the package's parameters, for comparisons with PyTorch.

PyTorch is imported when a function is called, not with this module.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from dmbp_jax._checks import InputError
from dmbp_jax.models import get_architecture
from dmbp_jax.typing import Params


class TorchNetwork(NamedTuple):
    """A torchvision network in evaluation mode, batch-norm folded away, as a graph of modules."""

    module: Any
    """A `torch.fx.GraphModule`: NCHW images to logits."""
    masked: tuple[str, ...]
    """The nodes whose output is masked, for `mask_sites="filter"`: the ReLU where one follows its layer
    directly, else the layer."""
    first: str
    """The node of the first layer."""


def require(*modules: str) -> None:
    """Raise `InputError` unless these modules are installed."""
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the comparison with PyTorch needs {', '.join(missing)}: pip install {' '.join(missing)}"
        )


def check_known(name: str) -> None:
    """Raise `InputError` unless torchvision is installed and has a network of that name."""
    require("torch", "torchvision")
    import torchvision

    if name not in torchvision.models.list_models():
        raise InputError(f"there is no PyTorch program of {name!r} to compare with: torchvision has none")


@contextlib.contextmanager
def all_cores() -> Iterator[int]:
    """Make PyTorch compute as XLA does: with a thread for each available core, and with zeros for subnormal
    numbers, which are slow on CPUs and frequent under masks in deep networks."""
    import torch

    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores)
    torch.set_flush_denormal(True)
    try:
        yield cores
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def torch_network(name: str, params: Params, dtype: str = "float32") -> TorchNetwork:
    """torchvision's network of that name with the parameters of the package's.

    Raises `InputError` if PyTorch or torchvision is missing, or torchvision has no such network.
    """
    check_known(name)
    import torch
    import torchvision
    from torch import nn

    architecture = get_architecture(name)
    host = jax.tree.map(np.asarray, params)
    last = [layer.name for layer in architecture.layout(1)][-1]
    classes = len(_find(host, last)["bias"])
    # Random initial weights would take seconds to draw and be replaced.
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
    for module in list(model.modules()):
        for child_name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.Dropout):
                setattr(module, child_name, nn.Identity())
            elif isinstance(child, nn.ReLU):
                setattr(module, child_name, nn.ReLU())
    for layer in architecture.layout(classes):
        module = model.get_submodule(layer.name)
        arrays = _to_torch_layout(_find(host, layer.name), layer.grid)
        for kind, array in zip(("weight", "bias"), arrays, strict=True):
            tensor = torch.from_numpy(array).to(getattr(torch, dtype))
            setattr(module, kind, nn.Parameter(tensor, requires_grad=False))
    graph = torch.fx.symbolic_trace(model.eval())
    return TorchNetwork(graph, *_masked_nodes(graph, last))


def run_graph(network: TorchNetwork, x: Any, call: Callable[[str, Any, Any], Any]) -> Any:
    """The logits of NCHW images, where `call(node, module, argument)` computes each module's output.

    The output of the first layer may not need its argument, which is `x`.
    """
    modules = dict(network.module.named_modules())
    known: dict[Any, Any] = {}
    for node in network.module.graph.nodes:
        if node.op == "placeholder":
            known[node] = x
            continue
        (args, kwargs) = _fetch(node.args, known), _fetch(node.kwargs, known)
        if node.op == "call_module":
            known[node] = call(node.name, modules[node.target], *args)
        elif node.op == "call_function":
            known[node] = node.target(*args, **kwargs)
        elif node.op == "call_method":
            known[node] = getattr(args[0], node.target)(*args[1:], **kwargs)
        else:
            return args[0]
    raise AssertionError("a graph ends with its output")


def forward(network: TorchNetwork, x: Any) -> Any:
    """The logits of NCHW images, without a gradient."""
    import torch

    with torch.inference_mode():
        return network.module(x)


def to_nchw(images: npt.ArrayLike, dtype: str = "float32") -> Any:
    """NHWC images as a PyTorch tensor `(n, c, h, w)` of that layout in memory."""
    import torch

    array = np.ascontiguousarray(np.asarray(images, np.float32).transpose(0, 3, 1, 2))
    return torch.from_numpy(array).to(getattr(torch, dtype))


def channels_last(x: Any) -> Any:
    """The same images with interleaved channels in memory, with which a plain forward pass is faster."""
    import torch

    return x.contiguous(memory_format=torch.channels_last)


def to_nhwc(tensor: Any) -> np.ndarray:
    """A PyTorch tensor `(n, c, h, w)` as a NumPy array `(n, h, w, c)`."""
    return np.asarray(tensor.detach().float().numpy().transpose(0, 2, 3, 1))


def _fetch(arguments: Any, known: dict[Any, Any]) -> Any:
    """Arguments of a node with the nodes among them replaced by their outputs."""
    import torch

    return torch.fx.node.map_arg(arguments, known.__getitem__)


def _find(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params[part]
    return params


def _to_torch_layout(layer: Any, grid: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias as PyTorch has them."""
    kernel, bias = layer["kernel"], layer["bias"]
    if kernel.ndim == 4:
        weight = kernel.transpose(3, 2, 0, 1)
    elif grid is not None:
        # PyTorch flattens channels first, this package channels last.
        outputs = kernel.shape[1]
        weight = kernel.reshape(grid, grid, -1, outputs).transpose(3, 2, 0, 1).reshape(outputs, -1)
    else:
        weight = kernel.T
    return np.array(weight, order="C"), np.array(bias)


def _masked_nodes(graph: Any, last: str) -> tuple[tuple[str, ...], str]:
    from torch import nn

    modules = dict(graph.named_modules())

    def module_of(node: Any) -> Any:
        return modules[node.target] if node.op == "call_module" else None

    layers = [node for node in graph.graph.nodes if isinstance(module_of(node), nn.Conv2d | nn.Linear)]
    masked = []
    for node in layers:
        if "downsample" in node.target or (node.target == last and isinstance(module_of(node), nn.Linear)):
            continue
        following = list(node.users)
        while len(following) == 1 and isinstance(module_of(following[0]), nn.Identity):
            following = list(following[0].users)
        direct = len(following) == 1 and isinstance(module_of(following[0]), nn.ReLU)
        masked.append(following[0].name if direct else node.name)
    return tuple(masked), layers[0].name
