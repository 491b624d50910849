"""Measure the shipped base on clips that neither it nor any example was trained on, and write the table that is checked in.

    python examples/base/measure_base.py

The losses are those of all tokens of 64 clips of the split `base_held_out` at fixed noise levels, with noise that is always the same: as in the held-out loss
of a run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.run_file import OptimizationTable
from ltxcore.encode.preprocess import preprocess
from ltxcore.encoded.manifest import read_manifest
from ltxcore.engines.single import single_engine
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable
from ltxcore.models.load_base import load_backbone
from ltxcore.new.tiny_world import scenes, write_scene
from ltxcore.protocols import Setting
from ltxcore.strategy import Flexible
from ltxcore.train.conditioning_swap import OTHER, OWN
from ltxcore.train.feed import Samples
from ltxcore.train.validation_loss import SIGMAS, HeldOut
from ltxplugins.optimizers.adamw import AdamW
from ltxplugins.schedules.of_torch import Constant

HERE = Path(__file__).parent
CLIPS = 64
TABLE = HERE / "held_out.md"
SOURCES = {"untrained": ("tiny-untrained", OWN), "base": ("tiny", OWN), "base, text of another clip": ("tiny", OTHER)}


def measured(clips: int = CLIPS) -> dict[str, dict[str, float]]:
    """Validation loss by what was measured, and by `MODALITY/sigma_S`."""
    strategy = Flexible(video=ModalityTable(True, "latents"), audio=ModalityTable(True, "audio_latents"))
    setting = Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform())
    with tempfile.TemporaryDirectory() as folder:
        root, dataset = Path(folder) / "encoded", Path(folder) / "world.jsonl"
        rows = [json.dumps(write_scene(item, dataset.parent, frozenset())) for item in scenes("base_held_out", clips)]
        dataset.write_text("\n".join(rows) + "\n", encoding="utf-8")
        preprocess(dataset, root, PreprocessingTable(resolution_buckets="64x64x17"), Codecs("tiny"), progress=False)
        sources = strategy.build(setting).sources()
        manifest = read_manifest(root, sources)
        held_out = HeldOut.of(strategy.build, setting, manifest.samples, Samples(root, sources, manifest), 32, seed=0)
        found = {}
        for name, (model, context) in SOURCES.items():
            backbone = load_backbone(model, frozenset({"video", "audio"}), dtype=torch.float32)
            engine = single_engine(
                backbone,
                dict(backbone.named_parameters()),
                OptimizationTable(optimizer=AdamW(), schedule=Constant()),
                precision="no",
                device=torch.device("cpu"),
            )
            losses = held_out.measure(engine, backbone, context)
            found[name] = {
                f"{m}/sigma_{s:.2f}": losses[f"held_out/{context}/{m}/sigma_{s:.2f}"] for m in ("video", "audio") for s in SIGMAS
            }
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """The table in Markdown."""
    lines = [f"Validation loss of the tiny base, {CLIPS} clips of the split `base_held_out`; written by `measure_base.py`.", ""]
    lines += ["| modality | sigma | " + " | ".join(found) + " |", "|---|---|" + "---|" * len(found)]
    for key in next(iter(found.values())):
        modality, _, sigma = key.partition("/sigma_")
        lines.append(f"| {modality} | {sigma} | " + " | ".join(f"{losses[key]:.3f}" for losses in found.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(measured()), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
