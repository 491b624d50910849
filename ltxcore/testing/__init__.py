"""For authors of plugins: try a condition or a strategy before anyone else does.

    from ltxcore.testing import check_condition

    def test_checkerboard() -> None:
        check_condition(Checkerboard())

Each function says all that is wrong in one AssertionError, and nothing if all is well.
"""

from ltxcore.testing.check_condition import check_condition
from ltxcore.testing.check_strategy import check_strategy
from ltxcore.testing.imports import check_imports_lightly

__all__ = ["check_condition", "check_imports_lightly", "check_strategy"]
