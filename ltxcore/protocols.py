"""The protocols of modalities, conditions, strategies, sigma samplers, codecs, reference filters, text encoders, engines, optimizers,
schedules and trackers, and what the core passes to them.

The protocols of other plugins have a module each: `objective_types`, `adapters`, `quantizers`, `sources`, `columns` and `exporters`. The
module can be read without those that build on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol, TypeVar, runtime_checkable

import attrs

from ltxcore.alike import alike_in_all, all_names
from ltxcore.connector_marks import connectors_in
from ltxcore.errors import LtxError, PluginError
from ltxcore.members import Member
from ltxcore.model_input import ModelInput as ModelInput
from ltxcore.model_input import StoredText as StoredText
from ltxcore.model_input import Text as Text
from ltxcore.pictures import Pictures, StoredPictures
from ltxcore.state import Grid, LatentState

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

T = TypeVar("T")

Kind = Literal["latents", "mask", "pictures", "values", "text"]
"""The kinds of data that a source can hold: latents of a modality, a mask over the tokens of a modality, pictures of a clip that are encoded
one by one, any other numbers, or text features.
"""

MODALITIES: tuple[str, ...] = ("video", "audio")
"""All modalities, in the order in which random numbers are drawn for them, and in which they are reported and passed to
the model.
"""


# ---------------------------------------------------------------- conditions


@attrs.frozen
class Role:
    """Data that a condition or objective needs besides its own parameters: a folder of samples in training, a media
    file in generation.

    Attributes:
        name: the name by which the condition or objective asks for the data.
        source_key: the key that names the folder in the training table.
        kind: "mask" for one value per target token, "latents" for a medium of the same modality, "pictures" for some frames of the
            clip, each encoded by itself, or "values" for any numbers.
        media_key: the key that names the file in a validation sample, or the files of pictures; by default, the name of the modality
            for latents, "images" for pictures, and `name` for masks and values.
        modality: for a role of an objective, the modality of the data; a role of a condition has the modality of the
            condition's table.
        shape: for values, their shape: numbers, and letters as in `("F", 6)`. "F" is the target's number of latent frames or
            latent steps, "H" and "W" are its rows and columns of latent cells; any other letter is a length that may differ
            from sample to sample.
        column: for values, the name of the registered column that encodes a file of them in generation; without one, the file holds the
            values themselves.
    """

    name: str
    source_key: str
    kind: Literal["mask", "latents", "pictures", "values"]
    media_key: str | None = None
    modality: str = ""
    shape: tuple[int | str, ...] | None = None
    column: str | None = None


@attrs.frozen(eq=False)
class Medium:
    """The data of a role of kind "latents": the tokens of another clip or sound of the same modality.

    Attributes:
        tokens: the tokens of the medium, `[B, R, D]`.
        grid: the R cells of the medium.
        rate: the medium's own frames per second, `[B]`.
        positions: the start and end of each token, by the medium's own grid and rate, `[B, P, R, 2]`, in seconds; for
            video also in pixels.
    """

    tokens: Tensor
    grid: Grid
    rate: Tensor
    positions: Tensor


@attrs.frozen(eq=False)
class Inputs:
    """The data that `Condition.apply` receives besides the state, by the name of the role."""

    media: Mapping[str, Medium] = attrs.field(factory=dict)
    masks: Mapping[str, Tensor] = attrs.field(factory=dict)
    tensors: Mapping[str, Tensor] = attrs.field(factory=dict)
    images: Mapping[str, Pictures] = attrs.field(factory=dict)

    def latents(self, role: str) -> Medium:
        """Return the medium of a role of kind "latents".

        Raises:
            PluginError: the condition's class declares no such role.
        """
        return _of_role(role, "latents", self.media)

    def mask(self, role: str) -> Tensor:
        """Return the values of a role of kind "mask", `[B, T]` float32 in [0, 1], where 1 means given.

        Raises:
            PluginError: the condition's class declares no such role.
        """
        return _of_role(role, "mask", self.masks)

    def values(self, role: str) -> Tensor:
        """Return the tensor of a role of kind "values", `[B, *shape]` float32.

        Raises:
            PluginError: the condition's class declares no such role.
        """
        return _of_role(role, "values", self.tensors)

    def pictures(self, role: str) -> Pictures:
        """Return the pictures of a role of kind "pictures".

        Raises:
            PluginError: the condition's class declares no such role.
        """
        return _of_role(role, "pictures", self.images)


def _of_role(role: str, kind: str, known: Mapping[str, T]) -> T:
    if role in known:
        return known[role]
    has = ", ".join(f'"{name}"' for name in known) or "none"
    what = f'a condition asks for the role "{role}" of kind "{kind}", but its class declares no such role'
    raise PluginError(what, remedy=f"The class declares these roles of that kind: {has}. Add others to `roles`.")


@attrs.frozen
class Geometry:
    """The shape of a stored latent, read from the manifest without opening the file; `rate` is in frames per second."""

    grid: Grid
    rate: float
    modality: str = "video"


class Condition(Protocol):
    """Decides which tokens of a modality are given, or appends given tokens; the core does everything else.

    A condition is an attrs class whose fields are keys in the run file. A field that is for one modality alone names it in
    its metadata, as in `metadata={"modality": "video"}`. `content`, `roles`, `appends` and `redraws` may be left out.

    Attributes:
        modalities: the modalities that the condition works on.
        content: where the condition's own medium lies on the target in generation: "start", "end" or "whole"; None if
            the condition has no medium.
        roles: the further data that the condition needs.
        appends: whether `apply` appends tokens. A condition that appends tokens applies to a whole micro-batch or not
            at all.
        redraws: how often the values of drawn fields are drawn anew for a sample for which `apply` refuses them; after that, the
            condition is not applied to the sample. With 0, the default, all values that may be drawn must be accepted. A
            condition that appends tokens cannot have this.
    """

    modalities: ClassVar[frozenset[str]]
    content: ClassVar[Literal["start", "end", "whole"] | None]
    roles: ClassVar[tuple[Role, ...]]
    appends: ClassVar[bool]
    redraws: ClassVar[int]

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Return the state with some tokens given or appended. This must be a pure function; training, validation and
        generation all use it.
        """
        ...


