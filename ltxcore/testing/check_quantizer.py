"""The test of a quantizer against its protocol: the restored matrices, the products and gradients, and the memory that it takes."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.errors import ConfigError
from ltxcore.models.quantized import QuantizedLinear, quantized
from ltxcore.planner.activations import RESTORING
from ltxcore.planner.live import LiveBytes
from ltxcore.testing.keys import checking, note_all

SMALL = ((128, 128), (256, 512), (192, 256))
"""The rows and columns of the matrices that a quantizer is tried on; it may refuse some of them."""

REAL = ((4096, 4096), (2048, 2048), (2048, 4096), (4096, 2048), (16384, 4096), (4096, 16384), (8192, 2048), (2048, 8192))
"""The rows and columns of all matrices of the real models; a quantizer must not refuse any of them."""

ROWS = 8
"""The number of rows of the input that is multiplied by a matrix."""

NEAR = 1e-4
"""The largest relative difference between a product and the product with the restored matrix."""

BESIDE = 0.5
"""The largest size of the factors relative to the stored matrix, since block swap leaves factors on the device."""

MORE = 1.05
"""The factor by which the memory for restoring a matrix may exceed the stated bytes, to allow for small tensors besides the matrix."""


def check_quantizer(quantizer: Any, **fields: Any) -> None:
    """Check that a quantizer does what the core relies on: matrices are restored as exactly as the quantizer states, products and
    gradients are those of the restored matrix, and a matrix takes as many bytes as the quantizer states, wherever it is moved. If it
    keeps 8-bit numbers of checkpoints, all of this holds for these numbers too, and they are restored exactly.

    Args:
        quantizer: an object of the class that `ltx_quantizers` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("quantizer", quantizer, fields) as (one, findings):
        for fault in _lacking(one):
            findings.note(fault)
        findings.tell()
        note_all(findings, _faults(one), f"the quantizer {type(one).__name__}")


def _lacking(one: Any) -> Iterator[str]:
    for package, command in getattr(one, "needs", {}).items():
        if importlib.util.find_spec(package) is None:
            yield f"needs the package {package}, which is not installed; install it with `{command}` to check the rest"


def _imports(one: Any) -> Iterator[str]:
    """For each package that the quantizer says it needs, try to store a matrix without this package."""
    for package in getattr(one, "needs", {}):
        with _hidden(package):
            shape = _storable(one)[0]
            try:
                _of(one, _linear(shape, bias=False))
            except ConfigError:
                continue
        yield f"stores a matrix without the package {package}, which it says that it needs"


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make a package impossible to import, even if it is already imported."""
    kept = {name: module for name, module in sys.modules.items() if name == package or name.startswith(f"{package}.")}
    sys.modules.update(dict.fromkeys([package, *kept], None))  # type: ignore[arg-type]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(kept)


def _faults(one: Any) -> Iterator[str]:
    yield from _refusals(one)
    linears = [_linear(shape, bias=bias) for shape, bias in zip(_storable(one), (True, False, True), strict=False)]
    if not linears:
        yield f"stores none of the matrices that it is tried on, which are {_listed(SMALL)}"
        return
    for look in (_stores, _restores, _multiplies, _keeps_no_copy, _moves, _uses_its_arguments, _takes):
        faults = [fault for linear in linears for fault in look(one, linear)]
        yield from faults
        if faults and look is _stores:
            return
    if getattr(one, "keeps", ""):
        yield from _kept(_Keeping(one), linears)
    yield from _imports(one)


def _kept(keeping: _Keeping, linears: Sequence[nn.Linear]) -> Iterator[str]:
    """Find what is wrong with the layers that `keep` returns for the numbers of a checkpoint."""
    for look in (_stores, _keeps_the_numbers, _multiplies, _keeps_no_copy, _moves, _uses_its_arguments):
        faults = [fault for linear in linears for fault in look(keeping, linear)]
        yield from (f"given the numbers of a checkpoint, {fault}" for fault in faults)
        if faults and look is _stores:
            return


@attrs.frozen
class _Keeping:
    """A quantizer that stores a matrix by giving the 8-bit numbers nearest to it to the `keep` of another quantizer."""

    one: Any

    @property
    def error(self) -> float:
        return float(self.one.error)

    @property
    def low_precision(self) -> bool:
        return bool(getattr(self.one, "low_precision", False))

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return int(self.one.weight_bytes(shape))

    def numbers(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return the numbers `[out, in]` and the factors of rows `[out, 1]` that a checkpoint would store."""
        dtype, whole = getattr(torch, self.one.keeps), linear.weight.detach().float()
        scale = whole.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / torch.finfo(dtype).max
        return (whole / scale).to(dtype), scale

    def store(self, linear: nn.Linear) -> Any:
        hollow = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        hollow.bias = linear.bias
        return quantized(hollow, self.one, "a layer", self.numbers(linear))


