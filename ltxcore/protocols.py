"""The seams: what a modality, a condition, a strategy, a codec, a reference filter, a text encoder, an engine and a tracker are.

Everything a plugin can supply, and everything the core hands to it, is on this page. No module above this one is needed to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol, TypeVar, runtime_checkable

import attrs

from ltxcore.devices import moved
from ltxcore.errors import LtxError, PluginError
from ltxcore.state import Grid, LatentState

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Kind = Literal["latents", "mask", "text"]
"""What a source holds: latents of a modality, a mask over a modality's tokens, or text features."""

MODALITIES: tuple[str, ...] = ("video", "audio")
"""The order in which modalities are drawn, reported and passed to the model."""


# ---------------------------------------------------------------- conditions


@attrs.frozen
class Role:
    """Something a condition needs beside its own parameters: a source folder in training, a media file in sampling.

    Attributes:
        name: how `apply` asks for it.
        source_key: key of the training table that names the folder.
        kind: "mask" (one value a target token) or "latents" (a medium of the same modality).
        media_key: key of the validation table that names the file; none: the modality's name for latents, else `name`.
    """

    name: str
    source_key: str
    kind: Literal["mask", "latents"]
    media_key: str | None = None


@attrs.frozen(eq=False)
class Medium:
    """A role of kind "latents": the tokens of another clip or sound of the same modality.

    Attributes:
        tokens: `[B, R, D]`.
        grid: its cells, R of them.
        rate: its own frames per second, `[B]`.
        positions: where its own grid and rate put it, `[B, P, R, 2]`; seconds, then pixels for video.
    """

    tokens: Tensor
    grid: Grid
    rate: Tensor
    positions: Tensor


@attrs.frozen(eq=False)
class Inputs:
    """What `Condition.apply` gets beside the state: the data of its roles, by role name."""

    media: Mapping[str, Medium] = attrs.field(factory=dict)
    masks: Mapping[str, Tensor] = attrs.field(factory=dict)

    def latents(self, role: str) -> Medium:
        """The medium of a role of kind "latents".

        Raises:
            PluginError: the condition's class names no such role.
        """
        if role not in self.media:
            raise _no_role(role, "latents", self.media)
        return self.media[role]

    def mask(self, role: str) -> Tensor:
        """The values of a role of kind "mask", `[B, T]` float32 in [0, 1], 1 = given.

        Raises:
            PluginError: the condition's class names no such role.
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
    """The shape of a stored latent, known from its manifest without opening it; `rate` in frames per second."""

    grid: Grid
    rate: float
    modality: str = "video"


class Condition(Protocol):
    """Says which tokens of a modality are given, or which given tokens are added. Nothing else: the core does the rest.

    An attrs class; its fields are its keys in the run file. `content`, `roles` and `appends` may be left out.

    Attributes:
        modalities: those it can be used on.
        content: where its own medium lies on the target when sampling: at the start, at the end, or all over it; none: it has no medium.
        roles: what else it needs.
        appends: whether `apply` appends tokens. Such a condition applies to a whole micro-batch or not at all.
    """

    modalities: ClassVar[frozenset[str]]
    content: ClassVar[Literal["start", "end", "whole"] | None]
    roles: ClassVar[tuple[Role, ...]]
    appends: ClassVar[bool]

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """The state with some tokens given or appended; pure, and the same for training, validation and sampling."""
        ...


@runtime_checkable
class DescribesLora(Protocol):
    """A condition whose saved LoRA carries metadata of its own."""

    def metadata(self, pairs: Sequence[tuple[Geometry, Mapping[str, Geometry]]]) -> Mapping[str, str]:
        """Metadata for the saved LoRA, from the targets and their roles' latents."""
        ...


# ---------------------------------------------------------------- data


@attrs.frozen
class Source:
    """One folder that a run reads.

    Attributes:
        folder: its name under `preprocessed_data_root`.
        kind: what it holds.
        modality: of which modality ("" for text).
        optional: read only when a condition is drawn (its draw comes before its file is read).
        where: the key path in the run file that names it.
    """

    folder: str
    kind: Kind
    modality: str = ""
    optional: bool = False
    where: str = ""


_CONNECTORS = "+connectors="


def with_connectors(encoder: str, connectors: str) -> str:
    """The fingerprint of a text encoder and of the connectors that its features go through before they are stored."""
    return f"{encoder}{_CONNECTORS}{connectors}"


def connectors_in(encoder: str) -> str:
    """The fingerprint of the connectors in such a one; "": it is that of a text encoder alone."""
    return encoder.partition(_CONNECTORS)[2]