@runtime_checkable
class DescribesLora(Protocol):
    """A condition that adds metadata to the saved LoRA."""

    def metadata(self, pairs: Sequence[tuple[Geometry, Mapping[str, Geometry]]]) -> Mapping[str, str]:
        """Return metadata for the saved LoRA. Each pair holds the geometry of a target and the geometries of the
        latents of the condition's roles.
        """
        ...


# ---------------------------------------------------------------- data


@attrs.frozen
class Source:
    """A folder of encoded samples that a run reads.

    Attributes:
        folder: the name of the folder under `preprocessed_data_root`.
        kind: the kind of data in the folder.
        modality: the modality of the data; "" for text.
        optional: whether the folder is read only for micro-batches to which its condition applies. These micro-batches
            are drawn before any file is read.
        where: the path of the run file's key that names the folder.
        shape: for values, the shape that they must have; see `Role`.
        appends: whether the source is for a condition that appends tokens, so its data decide nothing about the target.
        one_of: if the condition is in a list of a choice, the name of the choice's draw and the number of the list; None otherwise.
        may_be_absent: whether samples may lack the modality, so that they have no file in any of its folders. The strategy then also
            takes micro-batches in which the modality is absent (`Batch.absent`).
    """

    folder: str
    kind: Kind
    modality: str = ""
    optional: bool = False
    where: str = ""
    shape: tuple[int | str, ...] | None = None
    appends: bool = False
    one_of: tuple[str, int] | None = None
    may_be_absent: bool = False


