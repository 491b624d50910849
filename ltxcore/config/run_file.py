# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""Every table of the run file: keys, defaults, units and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NewType

import attrs

from ltxcore.adapters import AdapterSettings
from ltxcore.config.groups import WIDEST, LoraGroup, OptimizationGroup, twice
from ltxcore.config.kept_weights import CheckpointsTable, EmaTable
from ltxcore.config.parts import evolved
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.publishing import HubTable, WandbTable
from ltxcore.config.scalars import is_number
from ltxcore.config.tables import Finding, filled, key
from ltxcore.config.validation_samples import ValidationTable
from ltxcore.files import is_file, is_folder
from ltxcore.objectives import ObjectiveUse

SHIPPED_MODELS = ("tiny", "tiny-untrained")
"""The values of `model_path` that are not paths: the small model that comes with the package, trained and untrained."""

ModelPath = NewType("ModelPath", str)
"""A model: one of SHIPPED_MODELS, or an absolute path."""


Precision = Literal["no", "bf16"]

HALF_PRECISION = {
    "fp16": (
        "fp16 is not available: many gradients are smaller than its smallest number, so it would need loss scaling",
        'Use "bf16", which has as many bits as fp16 but the range of float32, so it needs no scaling; or "no" for float32.',
    )
}
"""The values of `mixed_precision_mode` that other trainers take and this key refuses, with the reason and the remedy."""

ADAM = {"adam": ("Adam is not available: it mixes weight decay into its moments", 'Use "adamw", which keeps the two separate.')}
"""The value of `optimizer_type` that other trainers take and this key refuses, with the reason and the remedy."""

QUANTO = {
    name: (f'"{name}" is not available: no package can train on weights stored in so few bits', 'Use "nf4".')
    for name in ("int4-quanto", "int2-quanto")
}
"""The values of `quantization` that other trainers take and this key refuses, with the reason and the remedy."""

DORA = {"dora": ("is not a mode of its own: a DoRA is a LoRA that learns magnitudes separately", 'Write "lora", and lora.use_dora = true.')}
"""The value of `training_mode` that other trainers take and this key refuses, with the reason and the remedy."""


@attrs.frozen(kw_only=True)
class ModelTable:
    """`[model]`: what is trained, and how much of it."""

    model_path: ModelPath = key(help='"tiny", a safetensors file, or a diffusers folder')
    text_encoder_path: Path | None = key(None, help="the text encoder, if the model file does not contain it", reads="either")
    video_vae_path: Path | None = key(None, help="the video VAE, if the model file does not contain it", reads="either")
    audio_vae_path: Path | None = key(None, help="the audio VAE, if the model file does not contain it", reads="either")
    training_mode: Literal["lora", "full"] = key("lora", help="train a LoRA, or all weights (full fine-tuning)", refused=DORA)
    load_checkpoint: Path | None = key(None, help="weights to start from: a file, or a folder, whose newest file is used", reads="either")