@attrs.frozen
class Entry:
    """One line of a manifest: what is known of a stored sample without opening it.

    Attributes:
        shape: of the stored tensor: `(C, F, H, W)` video, `(C, T, M)` audio, `(F, H, W)` or `(T,)` masks, `(L,)` text (tokens).
        rate: frames per second (video latents; none elsewhere).
        finite: whether all values are finite.
        bytes: size of the file.
        fingerprint: of everything that shaped the bytes.
        origin: the raw file it was made from, as the dataset names it; samples of one origin stay together in a held-out split.
        encoder: fingerprint of the codec or text encoder alone, the same for all samples of a folder; "" where it is not known.
        kind: what the file holds; "" where it is not known.
        modality: of which modality; for text, those it has features for, joined by "+".
        widths: of text, numbers a token by modality, in the order of `modality`; empty where it is not known.
        checksum: of the whole file as it was written; "" where it is not known, as of a set that 0.1.0 encoded.
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
        """Of text that is stored after a model's connectors, their fingerprint; "": it is features, or no text."""
        return connectors_in(self.encoder)


@attrs.frozen
class Manifest:
    """What the sources of a run hold: `entries[role][sample]`, for the samples that every source has."""

    entries: Mapping[str, Mapping[str, Entry]]

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of all samples, sorted."""
        first = next(iter(self.entries.values()), {})
        return tuple(sorted(first))


@attrs.frozen(eq=False)
class StoredLatents:
    """Latents of a micro-batch as stored: `[B, C, F, H, W]` (video) or `[B, C, T, M]` (audio), with frames per second `[B]`."""

    latents: Tensor
    rate: Tensor


@attrs.frozen(eq=False)
class Text:
    """Text that the modalities attend to.

    Attributes:
        features: per modality, `[B, L, E]`.
        mask: which of the L positions are words, `[B, L]` (1), or padding (0).
        is_connected: whether it has been through the model's connectors.
        is_whole: whether all positions are known to be words, as after connectors; attention then gets no mask, with which a GPU is slower.
    """

    features: Mapping[str, Tensor]
    mask: Tensor
    is_connected: bool = False
    is_whole: bool = False


@attrs.frozen(eq=False)
class Batch:
    """A micro-batch: samples of one shape, by role of the strategy's `sources()`.

    Attributes:
        names: of its samples, in order.
        latents: roles of kind "latents".
        masks: roles of kind "mask", `[B, ...]` in the shape of the target's grid.
        text: context for each modality, after the model's connectors.
    """

    names: tuple[str, ...]
    latents: Mapping[str, StoredLatents]
    masks: Mapping[str, Tensor]
    text: Text


class Draws(Protocol):
    """Random numbers that depend on what is drawn, not on what was drawn before (design section 4, "Randomness")."""

    @property
    def size(self) -> int:
        """B, the number of samples in the micro-batch."""
        ...

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal, `[B, *shape]`, each sample its own; float32 on the CPU."""
        ...

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform in [0, 1), `[B, *shape]`, each sample its own; float32 on the CPU."""
        ...

    def shared_uniform(self, key: str) -> float:
        """One uniform in [0, 1) for the whole micro-batch."""
        ...


# ---------------------------------------------------------------- model


@attrs.frozen(eq=False)
class ModelInput:
    """One modality as the model sees it; and, in training, what is expected of it.

    T target tokens come first, then R appended ones.

    Attributes:
        tokens: noisy or clean, `[B, T + R, D]`.
        sigma: noise level of the modality, `[B]`, 0 clean to 1 noise; 0 for a frozen modality.
        timesteps: noise level of every token, `[B, T + R]`.
        positions: `[B, P, T + R, 2]`; start and end in seconds, then pixels (rows, columns) for video.
        context: text features, `[B, L, E]`.
        context_mask: 1 for words, 0 for padding, `[B, L]`; none: all count.
        is_generated: false for a frozen modality.
        clean: clean target tokens, `[B, T, D]` (training).
        noise: `[B, T, D]` (training, generated).
        velocity: the target, `noise - clean`, `[B, T, D]` (training, generated).
        denoise_mask: `[B, T + R]`.
        loss_mask: tokens that count, `[B, T]` bool (training, generated).
        marked: video tokens that the model is told hold a single pixel frame, `[B, T + R]` bool; none: it takes no such marker, or is not given it.
        applied: for each condition, by its key in the run file, the samples it was applied to, `[B]` bool.
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

    @classmethod
    def of(cls, state: LatentState, sigma: Tensor, text: Text, *, is_generated: bool, marks: bool) -> ModelInput:
        """A state as the model sees it, in training and in generation alike; its tokens are still clean.

        Args:
            state: after all conditions.
            sigma: noise level of the modality, `[B]`; 0 for a frozen modality.
            text: features of the modality.
            is_generated: false for a frozen modality.
            marks: whether the target's first latent frame is marked; sound has no marker.
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
        """The same on another device."""

        def move(value: Any) -> Any:
            return moved(value, device) if hasattr(value, "to") else value

        fields = {f.name: move(getattr(self, f.name)) for f in attrs.fields(type(self)) if f.name != "applied"}
        return ModelInput(**fields, applied={k: move(v) for k, v in self.applied.items()})


class Modality(Protocol):
    """How a modality's latents become tokens, and where the tokens lie."""

    @property
    def name(self) -> str:
        """ "video" or "audio"."""
        ...

    @property
    def default_rate(self) -> float:
        """Frames per second of stored latents that do not say."""
        ...

    def grid(self, latents: Tensor) -> Grid:
        """Cells of a latent `[B, C, ...]`."""
        ...

    def grid_of(self, shape: Sequence[int]) -> Grid:
        """Cells of a stored latent of this shape `(C, ...)`."""
        ...

    def patchify(self, latents: Tensor) -> Tensor:
        """Latents `[B, C, ...]` to tokens `[B, T, D]`."""
        ...

    def unpatchify(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens `[B, T, D]` to latents `[B, C, ...]`."""
        ...

    def positions(self, grid: Grid, rate: Tensor) -> Tensor:
        """Start and end of every cell, `[B, P, T, 2]` float32; rate in frames per second, `[B]`."""
        ...


class Backbone(Protocol):
    """The denoiser. Callable: `backbone(video, audio)`, either of them none, gives velocities `[B, T + R, D]` by modality."""

    modalities: frozenset[str]

    def __call__(self, video: ModelInput | None, audio: ModelInput | None) -> dict[str, Tensor]: ...

    def connect(self, text: Text, modalities: Collection[str] | None = None) -> Text:
        """Stored text features to the context that the blocks attend to, of these modalities or of all that it has; no gradient.

        Text that is connected already is left as it is.
        """
        ...


class SigmaSampler(Protocol):
    """Draws noise levels for training. An attrs class; its fields are `[flow_matching.timestep_sampling_params]`."""

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Noise levels in [0, 1], `[B]` float32, for a modality of `tokens` target tokens; `key` prefixes the names of its draws."""
        ...


@attrs.frozen(eq=False)
class Setting:
    """What a strategy is built with: everything that is the model's or the run's, not the strategy's own.

    Attributes:
        modalities: by name, with the factors of this checkpoint's codecs.
        sigma_sampler: of `[flow_matching]`.
        shared_sigma: whether the run file asks for one sigma for both modalities.
        condition: makes a condition by its registered name: `setting.condition("first_frame", probability=0.1)`.
        takes_marker: whether the model can be told which video tokens hold a single pixel frame (`ModelInput.marked`).
    """

    modalities: Mapping[str, Modality]
    sigma_sampler: SigmaSampler
    shared_sigma: bool = False
    condition: Any = None
    takes_marker: bool = False


class Strategy(Protocol):
    """Turns a micro-batch into what the model sees, and what it says into a loss. Built by the class named in the run file."""

    @property
    def shared_sigma(self) -> bool:
        """Whether both modalities get one sigma."""
        ...

    def sources(self) -> Mapping[str, Source]:
        """The folders it reads, by role. The text role is "text"; a modality's own latents have its name."""
        ...

    def check(self, data: Manifest) -> None:
        """Refuse, from manifests alone, data that this strategy cannot train on.

        Raises:
            DataError: for all samples at fault, each named.
        """
        ...

    def wanted(self, draws: Draws) -> frozenset[str]:
        """The optional roles that this micro-batch needs, known before any file is read."""
        ...

    def prepare(self, batch: Batch, draws: Draws) -> Mapping[str, ModelInput]:
        """What the model sees, by modality, on the CPU in float32."""
        ...

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> Mapping[str, Tensor]:
        """Loss of every sample by generated modality, `[B]` each."""
        ...

    def metadata(self, data: Manifest) -> Mapping[str, str]:
        """What the saved LoRA says about how it was trained."""
        ...


class StrategyType(Protocol):
    """What the hook `ltx_strategies` names: an attrs class whose fields are the keys of `[training_strategy]`."""

    def build(self, setting: Setting) -> Strategy:
        """The strategy, for this model and this run."""
        ...


# ---------------------------------------------------------------- media


@attrs.frozen(eq=False)
class Clip:
    """Moving pictures: `frames` `[F, H, W, 3]` uint8 RGB, `rate` in frames per second."""

    frames: Tensor
    rate: float


@attrs.frozen(eq=False)
class Sound:
    """Sound: `samples` `[channels, N]` float32 in [-1, 1], `rate` in samples per second."""

    samples: Tensor
    rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.samples.shape[1]) / self.rate


