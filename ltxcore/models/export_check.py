"""The check of an exported file; it compares the matrices that a program will multiply by with those that were trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import attrs
import torch
from torch import Tensor
from torch.nn import Linear, Parameter

from ltxcore.adapters import AdapterSettings
from ltxcore.errors import LtxError, PluginError
from ltxcore.exporters import Exporter
from ltxcore.models.adapters import Layer, weight_of
from ltxcore.models.lora_file import LoraFile, shapes_of
from ltxcore.models.lora_load import fill_layer
from ltxcore.models.parameter_names import to_original
from ltxcore.models.quantized import is_quantizable, quantized
from ltxcore.progress import counted
from ltxcore.quantizers import QuantizerType

SAME, SAME_BESIDE = 1e-4, 1e-6
"""How much the matrix of a program may differ from the trained one: as a share of the largest change, and of the largest weight."""

Read = Callable[[str], Tensor]


@attrs.frozen
class Differences:
    """The largest differences between the weights that a program multiplies by and those that were trained, where both depend on the base.

    Attributes:
        largest: the largest difference if the program's base is that of the training, as a share of the largest weight.
        over_quantized: the same if the base was quantized in the training; None if it is not known how.
    """

    largest: float
    over_quantized: float | None = None


def check_weights(found: LoraFile, program: Exporter, tensors: Mapping[str, Tensor], owners: Mapping[str, str], base: Read) -> None:
    """For one module of each shape, compare the matrix that the program multiplies by with the one that was trained. Comparing the other
    modules would take minutes on a large model; for them, only check that the program finds their own tensors.

    Raises:
        PluginError: the matrices differ, or the program finds other tensors.
    """
    file = MappingProxyType({name: tensor.float() for name, tensor in tensors.items()})
    computed = set()
    for name, own in found.modules.items():
        path, shapes = to_original(name), tuple(sorted(shapes_of(own).items()))
        if shapes not in computed:
            computed.add(shapes)
            _check_weight(found, program, file, name, base(name))
        elif owners.get(seen := _looked_up(program, file, path)) != path:
            raise fault_of(program, f"looks for {path} under {seen or 'no name'}, where it writes something else")


def check_every_weight(
    found: LoraFile, program: Exporter, tensors: Mapping[str, Tensor], base: Read, quantizer: QuantizerType | None = None
) -> Differences:
    """For every module, compare the matrix that the program multiplies by with the one that was trained, and return the largest differences.

    Args:
        found: the trained adapters.
        program: the program.
        tensors: the tensors for the program.
        base: the function that reads the matrix of a module in the base.
        quantizer: the quantizer of the base in the training; None if there was none.

    Raises:
        PluginError: the matrices differ.
    """
    file = MappingProxyType({name: tensor.float() for name, tensor in tensors.items()})
    largest = apart = weights = 0.0
    for name, own in counted(found.modules.items(), "modules"):
        matrix = base(name)
        theirs = _check_weight(found, program, file, name, matrix)
        weights = max(weights, float(matrix.abs().max()))
        largest = max(largest, float((theirs - weight_with(found, own, matrix)).abs().max()))
        if quantizer is not None:
            apart = max(apart, float((theirs - weight_with(found, own, _stored_by(quantizer, matrix, name))).abs().max()))
    return Differences(largest / weights, None if quantizer is None else apart / weights)


def _stored_by(quantizer: QuantizerType, base: Tensor, name: str) -> Tensor:
    """Return the matrix that a run multiplies by if it stores the matrix of a module with a quantizer."""
    if not is_quantizable(f"{name}.weight"):
        return base
    return weight_of(quantized(_linear(base), quantizer, to_original(name))).float()


def _check_weight(found: LoraFile, program: Exporter, file: Mapping[str, Tensor], name: str, base: Tensor) -> Tensor:
    """Return the matrix that the program multiplies by, if it is the one that was trained."""
    path = to_original(name)
    trained = weight_with(found, found.modules[name], base)
    with asked(program, path):
        theirs = program.exporter.weight(file, path, base.clone())
    allowed = SAME * float((trained - base).abs().max()) + SAME_BESIDE * float(base.abs().max())
    if theirs.shape != trained.shape or theirs.dtype != trained.dtype:
        what = f"has a weight() that returns {list(theirs.shape)} in {theirs.dtype}, not {list(trained.shape)} in {trained.dtype}"
        raise fault_of(program, what)
    if not float((theirs - trained).abs().max()) <= allowed:
        raise fault_of(program, f"writes tensors that do not give the trained weights of {path}")
    return theirs


class _Found(BaseException):
    """Ends an exporter's search in a file once a name is found. It is a BaseException, so that no exporter catches it by accident."""


class _Names(Mapping[str, Tensor]):
    """A file that is used only to learn which of its names is the first to be looked up."""

    def __init__(self, file: Mapping[str, Tensor]) -> None:
        self.file = file

    def __getitem__(self, name: str) -> Tensor:
        if name in self.file:
            raise _Found(name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self.file

    def __iter__(self) -> Iterator[str]:
        return iter(self.file)

    def __len__(self) -> int:
        return len(self.file)


def _looked_up(program: Exporter, file: Mapping[str, Tensor], path: str) -> str:
    """Return the first name that the program finds for a module; "" if it finds none."""
    try:
        with asked(program, path):
            program.exporter.weight(_Names(file), path, torch.empty(0, 0))
    except _Found as found:
        return str(found)
    return ""


def weight_with(found: LoraFile, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """Return the matrix that a module's adapter in a file makes of the base's matrix, both `[outputs, inputs]` float32."""
    adapter = found.kind.adapter
    measured = adapter.measure(shapes_of(tensors))
    settings = AdapterSettings(measured.rank if measured else 1, alpha=None, dropout=0.0)
    linear = _linear(base)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # a library may draw from the global generator
        layer = Layer(found.kind, settings, linear, adapter.wrap(linear, settings))
        fill_layer(layer, tensors)
        return adapter.weight(layer.module, base)


def _linear(weight: Tensor) -> Linear:
    linear = Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = Parameter(weight, requires_grad=False)
    return linear


@contextlib.contextmanager
def asked(program: Exporter, path: str) -> Iterator[None]:
    """Return a context for calling an exporter, in which errors of its code are reported as its own fault."""
    try:
        yield
    except LtxError:
        raise
    except Exception as error:
        raise fault_of(program, f"raises {type(error).__name__} for {path}: {error}") from error


def fault_of(program: Exporter, what: str) -> PluginError:
    return PluginError(f'the exporter "{program.name}" {what}', remedy="Report this to the plugin's author.")