@attrs.frozen
class Entry:
    """A line of a manifest: the facts about a stored sample that are known without opening its file.

    Attributes:
        shape: the shape of the stored tensor: `(C, F, H, W)` for video, `(C, T, M)` for audio, `(F, H, W)` or `(T,)` for masks,
            `(K, C, 1, H, W)` for K pictures, `(L,)` for text, where L is the number of tokens, and any shape for values.
        rate: the frames per second of video latents; None for everything else.
        finite: whether all values are finite.
        bytes: the size of the file in bytes.
        fingerprint: a hash of everything that determined the stored values.
        origin: the raw file that the sample was made from, as the dataset names it. Samples with the same origin are
            either all held out or all trained on.
        encoder: the fingerprint of the VAE or text encoder alone, which all samples of a folder share; "" if unknown.
        kind: the kind of data in the file; "" if unknown.
        modality: the modality of the data; "" for values; for text, the modalities for which there are features, joined by "+".
        widths: for text, the number of features per token for each modality, in the order of `modality`; empty if
            unknown.
        checksum: a hash of the whole file as it was written; "" if unknown, as in encoded sets of version 0.1.0.
        column: the column whose plugin made the sample, with the plugin's parameters (`columns.spelled_params`), which all samples of a
            folder share; "" if unknown, and for samples that no plugin makes.
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
    column: str = ""

    @property
    def connectors(self) -> str:
        """The fingerprint of the connectors that stored text has passed through; "" if it has passed through no
        connectors, or for data other than text.
        """
        return connectors_in(self.encoder)


@attrs.frozen
class Manifest:
    """The samples that all sources of a run have in common; `entries[role][sample]` describes each stored file.

    Attributes:
        entries: the entries by role and name of the sample. A sample that lacks a modality has no entries in the roles of that modality.
        members: the samples by name if they come from several sets; empty if they come from one, in one root.
    """

    entries: Mapping[str, Mapping[str, Entry]]
    members: Mapping[str, Member] = attrs.field(factory=dict)

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of all samples, sorted."""
        return self._samples

    @property
    def alike(self) -> tuple[tuple[Mapping[str, Entry], Sequence[str]], ...]:
        """The groups of samples that have the same facts in all roles. Use this rather than `samples` for facts that hold for a whole
        group, since a set may have a million samples.

        A group consists of its entries by role, in which `bytes`, `fingerprint`, `origin` and `checksum` are not meaningful, without the
        roles that the samples lack, and the sorted names of its samples.
        """
        return self._alike

    # Both are found once, since this takes a second for a million samples.

    @functools.cached_property
    def _samples(self) -> tuple[str, ...]:
        return all_names(self.entries.values())

    @functools.cached_property
    def _alike(self) -> tuple[tuple[Mapping[str, Entry], Sequence[str]], ...]:
        return alike_in_all(self.entries, self.samples)


@attrs.frozen(eq=False)
class StoredLatents:
    """The stored latents of a micro-batch, `[B, C, F, H, W]` for video or `[B, C, T, M]` for audio, and their frames per second, `[B]`."""

    latents: Tensor
    rate: Tensor


@attrs.frozen(eq=False)
class Batch:
    """A micro-batch of samples of one shape, by the roles of the strategy's `sources()`.

    Attributes:
        names: the names of the samples, in order.
        latents: the data of roles of kind "latents".
        masks: the data of roles of kind "mask", `[B, ...]` in the shape of the target's grid.
        text: the text features of each modality, after the model's connectors; none before they have passed through the connectors.
        tensors: the data of roles of kind "values", `[B, *shape]`.
        pictures: the data of roles of kind "pictures".
        absent: the modalities that these samples lack. In place of an absent modality's latents, `latents` has a single cell without
            content; its other roles are left out.
        stored_text: the text features as they are stored, before they have passed through the connectors; None afterwards, and if no text
            was read.
    """

    names: tuple[str, ...]
    latents: Mapping[str, StoredLatents]
    masks: Mapping[str, Tensor]
    text: Text
    tensors: Mapping[str, Tensor] = attrs.field(factory=dict)
    pictures: Mapping[str, StoredPictures] = attrs.field(factory=dict)
    absent: frozenset[str] = frozenset()
    stored_text: StoredText | None = None


class Draws(Protocol):
    """Random numbers that depend on their key and their sample, and not on what was drawn before.

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


class Modality(Protocol):
    """Turns a modality's latents into tokens, and computes where the tokens lie in time and space."""

    @property
    def name(self) -> str:
        """ "video" or "audio"."""
        ...

    @property
    def default_rate(self) -> float:
        """The frames per second of stored latents that have no rate of their own."""
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
        """Return the start and end of every cell, `[B, P, T, 2]` float32; `rate` is in frames per second, `[B]`."""
        ...


class Backbone(Protocol):
    """The denoising model: `backbone(video, audio)` returns the velocities `[B, T + R, D]` for each modality; either
    input may be None.
    """

    modalities: frozenset[str]

    def __call__(self, video: ModelInput | None, audio: ModelInput | None) -> dict[str, Tensor]: ...

    def connect(self, text: Text, modalities: Collection[str] | None = None) -> Text:
        """Pass stored text features through the connectors, without gradients, for some modalities or for all
        modalities of the text.

        Text that has already passed through the connectors is returned unchanged.
        """
        ...


