"""Training against recorded numbers: the gradients of one LoRA step, and ten steps of AdamW."""

import pytest
import torch
from safetensors.torch import save_file

from helpers.golden_io import load_case
from helpers.golden_models import BOTH, inputs_of, load_golden
from helpers.lora_files import load_lora
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.parameter_names import to_diffusers
from ltxcore.models.reach import unreached_parameters
from ltxcore.protocols import ModelInput

TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def golden_lora(folder, modalities=BOTH, **options):
    """Model B with the golden LoRA, rank 4 and alpha 8, in a file that says its alpha."""
    weights = load_case("06_model", "lora.weights").outputs
    modules = {name.rsplit(".lora_", 1)[0] for name in weights}
    backbone = load_golden("B", folder, modalities, **options)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0, target_modules=TARGETS)
    own = {name.removeprefix("transformer.").split(".lora_")[0] for name in lora_parameters(backbone)}
    kept = {name: value for name, value in weights.items() if to_diffusers(name.removeprefix("diffusion_model.")).split(".lora_")[0] in own}
    alphas = {f"{module}.alpha": torch.tensor(8.0) for module in modules if f"{module}.lora_A.weight" in kept}
    save_file(kept | alphas, folder / "lora.safetensors")
    load_lora(backbone, folder / "lora.safetensors")
    return backbone


def golden_name(name):
    """`transformer.X.lora_A.default.weight` as the golden files call it."""
    return name.replace("transformer.", "diffusion_model.", 1).replace(".default.", ".")


def masked_loss(predicted, expected):
    """Per sample, squared error over counted tokens and channels. Source: docs/explanation/arithmetic.md#loss-of-a-sample"""
    total = torch.zeros(2)
    for modality, velocity in predicted.items():
        error = (velocity - expected[f"{modality}.targets"]).square().mean(dim=-1)
        mask = expected[f"{modality}.loss_mask"].float()
        total = total + (error * mask).sum(dim=1) / mask.sum(dim=1)
    return total


