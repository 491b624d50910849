"""What the training loop adds to a bare step, counted in operators and in calls of functions: a busy machine cannot change them."""

from __future__ import annotations

from pathlib import Path

import measure_loop
import pytest
from measure_loop import calls, functions, loop_of, tiny, write_set

SMALL = {"latents": (128, 3, 2, 2), "audio_latents": (8, 8, 16)}


def test_the_loop_calls_few_operators_beside_those_of_a_bare_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_loop, "LATENTS", SMALL)
    backbone, widths = tiny()
    write_set(tmp_path, widths)
    ahead, inline = (calls(loop_of(each, tmp_path, workers)) for each, workers in ((backbone, 1), (tiny()[0], 0)))
    assert ahead[1] == inline[1] > 1_000
    assert ahead[0] - ahead[1] < 54
    assert inline[0] > ahead[0], "what threads make ahead, the thread that trains would call"


def test_the_loop_calls_few_functions_beside_those_of_a_bare_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_loop, "LATENTS", SMALL)
    backbone, widths = tiny()
    write_set(tmp_path, widths)
    own, bare = functions(loop_of(backbone, tmp_path, 1))
    assert bare > 10_000
    assert own - bare < 900