@attrs.frozen(kw_only=True)
class LoraTable:
    """`[lora]`: the LoRA; not read when training_mode is "full"."""

    rank: int = key(32, help="rank of the LoRA", at_least=1, at_most=WIDEST)
    alpha: int | None = key(
        attrs.Factory(lambda self: self.rank, takes_self=True),
        help="the LoRA is scaled by alpha / rank; equal to rank by default",
        at_least=1,
        at_most=10**6,
    )
    dropout: float = key(0.0, help="share of the LoRA's inputs that are dropped in training", at_least=0, below=1)
    use_rslora: bool = key(False, help="scale by alpha / sqrt(rank) instead, for high ranks (rsLoRA)")
    use_dora: bool = key(
        False, help="train a DoRA: magnitudes and directions of a matrix's rows are learned separately; only diffusers can load the result"
    )
    target_modules: list[str] | Literal["auto"] = key(
        factory=lambda: ["to_k", "to_q", "to_v", "to_out.0"],
        help='modules to train, by the last parts of their names; "auto": those that suit the run\'s modalities',
    )
    groups: list[LoraGroup] = key(
        factory=list, help="targets with settings of their own; the first group that names a module has it, and the rest has the above"
    )

    def problems(self) -> list[Finding]:
        none: list[Finding] = (
            [] if self.target_modules else [(("target_modules",), "does not name any module", "Name at least one, such as to_k.")]
        )
        return [*none, *twice(self.groups)]

    @property
    def settings(self) -> AdapterSettings:
        """The settings of the adapters that no group names."""
        return AdapterSettings(self.rank, self.rank if self.alpha is None else self.alpha, self.dropout)

    @property
    def ranks(self) -> str:
        """The ranks that the adapters may have, in words."""
        found = sorted({self.rank, *(group.rank for group in self.groups if group.rank is not None)})
        return str(self.rank) if len(found) == 1 else f"{found[0]} to {found[-1]}"

    def adapters(self) -> dict[str, Any]:
        """Return the settings of adapters, as arguments of `models.lora.add_lora`."""
        return {
            "rank": self.rank,
            "alpha": self.rank if self.alpha is None else self.alpha,
            "dropout": self.dropout,
            "target_modules": self.target_modules,
            "rslora": self.use_rslora,
            "dora": self.use_dora,
            "groups": self.groups,
        }


@attrs.frozen(kw_only=True)
class OptimizationTable:
    """`[optimization]`: steps and learning rate."""

    learning_rate: float = key(5e-4, help="peak learning rate; by default that of the optimizer, where it has one", above=0, at_most=100)
    steps: int = key(3000, help="optimizer steps", unit="steps", at_least=1, at_most=10**9)
    batch_size: int = key(2, help="samples in a micro-batch", at_least=1, at_most=10**6)
    gradient_accumulation_steps: int = key(1, help="micro-batches in an optimizer step, on each process", at_least=1, at_most=10**6)
    max_grad_norm: float = key(1.0, help="gradients are clipped to this norm; 0: not at all", at_least=0)
    optimizer_type: str = key("adamw", help='a registered optimizer, or "package.module:Class" of an installed package', refused=ADAM)
    optimizer_params: dict[str, Any] = key(factory=dict, help="the parameters that the optimizer takes")
    weight_decay: float = key(0.01, help="share of each weight that a step removes, times the learning rate", at_least=0, at_most=100)
    betas: tuple[float, float] | None = key(None, help="the same as optimizer_params.betas", at_least=0, below=1)
    scheduler_type: str = key("linear", help="a registered schedule: how the learning rate changes over the steps")
    scheduler_params: dict[str, Any] = key(factory=dict, help="the parameters that the schedule takes")
    warmup_steps: int | float = key(0, help="warmup before the schedule: number of steps, or share of all steps", at_least=0, at_most=10**9)
    enable_gradient_checkpointing: bool = key(False, help="recompute activations: less memory, more time")
    lora_plus_ratio: float | None = key(
        None,
        help="learning rate of the B matrices of a LoRA over that of its A matrices (LoRA+), such as 16; by default 1",
        above=0,
        at_most=1000,
    )
    groups: list[OptimizationGroup] = key(
        factory=list, help="modules with a learning rate or weight decay of their own; the first group that names a module has it"
    )
    optimizer: Any = filled()
    schedule: Any = filled()

    @property
    def warmup(self) -> int:
        """The number of warm-up steps."""
        return round(self.warmup_steps * self.steps) if isinstance(self.warmup_steps, float) else self.warmup_steps

    def problems(self) -> list[Finding]:
        found = twice(self.groups)
        if isinstance(self.warmup_steps, float) and self.warmup_steps >= 1:
            found.append((("warmup_steps",), f"must be a whole number of steps, or a share below 1, not {self.warmup_steps:g}", ""))
        elif 0 < self.warmup >= self.steps:
            found.append(
                (("warmup_steps",), f"is {self.warmup} steps, which leaves none of the {self.steps} steps after it", "Set it lower.")
            )
        return found


