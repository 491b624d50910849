"""The scripts in `examples/` can be imported: they make the tiny world, which the tiny codecs are measured on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
