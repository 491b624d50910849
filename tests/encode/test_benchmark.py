"""The benchmark runs, and says what it should; how fast this machine is, it says when it is run by hand."""

from __future__ import annotations

import pytest

from encode.benchmark import STAGES, measure, text


@pytest.mark.slow
def test_the_benchmark_reports_both_speeds_and_where_the_time_goes() -> None:
    report = measure(8, different=2, frames=17, bucket="640x352x17", parts=2)
    assert report["clips"] == 8
    assert set(report["stages"]) == {*STAGES, "other"}
    assert all(report["stages"][stage] > 0 for stage in STAGES)
    assert report["stages"]["decode"] == max(report["stages"].values())
    # A generous bound, of processor time, which other work on the machine changes little.
    assert report["processor_ratio"] > 0.5
    lines = text(report).splitlines()
    assert lines[0] == f"8 clips of {report['megabits_per_second']:.1f} Mbit/s"
    assert [line.split()[0] for line in lines[3:10]] == [*STAGES, "other"]
    assert (lines[-1] == f"Below 80%: beside decoding, it is {report['costliest']} that costs most.") == (report["ratio"] < 0.8)
