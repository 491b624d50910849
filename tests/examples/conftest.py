"""The scripts in `examples/` can be imported: they make the tiny world, which the tiny codecs are measured on."""

import sys
from pathlib import Path

collect_ignore_glob = ["ltx-*"]  # packages of strangers, whose tests run where they are installed

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
