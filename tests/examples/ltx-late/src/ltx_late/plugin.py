"""A strategy with a loss of its own, a sigma sampler, a tracker and a command, from one distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import Batch, Draws, Flexible, Manifest, ModalityTable, ModelInput, Setting, Source, Strategy, hookimpl, masked_loss

if TYPE_CHECKING:
    import click
    from torch import Tensor


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
class Fixed:
    """One sigma for all."""

    sigma: float = attrs.field(validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)], metadata={"help": "noise level"})

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        return draws.uniform(key) * 0 + self.sigma


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
def ltx_sigma_samplers() -> dict[str, type]:
    return {"fixed": Fixed}


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"loud": Loud}


@hookimpl
def ltx_commands() -> dict[str, Any]:
    return {"late": _command()}