# ---------------------------------------------------------------- shapes and bytes


def _refusals(one: Any) -> Iterator[str]:
    for shape in REAL:
        try:
            said = one.weight_bytes(shape)
        except ValueError as error:
            yield f"cannot store a matrix of {shape[0]} x {shape[1]}, which the real models have: {error}"
            continue
        hollow = quantized(nn.Linear(shape[1], shape[0], device="meta"), one, "a layer on the meta device")
        if _bytes(hollow) != said:
            yield f"says that a matrix of {shape[0]} x {shape[1]} takes {said} bytes, but it takes {_bytes(hollow)} on the meta device"
            return


def _storable(one: Any) -> list[tuple[int, int]]:
    found = []
    for shape in SMALL:
        try:
            one.weight_bytes(shape)
        except ValueError:
            continue
        found.append(shape)
    return found


def _stores(one: Any, linear: nn.Linear) -> Iterator[str]:
    before = linear.weight.detach().clone()
    layer, again = _of(one, linear), _of(one, linear)
    rows, columns = linear.weight.shape
    if not torch.equal(linear.weight, before):
        yield "changes the weight of the layer that it is given"
    if layer.bias is not linear.bias:
        yield "does not keep the bias of the layer that it is given"
    if (layer.in_features, layer.out_features) != (columns, rows):
        yield "returns a layer with different numbers of inputs and outputs"
    if any(not torch.equal(value, again.state_dict()[name]) for name, value in layer.state_dict().items()):
        yield "stores the same matrix differently the second time"
    if _bytes(layer) != one.weight_bytes((rows, columns)):
        yield f"says that a matrix of {rows} x {columns} takes {one.weight_bytes((rows, columns))} bytes, but it takes {_bytes(layer)}"
    hollow = _of(one, nn.Linear(columns, rows, device="meta"))
    if not all(tensor.is_meta for tensor in _stored(hollow).values()):
        yield "returns a layer with values for a layer on the meta device"
    elif _forms(hollow) != _forms(layer):
        yield f"stores tensors of different shapes on the meta device: {_forms(hollow)} instead of {_forms(layer)}"
    beside = _bytes(layer) - layer.weight.nbytes
    if beside > BESIDE * _bytes(layer):
        yield "stores more in its factors than in its weight, but block swap moves only the weight"


def _takes(one: Any, linear: nn.Linear) -> Iterator[str]:
    if getattr(one, "low_precision", False):
        return
    layer = _of(one, linear)
    with torch.no_grad(), LiveBytes([*layer.parameters(), *layer.buffers()]) as live:
        layer.dequantize(torch.bfloat16)
    said, found = getattr(one, "restoring_bytes", RESTORING), live.peak / linear.weight.numel()
    if found > MORE * said:
        yield f"takes {found:.1f} bytes per weight at once to restore a matrix to bfloat16, but states restoring_bytes = {said:g}"


# ---------------------------------------------------------------- values


def _keeps_the_numbers(keeping: _Keeping, linear: nn.Linear) -> Iterator[str]:
    numbers, scale = keeping.numbers(linear)
    if not torch.equal(_of(keeping, linear).dequantize(), numbers.float() * scale):
        yield "restores other numbers"


def _restores(one: Any, linear: nn.Linear) -> Iterator[str]:
    layer = _of(one, linear)
    whole = layer.dequantize()
    if whole.shape != linear.weight.shape or whole.dtype != torch.float32:
        yield f"restores a matrix as {list(whole.shape)} in {whole.dtype}, not {list(linear.weight.shape)} in torch.float32"
        return
    if layer.dequantize(torch.bfloat16).dtype != torch.bfloat16:
        yield "does not restore a matrix in the dtype that it is asked for"
    error = _apart(whole, linear.weight)
    if not error <= one.error:
        yield f"restores a matrix with a relative error of {error:.4f}, but states an error of at most {one.error:g}"
    for kind, values in (("zeros", torch.zeros_like(whole)), ("very small numbers", whole.sign() * 1e-30)):
        other = nn.Linear(linear.in_features, linear.out_features, bias=False)
        other.weight = Parameter(values)
        restored = _of(one, other).dequantize()
        if not bool(restored.isfinite().all()) or float(restored.abs().max()) > 1e-3:
            yield f"does not restore a matrix of {kind}"
    bf16 = nn.Linear(linear.in_features, linear.out_features, bias=False, dtype=torch.bfloat16)
    bf16.weight = Parameter(linear.weight.detach().to(torch.bfloat16))
    if not _apart(_of(one, bf16).dequantize(), bf16.weight.float()) <= one.error:
        yield "restores a matrix in bfloat16 less exactly than it states"


