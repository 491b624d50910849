"""Parameters that no loss can reach in this run, found by one backward."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import Parameter

from ltxcore.models.backbone import LTXBackbone


def unreached_parameters(backbone: LTXBackbone, loss_fn: Callable[[], Tensor]) -> frozenset[str]:
    """Names, as in `backbone.named_parameters()`, of the parameters that the gradient of one loss does not reach.

    Gradients are dropped as they come, so that no second copy of the weights is ever held; which parameters are trained, and the gradients
    they had, are as before. In a run that makes pictures for given sound, for example, the last block's attention from picture to sound is
    not reached.

    Args:
        backbone: all of its parameters are looked at, frozen ones too.
        loss_fn: runs the backbone and gives a scalar.
    """
    parameters = dict(backbone.named_parameters())
    trained = {name: parameter.requires_grad for name, parameter in parameters.items()}
    kept = {name: parameter.grad for name, parameter in parameters.items()}
    reached: set[str] = set()

    def watch(name: str) -> Callable[[Parameter], None]:
        def seen(parameter: Parameter) -> None:
            reached.add(name)
            parameter.grad = None

        return seen

    hooks = []
    try:
        for name, parameter in parameters.items():
            parameter.grad = None
            parameter.requires_grad_(True)
            hooks.append(parameter.register_post_accumulate_grad_hook(watch(name)))
        loss_fn().backward()
    finally:
        for hook in hooks:
            hook.remove()
        for name, parameter in parameters.items():
            parameter.requires_grad_(trained[name])
            parameter.grad = kept[name]
    return frozenset(parameters.keys() - reached)
