"""The protocol of quantizers, which store frozen matrices in fewer bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch.nn import Linear


class QuantizerType(Protocol):
    """The type that the hook `ltx_quantizers` registers: an attrs class whose fields are the keys of
    `[acceleration.quantization_params]`.

    The core chooses the matrices to quantize. It calls `store` for each matrix as soon as it is read, on the device
    that will compute with it. The class may also declare, as class attributes:

    - `needs`: the packages that `store` imports, by their names in Python, each with the command that installs it.
    - `restoring_bytes`: the peak memory, in bytes per weight, of restoring a matrix to bfloat16; `ltx plan` uses this
      number. The default is 8, for two copies in float32.
    - `keeps`: the name of the dtype of 8-bit numbers, such as "float8_e4m3fn", that the class stores unchanged. For a
      matrix that a checkpoint stores so, `keep(linear, weight, scale)` is called instead of `store`: `weight`
      `[out, in]` are the numbers, `scale` `[out, 1]` are the float32 factors of the rows, and `linear.weight` is empty.
    - `low_precision`: True if the layer multiplies by the stored matrix itself, with activations in low precision too.
      By default, the matrix is restored first, and activations keep their precision.
    """

    error: float
    """The maximum relative error of a restored matrix of normally distributed weights: the norm of the difference,
    divided by the norm of the matrix.
    """

    def store(self, linear: Linear) -> Linear:
        """Return a frozen layer that replaces `linear`; make it with `ltxcore.api.quantizers.quantized_linear`. Do not
        change `linear.weight`.

        For a layer on the meta device, return a layer on the meta device, with the shapes that a stored layer has;
        `ltx plan` computes sizes from it.
        """
        ...

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the size in bytes of a stored matrix `[out, in]`, including its scale factors.

        Raises:
            ValueError: a matrix of this shape cannot be stored; the error says why.
        """
        ...
