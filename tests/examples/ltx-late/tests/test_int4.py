"""The quantizer of this package keeps to the protocol."""

import pytest
from ltx_late.plugin import Int4

from ltxcore.testing import check_quantizer


@pytest.mark.parametrize("block", [16, 64])
def test_int4_keeps_to_the_protocol(block: int) -> None:
    check_quantizer(Int4(block))
