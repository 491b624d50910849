"""Modules of diffusers and transformers that are built without memory, compared with a file, and then filled from it completely or not at
all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
import torch

from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.headers import FLOATING, Slot, Slots, tensors_fingerprint
from ltxcore.safetensors_files import open_tensors

_MATRIX = 4096
"""An all-zero matrix or kernel with at least this many elements counts as an incomplete download, since training does not produce it.
"""


def empty(make: Callable[[], Any]) -> Any:
    """Build a module with `make` for inference. Its parameters take no memory (they are on the meta device); computed buffers are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        module = make()
    return module.eval().requires_grad_(False)


def with_options(identity: str, **options: object) -> str:
    """Append to a fingerprint of weights each option that is set, after a "+".

    Two encoders belong to one model if their fingerprints are equal up to the first "+"; they produce the same bytes if the whole
    fingerprints are equal.
    """
    return "+".join([identity, *(f"{name}={value}".replace(" ", "") for name, value in options.items() if value)])


def spoken_dtype(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as "float32"; "" for bfloat16, the default."""
    return "" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch.")


@attrs.frozen(eq=False)
class Part:
    """A module whose tensors are all in a file, with the right shapes. The module is filled when it is first needed.

    Attributes:
        name: the part's name for messages, such as "video VAE".
        module: the module, built by `empty`.
        weights: the file or folder that its tensors are in.
        stored: each tensor's name in the file, by its name in the module.
    """

    name: str
    module: Any
    weights: Slots
    stored: Mapping[str, str]

    @classmethod
    def of(cls, name: str, module: Any, weights: Slots, stored_as: Callable[[str], str], belongs: Callable[[str], bool]) -> Part:
        """Find the tensors of a module in `weights`.

        Args:
            name: the part's name, for messages.
            module: the module, built by `empty`.
            weights: a file or folder.
            stored_as: a function from a tensor's name in the module to its name in the file.
            belongs: a function that returns whether a name in the file belongs to this module.

        Raises:
            CheckpointError: tensors are missing, unexpected or of the wrong shape; the message names all of them.
        """
        shapes = {own: tuple(tensor.shape) for own, tensor in module.state_dict().items()}
        stored = {own: stored_as(own) for own in shapes}
        found = {key: slot for key, slot in weights.slots.items() if belongs(key)}
        check_names(name, {stored[own]: shape for own, shape in shapes.items()}, found, str(weights.where))
        return cls(name, module, weights, stored)

    def fill(self, prefix: str = "", *, device: str = "cpu", dtype: torch.dtype) -> None:
        """Load the tensors whose names begin with `prefix`, in `dtype`, straight onto `device`.

        Raises:
            CheckpointError: values are not finite, whole matrices are zeros, or the file changed since it was opened.
                In all these cases, the module is unchanged.
        """
        with open_tensors(self.weights, device) as file:
            state = {name: file.get_tensor(stored, dtype).to(dtype) for name, stored in self.stored.items() if name.startswith(prefix)}
        broken = sorted(self.stored[name] for name, tensor in state.items() if not bool(torch.isfinite(tensor).all()))
        if broken:
            raise CheckpointError(
                f"the {self.name} has NaN or infinite values in {listed(broken)}",
                where=str(self.weights.where),
                remedy="Download or copy the file again.",
            )
        empty = sorted(
            self.stored[name] for name, tensor in state.items() if tensor.numel() >= _MATRIX and tensor.ndim > 1 and not bool(tensor.any())
        )
        if empty:
            raise CheckpointError(
                f"the {self.name} contains only zeros in {listed(empty)}: the file was not downloaded completely",
                where=str(self.weights.where),
                remedy="Download it again.",
            )
        self.module.load_state_dict(state, strict=False, assign=True)

    def fingerprint(self, *others: str) -> str:
        """Return a hash that changes with the tensors and with `others`, but not with the layout of the file."""
        return tensors_fingerprint({own: self.weights.slots[stored] for own, stored in self.stored.items()}, *others)


def check_names(part: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Slot], where: str) -> None:
    """Refuse tensors that are not exactly the tensors of a part.

    Args:
        part: the part's name, for the message.
        expected: the shape of each tensor, by name.
        found: the part's tensors that the file or folder has.
        where: the file or folder.

    Raises:
        CheckpointError: tensors are missing, unexpected, of the wrong shape, or not of a floating-point type; the message names all of
            them.
    """
    both = expected.keys() & found.keys()
    missing = sorted(expected.keys() - found.keys())
    foreign = sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} is {list(found[name].shape)}, but should be {list(expected[name])}"
        for name in sorted(both)
        if found[name].shape != expected[name]
    ]
    packed = [f"{name} ({found[name].dtype})" for name in sorted(both) if found[name].dtype not in FLOATING]
    problems = []
    if missing:
        problems.append(Problem(f"{_tensors(missing)} of the {part} {_are(missing)} missing: {listed(missing)}", where))
    if foreign:
        problems.append(Problem(f"{_tensors(foreign)} {_are(foreign)} not part of the {part}: {listed(foreign)}", where))
    if wrong:
        problems.append(
            Problem(f"{_tensors(wrong)} of the {part} {'has' if len(wrong) == 1 else 'have'} the wrong shape: {listed(wrong)}", where)
        )
    if packed:
        problems.append(
            Problem(
                f"{_tensors(packed)} of the {part} {_are(packed)} stored in fewer bits, which is not supported: {listed(packed)}", where
            )
        )
    if problems:
        raise CheckpointError.of(problems)


def _tensors(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _are(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"
