"""The state that conditions work on: a modality's tokens, and how much of each is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ltxcore.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Grid:
    """The cells of a latent, in token order: frame, then row, then column.

    `frames` counts latent frames for video, and latent steps for audio, where `height` and `width` are 1. `scale` counts the pixel
    frames, pixel rows and pixel columns that a cell of video covers, or the mel frames that a step of audio covers: `(4, 1, 1)`.
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
        """The index in time of every token, `[T]` int64."""
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


@attrs.frozen(eq=False)
class LatentState:
    """The tokens of one modality in a batch, and how much of each is generated.

    T is the number of target tokens; R is the number of appended tokens, which is 0 at first. Appended tokens always
    come after the target.

    Attributes:
        modality: "video" or "audio".
        grid: the T cells of the target.
        rate: the frames per second of each sample's target, `[B]`.
        clean: clean target tokens, `[B, T, D]`; zeros where generation does not know them.
        positions: the start and end of every token, `[B, P, T + R, 2]`, in seconds; for video also in pixel rows and columns.
        denoise_mask: 1 for tokens to generate, 0 for given ones, and in between for a soft mask, `[B, T + R]` float32.
        appended: the appended tokens, `[B, R, D]`.
    """

    modality: str
    grid: Grid
    rate: Tensor
    clean: Tensor
    positions: Tensor
    denoise_mask: Tensor
    appended: Tensor

    @classmethod
    def start(cls, modality: str, grid: Grid, rate: Tensor, clean: Tensor, positions: Tensor) -> LatentState:
        """Return a state in which all of `clean` `[B, T, D]` is to be generated and nothing is appended."""
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
    def first_frame(self) -> Tensor:
        """Whether each token belongs to the target's first latent frame, `[B, T + R]` bool; appended tokens never do,
        whatever their time.

        Source: docs/explanation/arithmetic.md#marker-of-the-first-frame
        """
        import torch

        frame = torch.cat([self.grid.frame, torch.full((self.num_appended,), -1)]).to(self.clean.device)
        return (frame == 0).expand(self.batch_size, -1)

    def given(self, amount: Tensor) -> LatentState:
        """Give target tokens: an `amount` of 1 makes a token known and clean, 0 leaves it as it is, and a value in
        between gives it in part.

        Args:
            amount: `[T]` or `[B, T]`, bool or values in [0, 1]; T is the number of target tokens, even after an append.

        Raises:
            DataError: the amount has another shape, or values outside [0, 1].

        Source: docs/explanation/arithmetic.md#given-tokens
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
                f"a condition gives values from {low:g} to {high:g} to the {self.modality}",
                remedy="Amounts must lie between 0 (generated) and 1 (given).",
            )
        target = self.denoise_mask[:, : self.num_target] * (1.0 - amount)
        return attrs.evolve(self, denoise_mask=torch.cat([target, self.denoise_mask[:, self.num_target :]], dim=1))

    def append(self, tokens: Tensor, positions: Tensor) -> LatentState:
        """Append given tokens that are not part of the target.

        Args:
            tokens: clean tokens, `[B, R, D]`.
            positions: their start and end, `[B, P, R, 2]`, in the units of `LatentState.positions`.

        Raises:
            DataError: the shapes do not fit this state or each other.

        Source: docs/explanation/arithmetic.md#appended-tokens
        """
        import torch

        expected = (self.batch_size, self.positions.shape[1], tokens.shape[1], 2)
        if tokens.ndim != 3 or (tokens.shape[0], tokens.shape[2]) != (self.batch_size, self.clean.shape[2]) or positions.shape != expected:
            raise DataError(
                f"a condition appends tokens {list(tokens.shape)} with positions {list(positions.shape)} to {self.modality} tokens {list(self.clean.shape)}",
                remedy=f"Tokens must be [B, R, {self.clean.shape[2]}] and positions [B, {self.positions.shape[1]}, R, 2].",
            )
        return attrs.evolve(
            self,
            appended=torch.cat([self.appended, tokens.to(self.clean)], dim=1),
            positions=torch.cat([self.positions, positions.to(self.positions)], dim=2),
            denoise_mask=torch.cat([self.denoise_mask, self.denoise_mask.new_zeros(tokens.shape[:2])], dim=1),
        )

    def tokens(self) -> Tensor:
        """Return the clean target tokens followed by the appended ones, `[B, T + R, D]`."""
        import torch

        return torch.cat([self.clean, self.appended], dim=1)