class Codec(Protocol):
    """Media to latents and back.

    Attributes:
        modality: "video" or "audio".
        scale: of its grid: pixel frames, rows and columns (video) or mel frames (audio) a latent cell covers.
        fingerprint: changes whenever its latents would.
    """

    modality: str
    scale: tuple[int, int, int]
    fingerprint: str

    def encode(self, medium: Any) -> Tensor:
        """A `Clip` to `[C, F, H, W]`, or a `Sound` to `[C, T, M]`; normalised, float32 on the CPU.

        Raises:
            DataError: sizes the codec cannot take.
        """
        ...

    def decode(self, latents: Tensor, rate: float) -> Any:
        """Latents of one sample to a `Clip` of this rate, or to a `Sound` (rate not used)."""
        ...


class ReferenceFilter(Protocol):
    """Makes a reference clip out of a clip, such as its edges. A function is one.

    It takes the frames of one clip in order, each `[H, W, 3]` uint8 RGB on the CPU, and gives a frame for each of them, of the same type; all of one size,
    which may be smaller. A generator that gives a frame as it takes one needs the memory of one; what must see the whole clip takes all frames first. It is
    called for several clips at once, each in a thread of its own, unless the user says `--workers 1`.
    """

    def __call__(self, frames: Iterator[Tensor]) -> Iterable[Tensor]:
        """The frames of the reference.

        Raises:
            DataError: this clip is not one it can work on; the others go on.
        """
        ...


