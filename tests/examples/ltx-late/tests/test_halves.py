"""The schedule of this package keeps to the protocol."""

import pytest
from ltx_late.plugin import Halves

from ltxcore.testing import check_schedule


@pytest.mark.parametrize("times", [1, 5])
def test_halves_keeps_to_the_protocol(times: int) -> None:
    check_schedule(Halves(times))