@attrs.frozen(kw_only=True)
class AccelerationTable:
    """`[acceleration]`: precision and memory."""

    mixed_precision_mode: Precision = key("bf16", help='arithmetic of the model; "no" is float32', refused=HALF_PRECISION)
    quantization: str | None = key(
        None, help="a registered quantizer: quantization of the frozen weights of a LoRA run, for less memory", refused=QUANTO
    )
    quantization_params: dict[str, Any] | None = key(None, help="the keys of the quantizer")
    offload_blocks: int = key(
        0,
        help="block swap: how many blocks of a LoRA run keep their frozen weights in CPU memory until they compute",
        unit="blocks",
        at_least=0,
    )
    compile: bool = key(False, help="torch.compile the blocks: steps are faster, but compiling takes several minutes at the start")
    load_text_encoder_in_8bit: bool = key(False, help="load the text encoder with 8-bit weights, on a GPU")
    offload_text_encoder: bool = key(
        False, help="CPU offload: keep the text encoder's weights in CPU memory, and copy them to the GPU layer by layer"
    )
    stochastic_rounding: bool = key(False, help="train all weights in bfloat16 with stochastic rounding of each update; for one GPU")
    step_in_backward: bool = key(False, help="update each weight during the backward pass, and free its gradient at once; for one GPU")
    vae_tiling: bool = key(False, help="encode and decode validation samples in tiles: less memory")
    offload_optimizer_during_validation: bool = key(
        False, help="move the optimizer state to CPU memory while samples are generated and the validation loss is measured"
    )
    quantizer: Any = filled()


@attrs.frozen(kw_only=True)
class DataTable:
    """`[data]`: raw media, or a set that is already encoded."""

    dataset: Path | None = key(
        None,
        help="raw media: a folder of them, or a JSONL, JSON, CSV, TSV or Parquet file that lists them; encoded on first use",
        reads="either",
    )
    preprocessed_data_root: Path | None = key(None, help="the encoded set; if `dataset` is set too, the first use writes it there")
    held_out: int | float | Path | None = key(
        None,
        help="clips that are only used for the validation loss, never for training: a number, a share, or a separate dataset; by default 5 %, "
        "at least 1 and at most 32, but none if there are fewer than 5",
    )
    num_dataloader_workers: int = key(2, help="processes that load samples in advance", at_least=0, at_most=256)
    verify: float = key(
        0.0,
        help="share of the samples whose encoded files are compared with their checksums before the run begins",
        at_least=0,
        at_most=1,
    )

    @property
    def is_said(self) -> bool:
        """Whether the table names any data."""
        return self.dataset is not None or self.preprocessed_data_root is not None

    def absent(self) -> Iterator[Finding]:
        """List data that the table does not name or that are missing on this machine; missing data are not a mistake if
        they are on another machine.
        """
        kept = self.held_out
        if isinstance(kept, Path) and not is_file(kept) and not is_folder(kept):
            remedy = f"Write {kept.name}, without quotes." if is_number(kept.name) else "Paths are relative to the run file."
            yield ("held_out",), f"there is no file or folder {kept}", remedy
        if not self.is_said:
            remedy = "Set dataset to a folder of media or a file that lists them, or preprocessed_data_root to the folder of a set that is already encoded."
            yield (), "does not name any data to train on", remedy
        elif self.dataset is None and self.preprocessed_data_root is not None and not is_folder(self.preprocessed_data_root):
            remedy = "Correct the path, or set dataset, so that the first use encodes it."
            yield ("preprocessed_data_root",), f"there is no folder {self.preprocessed_data_root}", remedy

    def problems(self) -> list[Finding]:
        return [(("held_out",), what, remedy) for what, remedy in self._held_out_faults()]

    def _held_out_faults(self) -> list[tuple[str, str]]:
        kept = self.held_out
        if isinstance(kept, Path):
            if self.dataset is not None and is_folder(self.dataset) and self.dataset in (kept, *kept.parents) and is_folder(kept):
                return [
                    (
                        f"is inside the folder {self.dataset}, whose media would be both trained on and held out",
                        "Move it out of that folder.",
                    )
                ]
            return []
        if isinstance(kept, int) and kept < 0:
            return [(f"must be at least 0, not {kept}", "")]
        if isinstance(kept, float) and not 0 <= kept < 1:
            return [(f"a share must be at least 0 and below 1, not {kept}", "Write a whole number for a number of samples.")]
        return []


