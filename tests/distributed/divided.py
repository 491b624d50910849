"""A model whose processes divide the tokens among them, beside the same model alone: `divided.py FOLDER N...`.

For each number of processes, a file `N.json` says for each model and case by how much velocities and gradients differ at most, as a share of the largest
value. Every process computes both, and the largest difference of all is written.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from helpers.golden_models import BOTH, load_golden, random_input
from ltxcore.models.backbone import LTXBackbone, Perturbation
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.parameter_names import PREFIX
from ltxcore.models.sequence_parallel import SequenceGroup, divide_tokens
from ltxcore.protocols import ModelInput

warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)

Case = tuple[str, ModelInput | None, ModelInput | None, dict[str, Any]]

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "proj_in", "proj_out", "audio_proj_in", "audio_proj_out"]


def cases() -> Iterator[Case]:
    """Inputs that no number of processes divides evenly, with whatever an attention may depend on."""
    video, audio = random_input("video", 13, seed=1), random_input("audio", 7, seed=2)
    timesteps = video.timesteps.clone()
    timesteps[0, :3] = timesteps[1, 5:] = 0
    given, sound = attrs.evolve(video, timesteps=timesteps).to("cpu"), audio.to("cpu")
    yield "a level for all tokens", video.to("cpu"), sound, {}
    yield "a level for each token", video, audio, {}
    yield "given tokens", given, sound, {}
    yield "strengths", attrs.evolve(given, groups=(6, 4, 3), strengths=torch.tensor([0.5, 0.1])), sound, {}
    weights = torch.rand(2, 13, 13, generator=torch.Generator().manual_seed(3))
    yield "an attention mask", given, sound, {"attention_masks": {"video": weights}}
    yield "pictures alone", given, None, {}
    yield "sound alone", None, sound, {}
    yield "without sound", given, attrs.evolve(random_input("audio", 1, seed=4), is_absent=True).to("cpu"), {}
    yield "more sound than pictures", random_input("video", 3, seed=5).to("cpu"), random_input("audio", 31, seed=6).to("cpu"), {}
    yield "more pictures than sound", random_input("video", 31, seed=5).to("cpu"), random_input("audio", 3, seed=6).to("cpu"), {}
    passed = Perturbation(pass_self_attention={"video": frozenset({0}), "audio": frozenset({1})})
    yield "values passed through", given, sound, {"perturbation": passed}
    yield "modalities apart", given, sound, {"perturbation": Perturbation.isolated()}


def models() -> Iterator[tuple[str, LTXBackbone]]:
    """All weights, in blocks with gates that modulate the text; and adapters with dropout, in blocks that are recomputed."""
    with tempfile.TemporaryDirectory() as folder:
        yield "full", load_golden("C", Path(folder))
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=True)
    add_lora(backbone, rank=4, alpha=4, dropout=0.3, target_modules=TARGETS, modalities=BOTH)
    generator = torch.Generator().manual_seed(7)
    for parameter in lora_parameters(backbone).values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    yield "LoRA", backbone


def fitting(given: ModelInput | None, backbone: LTXBackbone, modality: str) -> ModelInput | None:
    """An input with text as wide as the model's."""
    width = backbone.blueprint.shapes[f"transformer_blocks.0.{PREFIX[modality]}attn2.to_k.weight"][1]
    return None if given is None else attrs.evolve(given, context=given.context[..., :width])


def outcome(backbone: LTXBackbone, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Velocities, and the gradients of a loss of all velocities."""
    _, video, audio, options = case
    backbone.train().zero_grad()
    torch.manual_seed(11)
    found = backbone(fitting(video, backbone, "video"), fitting(audio, backbone, "audio"), **options)
    targets = {name: torch.randn(velocity.shape, generator=torch.Generator().manual_seed(12)) for name, velocity in found.items()}
    torch.stack([(velocity - targets[name]).square().mean() for name, velocity in found.items()]).sum().backward()
    gradients = {name: each.grad for name, each in backbone.named_parameters() if each.grad is not None}
    return {name: velocity.detach() for name, velocity in found.items()}, {name: each.clone() for name, each in gradients.items()}


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-3))


def compare(rank: int, size: int) -> dict[str, dict[str, float]]:
    results = {}
    for kind, backbone in models():
        for case in list(cases())[int((kind == "LoRA") == (size == 2)) :: 2]:  # each case has all weights with 2 or 4 processes
            expected, gradients = outcome(backbone, case)
            divide_tokens(backbone.transformer, SequenceGroup(rank, size, dist.group.WORLD))
            found, own = outcome(backbone, case)
            backbone.transformer.sequence_group = None
            assert own.keys() == gradients.keys()
            for gradient in own.values():
                dist.all_reduce(gradient)  # each process has what its own tokens give
            each = {
                "velocities": max(difference(found[name], velocity) for name, velocity in expected.items()),
                "gradients": max(difference(own[name], gradient) for name, gradient in gradients.items()),
                "parameters": float(len(gradients)),
            }
            results[f"{kind}, {case[0]}"] = each
    return results


def main(folder: Path, sizes: list[int]) -> None:
    torch.set_num_threads(1)
    for size in sizes:
        children = []
        for rank in range(size):
            if child := os.fork():
                children.append(child)
                continue
            code = 1
            try:
                dist.init_process_group("gloo", init_method=f"file://{folder / f'{size}.store'}", rank=rank, world_size=size)
                found: list[Any] = [None] * size
                dist.all_gather_object(found, compare(rank, size))
                if rank == 0:
                    worst = {case: {key: max(each[case][key] for each in found) for key in found[0][case]} for case in found[0]}
                    (folder / f"{size}.json").write_text(json.dumps(worst))
                code = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                if code:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(code)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(each) for each in sys.argv[2:]])
