"""The objective of this package keeps to the protocol."""

import pytest
from ltx_late.plugin import Consistent

from ltxcore.testing import check_objective


@pytest.mark.parametrize("sharply", [1.0, 2.0])
def test_the_objective_keeps_to_the_protocol(sharply: float) -> None:
    check_objective(Consistent(sharply))
