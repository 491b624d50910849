"""The protocols of modalities, conditions, strategies, objectives, codecs, reference filters, text encoders, engines and trackers.

This module defines everything that a plugin can supply and everything that the core passes to it. It can be read
without the modules that build on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol, TypeVar, runtime_checkable

import attrs

from ltxcore.devices import moved
from ltxcore.errors import LtxError, PluginError
from ltxcore.levels import SharedLevels, carried
from ltxcore.state import Grid, LatentState

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

T = TypeVar("T")

Kind = Literal["latents", "mask", "text"]
"""The kinds of data that a source can hold: latents of a modality, a mask over its tokens, or text features."""

MODALITIES: tuple[str, ...] = ("video", "audio")
"""All modalities, in the order in which their random numbers are drawn, and in which they are reported and passed to the model."""


# ---------------------------------------------------------------- conditions


@attrs.frozen
class Role:
    """Data that a condition needs besides its own parameters: a folder of samples in training, a media file in generation.

    Attributes:
        name: the name by which `apply` asks for it.
        source_key: the key of the training table that names the folder.
        kind: "mask" (one value per target token) or "latents" (a medium of the same modality).
        media_key: the key of a validation sample that names the file; by default the modality's name for latents, and `name` for masks.
        modality: for a role of an objective, the modality whose tokens it has values for; a condition's role has that of its table.
    """

    name: str
    source_key: str
    kind: Literal["mask", "latents"]
    media_key: str | None = None
    modality: str = ""


@attrs.frozen(eq=False)
class Medium:
    """The data of a role of kind "latents": the tokens of another clip or sound of the same modality.

    Attributes:
        tokens: `[B, R, D]`.
        grid: its R cells.
        rate: its own frames per second, `[B]`.
        positions: the start and end of each token by its own grid and rate, `[B, P, R, 2]`, in seconds; for video also in pixels.
    """

    tokens: Tensor
    grid: Grid
    rate: Tensor
    positions: Tensor


@attrs.frozen(eq=False)
class Inputs:
    """The data that `Condition.apply` gets besides the state, by the names of its roles."""

    media: Mapping[str, Medium] = attrs.field(factory=dict)
    masks: Mapping[str, Tensor] = attrs.field(factory=dict)

    def latents(self, role: str) -> Medium:
        """Return the medium of a role of kind "latents".

        Raises:
            PluginError: the condition's class declares no such role.
        """
        if role not in self.media:
            raise _no_role(role, "latents", self.media)
        return self.media[role]

    def mask(self, role: str) -> Tensor:
        """Return the values of a role of kind "mask", `[B, T]` float32 in [0, 1], where 1 means given.

        Raises:
            PluginError: the condition's class declares no such role.
        """
        if role not in self.masks:
            raise _no_role(role, "mask", self.masks)
        return self.masks[role]


def _no_role(role: str, kind: str, known: Mapping[str, object]) -> PluginError:
    has = ", ".join(f'"{name}"' for name in known) or "none"
    return PluginError(
        f'a condition asks for its role "{role}" of kind "{kind}", but its class names no such role',
        remedy=f"It has {has} of that kind; name others in `roles`.",
    )


@attrs.frozen
class Geometry:
    """The shape of a stored latent, read from the manifest without opening the file; `rate` is in frames per second."""

    grid: Grid
    rate: float
    modality: str = "video"


class Condition(Protocol):
    """Decides which tokens of a modality are given, or appends given tokens; the core does everything else.

    A condition is an attrs class whose fields are its keys in the run file. `content`, `roles` and `appends` may be left out.

    Attributes:
        modalities: the modalities that it works on.
        content: where its own medium lies on the target in generation: at the start, at the end, or over the whole of it; None if it
            has no medium.
        roles: the further data that it needs.
        appends: whether `apply` appends tokens. Such a condition applies to a whole micro-batch or not at all.
    """

    modalities: ClassVar[frozenset[str]]
    content: ClassVar[Literal["start", "end", "whole"] | None]
    roles: ClassVar[tuple[Role, ...]]
    appends: ClassVar[bool]

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Return the state with some tokens given or appended. It is a pure function, and is the same in training,
        validation and generation.
        """
        ...