@attrs.frozen(kw_only=True)
class FlowMatchingTable:
    """`[flow_matching]`: the noise levels (sigmas) of training."""

    timestep_sampling_mode: str = key("shifted_logit_normal", help="how noise levels are drawn: the name of a sigma sampler")
    timestep_sampling_params: dict[str, Any] = key(factory=dict, help="the parameters that the sigma sampler takes")
    shared_sigma: bool = key(False, help="the same sigma for video and audio, if both are generated")
    sampler: Any = filled()


@attrs.frozen(kw_only=True)
class EngineTable:
    """`[engine]`: one process or many."""

    name: Literal["auto", "single", "zero"] = key("auto", help='"zero" is DeepSpeed ZeRO; "auto" uses it if there is more than one process')
    stage: int | None = key(
        None,
        help="what ZeRO shards among processes: 1 optimizer state, 2 also gradients, 3 also weights; by default that of deepspeed_config, else 3",
        at_least=1,
        at_most=3,
    )
    offload: Literal["none", "optimizer", "all"] = key(
        "none", help="CPU offload with ZeRO: optimizer state, or at stage 3 all (weights too)"
    )
    deepspeed_config: Path | None = key(None, help="your own DeepSpeed configuration", reads="file")
    patience: float = key(
        10.0,
        help="with several processes: minutes without a sign of life, or without progress in a step, after which a process counts as hung "
        "and the run ends; 0: never",
        at_least=0,
    )


@attrs.frozen(kw_only=True)
class RunFile:
    """The whole run file. `training_strategy` is an object of the class registered under its `name`, `strategy_name`."""

    model: ModelTable = key(help="the model, and which part of it is trained")
    lora: LoraTable = key(factory=LoraTable, help="the LoRA")
    training_strategy: Any = key(help="which modalities, and the conditions on them")
    objectives: list[ObjectiveUse] = key(factory=list, help="what is learned; by default flow matching, as the strategy computes its loss")
    optimization: OptimizationTable = key(factory=OptimizationTable, help="steps and learning rate")
    ema: EmaTable = key(factory=EmaTable, help="a moving average of the trained weights")
    acceleration: AccelerationTable = key(factory=AccelerationTable, help="precision and memory")
    data: DataTable = key(factory=DataTable, help="the training data")
    validation: ValidationTable = key(factory=ValidationTable, help="samples generated while training")
    checkpoints: CheckpointsTable = key(factory=CheckpointsTable, help="when weights and state are saved")
    flow_matching: FlowMatchingTable = key(factory=FlowMatchingTable, help="the noise levels (sigmas) of training")
    hub: HubTable = key(factory=HubTable, help="publishing the result")
    wandb: WandbTable = key(factory=WandbTable, help="Weights & Biases")
    seed: int = key(42, help="seed of every random number", at_least=0)
    output_dir: Path = key(factory=lambda: Path("outputs"), help="the run's output folder, relative to the working directory")
    engine: EngineTable = key(factory=EngineTable, help="one process or many")
    preprocessing: PreprocessingTable = key(factory=PreprocessingTable, help="how raw media are encoded on first use")
    trackers: dict[str, Any] = key(factory=dict, help="where metrics go besides metrics.jsonl, by the name of the tracker")
    plugins: list[Path] = key(
        factory=list,
        help="Python files that add conditions and more to this run; every command executes them, so first read any that you did not write yourself",
        reads="file",
    )
    strategy_name: str = filled("")

    @property
    def optimized(self) -> OptimizationTable:
        """`[optimization]`; with the groups of `[lora]`, if any of them has a learning rate or weight decay of its own."""
        groups = [] if self.model.training_mode == "full" else self.lora.groups
        return evolved(self.optimization, groups=groups) if any(group.is_rated for group in groups) else self.optimization
