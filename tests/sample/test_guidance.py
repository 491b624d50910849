"""Guidance against the recordings: how passes are combined, which are run, and whole denoising loops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_io import Case, list_cases, load_case
from helpers.golden_models import load_golden
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.models.backbone import LTXBackbone, Perturbation
from ltxcore.protocols import ModelInput
from ltxcore.sample.euler import euler, schedule, start
from ltxcore.sample.guidance import Guidance, Passes, Scales, combine

GUIDERS = [name for name in list_cases("08_sampler") if name.startswith("guider")]


def scales_of(config: Mapping[str, float]) -> Scales:
    names = {"cfg_scale": "cfg", "stg_scale": "stg", "modality_scale": "modality", "rescale_scale": "rescale"}
    return Scales(**{names[key]: value for key, value in config.items()})


@pytest.mark.parametrize("name", GUIDERS)
def test_passes_are_combined_as_recorded(name: str) -> None:
    case = load_case("08_sampler", name)
    passes = Passes(*(case.inputs[key] for key in ("cond", "uncond_text", "uncond_perturbed", "uncond_modality")))
    tolerance = {key: case.tolerance[key] for key in ("rtol", "atol")}
    torch.testing.assert_close(combine(passes, scales_of(case.config)), case.outputs["pred"], **tolerance)


def test_neutral_scales_change_nothing_and_need_no_other_pass() -> None:
    whole = torch.randn(1, 3, 4)
    assert combine(Passes(whole), Scales()) is whole


def test_a_pass_that_is_needed_and_was_not_run_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"^a pass that its scale needs was not run$"):
        combine(Passes(torch.ones(1, 2, 2)), Scales(cfg=3.0))


def guidance_of(case: Case) -> Guidance:
    table = case.config["guidance"]
    scales = {
        name: Scales(
            table[f"{name}_cfg_scale"], table[f"{name}_stg_scale"], table[f"{name}_modality_guidance_scale"], table["guidance_rescale"]
        )
        for name in ("video", "audio")
    }
    negative = {"video": (case.inputs["v_ctx_neg"], None), "audio": (case.inputs["a_ctx_neg"], None)}
    return Guidance(scales, negative, table["stg_blocks"], num_layers=2)


def recorded_start(case: Case, name: str, target: int) -> ModelInput:
    mask = case.outputs[f"{name}_initial.denoise_mask"]
    clean = case.outputs[f"{name}_initial.clean_latent"].float()
    mask = mask.reshape(clean.shape[:2])
    given = ModelInput(
        tokens=clean,
        sigma=torch.ones(1),
        timesteps=mask,
        positions=case.outputs[f"{name}_initial.positions"].float(),
        context=case.inputs[f"{name[0]}_ctx_pos"],
        clean=clean[:, :target],
        denoise_mask=mask,
    )
    return start(given, case.draws[f"{name}.noise"])


def recorded_final(case: Case, name: str) -> Tensor:
    latents = case.outputs[f"{name}.final"].float()
    return (VideoModality() if name == "video" else AudioModality()).patchify(latents)


def run(case: Case, backbone: LTXBackbone, inputs: dict[str, ModelInput]) -> tuple[dict[str, Tensor], list[Perturbation | None]]:
    run_passes: list[Perturbation | None] = []

    def model(given: Mapping[str, ModelInput], perturbation: Perturbation | None) -> dict[str, Tensor]:
        run_passes.append(perturbation)
        return backbone(given.get("video"), given.get("audio"), perturbation=perturbation)

    with torch.no_grad():
        found = euler(guidance_of(case).denoiser(model), inputs, schedule(case.config["steps"]))
    return found, run_passes


def test_a_joint_loop_with_all_guidance_agrees_with_the_recording(tmp_path: Path) -> None:
    case = load_case("08_sampler", "loop.t2v.defaults")
    inputs = {"video": recorded_start(case, "video", 24), "audio": recorded_start(case, "audio", 7)}
    found, passes = run(case, load_golden("B", tmp_path), inputs)
    for name in ("video", "audio"):
        torch.testing.assert_close(found[name], recorded_final(case, name), **case.tolerance)
    assert len(passes) == 4 * case.config["steps"]


def test_a_loop_of_sound_alone_runs_no_pass_for_the_other_modality_and_agrees_with_the_recording(tmp_path: Path) -> None:
    case = load_case("08_sampler", "loop.t2a.audio_only")
    found, passes = run(case, load_golden("B", tmp_path, {"audio"}), {"audio": recorded_start(case, "audio", 7)})
    torch.testing.assert_close(found["audio"], recorded_final(case, "audio"), **case.tolerance)
    assert len(passes) == 3 * case.config["steps"]


def test_a_frozen_modality_is_not_guided_and_counts_as_the_other_one() -> None:
    asked: list[tuple[dict[str, float], Perturbation | None]] = []

    def model(given: Mapping[str, ModelInput], perturbation: Perturbation | None) -> dict[str, Tensor]:
        asked.append(({name: float(one.context.mean()) for name, one in given.items()}, perturbation))
        return {name: torch.zeros_like(one.tokens) for name, one in given.items()}

    ones = ModelInput(torch.ones(1, 2, 3), torch.ones(1), torch.ones(1, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2))
    scales = {name: Scales(cfg=2.0, stg=1.0, modality=3.0) for name in ("video", "audio")}
    negative = {name: (torch.full((1, 1, 2), -1.0), None) for name in ("video", "audio")}
    guidance = Guidance(scales, negative, (), num_layers=3)
    found = guidance.denoiser(model)({"video": attrs.evolve(ones, is_generated=False), "audio": ones})
    assert found.keys() == {"audio"}
    assert asked == [
        ({"video": 1.0, "audio": 1.0}, None),
        ({"video": 1.0, "audio": -1.0}, None),
        ({"video": 1.0, "audio": 1.0}, Perturbation(pass_self_attention={"audio": frozenset({0, 1, 2})})),
        ({"video": 1.0, "audio": 1.0}, Perturbation.isolated()),
    ]
