"""Which frames a clip shows, and when: counted, whatever its container tells."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from helpers.media_made import cut_without_encoding, encode, gradient_clip, number_of, timed_clip
from ltxcore.media.probe import frame_seconds, probe, read_clip
from ltxcore.media.times import Times, Timing, Uneven, exact_rate, shown_frames

FILM = Fraction(24000, 1001)
SECOND_IN_MS = Fraction(1, 1000)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_a_cut_without_encoding_has_the_frames_that_its_edit_list_shows(tmp_path: Path, name: str) -> None:
    path = cut_without_encoding(timed_clip(tmp_path / "whole.mp4", range(72), 1 / FILM, rate=float(FILM)), tmp_path / name, 0.72)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 72  # what its table says
    clip, info = read_clip(path), probe(path)
    assert [number_of(frame) for frame in clip.frames] == list(range(18, 72))
    assert (info.frames, info.rate, info.uneven, info.picture_corrections) == (54, FILM, None, ())
    assert frame_seconds(path, 2) == [0, pytest.approx(float(1 / FILM))]


def test_the_rate_of_a_cut_is_that_of_the_part_that_is_left(tmp_path: Path) -> None:
    ticks = [*range(0, 48), *range(48, 144, 2)]  # a second at 48 frames, then two at 24
    path = cut_without_encoding(timed_clip(tmp_path / "whole.mp4", ticks, Fraction(1, 48)), tmp_path / "a.mp4", 1.0)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate < 30
    info = probe(path)
    assert (info.frames, info.rate, info.uneven, info.picture_corrections) == (48, 24, None, ("shown_rate",))
    assert read_clip(path).rate == 24.0


def test_empty_frames_of_an_avi_are_not_counted(tmp_path: Path) -> None:
    ticks = [*range(8), *range(9, 18)]
    path = timed_clip(tmp_path / "a.avi", ticks, Fraction(1, 24), pictures="mpeg4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 18
    assert (probe(path).frames, probe(path).rate) == (17, 24)
    assert read_clip(path).frames.shape[0] == 17


def test_an_avi_with_an_empty_frame_after_each_has_half_the_rate(tmp_path: Path) -> None:
    path = timed_clip(tmp_path / "a.avi", range(0, 40, 2), Fraction(1, 30), pictures="mpeg4", rate=30)
    info = probe(path)
    assert (info.frames, info.rate, info.uneven, info.picture_corrections) == (20, 15, None, ("shown_rate",))


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_frames_that_refer_to_what_was_cut_away_are_not_counted(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / "whole.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=24, options={"bf": "2", "g": "12"})
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for picture in gradient_clip(36, 64, 64).frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "whole.ts")) as source, av.open(str(tmp_path / name), "w") as target:
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        second = [index for index, packet in enumerate(packets) if packet.is_keyframe][1]
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in packets[second:]:
            packet.stream = copied
            target.mux(packet)
    shown = read_clip(tmp_path / name).frames.shape[0]
    assert shown < len(packets) - second
    assert probe(tmp_path / name).frames == shown


def test_frames_that_are_only_there_to_predict_others_from_are_not_counted(tmp_path: Path) -> None:
    encode(tmp_path / "whole.webm", gradient_clip(25), pictures="libvpx")
    with av.open(str(tmp_path / "whole.webm")) as source, av.open(str(tmp_path / "a.webm"), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            if index == 9:  # once more, as a frame that is not shown
                hidden = av.Packet(bytes([bytes(packet)[0] & ~16]) + bytes(packet)[1:])
                hidden.pts, hidden.dts, hidden.time_base, hidden.stream = packet.pts - 20, packet.dts - 20, packet.time_base, copied
                target.mux(hidden)
            packet.stream = copied
            target.mux(packet)
    with av.open(str(tmp_path / "a.webm")) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 26
    assert probe(tmp_path / "a.webm").frames == read_clip(tmp_path / "a.webm").frames.shape[0] == 25


KINDS = (
    ("a.mp4", "libx264"),
    ("a.mov", "mjpeg"),
    ("a.mp4", "libx265"),
    ("a.mkv", "libx264"),
    ("a.mkv", "ffv1"),
    ("a.webm", "libvpx-vp9"),
    ("a.ts", "libx264"),
    ("a.ts", "mpeg2video"),
    ("a.avi", "mpeg4"),
    ("a.avi", "libx264"),
    ("a.nut", "libx264"),
    ("a.wmv", "wmv2"),
    ("a.mxf", "mpeg2video"),
)


@pytest.mark.parametrize(("name", "pictures"), KINDS)
def test_what_is_told_of_a_clip_is_what_decoding_gives(tmp_path: Path, name: str, pictures: str) -> None:
    path = encode(
        tmp_path / name, gradient_clip(25, 64, 64, rate=25.0), pictures=pictures, pixels="yuvj420p" if pictures == "mjpeg" else "yuv420p"
    )
    info = probe(path)
    assert (info.frames, info.rate, info.uneven, info.picture_corrections) == (25, 25, None, ())
    assert read_clip(path).frames.shape[0] == 25


@pytest.mark.parametrize(("name", "pictures"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "ffv1")])
@pytest.mark.parametrize(
    ("ticks", "steady", "resampled"),
    [
        ([*range(15), *range(15, 105, 4)], 16, (Fraction(15, 2), 27)),  # most frames are long
        ([*range(0, 20, 4), *range(20, 50)], 6, (Fraction(30), 50)),  # most are short
        ([*range(9), *range(11, 30)], 9, (Fraction(30), 30)),  # some are missing
    ],
)
def test_uneven_times_are_found_whether_most_frames_are_short_or_long(
    tmp_path: Path, name: str, pictures: str, ticks: list[int], steady: int, resampled: tuple[Fraction, int]
) -> None:
    path = timed_clip(tmp_path / name, ticks, Fraction(1, 30), pictures=pictures, rate=30)
    info = probe(path)
    assert info.uneven is not None
    assert (info.frames, info.uneven.frames, info.uneven.steady) == (len(ticks), len(ticks), steady)
    rate, frames = resampled
    assert info.uneven.resampled_rate == rate
    # The last frame lasts as its container says, or as most do.
    assert abs(info.uneven.resampled_frames - frames) <= 1


@pytest.mark.parametrize("rate", [24000 / 1001, 25, 30, 48, 60, 240])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_rounded_times_are_even(tmp_path: Path, name: str, rate: float) -> None:
    exact = Fraction(rate).limit_denominator(10_000)
    path = timed_clip(tmp_path / name, range(40), 1 / exact, rate=rate)
    info = probe(path)
    assert (info.rate, info.uneven, info.picture_corrections) == (exact, None, ())


def test_a_film_on_television_is_even() -> None:
    ticks = [0]
    for index in range(60):  # in turns two fields and three, in the milliseconds of Matroska
        ticks.append(ticks[-1] + (33 if index % 2 else 50))
    assert Times(tuple(ticks), ticks[-1] + 33, SECOND_IN_MS).steady == 61


@pytest.mark.parametrize(
    ("starts", "tick", "rate"),
    [
        ([round(index * 1000 / 30) for index in range(40)], SECOND_IN_MS, Fraction(30)),
        ([round(index * 1001 / 30) for index in range(80)], SECOND_IN_MS, Fraction(30000, 1001)),
        ([index * 3003 for index in range(40)], Fraction(1, 90_000), Fraction(30000, 1001)),
        ([index * 3750 for index in range(5)], Fraction(1, 90_000), Fraction(24)),
        (list(range(9)), Fraction(1, 22), Fraction(22)),
    ],
)
def test_the_rate_of_even_times_is_exact(starts: list[int], tick: Fraction, rate: Fraction) -> None:
    times = Times(tuple(starts), 2 * starts[-1] - starts[-2], tick)
    assert times.rate(None) == times.rate(Fraction(60_000)) == times.rate(rate) == rate


def test_a_rate_that_the_frames_do_not_have_is_not_believed(tmp_path: Path) -> None:
    path = timed_clip(tmp_path / "a.mkv", range(0, 60, 3), Fraction(1, 30), rate=30)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 30
    info = probe(path)
    assert (info.rate, info.duration, info.picture_corrections) == (10, 2.0, ("shown_rate",))
    assert read_clip(path).rate == 10.0


def test_an_uneven_clip_has_its_average_rate() -> None:
    times = Times((0, 1, 2, 6, 10, 14, 18), 22, Fraction(1, 30))
    assert times.rate(Fraction(30)) == times.rate(None) == Fraction(7 * 30, 22)


def test_one_hole_at_the_end_leaves_the_rate() -> None:
    times = Times((*range(40), 44), 45, Fraction(1, 24))
    assert (times.rate(Fraction(24)), times.steady) == (24, 40)


def test_at_a_constant_rate_each_time_has_the_frame_that_is_shown_then(tmp_path: Path) -> None:
    ticks = [*range(8), *range(8, 32, 4), *range(32, 40)]
    path = timed_clip(tmp_path / "a.mkv", ticks, Fraction(1, 30), rate=30)
    times = shown_frames(path)[0].times
    assert times is not None
    for rate in (Fraction(30), Fraction(15), Fraction(25), Fraction(24000, 1001)):
        found = read_clip(path, timing=Timing(rate, times.repeats(rate)))
        assert found.rate == float(rate)
        assert [number_of(frame) for frame in found.frames] == [
            number for number, count in enumerate(times.repeats(rate)) for _ in range(count)
        ]
        assert sum(times.repeats(rate)) == round(times.seconds * rate)
        shown = [number_of(frame) for frame in found.frames]
        for index, number in enumerate(shown):  # within half a frame of its own time
            start, end = (
                float((tick - times.starts[0]) * times.tick * rate)
                for tick in (times.starts[number], (*times.starts, times.end)[number + 1])
            )
            assert start - 0.5 <= index <= end + 0.5


def test_a_constant_rate_is_made_as_ffmpeg_makes_it(tmp_path: Path) -> None:
    ticks = [0, 3, 7, 8, 15, 16, 17, 25, 31, 32, 33, 40, 41, 42]
    path = timed_clip(tmp_path / "a.mp4", ticks, Fraction(1, 30), rate=30)
    times = shown_frames(path)[0].times
    assert times is not None
    for rate in (Fraction(30), Fraction(10), Fraction(24), Fraction(50)):
        ours = [number_of(frame) for frame in read_clip(path, timing=Timing(rate, times.repeats(rate))).frames]
        assert ours == _filtered(path, rate)


def _filtered(path: Path, rate: Fraction) -> list[int]:
    """Numbers of the frames that FFmpeg's filter `fps` gives."""
    import torch

    found = []
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        steps = [graph.add("fps", f"fps={rate}"), graph.add("buffersink")]
        for one, other in pairwise([source, *steps]):
            one.link_to(other)
        graph.configure()
        for frame in (*container.decode(video=0), None):
            source.push(frame)
            while True:
                try:
                    found.append(number_of(torch.from_numpy(steps[-1].pull().to_ndarray(format="rgb24"))))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return found


