"""The exporter of this package keeps to the protocol."""

from ltx_late.plugin import Scaled

from ltxcore.testing import check_exporter


def test_scaled_keeps_to_the_protocol() -> None:
    check_exporter(Scaled())
