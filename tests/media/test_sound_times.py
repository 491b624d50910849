"""Where sound lies in time: holes, overlaps, late starts and edit lists, in many containers and codecs.

Each click of a file must be heard at its time. FFmpeg's own filter, which closes no hole, hears it there too; and the files that version 0.1.0 read
otherwise, and no others, say so.
"""

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
import torch

from helpers.clicks_made import Change, changed, click_file, click_times, heard, read_as_before, read_by_ffmpeg, with_edits
from helpers.media_made import encode, gradient_clip, tone
from helpers.sampling import sampled
from ltxcore.media.probe import probe, read_sound, write_clip, write_sound
from ltxcore.media.sound_times import Stamped, placed
from ltxcore.media.sounds import Gap, hearing, read_with_gaps

KINDS = (
    *(("mp4", codec) for codec in ("aac", "libmp3lame", "flac", "libopus", "ac3")),
    *(("mov", codec) for codec in ("aac", "alac")),
    *(("mkv", codec) for codec in ("aac", "pcm_s16le", "flac", "libopus", "libmp3lame")),
    ("webm", "libopus"),
    ("flv", "aac"),
    *(("ts", codec) for codec in ("aac", "mp2", "ac3", "libopus")),
    *(("nut", codec) for codec in ("pcm_s16le", "aac")),
)
LOSSLESS = frozenset({"pcm_s16le", "flac", "alac"})
FRAMES = {"flac": 4608, "alac": 4096, "libmp3lame": 1152, "mp2": 1152, "ac3": 1536, "libopus": 960}
"""Samples in a packet; 1024 of all others."""

CHANGES: dict[str, Change] = {
    "whole": lambda at: 0.0,
    "lost packets": lambda at: None if 0.8 < at < 1.1 else 0.0,
    "one packet in four lost": lambda at: None if at > 0.3 and int(at * 100) % 40 < 10 else 0.0,
    "lost beginning": lambda at: None if at < 0.3 else 0.0,
    "2 ms": lambda at: 0.002 * (at > 1),
    "5 ms": lambda at: 0.005 * (at > 1),
    "37 ms": lambda at: 0.037 * (at > 1),
    "2 s": lambda at: 2.0 * (at > 1),
    "two gaps of 2 ms": lambda at: 0.002 * (at > 0.5) + 0.002 * (at > 1),
    "late start": lambda at: 0.25,
    "late start and a hole": lambda at: 0.1 + 0.3 * (at > 1),
    "overlap of 8 ms": lambda at: -0.008 * (at > 1),
    "a hole and an overlap": lambda at: 0.05 * (at > 0.7) - 0.01 * (at > 1.3),
}


def check_clicks(path: Path, codec: str, rate: int, change: Change) -> None:
    """Every click whose packet is there is heard at its time, and where FFmpeg hears it."""
    sound, by_ffmpeg = read_sound(path), read_by_ffmpeg(path)
    sample = Fraction(1, rate)
    tick = Fraction(1, 1000) if path.suffix in (".mkv", ".webm", ".flv") else sample
    # After lost packets the time is known exactly. Of what is stamped again no more is known than the tick says; nor of a late start, which MP4 and MOV
    # give in milliseconds too.
    is_stamped_later = any(change(at / 100) not in (None, 0.0) for at in range(200))
    is_rounded = (tick > sample and is_stamped_later) or (change(0.0) != 0.0 and path.suffix in (".mkv", ".webm", ".flv", ".mp4", ".mov"))
    slack = float(sample) + 0.001 * is_rounded if codec in LOSSLESS else 0.002
    frame = FRAMES.get(codec, 1024) / rate
    # A packet that is gone takes with it what the codec mixes into its neighbours: much in MP3, which puts bits of one into others.
    blur = 0.0 if codec in LOSSLESS else 3 * frame if codec == "libmp3lame" else frame
    found = 0
    for at in map(float, click_times(2.0)):
        near = {change(at + part / 10 * (frame / 2 + 0.01 + blur)) for part in range(-10, 11)}
        if len(near) > 1 or None in near:
            continue  # its packet, or one that the codec mixes it with, may be the one that is gone
        expected = at + float(next(iter(near)) or 0.0)
        when, level = heard(sound, expected)
        assert level > 0.25, f"no click at {expected:.3f} s"
        assert abs(when - expected) <= slack + 1e-9, f"{1000 * (when - expected):+.3f} ms at {expected:.3f} s"
        assert abs(heard(by_ffmpeg, expected)[0] - when) <= tick + sample
        found += 1
    assert found >= 4


