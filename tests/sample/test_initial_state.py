"""States of samples against the recordings: what conditions give, where it lies, and where noise goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_io import Case, load_case
from helpers.golden_models import load_golden
from helpers.sample_made import condition, registry
from ltxcore.conditions import ConditionUse
from ltxcore.encode.buckets import Bucket
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import VideoTable
from ltxcore.models.backbone import ModelInfo
from ltxcore.protocols import Batch, Modality, Setting, StoredLatents, Text
from ltxcore.sample.empty_tokens import Canvas, modalities_of
from ltxcore.sample.encode_inputs import Encoded, EncodedCondition
from ltxcore.sample.guidance import Scales
from ltxcore.sample.request import Request
from ltxcore.sample.sampler import conditioned, empty, inputs_of, medium_of, seeded
from ltxcore.state import Grid, LatentState
from ltxcore.strategy import Flexible
from ltxcore.train.validation_loss import FixedSigma

MODALITIES: dict[str, Modality] = {"video": VideoModality(), "audio": AudioModality()}


def use(type: str, **fields: Any) -> ConditionUse:
    return ConditionUse(type, registry().get("condition", type).value(**fields))


def stored(case: Case, key: str, rate: float) -> StoredLatents:
    """A recorded medium, rounded as the recording has it."""
    return StoredLatents(case.inputs[key].bfloat16().float(), torch.tensor([rate]))


def target(case: Case) -> tuple[Modality, Grid, float]:
    name = case.id.split(".")[1]
    modality = MODALITIES[name]
    return modality, modality.grid_of(case.config["target_shape"][1:]), case.config.get("fps", modality.default_rate)


def recorded_conditions(case: Case, rate: float) -> list[EncodedCondition]:
    latents = stored(case, "cond0.latent", rate)
    name = case.id.removeprefix("state.")
    if name == "video.first_frame":
        return [condition("first_frame", medium=latents).of_length()]
    if name == "video.mask":
        return [condition("mask", medium=latents, masks={"mask": case.inputs["cond0.mask"].float().reshape(1, -1)}).of_length()]
    if name == "video.reference_half":
        return [condition("reference", media={"reference": latents}).of_length()]
    return [condition("prefix", "audio", medium=latents).of_length(latents.latents.shape[2])]


@attrs.frozen(eq=False)
class Known:
    """Draws of one sample whose noise is known; every condition applies."""

    noise: Tensor
    size: int = 1

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self.noise

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return torch.zeros(1, *shape)

    def shared_uniform(self, key: str) -> float:
        return 0.0


STATES = ["state.video.first_frame", "state.video.mask", "state.video.reference_half", "state.audio.prefix3"]


def close(found: Tensor, expected: Tensor, case: Case) -> None:
    torch.testing.assert_close(found, expected.float(), rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])


@pytest.mark.parametrize("name", STATES)
def test_a_state_after_its_condition_is_as_recorded(name: str) -> None:
    case = load_case("08_sampler", name)
    modality, grid, rate = target(case)
    state = conditioned(empty(modality, grid, rate, 128), modality, recorded_conditions(case, rate))
    expected = case.outputs["clean.denoise_mask"].reshape(1, -1)
    close(state.denoise_mask, expected, case)
    close(state.positions, case.outputs["clean.positions"], case)
    given = (expected < 1).unsqueeze(-1)
    close(state.tokens() * given, case.outputs["clean.clean_latent"].float() * given, case)


@attrs.frozen
class RecordedCanvas(Canvas):
    """A target of recorded cells, whatever the request's length."""

    cells: Any = None

    def target(self, modality: str) -> Grid:
        return self.cells[modality]

    def rate(self, modality: str) -> float:
        return 24.0 if modality == "video" else 25.0


def recorded(
    cells: dict[str, Grid], conditions: list[EncodedCondition], text: Text, negative: Text, *, steps: int = 8, **changed: Any
) -> Encoded:
    """A sample of recorded cells, as it would be encoded."""
    one = Request(
        prompt="",
        negative_prompt="",
        size=Bucket(128, 64, 17),
        rate=24.0,
        seed=0,
        steps=steps,
        generated=frozenset(cells),
        freezes=(),
        conditions=(),
        scales=changed.get("scales", dict.fromkeys(cells, Scales())),
        stg_blocks=changed.get("stg_blocks", ()),
        where="",
    )
    info = ModelInfo("golden", "2.3", "", num_layers=2)
    return Encoded(RecordedCanvas(one, modalities_of(info), cells), text, negative, tuple(conditions))


def no_text(modality: str) -> Text:
    return Text({modality: torch.zeros(1, 1, 4)}, torch.ones(1, 1))


@pytest.mark.parametrize("name", STATES)
def test_noise_is_put_where_tokens_are_generated_as_recorded_and_levels_follow_the_mask(name: str) -> None:
    case = load_case("08_sampler", name)
    modality, grid, rate = target(case)
    sample = recorded({modality.name: grid}, recorded_conditions(case, rate), no_text(modality.name), no_text(modality.name))
    noise = case.draws["noise"][:, : grid.num_tokens].float()
    given = inputs_of(sample, sample.text, {modality.name: 128}, lambda name, shape: noise, marks=True)[modality.name]
    close(given.tokens, case.outputs["noised.latent"], case)
    if "timesteps.sigma0.6" in case.outputs:
        close(0.6 * given.timesteps, case.outputs["timesteps.sigma0.6"].reshape(1, -1), case)
    cleared = modality.unpatchify(given.tokens[:, : grid.num_tokens], grid)
    close(cleared, case.outputs["cleared.latent"], case)