@runtime_checkable
class DescribesLora(Protocol):
    """A condition that adds metadata to the saved LoRA."""

    def metadata(self, pairs: Sequence[tuple[Geometry, Mapping[str, Geometry]]]) -> Mapping[str, str]:
        """Return metadata for the saved LoRA, from pairs of each target's geometry and those of its roles' latents."""
        ...


# ---------------------------------------------------------------- data


@attrs.frozen
class Source:
    """A folder of encoded samples that a run reads.

    Attributes:
        folder: its name under `preprocessed_data_root`.
        kind: the kind of data in it.
        modality: the modality that the data is of; "" for text.
        optional: whether it is read only for micro-batches to which its condition applies, which is drawn before any file is read.
        where: the path of the run-file key that names it.
    """

    folder: str
    kind: Kind
    modality: str = ""
    optional: bool = False
    where: str = ""


_CONNECTORS = "+connectors="


def with_connectors(encoder: str, connectors: str) -> str:
    """Return a fingerprint of a text encoder together with the connectors that its features pass through before they are stored."""
    return f"{encoder}{_CONNECTORS}{connectors}"


def connectors_in(encoder: str) -> str:
    """Return the connectors' part of a fingerprint made by `with_connectors`; "" for that of a text encoder alone."""
    return encoder.partition(_CONNECTORS)[2]


@attrs.frozen
class Entry:
    """One line of a manifest: the facts about a stored sample that are known without opening it.

    Attributes:
        shape: the stored tensor's shape: `(C, F, H, W)` for video, `(C, T, M)` for audio, `(F, H, W)` or `(T,)` for masks, `(L,)` for
            text, in tokens.
        rate: the frames per second of video latents; None for everything else.
        finite: whether all values are finite.
        bytes: the file's size in bytes.
        fingerprint: a hash of everything that determined the stored values.
        origin: the raw file that it was made from, as the dataset names it; samples with the same origin stay on the same side of
            a held-out split.
        encoder: fingerprint of the VAE or text encoder alone, the same for all samples of a folder; "" if unknown.
        kind: the kind of data in the file; "" if unknown.
        modality: the modality of the data; for text, the modalities that it has features for, joined by "+".
        widths: features per token of a text, by modality in the order of `modality`; empty if unknown.
        checksum: hash of the whole file as it was written; "" if unknown, as in sets that version 0.1.0 encoded.
    """

    shape: tuple[int, ...]
    rate: float | None = None
    finite: bool = True
    bytes: int = 0
    fingerprint: str = ""
    origin: str = ""
    encoder: str = ""
    kind: Kind | Literal[""] = ""
    modality: str = ""
    widths: tuple[int, ...] = ()
    checksum: str = ""

    @property
    def connectors(self) -> str:
        """The fingerprint of the connectors that stored text passed through; "" if it passed through none, or if this is not text."""
        return connectors_in(self.encoder)


