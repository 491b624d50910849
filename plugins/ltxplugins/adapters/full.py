"""The adapter "full", with the tensor names of LyCORIS and ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import ALPHA
from ltxplugins.adapters.lora import FILE_NAMES, A, B, Lora, folded

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

DIFF, BIAS = "diff", "diff_b"
"""The names of the differences of a matrix and of its bias."""


@attrs.frozen
class Full:
    """full difference: it adds a matrix of full rank to a matrix. ComfyUI can load it after a merge into the base.

    A file from another program may also have a LoRA, and the change of a bias, for each module; files that were extracted from models have
    both. Neither rank nor alpha matters. Training needs as much memory as full fine-tuning of these modules, but leaves the base unchanged.
    """

    title = "full difference"
    file_names: ClassVar[Mapping[str, str]] = {**FILE_NAMES, DIFF: DIFF, BIAS: BIAS}
    takes_dropout = False
    use_file = "Use the file as it is, with ltx, or merge it: `ltx lora merge FILE --model MODEL`."

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        from ltxplugins.adapters.changed_torch import Changed

        return Changed(linear, self.shapes(linear.out_features, linear.in_features, settings), 1.0, _product)

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return dict(found.tensors())

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        return {DIFF: (outputs, inputs)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        self.tensors(layer)[DIFF].zero_()

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        tensors = self.tensors(layer)
        changed = base + tensors[DIFF] if DIFF in tensors else base
        return changed + tensors[B] @ tensors[A] if A in tensors else changed

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        thin = (
            Lora().measure({name: shape for name, shape in shapes.items() if name in (A, B, ALPHA)}) if A in shapes or B in shapes else None
        )
        if (A in shapes or B in shapes) and thin is None:
            return None
        whole, bias = shapes.get(DIFF), shapes.get(BIAS)
        if (whole is not None and len(whole) != 2) or (bias is not None and len(bias) != 1):
            return None
        sides = [(shape[0], shape[1]) for shape in (whole, (thin.outputs, thin.inputs) if thin else None) if shape is not None]
        rows = {side[0] for side in sides} | ({bias[0]} if bias else set())
        if len(rows) != 1 or len(set(sides)) > 1:
            return None
        return AdapterShape(rows.pop(), sides[0][1] if sides else None, thin.rank if thin else 1)

    def from_file(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return folded(tensors, about) if A in tensors else {name: tensor for name, tensor in tensors.items() if name != ALPHA}

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        written = {A: "lora_A.weight", B: "lora_B.weight"}
        return {written.get(name, name): tensor for name, tensor in tensors.items()}

    def fill(self, layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        found: Any = layer
        found.fill(tensors)

    def join(self, changes: Sequence[tuple[Mapping[str, Tensor], float]]) -> Mapping[str, Tensor]:
        """Return the sum of the differences, and the LoRAs as one pair."""
        pairs = [(tensors, strength) for tensors, strength in changes if A in tensors]
        joined = dict(Lora().join(pairs)) if pairs else {}
        for name in (DIFF, BIAS):
            whole = [tensors[name] * strength for tensors, strength in changes if name in tensors]
            if whole:
                joined[name] = sum(whole[1:], whole[0])
        return joined

    def adds(self, tensors: Mapping[str, Tensor]) -> bool:
        return True

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        return any(bool(tensors[name].any()) for name in (DIFF, BIAS) if name in tensors) or (A in tensors and Lora().changes(tensors))

    def bias(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return the difference of the bias of a module in a file; None if there is none."""
        return tensors.get(BIAS)


def _product(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    from torch.nn.functional import linear

    parts = [linear(x, tensors[DIFF])] if DIFF in tensors else []
    parts += [linear(linear(x, tensors[A]), tensors[B])] if A in tensors else []
    out = sum(parts[1:], parts[0]) if parts else None
    if BIAS not in tensors:
        return out  # type: ignore[return-value]
    return tensors[BIAS].expand(*x.shape[:-1], -1) if out is None else out + tensors[BIAS]
