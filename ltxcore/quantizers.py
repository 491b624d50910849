"""The protocol of quantizers, which store frozen matrices in fewer bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch.nn import Linear


class QuantizerType(Protocol):
    """The type that the hook `ltx_quantizers` registers: an attrs class whose fields are the keys of
    `[acceleration.quantization_params]`.

    The core chooses the matrices that are quantized, and calls `store` for each as soon as it is read, on the device where
    it computes. The class may also declare, as class attributes:

    - `needs`: the packages that it imports when it stores, by the name that Python imports, each with the command that
      installs it.
    - `restoring_bytes`: the most bytes per weight that restoring a matrix to bfloat16 takes at once, for `ltx plan`. By default
      8: two copies in float32.
    - `low_precision`: True if it multiplies by the stored matrix itself, with activations in low precision too. By default a
      matrix is restored, and activations keep their precision.
    """

    error: float
    """The largest relative error of a restored matrix of normally distributed weights: the norm of the difference, divided by the norm."""

    def store(self, linear: Linear) -> Linear:
        """Return a frozen layer in place of `linear`, made by `ltxcore.api.quantizers.quantized_linear`; `linear.weight`
        is not changed.

        For a layer on the meta device it returns one on the meta device, of the same shapes, from which `ltx plan` counts.
        """
        ...

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a stored matrix `[out, in]` with its factors.

        Raises:
            ValueError: a matrix of this shape cannot be stored; the error says why.
        """
        ...