def test_conditions_in_any_order_give_the_same_state() -> None:
    case = load_case("08_sampler", "state.video.mask")
    modality, grid, rate = target(case)
    (mask,) = recorded_conditions(case, rate)
    half = load_case("08_sampler", "state.video.reference_half")
    (reference,) = recorded_conditions(half, rate)
    one, other = (conditioned(empty(modality, grid, rate, 128), modality, order) for order in ([mask, reference], [reference, mask]))
    for name in ("clean", "denoise_mask", "positions", "appended"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_noise_depends_on_the_seed_and_the_modality_alone() -> None:
    shape = (1, 5, 4)
    assert torch.equal(seeded(0)("video", shape), seeded(0)("video", shape))
    assert not torch.equal(seeded(0)("video", shape), seeded(0)("audio", shape))
    assert not torch.equal(seeded(0)("video", shape), seeded(1)("video", shape))


def test_a_reference_changes_no_noise_of_either_modality() -> None:
    case = load_case("08_sampler", "state.video.reference_half")
    _, grid, rate = target(case)
    cells = {"video": grid, "audio": MODALITIES["audio"].grid_of((8, 7, 16))}
    text = Text({name: torch.zeros(1, 1, 4) for name in cells}, torch.ones(1, 1))
    bare, added = (
        inputs_of(recorded(cells, conditions, text, text), text, dict.fromkeys(cells, 128), seeded(3), marks=False)
        for conditions in ([], recorded_conditions(case, rate))
    )
    assert list(bare) == ["video", "audio"]
    assert torch.equal(bare["audio"].tokens, added["audio"].tokens)
    assert torch.equal(bare["video"].tokens, added["video"].tokens[:, : grid.num_tokens])
    assert added["video"].tokens.shape[1] > grid.num_tokens


def test_a_medium_has_the_positions_of_its_own_rate() -> None:
    latents = StoredLatents(torch.zeros(1, 128, 3, 1, 1), torch.tensor([12.0]))
    medium = medium_of(latents, MODALITIES["video"])
    assert isinstance(medium.grid, Grid)
    assert medium.positions[0, 0].tolist() == [[0.0, pytest.approx(1 / 12)], [pytest.approx(1 / 12), 0.75], [0.75, pytest.approx(17 / 12)]]


def test_an_empty_target_generates_everything() -> None:
    state = empty(MODALITIES["audio"], MODALITIES["audio"].grid_of((8, 7, 16)), 25.0, 128)
    assert isinstance(state, LatentState)
    assert bool((state.denoise_mask == 1).all())
    assert not bool(state.clean.any())


@pytest.mark.parametrize("name", ["state.video.first_frame", "state.video.mask", "state.video.reference_half"])
def test_the_marker_of_the_first_frame_is_as_recorded(name: str) -> None:
    case = load_case("08_sampler", name)
    _, grid, rate = target(case)
    sample = recorded({"video": grid}, recorded_conditions(case, rate), no_text("video"), no_text("video"))
    marked, plain = (inputs_of(sample, sample.text, {"video": 128}, seeded(0), marks=said)["video"].marked for said in (True, False))
    assert marked is not None
    assert torch.equal(marked.float(), case.outputs["clean.keyframes_mask"][..., 0])
    assert plain is None


def test_training_and_generation_see_the_same_and_predict_the_same(tmp_path: Path) -> None:
    """A clip that is nothing but its first frame, with a reference: at sigma 1 both know the same of it, and draw the same noise."""
    grid = MODALITIES["video"].grid_of((128, 3, 2, 4))
    draw = torch.Generator().manual_seed(3)
    clip, guide = torch.zeros(1, 128, 3, 2, 4), torch.randn(1, 128, 2, 1, 2, generator=draw)
    clip[:, :, 0] = torch.randn(1, 128, 2, 4, generator=draw)
    noise = torch.randn(1, grid.num_tokens, 128, generator=draw)
    rate, text = torch.tensor([24.0]), Text({"video": torch.randn(1, 16, 64, generator=draw)}, torch.ones(1, 16))
    uses = [attrs.evolve(use("first_frame")), attrs.evolve(use("reference"), sources={"reference": "reference_latents"})]
    setting = Setting(MODALITIES, FixedSigma(1.0), takes_marker=True)
    latents = {"video": StoredLatents(clip, rate), "video.cond1.reference": StoredLatents(guide, rate)}
    strategy = Flexible(video=VideoTable(True, "latents", uses)).build(setting)
    trained = strategy.prepare(Batch(("clip",), latents, {}, text), Known(noise))
    first = condition("first_frame", medium=StoredLatents(clip[:, :, :1], rate)).of_length()
    conditions = [first, condition("reference", media={"reference": StoredLatents(guide, rate)}).of_length()]
    drawn = inputs_of(recorded({"video": grid}, conditions, text, text), text, {"video": 128}, lambda *_: noise, marks=True)
    for name in ("tokens", "sigma", "timesteps", "positions", "denoise_mask", "context", "marked"):
        assert torch.equal(getattr(trained["video"], name), getattr(drawn["video"], name)), name
    assert trained["video"].marked is not None
    assert trained["video"].marked.sum() == 8
    backbone = load_golden("C", tmp_path, {"video"})
    with torch.no_grad():
        one, other, unmarked = (
            backbone(given, None)["video"] for given in (trained["video"], drawn["video"], attrs.evolve(drawn["video"], marked=None))
        )
    assert torch.equal(one, other)
    assert not torch.allclose(one, unmarked, rtol=1e-2)
