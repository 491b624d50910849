# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""Every table of the run file: keys, defaults, units and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NewType

import attrs

from ltxcore.adapters import AdapterSettings
from ltxcore.addresses import Address
from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.data_sets import SetTable, dataset_key, faults_of_sets, missing_data, missing_key, root_faults, root_key, share_faults
from ltxcore.config.groups import WIDEST, LoraGroup, OptimizationGroup, twice
from ltxcore.config.kept_weights import CheckpointsTable, EmaTable
from ltxcore.config.loras import LoraPath
from ltxcore.config.parts import evolved
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.publishing import HubTable, WandbTable
from ltxcore.config.scalars import is_number
from ltxcore.config.tables import Finding, filled, key
from ltxcore.config.validation_samples import ValidationTable
from ltxcore.errors import many
from ltxcore.files import is_file, is_folder
from ltxcore.model_folder import beside
from ltxcore.objectives import ObjectiveUse
from ltxcore.protocols import MODALITIES

SHIPPED_MODELS = ("tiny", "tiny-untrained")
"""The values of `model_path` that are not paths: the small model that comes with the package, trained and untrained."""

ModelPath = NewType("ModelPath", str)
"""The type of a model's path: one of SHIPPED_MODELS, or an absolute path."""


Dropped = float | dict[str, float]
"""The probability with which a caption is dropped, or one probability for each modality."""

ADAM = {"adam": ("Adam is not available: it mixes weight decay into its moments", 'Use "adamw", which keeps the two separate.')}
"""The value of `optimizer_type` that other trainers accept but this key refuses, with the reason and the remedy."""

ADAPTERS = {
    kind: ("is not a training mode, but a type of adapter", f'Write "lora", and lora.type = "{kind}".') for kind in ("dora", "lokr", "loha")
}
"""The values of `training_mode` that other trainers accept but this key refuses, with the reason and the remedy."""


def _part_key(name: str, what: str) -> Any:
    """Declare the key for the file of a part; by default, it is the file in the folder at `model_path`, if that is a folder of files."""
    found = attrs.Factory(lambda self: beside(self.model_path, name), takes_self=True)
    return key(found, help=f"{what}, if the model file does not contain it", reads="either")


@attrs.frozen(kw_only=True)
class ModelTable:
    """`[model]`: what is trained, and how much of it."""

    model_path: ModelPath = key(help='"tiny", a safetensors file, a folder of such files, or a diffusers folder')
    text_encoder_path: Path | None = _part_key("text_encoder_path", "the text encoder")
    video_vae_path: Path | None = _part_key("video_vae_path", "the video VAE")
    audio_vae_path: Path | None = _part_key("audio_vae_path", "the audio VAE")
    connectors_path: Path | None = _part_key("connectors_path", "the text connectors and projections")
    training_mode: Literal["lora", "full"] = key("lora", help="train a LoRA, or all weights (full fine-tuning)", refused=ADAPTERS)
    base: Literal["copy"] | None = key(
        None, help='in full fine-tuning, "copy" keeps a frozen copy of the model at model_path, for objectives that compare with the base'
    )
    loras: list[LoraPath] = key(factory=list, help="frozen LoRAs under the trained one; :0.8 after a file is its strength")
    load_checkpoint: Path | None = key(None, help="weights to start from: a file, or a folder, whose newest file is used", reads="either")


