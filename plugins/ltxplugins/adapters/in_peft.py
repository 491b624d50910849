"""Wrap linear modules in the adapter modules of peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Linear, Module

ADAPTER = "default"
"""The name under which peft stores the only adapter of a module."""

MODULE = "linear"
"""The name under which peft finds the module."""


def wrapped(linear: Linear, config: type, **settings: Any) -> Module:
    """Return a module of peft that replaces a linear module.

    Args:
        linear: the linear module.
        config: the class of peft's configuration.
        settings: the settings of the configuration.
    """
    from peft import inject_adapter_in_model
    from torch.nn import ModuleDict

    holder = ModuleDict({MODULE: linear})
    without_values = linear.weight.device.type == "meta"
    asked = config(target_modules=[MODULE], **settings)
    inject_adapter_in_model(asked, holder, adapter_name=ADAPTER, low_cpu_mem_usage=without_values)
    return holder[MODULE]
