"""The scripts in `examples/` can be imported: one measures the constants of the tiny codecs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