def test_what_becomes_of_uneven_times_is_told() -> None:
    assert Times((0, 1, 2, 4, 5), 6, Fraction(1, 24)).uneven == Uneven(5, 3, Fraction(24), 6)
    assert Times((0, 1, 2, 3, 4), 5, Fraction(1, 24)).uneven is None
    assert Times((0,), 1, Fraction(1, 24)).uneven is None


@pytest.mark.parametrize("whole", [12, 15, 24, 30, 48, 60, 120, 240])
@pytest.mark.parametrize("decimals", [2, 3, 5, 12])
def test_a_rate_of_television_that_was_rounded_is_the_fraction_that_is_meant(whole: int, decimals: int) -> None:
    meant = Fraction(whole * 1000, 1001)
    for rounded in (round(meant, decimals), float(round(meant, decimals)), float(meant), meant):
        assert exact_rate(rounded) == meant


@pytest.mark.parametrize("whole", [24, 30, 48, 60, 120])
def test_a_rate_by_the_microseconds_between_frames_is_the_fraction_that_is_meant(whole: int) -> None:
    meant = Fraction(whole * 1000, 1001)
    assert exact_rate(Fraction(1_000_000, round(1_000_000 / meant))) == meant


@pytest.mark.parametrize(
    "rate", [1, 12, 12.5, 15, 16, 23.9, 23.95, 24, 24.5, 25, 29.9, 29.96, 30, 48, 50, 59.9, 60, 90, 100, 120, 240, 999, 1001]
)
def test_any_other_rate_stays_what_it_is(rate: float) -> None:
    assert exact_rate(rate) == Fraction(str(rate))
    assert exact_rate(Fraction(str(rate))) == Fraction(str(rate))


def test_an_average_of_uneven_frames_is_not_taken_for_a_rate_that_it_is_near() -> None:
    assert exact_rate(Fraction(299_756, 10_000)) == Fraction(299_756, 10_000)


def test_a_rate_too_low_for_a_fraction_is_not_nothing() -> None:
    assert exact_rate(1e-6) > 0