@attrs.frozen(kw_only=True)
class LoraTable:
    """`[lora]`: the adapters, by default LoRA; not read when training_mode is "full"."""

    rank: int = key(32, help="rank of the LoRA", at_least=1, at_most=WIDEST)
    alpha: int | None = key(
        attrs.Factory(lambda self: self.rank, takes_self=True),
        help="scales the LoRA by alpha / rank; by default equal to rank",
        at_least=1,
        at_most=10**6,
    )
    dropout: float = key(0.0, help="share of the LoRA's inputs that is dropped in training", at_least=0, below=1)
    type: str = key("lora", help="type of the adapter that is added to each target module: a registered name")
    params: dict[str, Any] = key(factory=dict, help="parameters of the adapter type")
    use_rslora: bool | None = key(None, help="the same as params.use_rslora")
    use_dora: bool | None = key(None, help='true is the same as type = "dora"')
    target_modules: list[str] | Literal["auto"] = key(
        factory=lambda: ["to_k", "to_q", "to_v", "to_out.0"],
        help='modules to train, by the last parts of their names; "auto": those that suit the run\'s modalities',
    )
    groups: list[LoraGroup] = key(
        factory=list,
        help="targets with settings of their own; a module belongs to the first group that names it, and all other modules have the settings above",
    )

    adapter: Any = filled()

    def problems(self) -> list[Finding]:
        none: list[Finding] = (
            [] if self.target_modules else [(("target_modules",), "does not name any module", "Name at least one, such as to_k.")]
        )
        return [*none, *twice(self.groups)]

    @property
    def settings(self) -> AdapterSettings:
        """The settings of all adapters whose modules no group names."""
        return AdapterSettings(self.rank, self.rank if self.alpha is None else self.alpha, self.dropout)

    @property
    def ranks(self) -> str:
        """The ranks that the adapters may have, as text for messages."""
        found = sorted({self.rank, *(group.rank for group in self.groups if group.rank is not None)})
        return str(self.rank) if len(found) == 1 else f"{found[0]} to {found[-1]}"

    @property
    def in_words(self) -> str:
        """The type and the ranks of the adapters, such as "LoKr of rank 16"."""
        return f"{getattr(self.adapter, 'title', self.type)} of rank {self.ranks}"

    def adapters(self) -> dict[str, Any]:
        """Return the settings of adapters, as arguments of `models.lora.add_lora`."""
        return {
            "rank": self.rank,
            "alpha": self.rank if self.alpha is None else self.alpha,
            "dropout": self.dropout,
            "target_modules": self.target_modules,
            "type": self.type,
            "adapter": self.adapter,
            "groups": self.groups,
        }


@attrs.frozen(kw_only=True)
class OptimizationTable:
    """`[optimization]`: steps and learning rate."""

    learning_rate: float = key(5e-4, help="peak learning rate; by default the optimizer's own, if it has one", above=0, at_most=100)
    steps: int = key(3000, help="optimizer steps", unit="steps", at_least=1, at_most=10**9)
    tokens_per_batch: int | None = key(
        None,
        help="in place of batch_size: a micro-batch is filled with samples of one shape, up to this many tokens in total, with all references "
        "that they may have; a sample with more tokens is a micro-batch of its own",
        unit="tokens",
        at_least=1,
        at_most=10**9,
    )
    batch_size: int | None = key(
        attrs.Factory(lambda self: 2 if self.tokens_per_batch is None else None, takes_self=True),
        help="samples in a micro-batch; by default 2, unless tokens_per_batch is set",
        at_least=1,
        at_most=10**6,
    )
    gradient_accumulation_steps: int = key(1, help="micro-batches in an optimizer step, on each process", at_least=1, at_most=10**6)
    max_grad_norm: float = key(1.0, help="norm to which gradients are clipped; 0: no clipping", at_least=0)
    optimizer_type: str = key("adamw", help='a registered optimizer, or "package.module:Class" of an installed package', refused=ADAM)
    optimizer_params: dict[str, Any] = key(factory=dict, help="the parameters that the optimizer takes")
    weight_decay: float = key(
        0.01,
        help="weight decay: the share of each weight that a step removes is this number times the learning rate",
        at_least=0,
        at_most=100,
    )
    betas: tuple[float, float] | None = key(None, help="the same as optimizer_params.betas", at_least=0, below=1)
    scheduler_type: str = key("linear", help="a registered schedule: how the learning rate changes over the steps")
    scheduler_params: dict[str, Any] = key(factory=dict, help="the parameters that the schedule takes")
    warmup_steps: int | float = key(0, help="warmup before the schedule: number of steps, or share of all steps", at_least=0, at_most=10**9)
    enable_gradient_checkpointing: bool = key(False, help="recompute activations: less memory, more time")
    lora_plus_ratio: float | None = key(
        None,
        help="ratio of the learning rate of a LoRA's B matrices to that of its A matrices (LoRA+), such as 16; by default 1",
        above=0,
        at_most=1000,
    )
    groups: list[OptimizationGroup] = key(
        factory=list, help="modules with a learning rate or weight decay of their own; a module belongs to the first group that names it"
    )
    optimizer: Any = filled()
    schedule: Any = filled()

    @property
    def micro_batch(self) -> str:
        """The size of a micro-batch in words, such as "batch size 2" or "micro-batches of up to 8,192 tokens"."""
        tokens = self.tokens_per_batch
        return f"batch size {self.batch_size}" if tokens is None else f"micro-batches of up to {tokens:,} tokens"

    @property
    def warmup(self) -> int:
        """The number of warm-up steps."""
        return round(self.warmup_steps * self.steps) if isinstance(self.warmup_steps, float) else self.warmup_steps

    def problems(self) -> list[Finding]:
        found = twice(self.groups)
        if self.batch_size is not None and self.tokens_per_batch is not None:
            found.append((("tokens_per_batch",), "is set, but batch_size is set too", "Remove one of the two."))
        if isinstance(self.warmup_steps, float) and self.warmup_steps >= 1:
            found.append((("warmup_steps",), f"must be a whole number of steps, or a share below 1, not {self.warmup_steps:g}", ""))
        elif 0 < self.warmup >= self.steps:
            found.append(
                (("warmup_steps",), f"is {many(self.warmup, 'step', 'steps')}, so no step is left after the warmup", "Set it lower.")
            )
        return found


