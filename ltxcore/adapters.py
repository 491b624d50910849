"""The protocol that plugins follow to add adapters of linear modules: the methods and declarations of an adapter's class, and the settings
from the run file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter


@attrs.frozen
class AdapterSettings:
    """The settings of the adapter of one module.

    Attributes:
        rank: the rank of the adapter's matrices.
        alpha: scales the adapter by alpha / rank, or by alpha / sqrt(rank) with rsLoRA; None scales it by 1.
        dropout: the probability with which each value of the adapter's input is dropped in training.
    """

    rank: int
    alpha: float | None
    dropout: float


@attrs.frozen
class AdapterShape:
    """The shape of an adapter, as far as its tensors in a file show it.

    Attributes:
        outputs: the number of rows of the adapted matrix; None if the tensors do not show it, and thus fit any number.
        inputs: the number of columns of the adapted matrix; None if the tensors do not show it, and thus fit any number.
        rank: the rank of the adapter; for a type without a rank, 1.
    """

    outputs: int | None
    inputs: int | None
    rank: int = 1


class AdapterType(Protocol):
    """The type that the hook `ltx_adapters` registers: an attrs class whose fields are the keys of `[lora.params]`.

    An adapter changes linear modules, one at a time. The core chooses the modules and their settings, draws seeds,
    keeps all tensors in float32 on the device that computes, and reads and writes files. In a file, the name of a
    tensor is the path of its module followed by an ending from `file_names`.

    For each module, the core calls `wrap`, then `start`, and then, if the adapters come from a file, `fill` with what `from_file` returned.
    Modules do not share trained tensors. `ltx plan` also calls `wrap` and the forward pass on the meta device, where tensors have shapes
    and no values.

    Attributes:
        file_names: the possible endings of a tensor's name in a file, each with the name that `measure`, `from_file` and the methods after
            it know the tensor by, such as `{"scale": "scale"}`. Without `from_file` and `fill`, these are the names of `tensors`.

    The class may also declare, as class attributes:

    - `title`: the name of the type in plans and reports, such as "LoRA"; by default, the name under which it is registered.
    - `layout`: "original" (the default) or "diffusers", for the naming of module paths in written files.
    - `zero_stages`: a frozenset of the ZeRO stages under which the adapter trains exactly as in one process. It is
      empty by default.
    - `takes_quantized`: whether the adapter works with quantized weights; True by default.
    - `takes_dropout`: whether the adapter has the dropout of its settings; True by default.
    - `takes_file`: whether training can start from the file that `load_checkpoint` names; True by default.
    - `grows`: whether training can start from the file of an adapter with a smaller rank; False by default.
    - `use_file`: a sentence on how to use a saved file, if no exporter takes this type.

    The class may also have these methods. The tensors of a file are passed as a mapping from the names that `file_names` gives them;
    `from_file` and `join` return such mappings too.

    - `to_file(tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]`: returns the tensors to write, by the
      endings of their names, given those of `tensors`. They must include the effect of alpha, since readers of the file do not know alpha.
      By default, the tensors are written unchanged. The method is also called with tensors that have only a shape.
    - `from_file(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]`: returns the tensors of one module in a
      file, with any alpha folded into them; `about` is the description of adapters that diffusers writes to the file's metadata. The
      method may raise a CheckpointError. By default, the tensors are used unchanged.
    - `fill(layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None`: fills a layer with the tensors that `from_file`
      returned. If `to_file` folds alpha in, this method must take the alpha of the layer out again. By default, each tensor is copied into
      the one of the same name in `tensors`.
    - `join(changes: Sequence[tuple[Mapping[str, Tensor], float]]) -> Mapping[str, Tensor]`: returns the tensors of the sum of several
    changes; each change is a pair of a file's tensors and a strength. Without this method, a file cannot have a strength or be used with
    others.
    - `adds(tensors: Mapping[str, Tensor]) -> bool`: returns whether the tensors of a file make the same change to every matrix, so that the
      file can be resized and measured without its base. By default, they do not.
    - `bias(tensors: Mapping[str, Tensor]) -> Tensor | None`: returns the change that the tensors of a file make to the bias of a module,
    which `weight` cannot show. By default, they add nothing.
    - `changes(tensors: Mapping[str, Tensor]) -> bool`: returns whether the tensors of a file have any effect. By default, they have an
      effect if any of them is not zero.
    - `metadata(settings: AdapterSettings) -> Mapping[str, str]`: returns, for the file, metadata that describe how the adapter was
      trained. By default, these are the registered name of the type and the keys of the class, from which the adapter is built again.
    """

    file_names: ClassVar[Mapping[str, str]]

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        """Return a module that replaces a linear module. The new module contains the linear module, which is not
        trained. Its buffers keep the values that they are made with here, but `tensors` do not.
        """
        ...

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        """Return the adapter's own parameters in a module that `wrap` made, by name. A parameter that requires no
        gradient is saved but not trained. Other numbers, such as buffers, are not saved, so they must follow from the keys of the class.
        """
        ...

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of `tensors` for a matrix `[outputs, inputs]`."""
        ...

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        """Set the tensors to initial values with which the layer computes the same result as the linear module. The
        tensors are on the device that computes.
        """
        ...

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        """Return the matrix that the layer multiplies by, given the matrix of the linear module; both are
        `[outputs, inputs]` float32.
        """
        ...

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        """Return the shape of an adapter from the shapes of a module's tensors in a file, by the names that `file_names` gives them; None
        if a tensor is missing or the shapes do not fit each other.
        """
        ...


def faults_of(cls: Any) -> Iterator[str]:
    """Yield every fault in the declarations of an adapter's class."""
    names = getattr(cls, "file_names", None)
    if not isinstance(names, Mapping) or not names or not all(isinstance(text, str) and text for pair in names.items() for text in pair):
        yield f'has file_names {names!r}; they must be a mapping from endings of names in a file, such as {{"scale": "scale"}}'
        return
    for ending in sorted({"weight", "bias"} & names.keys()):
        yield f'has the ending "{ending}" in file_names, which the weights of a model have'
    if not isinstance(getattr(cls, "title", ""), str):
        yield f"has title {cls.title!r}; it must be text"
    if getattr(cls, "layout", "original") not in ("original", "diffusers"):
        yield f'has layout {cls.layout!r}; it must be "original" or "diffusers"'
    for name in ("takes_quantized", "takes_dropout", "takes_file", "grows"):
        if not isinstance(getattr(cls, name, False), bool):
            yield f"has {name} {getattr(cls, name)!r}; it must be True or False"