class SigmaSampler(Protocol):
    """Draws noise levels for training: an attrs class whose fields are the keys of `[flow_matching.timestep_sampling_params]`."""

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Draw noise levels in [0, 1], `[B]` float32, for a modality with `tokens` target tokens. The keys of all draws
        must begin with `key`.
        """
        ...


@attrs.frozen(eq=False)
class Setting:
    """The properties of the model and of the run with which a strategy is built.

    Attributes:
        modalities: the modalities by name, with the scale factors of the model's VAEs.
        sigma_sampler: the sampler that `[flow_matching]` names.
        shared_sigma: whether the run file asks for one sigma for both modalities.
        condition: a function that makes a condition by its registered name, as in
            `setting.condition("first_frame", probability=0.1)`.
        takes_marker: whether the model can be told which video tokens hold a single pixel frame (`ModelInput.marked`).
        trains_without: whether a sample that lacks a modality trains the other one (`Source.may_be_absent`).
    """

    modalities: Mapping[str, Modality]
    sigma_sampler: SigmaSampler
    shared_sigma: bool = False
    condition: Any = None
    takes_marker: bool = False
    trains_without: bool = False


class Strategy(Protocol):
    """Turns a micro-batch into model inputs, and the model's predictions into a loss. The class that the run file names
    builds the strategy.
    """

    @property
    def shared_sigma(self) -> bool:
        """Whether both modalities share one sigma."""
        ...

    def sources(self) -> Mapping[str, Source]:
        """Return the folders that the strategy reads, by role. The role of the text is "text", and the role of a
        modality's own latents is the name of the modality.
        """
        ...

    def check(self, data: Manifest) -> None:
        """Refuse data on which this strategy cannot train, as far as manifests show this.

        Raises:
            DataError: the strategy cannot train on some samples; the error names all of them.
        """
        ...

    def wanted(self, draws: Draws) -> frozenset[str]:
        """Decide which optional roles this micro-batch needs. This is called before any file is read."""
        ...

    def prepare(self, batch: Batch, draws: Draws) -> Mapping[str, ModelInput]:
        """Return the model's input for each modality, on the CPU in float32.

        In training, this is called ahead, in several threads at once. The text of the batch then has no values yet; a strategy that does
        more with the text than to pass it on to the inputs is called again in the step.
        """
        ...

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> Mapping[str, Tensor]:
        """Return the loss of every sample, `[B]`, for each generated modality."""
        ...

    def metadata(self, data: Manifest) -> Mapping[str, str]:
        """Return metadata that tell how the saved LoRA was trained."""
        ...


class StrategyType(Protocol):
    """The type that the hook `ltx_strategies` registers: an attrs class whose fields are the keys of `[training_strategy]`."""

    def build(self, setting: Setting) -> Strategy:
        """Build the strategy for this model and this run."""
        ...


# ---------------------------------------------------------------- media


@attrs.frozen(eq=False)
class Clip:
    """The frames of a video, `[F, H, W, 3]` uint8 RGB; `rate` is in frames per second."""

    frames: Tensor
    rate: float


@attrs.frozen(eq=False)
class Sound:
    """Audio samples, `[channels, N]` float32 in [-1, 1]; `rate` is in samples per second."""

    samples: Tensor
    rate: int

    @property
    def duration(self) -> float:
        """The duration of the audio in seconds."""
        return float(self.samples.shape[1]) / self.rate


class Codec(Protocol):
    """A VAE, which turns media into latents, and latents back into media.

    Attributes:
        modality: "video" or "audio".
        scale: the pixel frames, rows and columns (video) or mel frames (audio) that a latent cell covers.
        fingerprint: a hash that changes whenever the latents would change.
    """

    modality: str
    scale: tuple[int, int, int]
    fingerprint: str

    def encode(self, medium: Any) -> Tensor:
        """Encode a `Clip` to latents `[C, F, H, W]`, or a `Sound` to latents `[C, T, M]`. Latents are normalised,
        float32 and on the CPU.

        Raises:
            DataError: the medium has a size that the VAE does not support.
        """
        ...

    def decode(self, latents: Tensor, rate: float) -> Any:
        """Decode the latents of one sample to a `Clip` with this rate or, ignoring the rate, to a `Sound`."""
        ...


class ReferenceFilter(Protocol):
    """A function that makes a reference clip from a clip, such as its edges, or a mask of the clip.

    The filter takes the frames of one clip in order, each `[H, W, 3]` uint8 RGB on the CPU, and yields one frame of the
    same type for each. All yielded frames must have the same size, which may be smaller than the clip's. A generator
    that yields a frame as soon as it has taken one needs memory for only one frame; a filter that must see the whole
    clip may take all frames first. Several clips are filtered at once, each in its own thread, unless the user sets
    `--workers 1`.

    In place of a function, a plugin may register an attrs class whose fields are the keys of `--filter NAME,key=value`;
    one object of it is called for all clips. A function or class with the attribute `makes = "mask"` (by default
    "reference") is a filter for `ltx mask`: white is what the mask gives, and black is what is generated.
    """

    def __call__(self, frames: Iterator[Tensor]) -> Iterable[Tensor]:
        """Yield the frames of the reference.

        Raises:
            DataError: the filter cannot work on this clip; the other clips are still filtered.
            ConfigError: the filter cannot work on any clip; no more are filtered.
        """
        ...


class TextEncoder(Protocol):
    """Turns captions into text features, which are stored.

    Attributes:
        length: the number of positions to which features are padded on the left when they are loaded.
        fingerprint: a hash that changes whenever the features would change.
    """

    length: int
    fingerprint: str

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the features of the words of each caption, for each modality, `[l, E]` without padding, where l is at
        most `length`. The captions are encoded together, so their features may differ by rounding from those of single captions.
        """
        ...


