"""A strategy, an objective, a sigma sampler, an adapter, an optimizer, a schedule, a quantizer, a source, an exporter, a column and its
condition, a tracker and a command, from one package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ltx_late.pace import Paced, Speed
from ltx_late.shelf import Shelf
from ltxcore.api import Batch, Draws, Flexible, Manifest, ModalityTable, ModelInput, Setting, Source, Strategy, hookimpl, masked_loss
from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxcore.api.exporters import AdaptedModule
from ltxcore.api.objectives import Pass, Prepared
from ltxcore.api.optimizers import ParameterGroup

if TYPE_CHECKING:
    import click
    import torch
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@attrs.frozen
class Late:
    """Generate sound, and count only its last part in the loss."""

    latents_dir: str = attrs.field(metadata={"help": "folder of the sounds' latents"})
    share: float = attrs.field(
        default=0.5,
        validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)],
        metadata={"help": "how much of the sound counts, from its end"},
    )

    def build(self, setting: Setting) -> Strategy:
        return LateStrategy(Flexible(audio=ModalityTable(True, self.latents_dir)).build(setting), self.share)


@attrs.frozen(eq=False)
class LateStrategy:
    """The flexible strategy, with another loss."""

    inner: Strategy
    share: float

    @property
    def shared_sigma(self) -> bool:
        return self.inner.shared_sigma

    def sources(self) -> Mapping[str, Source]:
        return self.inner.sources()

    def check(self, data: Manifest) -> None:
        self.inner.check(data)

    def wanted(self, draws: Draws) -> frozenset[str]:
        return self.inner.wanted(draws)

    def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
        import torch

        prepared = self.inner.prepare(batch, draws)
        counted = {}
        for name, given in prepared.items():
            assert given.loss_mask is not None
            tokens = given.loss_mask.shape[1]
            late = torch.arange(tokens) >= tokens - max(1, round(tokens * self.share))
            counted[name] = attrs.evolve(given, loss_mask=given.loss_mask & late)
        return counted

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        losses = {}
        for name, given in prepared.items():
            assert given.velocity is not None
            assert given.loss_mask is not None
            losses[name] = masked_loss(predicted[name], given.velocity, given.loss_mask)
        return losses

    def metadata(self, data: Manifest) -> dict[str, str]:
        return {**self.inner.metadata(data), "late_share": str(self.share)}


@attrs.frozen
class Consistent:
    """Predict the same again, whatever dropout does."""

    passes = (Pass("once"), Pass("again", gradient=False))

    sharply: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "by what power differences count"})

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        return {
            name: (predicted["once"][name][:, : given.velocity.shape[1]] - predicted["again"][name][:, : given.velocity.shape[1]])
            .abs()
            .add(1e-6)
            .pow(self.sharply)
            .mean(dim=(1, 2))
            for name, given in prepared.inputs["once"].items()
            if given.velocity is not None
        }


@attrs.frozen
class Fixed:
    """One sigma for all."""

    sigma: float = attrs.field(validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)], metadata={"help": "noise level"})

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        return draws.uniform(key) * 0 + self.sigma


@attrs.frozen
class Gain:
    """Scale each output of a module, apart from its bias."""

    file_names: ClassVar[Mapping[str, str]] = {"gain": "gain"}
    takes_dropout = False

    most: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "how far a factor can be from 1"})

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        from ltx_late.gained import Gained

        return Gained(linear, self.most)

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return {"gain": found.gain}

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        return {"gain": (outputs,)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        self.tensors(layer)["gain"].zero_()

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        return base * (1 + self.most * self.tensors(layer)["gain"].tanh())[:, None]

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        return AdapterShape(outputs=shapes["gain"][0], inputs=None) if "gain" in shapes else None


@attrs.frozen
class Patient:
    """Gradient descent with momentum, which waits: the learning rate grows by itself over its first steps."""

    wait: int = attrs.field(default=2, validator=attrs.validators.ge(1), metadata={"help": "over how many steps it grows", "unit": "steps"})

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        from ltx_late.waiting import Waiting

        return Waiting([group.torch_group() for group in groups], self.wait)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return 4 * prod(shape)


@attrs.frozen
class Halves:
    """Half the learning rate again and again."""

    times: int = attrs.field(default=2, validator=attrs.validators.ge(1), metadata={"help": "how often in a run"})

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: 0.5 ** (step * (self.times + 1) // steps))


@attrs.frozen
class Int4:
    """4-bit integers, two in a byte, with a scale for each block of a row."""

    error = 0.12
    restoring_bytes = 9.0

    block: int = attrs.field(
        default=32, validator=attrs.validators.ge(2), metadata={"help": "how many weights share a scale", "unit": "weights"}
    )

    def store(self, linear: Linear) -> Linear:
        import torch

        from ltxcore.api.quantizers import quantized_linear

        blocks = linear.weight.detach().float().unflatten(1, (-1, self.block))
        scale = blocks.abs().amax(dim=2).clamp_min(1e-30) / 7
        numbers = ((blocks / scale[..., None]).round() + 8).to(torch.uint8).flatten(1)
        return quantized_linear(linear, numbers[:, ::2] * 16 + numbers[:, 1::2], {"scale": scale}, self.restored)

    def restored(self, weight: Tensor, factors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        import torch

        numbers = torch.stack((weight // 16, weight % 16), dim=2).reshape(shape).float().sub_(8)
        return numbers.unflatten(1, (-1, self.block)).mul_(factors["scale"][..., None]).reshape(shape).to(dtype)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        if shape[1] % self.block:
            raise ValueError(f"{shape[1]} columns are no multiple of a block of {self.block}")
        return prod(shape) // 2 + 4 * prod(shape) // self.block


@attrs.frozen
class Scaled:
    """What an adapter of this package does, as factors of the outputs, for a program that multiplies by them."""

    adapters = frozenset({"gain", "lora"})
    needs_base = frozenset({"lora"})
    in_float32 = frozenset({"added"})
    use = "Let late read FILE."

    prefix: str = attrs.field(default="late", metadata={"help": "what names begin with"})

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        if module.type == "gain":
            return {f"{self.prefix}/{module.path}/factor": 1 + module.params["most"] * module.tensors["gain"].tanh()}
        assert module.base is not None
        return {f"{self.prefix}/{module.path}.added": module.base + module.tensors["lora_B.weight"] @ module.tensors["lora_A.weight"]}

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        factor = file.get(f"{self.prefix}/{path}/factor")
        return file[f"{self.prefix}/{path}.added"] if factor is None else base * factor[:, None]


@attrs.define
class Loud:
    """Writes LOUD into a file, for every step."""

    file: str = "loud.txt"
    _path: Path | None = attrs.field(default=None, init=False, repr=False)

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        self._path = output_dir / self.file

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert self._path is not None
        with self._path.open("a") as file:
            file.write(f"STEP {step}\n")

    def sample(self, step: int, name: str, path: Path) -> None:
        pass

    def finish(self) -> None:
        pass


def _command() -> click.Command:
    import click

    @click.command("late")
    def late() -> None:
        """Say how late it is."""
        click.echo("too late")

    return late


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"late": Late}


@hookimpl
def ltx_objectives() -> dict[str, type]:
    return {"consistent": Consistent}


@hookimpl
def ltx_sigma_samplers() -> dict[str, type]:
    return {"fixed": Fixed}


@hookimpl
def ltx_adapters() -> dict[str, type]:
    return {"gain": Gain}


@hookimpl
def ltx_optimizers() -> dict[str, type]:
    return {"patient": Patient}


@hookimpl
def ltx_schedules() -> dict[str, type]:
    return {"halves": Halves}


@hookimpl
def ltx_quantizers() -> dict[str, type]:
    return {"int4": Int4}


@hookimpl
def ltx_sources() -> dict[str, type]:
    return {"shelf": Shelf}


@hookimpl
def ltx_exporters() -> dict[str, type]:
    return {"scaled": Scaled}


@hookimpl
def ltx_columns() -> dict[str, type]:
    return {"speed": Speed}


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"paced": Paced}


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"loud": Loud}


@hookimpl
def ltx_commands() -> dict[str, Any]:
    return {"late": _command()}