def check_correction(path: Path) -> None:
    """Whether the file is named as one that is read otherwise now is whether it is."""
    before, now = read_as_before(path), read_sound(path).samples
    assert bool(probe(path).sound_corrections) == (before.shape != now.shape or not torch.equal(before, now))


def check(folder: Path, container: str, codec: str, rate: int, name: str) -> None:
    change = CHANGES[name]
    source = click_file(folder / f"source.{container}", codec, 2.0, rate, frame=FRAMES.get(codec, 1024))
    path = changed(source, folder / f"changed.{container}", change)
    check_clicks(path, codec, rate, change)
    check_correction(path)
    if name == "whole":
        assert probe(path).sound_corrections == ()


CASES = sampled([(*kind, name) for kind in KINDS for name in CHANGES], 8, lambda case: {*case})


@pytest.mark.parametrize(("container", "codec", "name"), CASES)
def test_each_click_is_heard_at_its_time(tmp_path: Path, container: str, codec: str, name: str) -> None:
    # Every other one at a rate whose frames are no whole number of milliseconds, and of ticks of MPEG-TS.
    is_odd = (KINDS.index((container, codec)) + list(CHANGES).index(name)) % 2 == 1
    check(tmp_path, container, codec, 44_100 if is_odd and codec != "libopus" else 48_000, name)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts"])
def test_times_count_from_the_first_picture(tmp_path: Path, ending: str) -> None:
    codec = "aac"
    path = click_file(tmp_path / f"a.{ending}", codec, pictures=0.4)
    sound = read_sound(path)
    for at in click_times(2.0)[6:]:
        assert heard(sound, float(at) - 0.4)[0] == pytest.approx(float(at) - 0.4, abs=0.002)
    assert probe(path).sound_corrections == ()


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_pictures_that_cannot_be_decoded_do_not_count_as_the_first(tmp_path: Path, ending: str) -> None:
    # Of a stream that was cut between two key pictures the first one that is shown is the second key picture, half a second (12 of 25) later.
    source = click_file(tmp_path / f"a.{ending}", "mp2", video="libx264")
    path = changed(source, tmp_path / f"b.{ending}", lambda at: 0.0, pictures=lambda at: None if at < 0.1 else 0.0)
    later = float(next(each for each in _shown(path)) - next(each for each in _shown(source)))
    assert later == pytest.approx(12 / 25, abs=0.001)
    sound = read_sound(path)
    for at in click_times(2.0)[6:]:
        assert heard(sound, float(at) - later)[0] == pytest.approx(float(at) - later, abs=0.002)
    assert probe(path).sound_corrections == ("sound_in_time",)


def _shown(path: Path) -> Iterator[Fraction]:
    with av.open(str(path)) as container:
        yield from (frame.pts * frame.time_base for frame in container.decode(video=0))


PRIMING = 1024
"""Samples that FFmpeg's AAC encoder puts before the first one."""

EDITS: dict[str, tuple[Sequence[tuple[float, int]], Sequence[tuple[float, float]]]] = {
    "more priming": ([(1.9, PRIMING + 4800)], [(at, at - 0.1) for at in (0.25, 0.95, 1.85)]),
    "priming of another encoder": ([(1.9, 2112)], [(at, at - (2112 - PRIMING) / 48_000) for at in (0.25, 0.95, 1.85)]),
    "late start": ([(0.5, -1), (1.5, PRIMING)], [(at, at + 0.5) for at in (0.05, 0.95, 1.45)]),
    "cut in the middle": (
        [(0.6, PRIMING), (0.8, 57 * 1024)],
        [(0.45, 0.45), (0.55, 0.55), (1.35, 0.6 + 1.35 - 56 * 1024 / 48_000), (1.85, 1.255333)],
    ),
    "a hole": ([(0.6, PRIMING), (0.4, -1), (0.8, 29 * 1024)], [(0.45, 0.45), (0.75, 1.0 + 0.75 - 28 * 1024 / 48_000), (1.25, 1.652667)]),
}
"""Edits of the sound, and for some clicks when they are in the medium and when they are heard. Of an edit in the middle that starts within a packet
FFmpeg leaves that packet out, and puts the next one in its place; so they start with packets here."""


