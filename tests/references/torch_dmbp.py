"""DMBP in plain PyTorch on torchvision's own modules, as the paper writes it.

Plain forward pass; tensor hooks multiply the gradients by the masks on the way back; `y+` and `y-` are Eq.
14's sums over the input and every bias (batch-norm is not folded here: its effective bias is
`bias - mean * scale`); the masks learn through the double backward pass with `torch.optim.RMSprop`. Slow, and
sharing nothing with the package.
"""

import torch
from torch import nn


def prepare(model):
    """Evaluation mode, float64, no in-place ReLU."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model.eval().double().requires_grad_(True)


def masked_modules(model, mask_sites):
    """The names of the modules whose outputs are masked."""
    modules = dict(model.named_modules())
    if mask_sites == "relu":
        return [name for name, module in modules.items() if isinstance(module, nn.ReLU)]
    affine = [n for n, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    names = []
    for name, following in zip(affine, [*affine[1:], ""], strict=True):
        # A convolution with a batch-norm behind it is one affine map, which ends at the batch-norm.
        if isinstance(modules.get(following), nn.BatchNorm2d):
            continue
        if "downsample" in name and mask_sites == "filter":
            continue
        names.append(name)
    if isinstance(modules[affine[-1]], nn.Linear):
        names.remove(affine[-1])
    return names


def effective_biases(model):
    """Pairs of a bias parameter and the value that it stands for in the affine map."""
    pairs = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            pairs.append((module.bias, module.bias.detach()))
        if isinstance(module, nn.BatchNorm2d):
            scale = module.weight.detach() / torch.sqrt(module.running_var + module.eps)
            pairs.append((module.bias, module.bias.detach() - module.running_mean * scale))
    return pairs


def dmbp(model, image, target, *, mask_sites, steps, lr, objective="all", eps=1e-8):
    """`y+` and `y-` of one NCHW image before each step and after the last, and the two maps of the end."""
    modules = dict(model.named_modules())
    thetas, masks, calls = [], [], [0]

    def hook(module, inputs, output):
        if masks:
            mask = masks[calls[0]]
            output.register_hook(lambda gradient: gradient * mask)
        else:
            thetas.append(torch.zeros_like(output, requires_grad=True))
        calls[0] += 1

    handles = [modules[n].register_forward_hook(hook) for n in masked_modules(model, mask_sites)]
    y = model(image)[0, target].detach()
    assert len(thetas) == calls[0]
    pairs = effective_biases(model)

    def branch(sign):
        masks[:] = [torch.sigmoid(sign * theta) for theta in thetas]
        calls[0] = 0
        x = image.clone().requires_grad_(True)
        output = model(x)[0, target]
        gradients = torch.autograd.grad(output, [x, *(bias for bias, _ in pairs)], create_graph=True)
        y_s = (gradients[0] * image).sum()
        for gradient, (_, value) in zip(gradients[1:], pairs, strict=True):
            y_s = y_s + (gradient * value).sum()
        return y_s, gradients[0] * image

    optimizer = torch.optim.RMSprop(thetas, lr=lr, alpha=0.99, eps=eps)
    history = []
    for _ in range(steps):
        (y_pos, _), (y_neg, _) = branch(1), branch(-1)
        history.append((y_pos.item(), y_neg.item()))
        loss = {
            "all": y_neg - y_pos + (y - y_pos - y_neg).abs(),
            "posneg": y_neg - y_pos,
            "positive": -y_pos,
        }[objective]
        gradients = torch.autograd.grad(loss, thetas)
        for theta, gradient in zip(thetas, gradients, strict=True):
            theta.grad = gradient
        optimizer.step()
    (y_pos, map_pos), (y_neg, map_neg) = branch(1), branch(-1)
    history.append((y_pos.item(), y_neg.item()))
    for handle in handles:
        handle.remove()
    return torch.tensor(history, dtype=torch.float64), map_pos.detach(), map_neg.detach()