@attrs.frozen
class Manifest:
    """The samples that all sources of a run have in common, as `entries[role][sample]`."""

    entries: Mapping[str, Mapping[str, Entry]]

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of all samples, sorted."""
        first = next(iter(self.entries.values()), {})
        return tuple(sorted(first))


@attrs.frozen(eq=False)
class StoredLatents:
    """The stored latents of a micro-batch, `[B, C, F, H, W]` for video or `[B, C, T, M]` for audio, and their frames per second, `[B]`."""

    latents: Tensor
    rate: Tensor


@attrs.frozen(eq=False)
class Text:
    """The text features that the modalities attend to.

    Attributes:
        features: the features for each modality, `[B, L, E]`.
        mask: 1 for each of the L positions that is a word, 0 for padding, `[B, L]`.
        is_connected: whether the features have passed through the model's connectors.
        is_whole: whether all positions are known to be words, as after connectors; attention then needs no mask, which is faster on a GPU.
    """

    features: Mapping[str, Tensor]
    mask: Tensor
    is_connected: bool = False
    is_whole: bool = False


@attrs.frozen(eq=False)
class Batch:
    """A micro-batch of samples of one shape, by the roles of the strategy's `sources()`.

    Attributes:
        names: the names of its samples, in order.
        latents: the data of roles of kind "latents".
        masks: the data of roles of kind "mask", `[B, ...]` in the shape of the target's grid.
        text: the text features for each modality, after the model's connectors.
    """

    names: tuple[str, ...]
    latents: Mapping[str, StoredLatents]
    masks: Mapping[str, Tensor]
    text: Text


class Draws(Protocol):
    """Random numbers that depend on what is drawn, not on what was drawn before.

    Source: docs/explanation/arithmetic.md#random-numbers
    """

    @property
    def size(self) -> int:
        """The number B of samples in the micro-batch."""
        ...

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw standard normal numbers `[B, *shape]`, independent for each sample; float32 on the CPU."""
        ...

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw uniform numbers in [0, 1), `[B, *shape]`, independent for each sample; float32 on the CPU."""
        ...

    def shared_uniform(self, key: str) -> float:
        """Draw one uniform number in [0, 1) for the whole micro-batch."""
        ...


# ---------------------------------------------------------------- model


@attrs.frozen(eq=False)
class ModelInput:
    """One modality as the model sees it and, in training, the prediction that is expected.

    The T target tokens come first, then the R appended ones.

    Attributes:
        tokens: the noisy or clean tokens, `[B, T + R, D]`.
        sigma: noise level of the modality, `[B]`, from 0 (clean) to 1 (noise); 0 for a frozen modality.
        timesteps: noise level of every token, `[B, T + R]`.
        positions: the start and end of every token, `[B, P, T + R, 2]`, in seconds; for video also in pixel rows and columns.
        context: the text features, `[B, L, E]`.
        context_mask: 1 for words and 0 for padding, `[B, L]`; None if all positions are words.
        is_generated: false for a frozen modality.
        clean: the clean target tokens in training, `[B, T, D]`.
        noise: in training of a generated modality, the noise that was mixed in, `[B, T, D]`.
        velocity: likewise, the expected prediction, `noise - clean`, `[B, T, D]`.
        denoise_mask: 1 for tokens to generate, 0 for given ones, and in between for those given in part, `[B, T + R]`.
        loss_mask: in training of a generated modality, the tokens that count in the loss, `[B, T]` bool.
        marked: video tokens about which the model is told that they hold a single pixel frame, `[B, T + R]` bool; None
            if the model takes no such marker or is not to be given it.
        applied: for each condition, by its key in the run file, the samples that it was applied to, `[B]` bool.
        shared: the tokens that share a noise level, which `to` finds, since only the CPU can look at values without being waited for;
            None if it has not, or each token is taken for itself. It holds for other levels of the same `denoise_mask`.
    """

    tokens: Tensor
    sigma: Tensor
    timesteps: Tensor
    positions: Tensor
    context: Tensor
    context_mask: Tensor | None = None
    is_generated: bool = True
    clean: Tensor | None = None
    noise: Tensor | None = None
    velocity: Tensor | None = None
    denoise_mask: Tensor | None = None
    loss_mask: Tensor | None = None
    marked: Tensor | None = None
    applied: Mapping[str, Tensor] = attrs.field(factory=dict)
    shared: SharedLevels | None = None

    @classmethod
    def of(cls, state: LatentState, sigma: Tensor, text: Text, *, is_generated: bool, marks: bool) -> ModelInput:
        """Make the model's input from a state, in training and in generation alike; its tokens are still clean.

        Args:
            state: the state after all conditions.
            sigma: noise level of the modality, `[B]`; 0 for a frozen modality.
            text: the text features, of which the modality takes its own.
            is_generated: false for a frozen modality.
            marks: whether the target's first latent frame is marked; audio has no marker.

        Source: docs/explanation/arithmetic.md#noise-level-of-a-token
        """
        return cls(
            tokens=state.tokens(),
            sigma=sigma,
            timesteps=sigma.unsqueeze(1) * state.denoise_mask,
            positions=state.positions,
            context=text.features[state.modality],
            context_mask=None if text.is_whole else text.mask,
            is_generated=is_generated,
            clean=state.clean,
            denoise_mask=state.denoise_mask,
            marked=state.first_frame if marks and state.modality == "video" else None,
        )

    def to(self, device: Any) -> ModelInput:
        """Return the same input on another device."""

        def move(value: Any) -> Any:
            return moved(value, device) if hasattr(value, "to") else value

        fields = {f.name: move(getattr(self, f.name)) for f in attrs.fields(type(self)) if f.name not in ("applied", "shared")}
        shared = carried(self.timesteps, self.shared, move)
        return ModelInput(**fields, applied={k: move(v) for k, v in self.applied.items()}, shared=shared)


class Modality(Protocol):
    """Turns a modality's latents into tokens, and tells where the tokens lie in time and space."""

    @property
    def name(self) -> str:
        """ "video" or "audio"."""
        ...

    @property
    def default_rate(self) -> float:
        """The frames per second of stored latents that do not give their own rate."""
        ...

    def grid(self, latents: Tensor) -> Grid:
        """Return the cells of latents `[B, C, ...]`."""
        ...

    def grid_of(self, shape: Sequence[int]) -> Grid:
        """Return the cells of a stored latent of shape `(C, ...)`."""
        ...

    def patchify(self, latents: Tensor) -> Tensor:
        """Turn latents `[B, C, ...]` into tokens `[B, T, D]`."""
        ...

    def unpatchify(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Turn tokens `[B, T, D]` back into latents `[B, C, ...]`."""
        ...

    def positions(self, grid: Grid, rate: Tensor) -> Tensor:
        """Return start and end of every cell, `[B, P, T, 2]` float32; `rate` is in frames per second, `[B]`."""
        ...


class Backbone(Protocol):
    """The denoising model: `backbone(video, audio)` returns velocities `[B, T + R, D]` by modality; either input may be None."""

    modalities: frozenset[str]

    def __call__(self, video: ModelInput | None, audio: ModelInput | None) -> dict[str, Tensor]: ...

    def connect(self, text: Text, modalities: Collection[str] | None = None) -> Text:
        """Pass stored text features through the connectors, without gradients, for these modalities or for all that the
        text has.

        Text that has already passed through them is returned as it is.
        """
        ...


class SigmaSampler(Protocol):
    """Draws noise levels for training: an attrs class whose fields are the keys of `[flow_matching.timestep_sampling_params]`."""

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Draw noise levels in [0, 1], `[B]` float32, for a modality of `tokens` target tokens; the names of all draws begin with `key`."""
        ...


@attrs.frozen(eq=False)
class Setting:
    """The properties of the model and of the run that a strategy is built with.

    Attributes:
        modalities: the modalities by name, with the compression factors of this checkpoint's VAEs.
        sigma_sampler: the sampler that `[flow_matching]` names.
        shared_sigma: whether the run file asks for one sigma for both modalities.
        condition: a function that makes a condition by its registered name: `setting.condition("first_frame", probability=0.1)`.
        takes_marker: whether the model can be told which video tokens hold a single pixel frame (`ModelInput.marked`).
    """

    modalities: Mapping[str, Modality]
    sigma_sampler: SigmaSampler
    shared_sigma: bool = False
    condition: Any = None
    takes_marker: bool = False


class Strategy(Protocol):
    """Turns a micro-batch into model inputs, and the model's predictions into a loss; it is built by the class that the run file names."""

    @property
    def shared_sigma(self) -> bool:
        """Whether both modalities share one sigma."""
        ...

    def sources(self) -> Mapping[str, Source]:
        """Return the folders that it reads, by role. The text has the role "text", and a modality's own latents have its name."""
        ...

    def check(self, data: Manifest) -> None:
        """Refuse data that this strategy cannot train on, as far as manifests show it.

        Raises:
            DataError: for all samples at fault, which the error names.
        """
        ...

    def wanted(self, draws: Draws) -> frozenset[str]:
        """Return the optional roles that this micro-batch needs, before any file is read."""
        ...

    def prepare(self, batch: Batch, draws: Draws) -> Mapping[str, ModelInput]:
        """Return the model's inputs by modality, on the CPU in float32."""
        ...

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> Mapping[str, Tensor]:
        """Return the loss of every sample, `[B]`, for each generated modality."""
        ...

    def metadata(self, data: Manifest) -> Mapping[str, str]:
        """Return the metadata for the saved LoRA that describes how it was trained."""
        ...


class StrategyType(Protocol):
    """The type that the hook `ltx_strategies` registers: an attrs class whose fields are the keys of `[training_strategy]`."""

    def build(self, setting: Setting) -> Strategy:
        """Build the strategy for this model and this run."""
        ...


# ---------------------------------------------------------------- objectives


@attrs.frozen
class Pass:
    """One forward of the model over a micro-batch, as an objective asks for it.

    Attributes:
        name: the name by which `loss` asks for what was predicted in it.
        text: the text that the model sees: "own" for the caption of each sample, "empty" for the empty caption, or a prompt that all
            samples have instead. Prompts are encoded once and kept beside the data.
        adapters: whether the model has its LoRA; without it the pass is the base's answer, which has no gradient.
        gradient: whether the loss is differentiated through it. All passes of one objective with a gradient are in memory at once.
    """

    name: str
    text: str = "own"
    adapters: bool = True
    gradient: bool = True

    @property
    def prompt(self) -> str | None:
        """The text in place of captions; None if the model sees the captions."""
        return None if self.text == "own" else "" if self.text == "empty" else self.text


@attrs.frozen(eq=False)
class Prepared:
    """What `ObjectiveType.loss` gets besides the predictions; all of it is on the model's device.

    Attributes:
        inputs: what the model saw, by the name of the pass and by modality.
        masks: the data of the objective's roles, by role, `[B, T]` float32; roles for which the run file names no folder are missing.
        own_loss: the loss of the run's strategy: takes the predictions and the inputs of a pass by modality, and returns the loss of
            every sample, `[B]`, for each generated modality.
    """

    inputs: Mapping[str, Mapping[str, ModelInput]]
    masks: Mapping[str, Tensor]
    own_loss: Callable[[Mapping[str, Tensor], Mapping[str, ModelInput]], Mapping[str, Tensor]]


class ObjectiveType(Protocol):
    """The type that the hook `ltx_objectives` registers: an attrs class whose fields are its keys in an entry of `[[objectives]]`.

    The core runs the passes, on all processes alike; it applies `weight` and `probability`, and goes backward. `roles` may be left
    out.

    Attributes:
        passes: the forwards that it needs, at least one of them with a gradient. They depend on its keys at most, never on data.
        roles: the further data that it needs, each of a modality.
    """

    @property
    def passes(self) -> tuple[Pass, ...]: ...

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the loss of every sample, `[B]`, by modality.

        It is a pure function of its arguments, and the loss of a sample depends on that sample alone. The modalities are the
        same for all samples. Predictions, `[B, T + R, D]` by pass and by modality, are float32 velocities; only those of the T
        target tokens have a meaning.
        """
        ...


# ---------------------------------------------------------------- media


@attrs.frozen(eq=False)
class Clip:
    """The pictures of a video: `frames` are `[F, H, W, 3]` uint8 RGB, and `rate` is in frames per second."""

    frames: Tensor
    rate: float


@attrs.frozen(eq=False)
class Sound:
    """Audio: `samples` are `[channels, N]` float32 in [-1, 1], and `rate` is in samples per second."""

    samples: Tensor
    rate: int

    @property
    def duration(self) -> float:
        """The duration in seconds."""
        return float(self.samples.shape[1]) / self.rate


class Codec(Protocol):
    """A VAE: turns media into latents, and latents back into media.

    Attributes:
        modality: "video" or "audio".
        scale: the pixel frames, rows and columns (video) or mel frames (audio) that a latent cell covers.
        fingerprint: a hash that changes whenever its latents would.
    """

    modality: str
    scale: tuple[int, int, int]
    fingerprint: str

    def encode(self, medium: Any) -> Tensor:
        """Encode a `Clip` to latents `[C, F, H, W]`, or a `Sound` to `[C, T, M]`; normalised, float32 on the CPU.

        Raises:
            DataError: the medium has a size that the VAE does not support.
        """
        ...

    def decode(self, latents: Tensor, rate: float) -> Any:
        """Decode the latents of one sample to a `Clip` with this rate, or to a `Sound`, for which the rate is ignored."""
        ...


class ReferenceFilter(Protocol):
    """A function that makes a reference clip from a clip, such as its edges.

    It takes the frames of one clip in order, each `[H, W, 3]` uint8 RGB on the CPU, and yields a frame of the same type
    for each. All yielded frames have the same size, which may be smaller than that of the clip. A generator that yields
    a frame for each one that it takes needs the memory of only one frame; a filter that must see the whole clip may
    take all frames first. Several clips are filtered at once, each in a thread of its own, unless the user sets
    `--workers 1`.
    """

    def __call__(self, frames: Iterator[Tensor]) -> Iterable[Tensor]:
        """Yield the frames of the reference.

        Raises:
            DataError: the filter cannot work on this clip; the other clips are still filtered.
        """
        ...


class TextEncoder(Protocol):
    """Turns captions into the text features that are stored.

    Attributes:
        length: the number of positions to which features are padded, on the left, when they are loaded.
        fingerprint: a hash that changes whenever its features would.
    """

    length: int
    fingerprint: str

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return, for each caption, the features of its words by modality, `[l, E]` without padding, with l at most `length`."""
        ...


# ---------------------------------------------------------------- running


class Engine(Protocol):
    """Runs and updates the model on one process or on many; the training loop does not know which."""

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def device(self) -> Any:
        """The device that the model is on."""
        ...

    def forward(self, inputs: Mapping[str, ModelInput], **options: Any) -> dict[str, Tensor]:
        """Return velocities by modality; `options` are those of the backbone."""
        ...

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of one micro-batch, or of one of its losses if `last` is false; `step` averages them over
        accumulation and processes.
        """
        ...

    def step(self) -> float:
        """Clip the gradients, update the weights, advance the learning rate and clear the gradients.

        Returns the gradient norm before clipping. If it is not finite, nothing is updated or cleared.
        """
        ...

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """The learning rates of the next step by the name of the parameter group, which is "" for what no group of the run file names."""
        ...

    @property
    def updates_in_backward(self) -> bool:
        """Whether `backward` updates weights, so that in a step which turns out not to be finite some weights have already been updated."""
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context without gradients and without dropout, with the weights to keep if the optimizer trains on others."""
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context for use between steps, in which the trained weights hold their moving average, if the run keeps one."""
        ...

    def trying(self) -> AbstractContextManager[None]:
        """Return a context for use between steps, at whose end all gradients that were added in it are dropped without a trace."""
        ...

    def making_room(self) -> AbstractContextManager[None]:
        """Return a context for use between steps, in which memory that only training needs is moved off the device, if
        the run asks for that.
        """
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        ...

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process, the only one that writes; every process returns its result, or ends with its error."""
        ...

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that all processes have met; it is reported once."""
        ...

    def bad_gradient(self) -> str:
        """Return, after a step whose norm was not finite, the name of the last parameter in the model whose gradient is
        not finite; "" if no single parameter is to blame.
        """
        ...

    def whole(self, key: str) -> Tensor:
        """Return a whole tensor of the state by its key; called within `first`. `parameter/NAME` also works for
        parameters that are not trained.
        """
        ...

    def state(self, moments: bool = True) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return everything that a later process needs to resume exactly; called within `first`.

        The first part holds tensors by `KIND/PARAMETER`, or objects with `shape`, `dtype` and a method `values()` that
        returns the tensor when it is needed; the second part goes into JSON.
        """
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Resume from what `state` returned."""
        ...


@attrs.frozen(eq=False)
class ParameterGroup:
    """Parameters that are trained with the same learning rate and weight decay.

    Attributes:
        parameters: the parameters by name; the names tell what each is (`....to_q.lora_A.default.weight`,
            `....scale_shift_table`).
        learning_rate: the peak learning rate; a schedule changes the "lr" of the optimizer's groups from step to step.
        weight_decay: the weight decay; each step removes this share, times the learning rate, of every weight.
        name: what metrics call it; "" for what no group of the run file names.
    """

    parameters: Mapping[str, Parameter]
    learning_rate: float
    weight_decay: float
    name: str = ""

    def torch_group(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Return the group as torch's optimizers take it; only with the parameters in `names`, if that is given."""
        chosen = [parameter for name, parameter in self.parameters.items() if names is None or name in names]
        return {"params": chosen, "lr": self.learning_rate, "weight_decay": self.weight_decay}


class OptimizerType(Protocol):
    """The type that the hook `ltx_optimizers` registers: an attrs class whose fields are the keys of
    `[optimization.optimizer_params]`.

    The class may also declare, as class attributes:

    - `zero_stages`: a frozenset of the ZeRO stages under which it trains as in one process. ZeRO hands it flat pieces of many
      weights at a time, so only an optimizer that treats every number independently can name any. By default it is empty.
    - `updates_alone`: True if it can update one weight without looking at any other, and counts nothing in `param_groups`, so
      that it works with `stochastic_rounding` and `step_in_backward`.
    - `copies_in_step`: how many float32 copies of everything that is trained exist while it steps: 1 if it updates all weights
      at once, as the `foreach` functions of torch do. By default 0.
    - `learning_rate`: the default of `[optimization] learning_rate` for this optimizer.
    - `schedules_itself`: True if it needs a constant learning rate, so that no schedule can be used with it.
    - `decays_weights`: False if it has no weight decay.
    - `shares_learning_rate`: True if it finds one step size for all weights, so that no group can have a learning rate of its own.
    - `needs`: the packages that it imports when it is built, by the name that Python imports, each with the command that installs
      it.
    """

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Return the optimizer over these groups, each of which has its own "lr" in `param_groups`.

        Everything that the optimizer keeps is in its `state`, by parameter, and in its `param_groups`, so that a run
        resumes to the last bit. An optimizer that trains on other weights than those to keep has the methods `train()`
        and `eval()`, which switch between them: the core calls them around validation, generation and saving.
        """
        ...

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return the bytes of the optimizer's state for a float32 parameter, without counts of steps; None if they are not known."""
        ...


class ScheduleType(Protocol):
    """The type that the hook `ltx_schedules` registers: an attrs class whose fields are the keys of `[optimization.scheduler_params]`."""

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Return a torch schedule, such as `LambdaLR(optimizer, lambda step: ...)`, for a run of so many steps, not
        counting warm-up.

        It is stepped once per optimizer step. Everything that it keeps is in its `state_dict()`, in a form that JSON
        can hold.
        """
        ...


@attrs.frozen
class LazyCommand:
    """A command of the `ltx` program that is imported only when it is called, so that `ltx --help` and other commands stay fast.

    Attributes:
        target: the click command, as "package.module:attribute".
        help: its line in `ltx --help`.
    """

    target: str
    help: str


class Tracker(Protocol):
    """A receiver of metrics: an attrs class whose fields are the keys of `[trackers.NAME]`."""

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin a run, or resume it after `first_step` steps.

        `run` is the resolved run file in a form that may leave the machine: without passwords and keys, and with `~` for the home folder.
        """
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an optimizer step; any step may bring keys that no step before had."""
        ...

    def sample(self, step: int, name: str, path: Path) -> None:
        """Record that a picture, clip or sound was written to `path`."""
        ...

    def finish(self) -> None:
        """End the run, whether it succeeded or failed."""
        ...
