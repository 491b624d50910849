"""The recordings of the two older strategies, prepared by the plugins that stand for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from helpers.golden_draws import batch_of
from helpers.golden_io import Case, load_case
from ltxcore.api import ModelInput, Setting, Strategy
from ltxcore.config.load import load_run
from ltxcore.flow.sigmas import ShiftedLogitNormal
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.registry import load
from ltxcore.runs.setup import condition_maker

FOLDERS = {"reference_latents": "ref_latents"}


@attrs.frozen
class Renamed:
    """Recorded numbers under the names that our conditions draw with; where nothing was drawn, a number that changes nothing."""

    draws: Mapping[str, Tensor]
    size: int

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._get(key, shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._get("video.first_frame.u", shape) if key.endswith(".first_frame.u") else self._get(key, shape)

    def shared_uniform(self, key: str) -> float:
        """A legacy reference always applies."""
        assert key == "video.cond0.reference.u"
        return 0.999

    def _get(self, key: str, shape: Sequence[int]) -> Tensor:
        if key == "video.first_frame.u" and key not in self.draws:
            return torch.zeros(self.size)
        assert tuple(self.draws[key].shape) == (self.size, *shape)
        return self.draws[key]


def setting(shared_sigma: bool = False) -> Setting:
    return Setting({"video": VideoModality(), "audio": AudioModality()}, ShiftedLogitNormal(), shared_sigma, condition_maker(load()))


def built(case: Case) -> Strategy:
    """The strategy of a recording's own table."""
    table = dict(case.config["strategy"])
    cls: Any = load().get("strategy", table.pop("name")).value
    strategy: Strategy = cls(**table).build(setting())
    return strategy


def prepared(name: str) -> tuple[Case, Strategy, Mapping[str, ModelInput]]:
    case = load_case("04_legacy", name)
    strategy = built(case)
    batch = batch_of(case, strategy, FOLDERS)
    return case, strategy, strategy.prepare(batch, Renamed(case.draws, len(batch.names)))


def assert_agrees(case: Case, strategy: Strategy, found: Mapping[str, ModelInput]) -> None:
    """What the model sees, and the loss; a reference is recorded before its target, and comes after it here. (Deliberate difference: reference tokens.)"""

    def close(ours: Tensor, recorded: Tensor | None) -> None:
        torch.testing.assert_close(ours, recorded, check_dtype=False, **case.tolerance)

    def target_last(recorded: Tensor | None, dim: int, target: int) -> Tensor:
        assert recorded is not None
        return recorded.roll(target, dims=dim) if recorded.shape[dim] > target else recorded

    predictions = {}
    assert set(found) == {name for name in ("video", "audio") if f"{name}.latent" in case.outputs}
    for name, given in found.items():
        assert given.clean is not None
        target = given.clean.shape[1]
        close(given.tokens, target_last(case.outputs[f"{name}.latent"], 1, target))
        close(given.timesteps, target_last(case.outputs[f"{name}.timesteps"], 1, target))
        close(given.positions, target_last(case.outputs[f"{name}.positions"], 2, target))
        close(given.sigma, case.outputs[f"{name}.sigma"])
        close(given.context, case.outputs[f"{name}.context"])
        assert given.velocity is not None
        close(given.velocity, case.outputs[f"{name}.targets"])
        assert given.loss_mask is not None
        assert torch.equal(given.loss_mask, target_last(case.outputs[f"{name}.loss_mask"], 1, target)[:, :target])
        predictions[name] = target_last(case.inputs[f"{name}_pred"], 1, target)
    losses = strategy.loss(predictions, found)
    close(sum(losses.values(), torch.zeros(())), case.outputs["loss"])


def run_file(folder: Path, strategy: str) -> Any:
    """The strategy's table of a run file that has this text in it."""
    path = folder / "run.toml"
    folder.joinpath("set").mkdir()
    path.write_text(f'[model]\nmodel_path = "tiny"\n\n[data]\npreprocessed_data_root = "set"\n\n{strategy}')
    return load_run(path).config
