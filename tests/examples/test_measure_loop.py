"""What the training loop adds to a bare step, counted in operators: a busy machine cannot change it."""

from __future__ import annotations

from pathlib import Path

import measure_loop
import pytest
from measure_loop import calls, loop_of, tiny, write_set


def test_the_loop_calls_few_operators_beside_those_of_a_bare_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_loop, "LATENTS", {"latents": (128, 3, 2, 2), "audio_latents": (8, 8, 16)})
    backbone, widths = tiny()
    write_set(tmp_path, widths)
    ahead, inline = (calls(loop_of(each, tmp_path, workers)) for each, workers in ((backbone, 1), (tiny()[0], 0)))
    assert ahead[1] == inline[1] > 1_000
    assert ahead[0] - ahead[1] < 60
    assert inline[0] > ahead[0], "what threads make ahead, the thread that trains would call"
