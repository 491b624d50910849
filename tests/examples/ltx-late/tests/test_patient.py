"""The optimizer of this package keeps to the protocol."""

import pytest
from ltx_late.plugin import Patient

from ltxcore.testing import check_imports_lightly, check_optimizer


@pytest.mark.parametrize("wait", [1, 12])
def test_patient_keeps_to_the_protocol(wait: int) -> None:
    check_optimizer(Patient(wait))


def test_the_plugin_costs_other_commands_nothing() -> None:
    check_imports_lightly("ltx_late.plugin")
