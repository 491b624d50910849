"""The model's input for one modality, with the text that it attends to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.devices import is_gpu, moved, pinned
from ltxcore.levels import SharedLevels, carried, noise_levels
from ltxcore.state import Grid, LatentState

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(eq=False)
class Text:
    """The text features that the modalities attend to.

    Attributes:
        features: the features for each modality, `[B, L, E]`.
        mask: 1 for each of the L positions that holds a word, and 0 for padding, `[B, L]`.
        is_connected: whether the features have passed through the model's connectors.
        is_whole: whether all positions are known to hold words, as is the case after connectors. Attention then needs
            no mask, and is faster on a GPU.
    """

    features: Mapping[str, Tensor]
    mask: Tensor
    is_connected: bool = False
    is_whole: bool = False


@attrs.define(eq=False)
class Later:
    """A tensor that is copied from the CPU to a GPU when it is first read, if ever.

    Attributes:
        tensor: the tensor, on the CPU until it is read.
        device: the GPU.
    """

    tensor: Tensor
    device: Any

    def read(self) -> Tensor:
        """Return the tensor on the GPU."""
        self.tensor = moved(self.tensor, self.device)
        return self.tensor


READ_LATER = frozenset({"clean", "noise", "denoise_mask", "levels"})
"""The fields of `ModelInput` that neither the model nor the loss reads. On a GPU, they are copied only if other code reads them."""


@attrs.frozen(eq=False)
class StoredText:
    """The text features of a micro-batch as they are stored, without padding.

    Attributes:
        features: the features for each modality, in the stored dtype, those of one sample after those of the other, `[N, E]`.
        words: the number of positions of each of the B samples; their sum is N.
        length: L, the number of positions that each sample is padded to.
        is_connected: whether the features have passed through the model's connectors.
    """

    features: Mapping[str, Tensor]
    words: tuple[int, ...]
    length: int
    is_connected: bool = False

    def padded(self, device: Any = "cpu") -> Text:
        """Move the features to a device, and pad them there with zeros on the left to `[B, L, E]` float32. The mask is made there too.
        Features that need no padding, such as those that connectors have made, are not copied if they are float32 and on the device.

        Source: docs/explanation/arithmetic.md#padding-of-text
        """
        import torch

        size = len(self.words)
        there = {name: moved(stored, device) for name, stored in self.features.items()}
        if all(words == self.length for words in self.words):
            features = {name: stored.float().view(size, self.length, stored.shape[1]) for name, stored in there.items()}
            return Text(features, torch.ones(size, self.length, device=device), self.is_connected, self.is_connected)
        features = {name: torch.zeros(size, self.length, stored.shape[1], device=device) for name, stored in there.items()}
        mask = torch.zeros(size, self.length, device=device)
        for row, words in enumerate(self.words):
            mask[row, self.length - words :] = 1.0
        for name, stored in there.items():
            for row, own in enumerate(stored.split(self.words)):
                features[name][row, self.length - len(own) :] = own
        return Text(features, mask, self.is_connected, False)


@attrs.frozen(eq=False)
class ModelInput:
    """The model's input for one modality and, in training, the expected prediction.

    The T target tokens come first, followed by the R appended tokens.

    Attributes:
        tokens: the noisy or clean tokens, `[B, T + R, D]`.
        sigma: the noise level of the modality, `[B]`, from 0 (clean) to 1 (noise); 0 for a frozen modality.
        timesteps: the noise level of every token, `[B, T + R]`.
        levels: the noise level at which each given token is given, `[B, T + R]`, whatever `sigma` is; 0 for every other token. None if all
            given tokens are clean.
        groups: the number of tokens of the target and of each medium that was appended to it, if there are strengths; otherwise empty.
        strengths: the weight with which the target and each appended medium attend to each other, `[G]` in (0, 1]. Then the media do not
            attend to each other. None if everything attends to everything alike.
        positions: the start and end of every token, `[B, P, T + R, 2]`, in seconds; for video also in pixel rows and columns.
        context: the text features, `[B, L, E]`.
        context_mask: 1 for words and 0 for padding, `[B, L]`; None if all positions are words.
        is_generated: false for a frozen modality.
        clean: the clean target tokens in training, `[B, T, D]`.
        noise: in training, for a generated modality, the noise that was added, `[B, T, D]`.
        velocity: in training, for a generated modality, the expected prediction, `noise - clean`, `[B, T, D]`.
        denoise_mask: 1 for generated tokens, 0 for given tokens, and a value in between for partly given tokens,
            `[B, T + R]`.
        loss_mask: in training, for a generated modality, the tokens that count in the loss, `[B, T]` bool.
        marked: the video tokens that are marked for the model as holding a single pixel frame, `[B, T + R]` bool; None
            if the model takes no marker or is not to be given one.
        applied: the samples to which each condition was applied, `[B]` bool, by the condition's key in the run file; if
            captions are dropped, also the samples without their captions.
        drawn: the value of each drawn key of a condition for every sample (`ltxcore.drawn.Value`), by "CONDITION/KEY", and for each choice
            the number of the drawn list, by "CHOICE/one_of".
        shared: the tokens that share a noise level, which `ready_for` or `to` finds while the input is on the CPU, because reading values
            from a GPU would wait for the GPU; None if they are not known, or if too few tokens share a level. They are also valid for other
            noise levels with the same `denoise_mask` and `levels`.
        grid: the T cells of the target, in the order of its tokens: by frame, then by row, then by column. The core always sets it; it is
            None only in inputs that a plugin makes itself.
        is_absent: whether the samples lack the modality. Its only token is then given and in no loss, and the modalities do not attend
            to each other.
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
    drawn: Mapping[str, Sequence[Any]] = attrs.field(factory=dict)
    shared: SharedLevels | None = None
    grid: Grid | None = None
    is_absent: bool = False
    levels: Tensor | None = None
    groups: tuple[int, ...] = ()
    strengths: Tensor | None = None

    @classmethod
    def of(cls, state: LatentState, sigma: Tensor, text: Text, *, is_generated: bool, marks: bool) -> ModelInput:
        """Make the model's input from a state, both in training and in generation. The tokens are still clean.

        Args:
            state: the state after all conditions.
            sigma: the noise level of the modality, `[B]`; 0 for a frozen modality.
            text: the text features of all modalities.
            is_generated: false for a frozen modality.
            marks: whether the target's first latent frame is marked; audio has no marker.

        Source: docs/explanation/arithmetic.md#noise-level-of-a-token, #level-of-given-tokens, #strength-of-appended-tokens
        """
        import torch

        levels = state.levels if bool(state.levels.any()) else None
        weighted = state.is_weighted
        return cls(
            tokens=state.tokens(),
            sigma=sigma,
            timesteps=noise_levels(sigma.unsqueeze(1), state.denoise_mask, levels),
            levels=levels,
            positions=state.positions,
            context=text.features[state.modality],
            context_mask=None if text.is_whole else text.mask,
            is_generated=is_generated,
            clean=state.clean,
            denoise_mask=state.denoise_mask,
            marked=state.first_frame if marks and state.modality == "video" else None,
            grid=state.grid,
            groups=(state.num_target, *(group.tokens for group in state.groups)) if weighted else (),
            strengths=torch.tensor([group.strength for group in state.groups]) if weighted else None,
        )

    def ready_for(self, device: Any) -> ModelInput:
        """Return the same input, still on the CPU, with everything done that `to` would otherwise do first: tokens that share a level are
        found and, for a GPU, the tensors that it reads are put into pinned memory. Threads that read samples ahead call this.
        """
        to_gpu = is_gpu(device)
        return self._with(lambda name, value: pinned(value, device) if to_gpu and name not in READ_LATER else value)

    def to(self, device: Any) -> ModelInput:
        """Return the same input on another device. To a GPU, the fields in `READ_LATER` are copied only when they are first read."""

        to_gpu = is_gpu(device)

        def move(name: str, value: Tensor) -> Any:
            if not to_gpu:
                return value.to(device)
            return Later(value, device) if name in READ_LATER and value.device.type == "cpu" else moved(value, device)

        return self._with(move)

    def _with(self, move: Callable[[str, Tensor], Any]) -> ModelInput:
        """Return the same input with its tensors moved by a function of the field's name and the tensor."""
        own: dict[str, Any] = {}
        for field in attrs.fields(type(self)):
            value = _HELD[field.name](self) if field.name in _HELD else getattr(self, field.name)
            value = value.tensor if isinstance(value, Later) else value
            own[field.name] = move(field.name, value) if hasattr(value, "to") else value
        own["applied"] = {key: move("applied", value) for key, value in self.applied.items()}
        own["shared"] = carried(self._kinds, self.shared, partial(move, "shared"))
        return ModelInput(**own)

    def _kinds(self) -> Tensor:
        """Return a number for every token, equal where levels always are. Tokens that are given at a level do not share it with tokens
        whose level follows sigma, even if the two levels are equal now.
        """
        return self.timesteps if self.levels is None or self.denoise_mask is None else self.denoise_mask - self.levels


_HELD: Mapping[str, Callable[[ModelInput], Any]] = {name: getattr(ModelInput, name).__get__ for name in READ_LATER}
"""For each field that is copied later, a function that returns its present value without a copy."""


def _read_when_asked(name: str) -> property:
    """Return a property in place of a field, which copies what the field holds to the GPU when it is first read."""
    field = getattr(ModelInput, name)

    def read(given: ModelInput) -> Tensor | None:
        value = _HELD[name](given)
        return value.read() if isinstance(value, Later) else value

    return property(read, field.__set__)


for _name in READ_LATER:
    setattr(ModelInput, _name, _read_when_asked(_name))
