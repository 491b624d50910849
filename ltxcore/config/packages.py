"""The packages that a run file asks for: packages that its plugins need, and packages with an optimizer that is not a plugin. The
run file names such an optimizer as "package.module:Class", and the parameters of the class become the keys of a table.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from math import inf, isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.errors import ConfigError, LtxError
from ltxcore.protocols import ParameterGroup
from ltxcore.registry import imported

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

OF_GROUPS = ("lr", "weight_decay")
"""The parameters of an optimizer that are not keys, because the parameter groups set them."""

VECTORS: tuple[tuple[int, ...], ...] = ((64,), (4096,), (32768,))
MATRICES: tuple[tuple[int, ...], ...] = ((8, 16), (8, 32), (16, 16), (128, 64), (192, 256))
"""The shapes of vectors and matrices that a step is tried on; the last shape checks the rates that the others give."""

NEAR = 0.02
"""The largest allowed relative difference between the computed and the measured bytes of the last shape."""


def lacking(plugin: object, name: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield a message and a remedy for each package that a plugin needs and that is not installed.

    Args:
        plugin: the object of the plugin's class; None needs no package.
        name: the name of the plugin.
        other: another plugin of the same kind, which needs no package.
    """
    for package, command in getattr(plugin, "needs", {}).items():
        if importlib.util.find_spec(package) is None:
            yield f'"{name}" needs the package {package}, which is not installed', f'Install it with `{command}`, or use "{other}".'


def optimizer_of(target: str, folder: Path) -> type:
    """Return the class of run-file keys that stands for an optimizer of an installed package.

    Args:
        target: "package.module:Class".
        folder: the run file's folder, whose Python files are not imported.

    Raises:
        LtxError: the package is not installed, or the target is not an optimizer of torch.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", target):
        raise ConfigError(
            f'"{target}" is not the name of a class in a package', remedy='Write "package.module:Class", such as "torch.optim:NAdam".'
        )
    _check_installed(target.partition(".")[0].partition(":")[0], folder)
    return _class_of(target)


def _check_installed(package: str, folder: Path) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ConfigError(f'there is no package "{package}"', remedy="Install the package, or correct the name.")
    places = [*(spec.submodule_search_locations or ()), *([] if spec.origin is None else [spec.origin])]
    near = {folder.resolve(), Path.cwd().resolve()}
    for place in places:
        if Path(place).resolve().parent in near or (Path(place).resolve().parent.parent in near and Path(place).name == "__init__.py"):
            raise ConfigError(
                f'"{package}" is in {Path(place).parent}, and is not an installed package; ltx executes only Python files that the run file names',
                remedy="Install the package, or write a plugin and add its file to plugins.",
            )


@functools.cache
def _class_of(target: str) -> type:
    from torch.optim import Optimizer

    try:
        found = imported(target, f'the optimizer "{target}"')
    except LtxError as error:
        raise ConfigError(error.problems[0].what, remedy="Correct the name, or install what the package needs.") from error
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise ConfigError(
            f'"{target}" is not a torch optimizer: it is not a subclass of torch.optim.Optimizer', remedy="Name another optimizer."
        )
    known = inspect.signature(found).parameters
    rate = getattr(known.get("lr"), "default", None)
    said = {
        "__doc__": (inspect.getdoc(found) or "").partition("\n\n")[0],
        "target": found,
        "decays_weights": "weight_decay" in known,
        # An optimizer that switches between two sets of weights averages them in place of a schedule.
        "schedules_itself": hasattr(found, "train") and hasattr(found, "eval"),
        **({"learning_rate": float(rate)} if isinstance(rate, int | float) and rate > 0 else {}),
    }
    base = type("_OfPackage", (OfPackage,), said)
    return attrs.make_class(target, dict(_fields(list(known.values())[1:])), bases=(base,), frozen=True, kw_only=True)


def _fields(parameters: Sequence[inspect.Parameter]) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that a run file can hold, as fields of a class."""
    for each in parameters:
        if each.name in OF_GROUPS or each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            continue
        if each.default is each.empty:
            yield each.name, attrs.field(type=Any)
        elif each.default is None or isinstance(each.default, bool | int | float | str) or _is_numbers(each.default):
            default = None if isinstance(each.default, float) and not isfinite(each.default) else each.default  # a run file cannot hold it
            yield each.name, attrs.field(default=default, type=_type_of(each.default))