@pytest.mark.parametrize("name", EDITS)
def test_edit_lists_are_obeyed(tmp_path: Path, name: str) -> None:
    edits, times = EDITS[name]
    path = with_edits(click_file(tmp_path / "a.mp4", "aac"), tmp_path / "b.mp4", edits)
    sound, by_ffmpeg = read_sound(path), read_by_ffmpeg(path)
    for _, at in times:
        assert heard(sound, at)[0] == pytest.approx(at, abs=0.002)
        assert heard(sound, at)[1] > 0.25
        assert heard(by_ffmpeg, at)[0] == pytest.approx(heard(sound, at)[0], abs=1 / 48_000)
    check_correction(path)


def test_plain_files_are_read_as_they_were(tmp_path: Path) -> None:
    made = [
        encode(tmp_path / "a.mp4", gradient_clip(24), tone(rate=48_000)),
        encode(tmp_path / "b.mov", gradient_clip(24), tone(rate=44_100, channels=2)),
        encode(tmp_path / "c.mkv", gradient_clip(24), tone(rate=44_100)),
        encode(tmp_path / "d.webm", gradient_clip(24), tone(rate=48_000), pictures="libvpx", codec="libopus"),
        encode(tmp_path / "e.ts", gradient_clip(24), tone(rate=44_100)),
        encode(tmp_path / "f.avi", gradient_clip(24), tone(rate=44_100), codec="libmp3lame"),
        encode(tmp_path / "g.mp4", gradient_clip(24), tone(rate=48_000), late=0.25),
        *(encode(tmp_path / f"h.{kind}", sound=tone(rate=44_100), codec=kind) for kind in ("flac", "aac")),
        encode(tmp_path / "i.mp3", sound=tone(rate=44_100), codec="libmp3lame"),
        encode(tmp_path / "j.ogg", sound=tone(rate=48_000), codec="libopus"),
        encode(tmp_path / "k.m4a", sound=tone(rate=44_100)),
    ]
    write_clip(tmp_path / "l.mp4", gradient_clip(25), tone(25 / 24))
    write_sound(tmp_path / "m.wav", tone())
    for path in (*made, tmp_path / "l.mp4", tmp_path / "m.wav"):
        assert torch.equal(read_sound(path).samples, read_as_before(path)), path.name
        assert probe(path).sound_corrections == (), path.name


def test_as_many_seconds_are_read_as_are_asked_for_holes_among_them(tmp_path: Path) -> None:
    path = changed(click_file(tmp_path / "a.mkv", "pcm_s16le"), tmp_path / "b.mkv", lambda at: None if 0.8 < at < 1.1 else 0.0)
    whole = read_sound(path)
    for seconds in (0.5, 0.9, 1.0, 1.5, 9.0):
        part = read_sound(path, max_duration=seconds)
        assert part.samples.shape[1] == min(round(seconds * 48_000), 96_000)
        assert torch.equal(part.samples, whole.samples[:, : part.samples.shape[1]])


def test_a_sound_in_pieces_is_the_whole_sound(tmp_path: Path) -> None:
    path = changed(click_file(tmp_path / "a.mp4", "aac"), tmp_path / "b.mp4", lambda at: 2.5 * (at > 1))
    with hearing(path) as pieces:
        assert torch.equal(torch.cat([piece.samples for piece in pieces], dim=1), read_sound(path).samples)


def test_holes_and_overlaps_are_told(tmp_path: Path) -> None:
    source = click_file(tmp_path / "a.nut", "pcm_s16le", frame=960)
    path = changed(source, tmp_path / "b.nut", lambda at: 0.25 * (at > 0.6) - 0.01 * (at > 1.2))
    assert read_with_gaps(path)[1] == (Gap(0.6, 0.25), Gap(1.45, -0.01))
    assert read_with_gaps(path, max_duration=0.5)[1] == ()
    assert read_with_gaps(source)[1] == ()


def starts(stamps: Sequence[Fraction | None], length: int, rate: int, tick: Fraction) -> list[int]:
    """Where frames of one length lie whose stamps, in samples, are these."""
    return [each.start for each in placed(iter([Stamped(None, length, stamp) for stamp in stamps]), rate, tick)]