# ---------------------------------------------------------------- running


class Engine(Protocol):
    """Runs and updates the model on one process or on many. The training loop is the same for both."""

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def data_parallel_rank(self) -> int:
        """The number of this process's share of the micro-batches, from 0. Processes that divide the tokens of a micro-batch among them
        have the same share; otherwise, each process has its own.
        """
        ...

    @property
    def data_parallel_size(self) -> int:
        """The number of shares that micro-batches are dealt to."""
        ...

    @property
    def device(self) -> Any:
        """The device that the model is on."""
        ...

    def forward(self, inputs: Mapping[str, ModelInput], **options: Any) -> dict[str, Tensor]:
        """Run the model, and return the velocities for each modality; `options` are passed to the backbone."""
        ...

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of one micro-batch, or of one of its losses if `last` is false. `step` averages the
        gradients over micro-batches and processes.
        """
        ...

    def step(self, losses: Tensor | None = None, agreed: Callable[[list[float], bool], bool] | None = None) -> float:
        """Clip the gradients, update the weights, advance the learning rate and clear the gradients.

        Return the gradient norm before clipping. If the norm is not finite, nothing is updated or cleared.

        Args:
            losses: numbers on the device, `[N]` float32, to read together with those that the step itself needs, so that the program waits
                for the device only once.
            agreed: a function that is called before anything is updated, with the values of `losses` and with False if gradients of this
                process are known not to be finite. It returns whether no process knows of such gradients, and may raise an error; in either
                case nothing is updated. None asks the other processes for this alone.
        """
        ...

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """The learning rate of each parameter group in the next step, by the group's name, which is "" for the group of
        all parameters that no group of the run file names.
        """
        ...

    @property
    def updates_in_backward(self) -> bool:
        """Whether `backward` updates weights. If so, a step that turns out not to be finite has already updated some
        weights.
        """
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context without gradients and dropout. If the optimizer trains on weights other than those to save,
        the model has the weights to save.
        """
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the trained weights are replaced by their moving average, if the run keeps one.
        Inside it, no forward may be waiting for its backward, and a further such context changes nothing.
        """
        ...

    def trying(self) -> AbstractContextManager[None]:
        """Return a context, for use between steps, that discards all gradients added in it."""
        ...

    def making_room(self) -> AbstractContextManager[None]:
        """Return a context for use between steps. If the run asks for this, data that only training needs are moved off the device inside
        the context.
        """
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        ...

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes, in a single message of tensors. Every process passes the same number of numbers."""
        ...

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process, which is the only one that writes. Every process returns that process's
        result, or ends with its error.
        """
        ...

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that has occurred on all processes; the error is reported once."""
        ...

    def bad_gradient(self) -> str:
        """After a step with a gradient norm that was not finite, return the name of the last parameter in the model
        whose gradient is not finite; "" if there is no such parameter.
        """
        ...

    def whole(self, key: str) -> Tensor:
        """Return a tensor of the state by its key, assembled from all processes. Call this inside `first`.
        `parameter/NAME` also works for parameters that are not trained.
        """
        ...

    def state(self, moments: bool = True) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return everything that a later process needs to resume exactly. Call this inside `first`.

        The first part holds tensors by `KIND/PARAMETER`, or objects with `shape`, `dtype` and a method `values()` that
        returns the tensor when it is needed. The second part is stored as JSON.
        """
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore a state that `state` returned."""
        ...