@attrs.frozen(kw_only=True)
class DataTable:
    """`[data]`: raw media, or a set that is already encoded."""

    dataset: Path | None = dataset_key()
    preprocessed_data_root: Path | Address | None = root_key()
    held_out: int | float | Path | None = key(
        None,
        help="clips that are used only for the validation loss, never for training: a number, a share, or a separate dataset; by default 5 %, "
        "at least 1 and at most 32, but none if there are fewer than 5",
    )
    sets: list[SetTable] = key(
        factory=list,
        help="several sets to train on, instead of `dataset`: how often their samples are seen, and what their captions begin with",
    )
    num_dataloader_workers: int = key(2, help="processes that load samples in advance", at_least=0, at_most=256)
    verify: float = key(
        0.0,
        help="share of the samples whose encoded files are compared with their checksums before the run begins",
        at_least=0,
        at_most=1,
    )
    missing: Literal["refuse", "train_without"] = missing_key()
    caption_dropout: Dropped = key(
        0.0,
        help="probability that a sample loses its caption in training, or one probability for each modality: { video = 0.1, audio = 0.3 }",
        at_least=0,
        at_most=1,
    )

    @property
    def drops_captions(self) -> bool:
        """Whether samples may lose their captions in training."""
        dropped = self.caption_dropout
        return any(each > 0 for each in (dropped.values() if isinstance(dropped, dict) else [dropped]))

    @property
    def is_said(self) -> bool:
        """Whether the table names any data."""
        return self.dataset is not None or self.preprocessed_data_root is not None or bool(self.sets)

    @property
    def encoded_into(self) -> Path | None:
        """The folder that `dataset` is encoded into; None for the default, or if the data are at an address, where they are only read."""
        return self.preprocessed_data_root if isinstance(self.preprocessed_data_root, Path) else None

    def absent(self) -> Iterator[Finding]:
        """Yield a problem if the table names no data, or data that are missing on this machine; missing data are no problem if the run's
        data are on another machine.
        """
        kept = self.held_out
        if isinstance(kept, Path) and not is_file(kept) and not is_folder(kept):
            remedy = f"Write {kept.name}, without quotes." if is_number(kept.name) else "Paths are relative to the run file."
            yield ("held_out",), f"there is no file or folder {kept}", remedy
        if not self.sets:
            yield from missing_data(self.dataset, self.preprocessed_data_root)

    def problems(self) -> list[Finding]:
        dropped = self.caption_dropout
        return [
            *((("held_out",), what, remedy) for what, remedy in self._held_out_faults()),
            *(finding for name, each in (dropped.items() if isinstance(dropped, dict) else ()) for finding in _dropout_faults(name, each)),
            *self._faults_of_sets(),
            *root_faults(self.dataset, self.preprocessed_data_root),
        ]

    def _faults_of_sets(self) -> Iterator[Finding]:
        for name in ("dataset", "preprocessed_data_root"):
            if self.sets and getattr(self, name) is not None:
                yield (
                    (name,),
                    "cannot be combined with data.sets, which already name the data",
                    f"Make it a set: [[data.sets]] with this {name}.",
                )
        yield from faults_of_sets(self.sets, self.held_out)

    def _held_out_faults(self) -> list[tuple[str, str]]:
        kept = self.held_out
        if isinstance(kept, Path):
            return [
                (
                    f"is inside the folder {each}, whose media would be both trained on and held out",
                    "Move the held-out media out of that folder.",
                )
                for each in (self.dataset, *(table.dataset for table in self.sets))
                if each is not None and is_folder(each) and each in (kept, *kept.parents) and is_folder(kept)
            ]
        return share_faults(kept)


