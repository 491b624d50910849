"""Functions with which authors of plugins test a condition, a strategy, an objective, an adapter, an optimizer, a schedule, a quantizer, a
source, a column or an exporter before anyone else uses the plugin.

    from ltxcore.testing import check_condition

    def test_checkerboard() -> None:
        check_condition(Checkerboard())

Each function raises one AssertionError with all faults that it finds, or returns silently if it finds none.
"""

from __future__ import annotations

import subprocess
import sys

from ltxcore.testing.check_adapter import check_adapter
from ltxcore.testing.check_column import check_column
from ltxcore.testing.check_condition import check_condition
from ltxcore.testing.check_exporter import check_exporter
from ltxcore.testing.check_objective import check_objective
from ltxcore.testing.check_optimizer import check_optimizer
from ltxcore.testing.check_quantizer import check_quantizer
from ltxcore.testing.check_schedule import check_schedule
from ltxcore.testing.check_source import check_source
from ltxcore.testing.check_strategy import check_strategy

__all__ = [
    "check_adapter",
    "check_column",
    "check_condition",
    "check_exporter",
    "check_imports_lightly",
    "check_objective",
    "check_optimizer",
    "check_quantizer",
    "check_schedule",
    "check_source",
    "check_strategy",
]

HEAVY = ("torch", "numpy", "diffusers", "transformers", "peft", "deepspeed", "av")

CODE = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            sys.exit(name.partition(".")[0])
sys.meta_path.insert(0, Refuse())
importlib.import_module({module!r})
"""


def check_imports_lightly(module: str) -> None:
    """Check that a plugin's module imports nothing heavy: every `ltx` command, even `ltx --help`, imports all plugins.

    Args:
        module: the name of the module in the entry point, such as "my_package.my_module".

    Raises:
        AssertionError: the module imports something heavy, which the error names.
    """
    code = CODE.format(heavy=HEAVY, module=module)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        said = (found.stderr.strip() or f"it ends Python with the exit status {found.returncode}").splitlines()[-1]
        what = (
            f"imports {said} when it is imported; import that only in the function that needs it"
            if said in HEAVY
            else f"cannot be imported: {said}"
        )
        raise AssertionError(f"{module} {what}")