@attrs.frozen(eq=False)
class ParameterGroup:
    """Parameters that are trained with the same learning rate and weight decay.

    Attributes:
        parameters: the parameters by name; a name tells what the parameter is (`....to_q.lora_A.default.weight`,
            `....scale_shift_table`).
        learning_rate: the peak learning rate. A schedule changes "lr" in the optimizer's groups from step to step.
        weight_decay: the weight decay. Each step reduces every weight by this share, multiplied by the learning rate.
        name: the name of the group in metrics; "" for the parameters that no group of the run file names.
    """

    parameters: Mapping[str, Parameter]
    learning_rate: float
    weight_decay: float
    name: str = ""

    def torch_group(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Return the group in the form that torch's optimizers take. If `names` is given, include only the parameters
        that it names.
        """
        chosen = [parameter for name, parameter in self.parameters.items() if names is None or name in names]
        return {"params": chosen, "lr": self.learning_rate, "weight_decay": self.weight_decay}


class OptimizerType(Protocol):
    """The type that the hook `ltx_optimizers` registers: an attrs class whose fields are the keys of
    `[optimization.optimizer_params]`.

    The class may also declare, as class attributes:

    - `zero_stages`: a frozenset of the ZeRO stages under which the optimizer trains exactly as in one process. ZeRO
      gives the optimizer flat pieces that contain many weights, so only an optimizer that treats every number
      independently can support a stage. The set is empty by default.
    - `updates_alone`: True if the optimizer updates each weight without looking at any other, and keeps no counts in
      `param_groups`. It then works with `stochastic_rounding` and `step_in_backward`.
    - `copies_in_step`: the number of float32 copies of all trained weights that exist during a step. It is 1 if all
      weights are updated at once, as by torch's `foreach` functions. The default is 0.
    - `learning_rate`: the default of `[optimization] learning_rate` for this optimizer.
    - `schedules_itself`: True if the optimizer needs a constant learning rate; no schedule can then be used with it.
    - `decays_weights`: False if the optimizer has no weight decay.
    - `shares_learning_rate`: True if the optimizer finds a single step size for all weights; groups can then have no
      learning rate of their own.
    - `needs`: the packages that `build` imports, by their names in Python, each with the command that installs it.
    """

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Return an optimizer for these groups. Each group must have its own "lr" in `param_groups`.

        The optimizer must keep all of its values in its `state`, by parameter, and in its `param_groups`, so that a run
        resumes to the last bit. An optimizer that trains on weights other than those to save must have methods
        `train()` and `eval()` that switch between the two sets of weights; the core calls these methods around
        validation, generation and saving.
        """
        ...

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return the size in bytes of the optimizer's state for a float32 parameter, not including step counts; None if
        it is not known.
        """
        ...


class ScheduleType(Protocol):
    """The type that the hook `ltx_schedules` registers: an attrs class whose fields are the keys of `[optimization.scheduler_params]`."""

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Return a torch schedule, such as `LambdaLR(optimizer, lambda step: ...)`, for a run with this number of
        steps, not counting warm-up.

        The core advances the schedule once per optimizer step. The schedule must keep all of its values in its
        `state_dict()`, in a form that JSON can store.
        """
        ...


@attrs.frozen
class LazyCommand:
    """A command of the `ltx` program that is imported only when it is used, so that `ltx --help` and other commands
    stay fast.

    Attributes:
        target: the click command, as "package.module:attribute".
        help: the line about the command in `ltx --help`.
    """

    target: str
    help: str


class Tracker(Protocol):
    """A receiver of metrics: an attrs class whose fields are the keys of `[trackers.NAME]`."""

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin a run, or resume it after `first_step` steps.

        `run` is the resolved run file in a form that may leave the machine, without passwords and keys and with `~` for
        the home folder.
        """
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an optimizer step. Any step may have metrics that no earlier step had."""
        ...

    def sample(self, step: int, name: str, path: Path) -> None:
        """Record a picture, clip or audio file that was written to `path`."""
        ...

    def finish(self) -> None:
        """End the run, after it has succeeded or failed."""
        ...
