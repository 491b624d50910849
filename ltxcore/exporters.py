"""The interface for programs that LoRAs are exported for: the protocol of an exporter, and the declarations of its class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs

if TYPE_CHECKING:
    from torch import Tensor

FILE = "FILE"
"""The placeholder for the path of the exported file in the text that an exporter has about its use."""


@attrs.frozen(eq=False)
class AdaptedModule:
    """The adapter of one module, in the form that an exporter receives.

    Attributes:
        path: the module's path in an original checkpoint, without a prefix, such as `transformer_blocks.0.attn1.to_k`.
        type: the type of the adapter, such as "lora".
        tensors: the tensors that ltx itself writes for the module, by the endings of their names, such as `lora_A.weight`: float32, with
            the run's alpha folded in.
        params: the values of that type's keys with which the adapter was trained.
        base: the module's matrix in the base model, `[outputs, inputs]` float32, if `needs_base` names the type; else None.
    """

    path: str
    type: str
    tensors: Mapping[str, Tensor]
    params: Mapping[str, Any] = attrs.field(factory=dict)
    base: Tensor | None = None


class ExporterType(Protocol):
    """The type that the hook `ltx_exporters` registers: an attrs class whose fields, which all have defaults, are the keys
    that `ltx export --for NAME,key=value` takes.

    An exporter knows the names and the arithmetic of one program. The core does everything else: it reads the file of a run, or of another
    program, and writes the new file with the same metadata, either completely or not at all. The core then reads the new file back, and
    compares the matrices that the program will multiply by, as `weight` computes them, with those that were trained.

    Attributes:
        adapters: the types of adapters that the program can load, as a frozenset such as `frozenset({"lora"})`.
        use: a sentence on how to use the exported file, in which FILE stands for its path.

    The class may also declare, as class attributes:

    - `needs_base`: a frozenset of those types whose tensors for this program depend on the base model, which the user then has to specify.
      By default, the set is empty.
    - `loads_saved`: a frozenset of those types whose `lora.safetensors`, as a run saves it, the program loads without an export. A run with
      adapters of any other type says at its start what this program needs.
    - `in_float32`: a frozenset of endings of names. Tensors with such names are written in float32 whatever the dtype of the
      file.
    """

    adapters: ClassVar[frozenset[str]]
    use: ClassVar[str]

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        """Return the tensors to write for a module, by their full names in the file."""
        ...

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        """Return the matrix that the program multiplies by in place of `base`, both `[outputs, inputs]` float32.

        It does what the program does with the file, and nothing else: it looks up the tensors of the module at `path`, which has the form
        of `AdaptedModule.path`, by the names that the program expects, and applies the program's own formula.
        """
        ...


@attrs.frozen
class Exporter:
    """An exporter by the name under which it is registered, with its keys."""

    name: str
    exporter: ExporterType


def needs_base(exporter: Any, type: str) -> bool:
    """Return whether an exporter, or its class, needs the base model for a type of adapters."""
    return type in getattr(exporter, "needs_base", frozenset())


def faults_of(cls: Any) -> Iterator[str]:
    """Yield what is wrong with the declarations of an exporter's class."""
    kinds = getattr(cls, "adapters", None)
    if not _is_texts(kinds) or not kinds:
        yield f'has adapters {kinds!r}; they must be a frozenset of types of adapters, such as frozenset({{"lora"}})'
        return
    for name in ("needs_base", "loads_saved", "in_float32"):
        if not _is_texts(getattr(cls, name, frozenset())):
            yield f"has {name} {getattr(cls, name)!r}; it must be a frozenset of texts"
            return
    for name in ("needs_base", "loads_saved"):
        for kind in sorted(getattr(cls, name, frozenset()) - kinds):
            yield f'has "{kind}" in {name}, which is not among its adapters'
    use = getattr(cls, "use", None)
    if not isinstance(use, str) or not use:
        yield f"has use {use!r}; it must be a sentence on how to use the exported file"
    for field in attrs.fields(cls):
        if field.init and field.default is attrs.NOTHING:
            yield f'has a field "{field.alias or field.name}" without a default'


def _is_texts(value: Any) -> bool:
    return isinstance(value, frozenset) and all(isinstance(text, str) and text for text in value)