def test_the_forward_with_a_lora_agrees_with_the_golden_one(tmp_path):
    case, source = load_case("06_model", "lora.forward.joint"), load_case("06_model", "B.joint.mask")
    given = inputs_of(source, source.inputs)
    found = golden_lora(tmp_path)(given["video"], given["audio"])
    for modality in BOTH:
        torch.testing.assert_close(found[modality], case.outputs[modality], rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("mode", ["t2v.fps24", "t2a"])
def test_the_gradients_of_a_lora_step_agree_with_the_golden_ones(mode, checkpointed, tmp_path):
    case, source = load_case("06_model", f"lora.step.{mode}"), load_case("01_flexible", mode)
    given = inputs_of(source, source.outputs)
    backbone = golden_lora(tmp_path, given, gradient_checkpointing=checkpointed)
    loss = masked_loss(backbone(given.get("video"), given.get("audio")), source.outputs)
    torch.testing.assert_close(loss, case.outputs["loss"], rtol=1e-5, atol=1e-6)
    loss.mean().backward()

    gradients = {golden_name(name): p.grad for name, p in lora_parameters(backbone).items()}
    expected = {name.removeprefix("grad/"): value for name, value in case.outputs.items() if name.startswith("grad/")}
    assert {name for name, grad in gradients.items() if grad is not None} == expected.keys()
    for name, value in expected.items():
        assert (gradients[name] - value).abs().max() <= case.tolerance["rtol"] * value.abs().max() + case.tolerance["atol"], name

    parameters = list(lora_parameters(backbone).values())
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.testing.assert_close(float(norm), case.scalars["grad_norm"], rtol=1e-4, atol=0)
    torch.optim.AdamW(parameters, lr=1e-3).step()
    for name, p in lora_parameters(backbone).items():
        # Adam's first step is nearly the sign of the gradient, so where that is rounding only there is nothing to compare.
        value = expected[golden_name(name)]
        counted = value.abs() > 1e-3 * value.abs().max()
        torch.testing.assert_close(p.detach()[counted], case.outputs[f"after_adamw/{golden_name(name)}"][counted], rtol=0, atol=1e-6)


def test_the_adapters_that_no_loss_reached_in_the_golden_step_are_those_that_reach_finds(tmp_path):
    case, source = load_case("06_model", "lora.step.t2a"), load_case("01_flexible", "t2a")
    given = inputs_of(source, source.outputs)["audio"]
    backbone = load_golden("B", tmp_path)
    unreached = unreached_parameters(backbone, lambda: backbone(None, given)["audio"].mean())
    reachable = {name for name, _ in backbone.named_parameters()} - unreached
    added = add_lora(backbone, rank=4, alpha=8, dropout=0.0, target_modules=TARGETS, reachable=reachable)
    without = {name.removeprefix("diffusion_model.").split(".lora_")[0] for name in case.scalars["params_with_grad_None"]}
    assert set(added.unreachable) == without


def tokens_of(batch):
    """Clean tokens and positions of a batch, derived here from docs/explanation/arithmetic.md#positions-of-a-clip."""
    video, audio = batch["video_latents.latents"], batch["audio_latents.latents"]
    frames, height, width = video.shape[2:]
    f, y, x = (axis.flatten().float() for axis in torch.meshgrid(*(torch.arange(n) for n in (frames, height, width)), indexing="ij"))
    start = torch.stack([(8 * f - 7).clamp(min=0) / 24, 32 * y, 32 * x])
    end = torch.stack([(8 * (f + 1) - 7) / 24, 32 * (y + 1), 32 * (x + 1)])
    i = torch.arange(audio.shape[2]).float()
    heard = torch.stack([(4 * i - 3).clamp(min=0), (4 * i + 1).clamp(min=0)], dim=-1) * 0.01
    return {
        "video": (video.flatten(2).transpose(1, 2), torch.stack([start, end], dim=-1).expand(2, -1, -1, -1)),
        "audio": (audio.transpose(1, 2).flatten(2), heard.expand(2, 1, -1, -1)),
    }


def step_inputs(case, step):
    prefix = f"step{step:02d}."
    given = {name.removeprefix(prefix): value for name, value in case.inputs.items() if name.startswith(prefix)}
    tokens = tokens_of({name.removeprefix("batch."): value for name, value in given.items() if name.startswith("batch.")})
    inputs, targets = {}, {}
    for modality, (clean, positions) in tokens.items():
        sigma, noise = given[f"{modality}.sigma"], given[f"{modality}.noise"]
        inputs[modality] = ModelInput(
            tokens=clean + sigma[:, None, None] * (noise - clean),
            sigma=sigma,
            timesteps=sigma[:, None].expand(clean.shape[:2]),
            positions=positions,
            context=given[f"batch.conditions.{modality}_prompt_embeds"],
            context_mask=given["batch.conditions.prompt_attention_mask"],
        )
        targets[f"{modality}.targets"] = noise - clean
        targets[f"{modality}.loss_mask"] = torch.ones(clean.shape[:2], dtype=torch.bool)
    return inputs, targets


def test_ten_steps_of_adamw_follow_the_golden_trajectory(tmp_path):
    case, batches = load_case("07_trajectory", "plain"), load_case("07_trajectory", "batches")
    backbone = golden_lora(tmp_path)
    before = {name: p.detach().clone() for name, p in lora_parameters(backbone).items()}
    parameters = list(lora_parameters(backbone).values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for step in range(10):
        inputs, targets = step_inputs(batches, step)
        loss = masked_loss(backbone(inputs["video"], inputs["audio"]), targets)
        torch.testing.assert_close(loss, case.outputs["loss_per_sample"][step], rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])
        loss.mean().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        torch.testing.assert_close(float(norm), float(case.outputs["grad_norms_before_clip"][step]), rtol=1e-4, atol=0)
        optimizer.step()
        optimizer.zero_grad()
    for name, p in lora_parameters(backbone).items():
        moved = (p.detach() - before[name]).flatten()
        expected = (case.outputs[f"final/{golden_name(name)}"] - before[name]).flatten()
        assert torch.cosine_similarity(moved, expected, dim=0) > 0.99999, name
