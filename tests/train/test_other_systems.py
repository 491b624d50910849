"""A run of one process asks for nothing that only Linux has, and for no DeepSpeed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from helpers.training_runs import sound_set, tables, write_run

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "helpers" / "as_on_windows.py"

WITHOUT_ENCODING = re.compile(r"\.read_text\(\)|\.write_text\((?!.*encoding=)|\.open\((?:\"[raxw]\+?\")?\)")
"""A text file whose encoding would be that of the system: UTF-8 on Linux, that of the country on Windows."""


def test_a_run_trains_without_deepspeed_and_without_what_windows_does_not_have(tmp_path: Path) -> None:
    run = write_run(tmp_path, tables(sound_set(tmp_path / "data", 6), tmp_path / "out", optimization={"steps": 2}))
    done = subprocess.run([sys.executable, str(PROGRAM), "run", str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "lora.safetensors").is_file()
    assert (tmp_path / "out" / "report.html").is_file()


def test_every_text_file_is_opened_with_its_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("ltxcore", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if WITHOUT_ENCODING.search(line)
    ]
    assert found == []
