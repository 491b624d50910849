"""Values of any shape are stored, checked against the shape that their role declares, and stacked into micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch
from safetensors.torch import save_file

from helpers.columns_made import Paced
from helpers.encoded_sets import TEXT, VIDEO, message, put, put_text, values
from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Drawn, OneOf, Range
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import as_taken, load_batch, verify
from ltxcore.encoded.strategy_data import whole_set
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.modality_tables import VideoTable
from ltxcore.protocols import Inputs, ModelInput, Role, Source
from ltxcore.state import LatentState
from ltxcore.strategy import Flexible
from ltxcore.testing.trials import setting_of

SPEED = Source("speed", "values", "video", where="training_strategy.video.conditions.0.speed_dir", shape=("F",))
SOURCES = {"text": TEXT, "video": VIDEO, "video.cond0.speed": SPEED}


def clips(root: Path, **speeds: torch.Tensor) -> None:
    for number, (name, speed) in enumerate(speeds.items()):
        put_text(root, name)
        put(root, "latents", name, {"latents": values(16, 3, 2, 2, seed=number)}, rate=16.0)
        put(root, "speed", name, {"values": speed})


def refused(root: Path, source: Source = SPEED) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(root, {**SOURCES, "video.cond0.speed": source})
    return message(caught.value, root)


def test_a_micro_batch_has_them_stacked(tmp_path: Path) -> None:
    clips(tmp_path, a=values(3), b=values(3, seed=1, dtype=torch.bfloat16))
    batch = load_batch(tmp_path, SOURCES, ["b", "a"], list(SOURCES), read_manifest(tmp_path, SOURCES))
    assert torch.equal(batch.tensors["video.cond0.speed"], torch.stack([values(3, seed=1).bfloat16().float(), values(3)]))
    assert verify(tmp_path, SOURCES, ["a", "b"], read_manifest(tmp_path, SOURCES)) == 6


def test_a_single_number_for_each_sample_is_a_value_too(tmp_path: Path) -> None:
    clips(tmp_path, a=torch.tensor(2.0), b=torch.tensor(0.5))
    sources = {**SOURCES, "video.cond0.speed": attrs.evolve(SPEED, shape=())}
    batch = load_batch(tmp_path, sources, ["a", "b"], list(sources), read_manifest(tmp_path, sources))
    assert batch.tensors["video.cond0.speed"].tolist() == [2.0, 0.5]


def test_values_that_a_program_wrote_itself_are_read(tmp_path: Path) -> None:
    clips(tmp_path, a=values(3))
    for path in (tmp_path / "speed").iterdir():
        path.unlink()
    save_file({"values": torch.ones(3)}, tmp_path / "speed" / "a.safetensors")
    batch = load_batch(tmp_path, SOURCES, ["a"], list(SOURCES), read_manifest(tmp_path, SOURCES))
    assert batch.tensors["video.cond0.speed"].tolist() == [[1, 1, 1]]


def test_values_of_another_shape_are_named(tmp_path: Path) -> None:
    clips(tmp_path, a=values(3), b=values(17), c=values(3, 1))
    place = "training_strategy.video.conditions.0.speed_dir"
    remedy = "\n    Name another folder, or encode the samples again with the column for this role."
    assert refused(tmp_path) == (
        f'{place}: the values of 2 samples of "speed" do not have the shape [F]: b ([17] for [3]), c ([3, 1] for [3]){remedy}'
    )
    assert refused(tmp_path, attrs.evolve(SPEED, shape=("K", 1))) == (
        f'{place}: the values of 2 samples of "speed" do not have the shape [K, 1]: a ([3] for [K, 1]), b ([17] for [K, 1]){remedy}'
    )


def test_other_data_in_their_folder_and_values_elsewhere_are_told_apart(tmp_path: Path) -> None:
    clips(tmp_path, a=values(3))
    (tmp_path / "speed").rename(tmp_path / "latents_of_speed")
    (tmp_path / "latents").rename(tmp_path / "speed")
    (tmp_path / "latents_of_speed").rename(tmp_path / "latents")
    said = refused(tmp_path)
    assert '"speed" is read as values, but 1 sample holds video latents: a' in said
    assert '"latents" is read as video latents, but 1 sample holds values: a' in said


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    clips(tmp_path, a=torch.tensor([1.0, float("nan"), 2.0]))
    assert '1 sample of "speed" holds NaN or infinite values: a' in refused(tmp_path)


def test_the_flexible_strategy_hands_them_to_the_condition(tmp_path: Path) -> None:
    clips(tmp_path, a=torch.tensor([1.0, 2.0, 3.0]), b=torch.tensor([4.0, 5.0, 6.0]))
    use = ConditionUse("paced", Paced(), sources={"speed": "speed"})
    strategy = Flexible(video=VideoTable(True, "latents", [use])).build(setting_of())
    sources = strategy.sources()
    manifest = read_manifest(tmp_path, sources)
    strategy.check(manifest)
    batch = load_batch(tmp_path, sources, ["a", "b"], list(sources), manifest)
    given = strategy.prepare(as_taken(batch), CountedDraws(7, 0, ("a", "b"), "0.0"))["video"]
    assert given.tokens[:, 12:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert given.timesteps[:, 12:].tolist() == [[0, 0, 0]] * 2


@attrs.frozen
class Eased:
    """Give the first frames, no more than there are numbers, by a share of the first number."""

    modalities = frozenset({"video"})
    roles: ClassVar = (Role("speed", source_key="speed_dir", kind="values", shape=("N",)),)

    share: float
    frames: int

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        speed = inputs.values("speed")
        if self.frames > speed.shape[1]:
            raise DataError("has too few numbers")
        return state.given((state.grid.frame < self.frames) * speed[:, :1] * self.share)


@attrs.frozen
class Scaled:
    """Append a token for each number, which is a multiple of it."""

    modalities = frozenset({"video"})
    roles = Eased.roles
    appends = True

    factor: float

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        tokens = inputs.values("speed")[..., None].expand(-1, -1, state.clean.shape[-1])
        return state.append(tokens * self.factor, state.positions[:, :, : tokens.shape[1]])


def seen(root: Path, condition: Any, names: tuple[str, ...], **drawn: Drawn) -> ModelInput:
    use = ConditionUse("stranger", condition, sources={"speed": "speed"}, drawn=drawn)
    strategy = Flexible(video=VideoTable(True, "latents", [use])).build(setting_of())
    sources = strategy.sources()
    manifest = read_manifest(root, sources)
    strategy.check(manifest)
    batch = load_batch(root, sources, names, list(sources), manifest)
    return strategy.prepare(as_taken(batch), CountedDraws(7, 0, names, "0.0"))["video"]


def test_values_are_used_with_the_parameters_that_each_sample_draws(tmp_path: Path) -> None:
    speeds = torch.linspace(0.1, 1.0, 8)
    clips(tmp_path, **{f"c{number}": speed.expand(1 + number % 2 * 2) for number, speed in enumerate(speeds)})
    fields = {"share": Range(0.25, 1.0), "frames": Range(1, 3, fit=True)}
    for names, frames in ((("c0", "c2", "c4", "c6"), {1}), (("c1", "c3", "c5", "c7"), {1, 2, 3})):
        given = seen(tmp_path, Eased(0.25, 1), names, **fields)
        shares, firsts = ([each.value for each in given.drawn[f"video.cond0.stranger/{key}"]] for key in fields)
        assert len(set(shares)) == 4
        assert set(firsts) <= frames, "more than that do not fit"
        amount = 1 - given.denoise_mask[:, :12].unflatten(1, (3, 4)).amin(dim=2)
        for row, (share, first) in enumerate(zip(shares, firsts, strict=True)):
            expected = [share * float(speeds[int(names[row][1:])])] * first + [0.0] * (3 - first)
            assert amount[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_values_are_appended_with_the_parameter_that_the_micro_batch_draws(tmp_path: Path) -> None:
    clips(tmp_path, a=torch.tensor([1.0, 2.0, 3.0]), b=torch.tensor([4.0, 5.0, 6.0]))
    given = seen(tmp_path, Scaled(2.0), ("a", "b"), factor=OneOf((2.0, 3.0)))
    (factor,) = {each.value for each in given.drawn["video.cond0.stranger/factor"]}
    assert given.tokens[:, 12:, 0].tolist() == [[factor, 2 * factor, 3 * factor], [4 * factor, 5 * factor, 6 * factor]]


def test_a_set_without_a_run_file_is_examined_with_its_values(tmp_path: Path) -> None:
    clips(tmp_path, a=values(3), b=values(17))
    found = whole_set(tmp_path)
    assert {source.folder: source.kind for source in found.sources.values()} == {
        "conditions": "text",
        "latents": "latents",
        "speed": "values",
    }
    (tmp_path / "speed" / "b.safetensors").unlink()
    _, problems = found.manifest()
    assert ['the manifest of "speed" records 1 sample whose file is missing: b' in problem.what for problem in problems] == [True]
