"""The pretended device itself refuses what a GPU refuses, and counts what a program waits for."""

from __future__ import annotations

from pathlib import Path

from pretended.asked import Check, answers


def test_the_pretended_device_refuses_mixed_devices_and_counts_reads_and_copies(libraries: Path) -> None:
    found = answers({"": Check("pretended.itself:all_of_it")}, libraries)[""]
    assert found == {
        "device": "cuda:0",
        "result": [2.0, 4.0],
        "gradient": [2.0, 2.0],
        "mixed": "MixedDevices",
        "indexed": "MixedDevices",
        "generator": "MixedDevices",
        "numpy": "TypeError",
        "unwaited copy": "MixedDevices",
        "single number": [3.0, 4.0],
        "reads": {"item": 1, "tolist": 1, "bool": 1, "nonzero": 1, "by mask": 1, "cpu": 1},
        "copies up that wait": {"plain": 1, "pinned": 0, "pinned, but waited for": 1},
        "held": {"while alive": 1, "let go": 1, "waited for": 0},
    }
