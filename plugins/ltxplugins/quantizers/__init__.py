"""The quantizers that come with ltx. Each quantizer uses only the public API, and imports other packages only when it
stores a matrix.
"""

from ltxcore.api import hookimpl
from ltxplugins.quantizers.low_precision import FP8Matmul, Int8Matmul
from ltxplugins.quantizers.nf4 import NF4
from ltxplugins.quantizers.rows import FP8, FP8UZ, Int8


class Int8Quanto(Int8):
    """The quantizer `int8`, under its name in older run files."""

    deprecated = True


class FP8Quanto(FP8):
    """The quantizer `fp8`, under its name in older run files."""

    deprecated = True


class FP8UZQuanto(FP8UZ):
    """The quantizer `fp8uz`, under its name in older run files."""

    deprecated = True


@hookimpl
def ltx_quantizers() -> dict[str, type]:
    return {
        "int8": Int8,
        "fp8": FP8,
        "fp8uz": FP8UZ,
        "nf4": NF4,
        "int8-matmul": Int8Matmul,
        "fp8-matmul": FP8Matmul,
        "int8-quanto": Int8Quanto,
        "fp8-quanto": FP8Quanto,
        "fp8uz-quanto": FP8UZQuanto,
    }