def test_a_first_stamp_of_another_clock_makes_no_silence_without_end() -> None:
    late = [Fraction(10**9 + 1024 * number) for number in range(3)]
    assert starts(late, 1024, 48_000, Fraction(1)) == [0, 1024, 2048]
    minute = [Fraction(60 * 48_000 + 1024 * number) for number in range(2)]
    assert starts(minute, 1024, 48_000, Fraction(1)) == minute


def in_ticks(times: Sequence[Fraction], tick: Fraction) -> list[Fraction]:
    return [round(time / tick) * tick for time in times]


@pytest.mark.parametrize(("length", "rate"), [(1024, 44_100), (1024, 48_000), (1152, 22_050), (960, 48_000)])
def test_stamps_in_milliseconds_neither_tear_a_sound_apart_nor_make_it_drift(length: int, rate: int) -> None:
    true = [Fraction(length * number) for number in range(20_000)]
    assert starts(in_ticks(true, Fraction(rate, 1000)), length, rate, Fraction(rate, 1000)) == true


def test_laces_that_are_rounded_twice_do_not_either() -> None:
    # Eight frames of 21 1/3 ms in a block that says 170 ms and stamps its own beginning alone.
    stamps = [Fraction(48 * (round(Fraction(512, 3) * (n // 8)) + 170 * (n % 8) // 8)) for n in range(4000)]
    assert starts(stamps, 1024, 48_000, Fraction(48)) == [1024 * n for n in range(4000)]


def test_a_recorder_that_stamps_unsteadily_within_a_millisecond_does_not_either() -> None:
    unsteady = random.Random(0)
    stamps = [Fraction(1024 * n + unsteady.randint(-10, 10)) for n in range(4000)]
    found = starts(stamps, 1024, 48_000, Fraction(1))
    assert sum(after - before != 1024 for before, after in pairwise(found)) <= 2
    assert max(abs(start - stamp) for start, stamp in zip(found, stamps, strict=True)) <= 48


@pytest.mark.parametrize("tick", [Fraction(1), Fraction(48)])
def test_a_clock_that_is_slower_than_the_samples_is_followed(tick: Fraction) -> None:
    true = [Fraction(1024 * n) * Fraction(10_001, 10_000) for n in range(30_000)]
    found = starts(in_ticks(true, tick), 1024, 48_000, tick)
    assert max(abs(start - time) for start, time in zip(found, true, strict=True)) <= max(48, 3 * tick) + 1
    assert found == sorted(found)


def test_a_step_of_less_than_a_millisecond_that_stays_is_taken() -> None:
    stamps = [Fraction(1024 * n + 24 * (n >= 100)) for n in range(200)]
    assert starts(stamps, 1024, 48_000, Fraction(1)) == stamps


def test_frames_without_a_stamp_follow_the_one_before() -> None:
    assert starts([Fraction(100), None, None, Fraction(100 + 5 * 1024)], 1024, 48_000, Fraction(1)) == [100, 1124, 2148, 5220]
    assert starts([None, None], 1024, 48_000, Fraction(1)) == [0, 1024]


@pytest.mark.parametrize("jump", [-60, -11, 7200])
def test_where_the_clock_is_set_anew_a_sound_goes_on(jump: int) -> None:
    stamps = [Fraction(1024 * n + 48_000 * jump * (n >= 10)) for n in range(20)]
    assert starts(stamps, 1024, 48_000, Fraction(1)) == [1024 * n for n in range(20)]


@pytest.mark.parametrize("jump", [-9, 3000])
def test_lesser_jumps_are_overlaps_and_holes(jump: int) -> None:
    stamps = [Fraction(48_000 * 20 + 1024 * n + 48_000 * jump * (n >= 10)) for n in range(20)]
    assert starts(stamps, 1024, 48_000, Fraction(1)) == stamps


def test_nothing_is_decoded_ahead_unless_a_stamp_is_in_doubt() -> None:
    asked = 0

    def frames() -> Iterator[Stamped]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield Stamped(None, 1024, Fraction(1024 * number + 4800 * (number > 5)))

    found = placed(frames(), 48_000, Fraction(1))
    for count in range(1, 20):
        next(found)
        assert asked == count
