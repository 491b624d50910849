"""The adapter of this package keeps to the protocol."""

import pytest
from ltx_late.plugin import Gain

from ltxcore.testing import check_adapter


@pytest.mark.parametrize("most", [0.5, 2.0])
def test_gain_keeps_to_the_protocol(most: float) -> None:
    check_adapter(Gain(most))
