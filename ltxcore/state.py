"""The state that conditions work on: the tokens of a modality, and how much of each token is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from ltxcore.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Grid:
    """The cells of a latent, in the order of its tokens: by frame, then by row, then by column.

    `frames` is the number of latent frames of video, or of latent steps of audio; for audio, `height` and `width` are
    1. `scale` is the number of pixel frames, pixel rows and pixel columns that a cell of video covers; for audio, it is
    the number of mel frames that a step covers, as in `(4, 1, 1)`.
    """

    frames: int
    height: int = 1
    width: int = 1
    scale: tuple[int, int, int] = (8, 32, 32)

    @property
    def num_tokens(self) -> int:
        return self.frames * self.height * self.width

    @property
    def frame(self) -> Tensor:
        """The latent frame or step of every token, `[T]` int64."""
        return self._axis(0)

    @property
    def row(self) -> Tensor:
        """The row of every token, `[T]` int64."""
        return self._axis(1)

    @property
    def column(self) -> Tensor:
        """The column of every token, `[T]` int64."""
        return self._axis(2)

    def _axis(self, axis: int) -> Tensor:
        import torch

        sizes = (self.frames, self.height, self.width)
        shape = [1, 1, 1]
        shape[axis] = -1
        return torch.arange(sizes[axis]).reshape(shape).expand(sizes).reshape(-1)

    def __str__(self) -> str:
        return f"{self.frames} x {self.height} x {self.width}" if self.height * self.width > 1 else str(self.frames)


class Group(NamedTuple):
    """Tokens that were appended together: their number, and the weight with which they and the target attend to each other."""

    tokens: int
    strength: float = 1.0


@attrs.frozen(eq=False)
class LatentState:
    """The tokens of one modality in a batch, and how much of each token is generated.

    T is the number of target tokens, and R is the number of appended tokens, which is 0 at first. Appended tokens
    always come after the target tokens.

    Attributes:
        modality: "video" or "audio".
        grid: the T cells of the target.
        rate: the frames per second of each sample's target, `[B]`.
        clean: the clean target tokens, `[B, T, D]`; zeros where generation does not know the content.
        positions: the start and end of every token, `[B, P, T + R, 2]`, in seconds; for video also in pixel rows and columns.
        denoise_mask: 1 for generated tokens, 0 for given tokens, and a value in between for a soft mask, `[B, T + R]`
            float32.
        appended: the appended tokens, `[B, R, D]`.
        levels: the noise level at which each given token is given, `[B, T + R]` float32 in [0, 1): 0 for a clean token, and for a token
            that is not given entirely.
        groups: for each call of `append`, the number of tokens and the strength.
    """

    modality: str
    grid: Grid
    rate: Tensor
    clean: Tensor
    positions: Tensor
    denoise_mask: Tensor
    appended: Tensor
    levels: Tensor = attrs.field()
    groups: tuple[Group, ...] = attrs.field()

    @levels.default
    def _clean(self) -> Tensor:
        return self.denoise_mask.new_zeros(self.denoise_mask.shape)

    @groups.default
    def _alike(self) -> tuple[Group, ...]:
        return (Group(self.num_appended),) if self.num_appended else ()

    @classmethod
    def start(cls, modality: str, grid: Grid, rate: Tensor, clean: Tensor, positions: Tensor) -> LatentState:
        """Return a state in which all tokens of `clean` `[B, T, D]` are to be generated, and no tokens are appended."""
        import torch

        return cls(
            modality=modality,
            grid=grid,
            rate=rate,
            clean=clean,
            positions=positions,
            denoise_mask=torch.ones(clean.shape[:2], dtype=torch.float32, device=clean.device),
            appended=clean.new_zeros(clean.shape[0], 0, clean.shape[2]),
        )

    def __attrs_post_init__(self) -> None:
        batch, tokens, width = self.clean.shape
        total = tokens + self.appended.shape[1]
        wanted = {
            "grid": (self.grid.num_tokens, tokens),
            "rate": (tuple(self.rate.shape), (batch,)),
            "appended": ((self.appended.shape[0], self.appended.shape[2]), (batch, width)),
            "denoise_mask": (tuple(self.denoise_mask.shape), (batch, total)),
            "groups": (sum(group.tokens for group in self.groups), self.appended.shape[1]),
            "levels": (tuple(self.levels.shape), (batch, total)),
            "positions": ((self.positions.shape[0], *self.positions.shape[2:]), (batch, total, 2)),
        }
        for name, (found, expected) in wanted.items():
            if found != expected:
                raise ValueError(
                    f"LatentState.{name} of {self.modality} is {found}, but clean tokens [{batch}, {tokens}, {width}] require {expected}"
                )

    @property
    def batch_size(self) -> int:
        return int(self.clean.shape[0])

    @property
    def num_target(self) -> int:
        """The number T of target tokens."""
        return self.grid.num_tokens

    @property
    def num_appended(self) -> int:
        """The number R of appended tokens."""
        return int(self.appended.shape[1])

    @property
    def is_weighted(self) -> bool:
        """Whether appended tokens and the target attend to each other with a weight below 1."""
        return any(group.strength < 1 for group in self.groups)

    @property
    def first_frame(self) -> Tensor:
        """Whether each token belongs to the first latent frame of the target, `[B, T + R]` bool. Appended tokens never
        do, whatever their position in time.

        Source: docs/explanation/arithmetic.md#marker-of-the-first-frame
        """
        import torch

        frame = torch.cat([self.grid.frame, torch.full((self.num_appended,), -1)]).to(self.clean.device)
        return (frame == 0).expand(self.batch_size, -1)

    def given(self, amount: Tensor, level: float = 0.0) -> LatentState:
        """Give target tokens. An `amount` of 1 gives a token entirely, 0 does not change it, and a value in between
        gives it partly.

        Args:
            amount: `[T]` or `[B, T]`, bool or values in [0, 1]. T is the number of target tokens, even after tokens
                have been appended.
            level: the noise level at which the tokens are given, in [0, 1), 0 for clean tokens. Above 0, tokens can only be given
                entirely or not at all.

        Raises:
            DataError: the amount has a different shape, or values outside [0, 1]; the level is not in [0, 1), or is above 0 for tokens that
                are given partly.

        Source: docs/explanation/arithmetic.md#given-tokens, #level-of-given-tokens
        """
        import torch

        if tuple(amount.shape) not in {(self.num_target,), (self.batch_size, self.num_target)}:
            raise DataError(
                f"a condition gives {list(amount.shape)} values, but the {self.modality} has [{self.batch_size}, {self.num_target}] target tokens",
                remedy="Return one value per target token, [T] or [B, T].",
            )
        amount = amount.to(device=self.denoise_mask.device, dtype=torch.float32)
        low, high = float(amount.min()), float(amount.max())
        if not (low >= 0.0 and high <= 1.0):  # written so that NaN fails too
            raise DataError(
                f"the values that a condition gives to the {self.modality} range from {low:g} to {high:g}",
                remedy="Amounts must lie between 0 (generated) and 1 (given).",
            )
        target = self.denoise_mask[:, : self.num_target] * (1.0 - amount)
        levels = self.levels
        if self._checked(level):
            if bool(((amount > 0) & (amount < 1)).any()):
                raise DataError(
                    f"a condition gives tokens of the {self.modality} partly, at a level of {level:g}",
                    remedy="Give tokens entirely, or without a level: a token that is given partly has a noise level already.",
                )
            here = levels[:, : self.num_target]
            levels = torch.cat([here.maximum(amount * level).expand_as(here), levels[:, self.num_target :]], dim=1)
        return attrs.evolve(self, denoise_mask=torch.cat([target, self.denoise_mask[:, self.num_target :]], dim=1), levels=levels)

    def append(self, tokens: Tensor, positions: Tensor, level: float = 0.0, strength: float = 1.0) -> LatentState:
        """Append given tokens that are not part of the target.

        Args:
            tokens: clean tokens, `[B, R, D]`.
            positions: the start and end of each token, `[B, P, R, 2]`, in the units of `LatentState.positions`.
            level: the noise level at which the tokens are given, in [0, 1), 0 for clean tokens.
            strength: the weight with which these tokens and the target attend to each other, in (0, 1]. If it is below 1 for any appended
                tokens, those that were appended by different calls do not attend to each other.

        Raises:
            DataError: the shapes do not fit this state or each other, the level is not in [0, 1), or the strength is not in (0, 1].

        Source: docs/explanation/arithmetic.md#appended-tokens, #level-of-given-tokens, #strength-of-appended-tokens
        """
        import torch

        expected = (self.batch_size, self.positions.shape[1], tokens.shape[1], 2)
        if tokens.ndim != 3 or (tokens.shape[0], tokens.shape[2]) != (self.batch_size, self.clean.shape[2]) or positions.shape != expected:
            raise DataError(
                f"a condition appends tokens {list(tokens.shape)} with positions {list(positions.shape)} to {self.modality} tokens {list(self.clean.shape)}",
                remedy=f"Tokens must be [B, R, {self.clean.shape[2]}] and positions [B, {self.positions.shape[1]}, R, 2].",
            )
        if not 0.0 < strength <= 1.0:  # written so that NaN fails too
            raise DataError(
                f"a condition appends tokens to the {self.modality} with a strength of {strength:g}",
                remedy="A strength must be above 0 and at most 1.",
            )
        return attrs.evolve(
            self,
            appended=torch.cat([self.appended, tokens.to(self.clean)], dim=1),
            positions=torch.cat([self.positions, positions.to(self.positions)], dim=2),
            denoise_mask=torch.cat([self.denoise_mask, self.denoise_mask.new_zeros(tokens.shape[:2])], dim=1),
            levels=torch.cat([self.levels, self.levels.new_full(tokens.shape[:2], self._checked(level))], dim=1),
            groups=(*self.groups, Group(int(tokens.shape[1]), strength)),
        )

    def _checked(self, level: float) -> float:
        if not 0.0 <= level < 1.0:  # written so that NaN fails too
            raise DataError(
                f"a condition gives tokens of the {self.modality} at a level of {level:g}",
                remedy="A level must be at least 0 (clean) and below 1 (noise).",
            )
        return level

    def tokens(self) -> Tensor:
        """Return the clean target tokens followed by the appended ones, `[B, T + R, D]`."""
        import torch

        return torch.cat([self.clean, self.appended], dim=1)