class TextEncoder(Protocol):
    """Captions to stored features.

    Attributes:
        length: number of positions the features are padded to, on the left, when they are loaded.
        fingerprint: changes whenever its features would.
    """

    length: int
    fingerprint: str

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """For each caption and modality the features of its words without padding, `[l, E]`, l at most `length`."""
        ...


# ---------------------------------------------------------------- running


class Engine(Protocol):
    """One process or many; the loop does not know which."""

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        ...

    @property
    def device(self) -> Any:
        """Where the model is."""
        ...

    def forward(self, inputs: Mapping[str, ModelInput], **options: Any) -> dict[str, Tensor]:
        """Velocities by modality; `options` are the backbone's."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Gradients of one micro-batch; averaged over accumulation and processes by `step`."""
        ...

    def step(self) -> float:
        """Clip, update, advance the learning rate, clear the gradients; the gradient norm before clipping. If that is not finite, nothing is updated or cleared."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of the step that comes next."""
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """No gradients and no dropout meanwhile."""
        ...

    def trying(self) -> AbstractContextManager[None]:
        """Between steps: gradients that are added within it are forgotten at its end, so that what follows is as it would be without them."""
        ...

    def making_room(self) -> AbstractContextManager[None]:
        """Between steps: what training alone needs takes no memory of the device meanwhile, where the run asks for that."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in order of rank."""
        ...

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process alone, which is the only one that writes; every process gets what it returned, or ends with its error."""
        ...

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that all processes have; it is told once."""
        ...

    def bad_gradient(self) -> str:
        """After a step whose norm was not finite: the name of the parameter furthest along the model whose gradient is not; "" if it is none in particular."""
        ...

    def whole(self, key: str) -> Tensor:
        """Within `first`: a tensor of the state by its key; `parameter/NAME` also for parameters that are not trained."""
        ...

    def state(self, moments: bool = True) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Within `first`: all that a later process needs to go on exactly. Tensors by `KIND/PARAMETER`, or what gives one when its turn comes (`values()`,
        with `shape` and `dtype`); and what goes into JSON."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        ...


@attrs.frozen
class LazyCommand:
    """A command of the `ltx` program that is imported when it is called, so that `ltx --help` and the other commands do not pay for it.

    Attributes:
        target: the click command, as "package.module:attribute".
        help: what `ltx --help` says of it, in a line.
    """

    target: str
    help: str


class Tracker(Protocol):
    """Somewhere metrics go. An attrs class; its fields are the keys of `[trackers.NAME]`."""

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """The run begins, or goes on after `first_step` steps; `run` is the resolved run file, as it may leave the machine: without passwords and keys,
        and with `~` for the home folder."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Numbers of an optimiser step."""
        ...

    def sample(self, step: int, name: str, path: Path) -> None:
        """A picture, clip or sound was written."""
        ...

    def finish(self) -> None:
        """The run is over, well or badly."""
        ...