def _multiplies(one: Any, linear: nn.Linear) -> Iterator[str]:
    layer = _of(one, linear)
    x, whole = _inputs(linear), layer.dequantize()
    near = 2 * one.error if getattr(one, "low_precision", False) else NEAR
    right, found = nn.functional.linear(x, whole, linear.bias), layer(x)
    if found.shape != right.shape or not _apart(found, right) <= near:
        yield "does not multiply by the restored matrix"
        return
    if not found.requires_grad:
        yield "passes no gradient to its inputs"
        return
    (own,), (gradient,) = (torch.autograd.grad(product.square().sum(), x) for product in (found, right))
    if not _apart(own, gradient) <= 2 * near:
        yield "passes a gradient to its inputs that differs from that of the restored matrix"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = layer(x)
    (own,) = torch.autograd.grad(product.float().square().sum(), x)
    if product.dtype != torch.bfloat16 or own.dtype != x.dtype:
        yield f"under autocast to bfloat16, gives products in {product.dtype} and gradients of float32 inputs in {own.dtype}"
    elif not _apart(own, gradient) <= 2 * near + 0.03:
        yield "under autocast to bfloat16, passes a different gradient to its inputs"


def _keeps_no_copy(one: Any, linear: nn.Linear) -> Iterator[str]:
    layer, x = _of(one, linear), _inputs(linear)
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *_stored(layer).values())}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x).sum().backward()
    size = sum(tensor.nbytes for tensor in kept if tensor.untyped_storage().data_ptr() not in known and tensor.numel() > x.numel())
    if size:
        yield f"keeps {size} bytes of a matrix of {linear.weight.numel()} weights for the backward pass; restore it again there"


# ---------------------------------------------------------------- moving


def _moves(one: Any, linear: nn.Linear) -> Iterator[str]:
    linear = copy.deepcopy(linear)  # layers share its bias, which is moved too
    layer = _of(one, linear)
    x, whole = _inputs(linear), layer.dequantize()
    other = nn.Linear(linear.in_features, linear.out_features, linear.bias is not None)
    read = _of(one, other)
    read.load_state_dict(layer.state_dict())
    if not torch.equal(read.dequantize(), whole):
        yield "restores a different matrix after its state dict was loaded into another layer: everything that it stores must be in the weight and the factors"
    for dtype in (torch.bfloat16, torch.float64):
        if not torch.equal(_of(one, linear).to(dtype).dequantize(), whole):
            yield f"restores a different matrix after the layer was converted to {dtype}"
    layer.to("meta")
    try:
        with torch.no_grad():
            found = [layer.dequantize()]
            if layer.multiply is not None:
                found.append(layer.multiply(x.to("meta"), layer.weight, layer.factors, layer.bias))
    except (RuntimeError, NotImplementedError) as error:
        yield f"does not compute on the device that it is moved to: {str(error).splitlines()[0]}"
        return
    if not all(tensor.is_meta for tensor in found):
        yield "computes on the CPU instead of the device that it is moved to"


def _uses_its_arguments(one: Any, linear: nn.Linear) -> Iterator[str]:
    """Replace the stored matrix with other bytes, as block swap replaces it with a copy."""
    layer, x = _of(one, linear), _inputs(linear)
    with torch.no_grad():
        before = layer(x)
        kept = layer.weight
        layer.weight = Parameter(kept.detach().clone(), requires_grad=False)
        kept.zero_()
        if not torch.equal(layer(x), before):
            yield "multiplies by a different matrix after its weight is replaced by a copy: restore the matrix from the arguments"
        elif torch.equal(_with(layer, torch.zeros_like(kept))(x), before):
            yield "multiplies by values outside its weight, which block swap cannot move"


def _with(layer: QuantizedLinear, weight: Tensor) -> QuantizedLinear:
    layer.weight = Parameter(weight, requires_grad=False)
    return layer


# ---------------------------------------------------------------- what it is tried on


def _linear(shape: Sequence[int], *, bias: bool) -> nn.Linear:
    """Return a linear layer with normally distributed weights, which resemble those of a model."""
    draws = torch.Generator().manual_seed(0)
    layer = nn.Linear(shape[1], shape[0], bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.02)
    return layer


def _inputs(linear: nn.Linear) -> Tensor:
    return torch.randn(ROWS, linear.in_features, generator=torch.Generator().manual_seed(1)).requires_grad_()


def _of(one: Any, linear: nn.Linear) -> QuantizedLinear:
    layer = quantized(linear, one, "a layer")
    assert isinstance(layer, QuantizedLinear)
    return layer


def _stored(layer: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in [*layer.named_parameters(), *layer.named_buffers()] if name != "bias"}


def _bytes(layer: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in _stored(layer).values())


def _forms(layer: nn.Module) -> dict[str, tuple[list[int], str]]:
    return {name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in _stored(layer).items()}


def _apart(found: Tensor, right: Tensor) -> float:
    return float((found.detach().float() - right.detach().float()).norm() / right.detach().float().norm())


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{rows} x {columns}" for rows, columns in shapes)