def _dropout_faults(modality: str, probability: float) -> Iterator[Finding]:
    here = ("caption_dropout", modality)
    if modality not in MODALITIES:
        yield here, "is not a modality", f"Write {' or '.join(MODALITIES)}."
    elif not 0 <= probability <= 1:
        yield here, f"must be from 0 to 1, not {probability:g}", ""


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
        help="what ZeRO shards among processes: 1 optimizer state, 2 also gradients, 3 also weights; by default the stage in deepspeed_config, or else 3",
        at_least=1,
        at_most=3,
    )
    offload: Literal["none", "optimizer", "all"] = key(
        "none", help="CPU offload with ZeRO: the optimizer state, or at stage 3 everything, including weights"
    )
    sequence_parallel: int = key(
        1,
        help="number of processes that divide the tokens of a micro-batch among them, for clips too long for one GPU; it must divide the "
        "number of processes and the model's heads. 1: each process has micro-batches of its own",
        at_least=1,
        at_most=10**6,
    )
    deepspeed_config: Path | None = key(None, help="your own DeepSpeed configuration", reads="file")
    patience: float = key(
        10.0,
        help="with several processes: minutes without a sign of life, or without progress in a step, after which a process counts as hung "
        "and the run ends; 0: never",
        at_least=0,
    )

    def shares(self, processes: int) -> int:
        """Return the number of shares that micro-batches are dealt to: the number of processes or, if processes divide the tokens of a
        micro-batch among them, the number of groups of such processes.
        """
        return max(1, processes // self.sequence_parallel)

    def groups_of(self, processes: int) -> str:
        """Return a number of processes in words; if they divide the tokens of micro-batches among them, the number of groups."""
        count, size = self.shares(processes), self.sequence_parallel
        return f"{processes} processes" if size == 1 else f"{count} group{'s' * (count > 1)} of {size} processes"


@attrs.frozen(kw_only=True)
class RunFile:
    """The whole run file. `training_strategy` is an object of the class registered under `strategy_name`, which is the key `name` in the
    file's table.
    """

    model: ModelTable = key(help="the model, and which part of it is trained")
    lora: LoraTable = key(factory=LoraTable, help="the adapters of a LoRA run")
    training_strategy: Any = key(help="the modalities, and the conditions on them")
    objectives: list[ObjectiveUse] = key(factory=list, help="what is learned; by default flow matching, with the loss of the strategy")
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
        """The table `[optimization]`, with the groups of `[lora]` if one of them sets a learning rate or weight decay."""
        groups = [] if self.model.training_mode == "full" else self.lora.groups
        return evolved(self.optimization, groups=groups) if any(group.is_rated for group in groups) else self.optimization