def _is_numbers(default: Any) -> bool:
    return isinstance(default, tuple) and bool(default) and all(isinstance(each, int | float) for each in default)


def _type_of(default: Any) -> Any:
    if _is_numbers(default):
        return tuple[(float,) * len(default)]  # type: ignore[misc]
    if isinstance(default, bool | float | str):
        return type(default) if default not in (inf, -inf) else float | None
    return float | int if isinstance(default, int) else Any


class OfPackage:
    """The base of the classes that stand for optimizers of installed packages."""

    target: Any
    copies_in_step = 1  # most optimizers of torch update all weights at once on a GPU

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}  # type: ignore[arg-type]
        fields = {name: value for name, value in fields.items() if value is not None}
        rate = {"lr": groups[0].learning_rate} if "lr" in inspect.signature(self.target).parameters else {}
        made: Optimizer = self.target([group.torch_group() for group in groups], **rate, **fields)
        return made

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return the bytes of the state for a parameter of this shape, computed from the bytes per number, row and column that
        steps on small tensors reveal; None if these cannot be found.
        """
        return _state_bytes(self, shape)


def _state_bytes(optimizer: OfPackage, shape: tuple[int, ...]) -> int | None:
    measures = _measures(shape)
    if measures is None:
        return None
    key = (repr(optimizer), len(measures))
    if key not in _RATES:
        _RATES[key] = _rates(optimizer, shape)
    rates = _RATES[key]
    return None if rates is None else round(sum(rate * of for rate, of in zip(rates, measures, strict=True)))


_RATES: dict[tuple[str, int], list[float] | None] = {}


def _measures(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the numbers that the size of a state may be proportional to: 1, the number of elements and, for a matrix, its sides;
    None above two dimensions.
    """
    if len(shape) > 2:
        return None
    return (1, prod(shape), *shape) if len(shape) == 2 else (1, prod(shape))


def _rates(optimizer: OfPackage, like: tuple[int, ...]) -> list[float] | None:
    """Return how many bytes a state takes for each of `_measures`, for parameters with as many dimensions as `like`; None if this
    cannot be found out.
    """
    import torch

    *tried, last = MATRICES if len(like) == 2 else VECTORS
    try:
        *found, held = (_of_a_step(optimizer, shape) for shape in (*tried, last))
    except Exception:  # noqa: BLE001 - a stranger's optimizer may want a GPU, or anything else
        return None
    measured = torch.tensor([_measures(shape) for shape in tried], dtype=torch.float64)
    rates: list[float] = torch.linalg.solve(measured, torch.tensor(found, dtype=torch.float64)).tolist()
    expected = sum(rate * of for rate, of in zip(rates, _measures(last) or (), strict=True))
    return rates if abs(expected - held) <= NEAR * held else None


def _of_a_step(optimizer: OfPackage, shape: tuple[int, ...]) -> int:
    """Return the bytes of the state after a step on one parameter."""
    import torch
    from torch.nn import Parameter

    weight = Parameter(torch.linspace(0.1, 1, prod(shape)).reshape(shape))
    made = optimizer.build([ParameterGroup({"module.weight": weight}, 1e-3, 0.0)])
    if hasattr(made, "train"):
        made.train()
    weight.grad = torch.linspace(1, 0.1, weight.numel()).reshape(shape)
    made.step()
    return state_bytes(made, weight)


def state_bytes(optimizer: Optimizer, parameter: Tensor) -> int:
    """Return the bytes of all tensors with more than one number in the state of a parameter."""
    import torch

    return sum(
        value.numel() * value.element_size()
        for value in optimizer.state[parameter].values()
        if isinstance(value, torch.Tensor) and value.numel() > 1
    )
