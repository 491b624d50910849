"""Average LoRA files tensor by tensor. The result has the names, dtypes and metadata of the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import CheckpointError, ConfigError, Problem, notice
from ltxcore.api.commands import listed, not_written, write_whole
from ltxcore.api.models import LoraInventory, inspect_model

if TYPE_CHECKING:
    from torch import Tensor

OF_ONE = frozenset({"step", "validation_loss", "ema_decay"})
"""The metadata keys in which checkpoints of the same run differ."""

START = "start"
"""The metadata key that marks files whose matrices are not the trained A and B, but were computed from them.
"""

FROM_ZERO = ("lora_B.weight", "lokr_w2", "lokr_w2_b", "hada_w2_b")
"""The endings of the names of tensors that start at 0. These tensors may grow considerably during a run, so a large
distance does not mean that two files are from different runs.
"""

STRANGERS = 1.0
"""The distance of two tensors, relative to their length, at which they count as unrelated. Random tensors have a
distance of 1.41.
"""


@attrs.frozen
class Averaged:
    """An average that was written: its path, and the numbers of files and modules."""

    path: Path
    count: int
    modules: int


def shares(count: int, decay: float | None) -> list[float]:
    """Return the share of the average that each of `count` files has, in order.

    Args:
        count: the number of files.
        decay: the share of the average that is kept when the next file is added; None if all files count the same.

    Source: docs/explanation/arithmetic.md#average-of-files
    """
    if decay is None:
        return [1 / count] * count
    return [decay ** (count - 1), *((1 - decay) * decay ** (count - number) for number in range(2, count + 1))]


def average(
    files: Sequence[Path], output: Path, *, decay: float | None = None, overwrite: bool = False, plugins: Sequence[Path] = ()
) -> Averaged:
    """Write the average of LoRA files, completely or not at all.

    Args:
        files: the files, oldest first.
        output: the file to write.
        decay: the share of the average that is kept when the next file is added; None if all files count the same.
        overwrite: whether to replace an existing file.
        plugins: Python files that add types of adapters.

    Raises:
        ConfigError: there is only one file, or the output already exists or is one of the files.
        CheckpointError: a file is not a LoRA, does not contain the trained tensors, has values that are not finite, or
            does not match the first file.
    """
    from safetensors.torch import save

    _check_paths(files, output, overwrite)
    found = [_lora(path, plugins) for path in files]
    first, *others = found
    problems = [problem for other in others for problem in _differences(first, other)]
    if problems:
        raise CheckpointError.of(problems)
    tensors = dict(_averages(files, shares(len(files), decay)))
    said = {key: value for key, value in first.metadata.items() if key not in OF_ONE}
    try:
        write_whole(output, save(tensors, metadata={"format": "pt", **said, "averaged_files": str(len(files))}))
    except OSError as error:
        raise CheckpointError.of([not_written(error, output, "nothing is left of it")]) from error
    return Averaged(output, len(files), first.modules)


def _check_paths(files: Sequence[Path], output: Path, overwrite: bool) -> None:
    if len(files) < 2:
        raise ConfigError("an average needs two LoRAs or more", remedy="Name the other LoRAs too.")
    if output.is_dir():
        raise ConfigError("this is a folder", where=str(output), remedy="Name the file to write.")
    if any(path.exists() and output.exists() and path.samefile(output) for path in files):
        raise ConfigError("this is one of the LoRAs to average", where=str(output), remedy="Name another file to write.")
    if output.exists() and not overwrite:
        raise ConfigError("this file already exists", where=str(output), remedy="Name another file, or use --overwrite.")


def _lora(path: Path, plugins: Sequence[Path]) -> LoraInventory:
    found = inspect_model(path, plugins)
    if not isinstance(found, LoraInventory):
        raise CheckpointError("this file is a whole model, not a LoRA", where=str(path), remedy="Name a LoRA, such as lora.safetensors.")
    if START in found.metadata:
        what = f"the matrices A and B of this LoRA were recomputed when it was written ({found.metadata[START]}), so they do not match those of another file"
        raise CheckpointError(what, where=str(path), remedy="Average in the run, with [ema].")
    return found


def _differences(first: LoraInventory, other: LoraInventory) -> Iterator[Problem]:
    """Find the metadata in which a file differs from the first file."""
    of_both = {*first.metadata, *other.metadata} - OF_ONE
    for key in sorted(key for key in of_both if first.metadata.get(key) != other.metadata.get(key)):
        one, two = (_short(each.metadata.get(key)) for each in (first, other))
        yield Problem(f"{key} is {two} here, but {one} in {first.path}", str(other.path), "Average checkpoints of one run.")


def _short(value: str | None) -> str:
    if value is None:
        return "not said"
    return value if len(value) <= 60 else f"{value[:57]}..."


def _averages(files: Sequence[Path], weights: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    """Yield the average of each tensor.

    Raises:
        CheckpointError: names or shapes differ, or values are not finite.
    """
    from contextlib import ExitStack

    from safetensors import safe_open

    with ExitStack() as stack:
        opened: list[Any] = [stack.enter_context(safe_open(path, framework="pt")) for path in files]
        shapes = [{name: tuple(each.get_slice(name).get_shape()) for name in each.keys()} for each in opened]  # noqa: SIM118
        _check_shapes(files, shapes)
        far = []
        for name in sorted(shapes[0]):
            read = [each.get_tensor(name) for each in opened]
            _check_values(files, name, read)
            if len(read[0].shape) == 2 and not name.endswith(FROM_ZERO) and _distance(read[0], read[-1]) > STRANGERS:
                far.append(name)
            mean = sum(weight * tensor.double() for weight, tensor in zip(weights, read, strict=True))
            yield name, mean.to(read[0].dtype).contiguous()
    if far:
        notice(f"{files[0]} and {files[-1]} differ as much as LoRAs of different runs, so their average is useless: {listed(far)}")


def _check_shapes(files: Sequence[Path], shapes: Sequence[Mapping[str, tuple[int, ...]]]) -> None:
    first = shapes[0]
    problems = []
    for path, other in zip(files[1:], shapes[1:], strict=True):
        wrong = sorted(name for name in {*first, *other} if first.get(name) != other.get(name))
        if wrong:
            what = f"the tensors differ from those of {files[0]} in name or shape: {listed(wrong)}"
            problems.append(Problem(what, str(path), "Average LoRAs of the same rank and target modules."))
    if problems:
        raise CheckpointError.of(problems)


def _check_values(files: Sequence[Path], name: str, read: Sequence[Tensor]) -> None:
    for path, tensor in zip(files, read, strict=True):
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} has values that are not finite", where=str(path), remedy="Leave this file out.")
        if name.endswith(".alpha") and not bool((tensor == read[0]).all()):
            raise CheckpointError(f"{name} differs from that of {files[0]}", where=str(path), remedy="Average checkpoints of one run.")


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the distance between two tensors, relative to the length of the first."""
    return float((one.double() - other.double()).norm() / one.double().norm().clamp(min=1e-30))
