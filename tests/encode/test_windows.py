"""Several windows of a long clip: where they begin, what they hold, and what is encoded anew when others are asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.columns_made import Speed, options
from helpers.media_made import timed_clip
from helpers.raw_media import clip_file, dataset_file, encode, mask_file, message, sound_file, tone
from ltxcore.codecs.mel import RATE, resample
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.cut_sounds import read_cut
from ltxcore.encode.ledger import Summary
from ltxcore.encode.overview import lines, overview
from ltxcore.encode.pixels import read_fitted
from ltxcore.encode.preprocess import preprocess
from ltxcore.encode.windows import starts_of
from ltxcore.encoded.held_out import split
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import ConfigError, DataError
from ltxcore.media.probe import read_clip, read_sound
from ltxcore.media.sounds import read_with_gaps, write_sound
from ltxcore.progress import bars
from ltxcore.protocols import Manifest, Sound

BUCKETS = "64x64x9"
TINY = Codecs("tiny", device="cpu")


def made(summary: Summary) -> dict[str, tuple[int, int]]:
    return {folder: (counts.done, counts.reused) for folder, counts in summary.folders.items()}


def encoded(root: Path, folder: str, name: str, key: str) -> torch.Tensor:
    return load_file(root / folder / f"{name}.safetensors")[key]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 33 frames at 16 per second, with sound at 44,100 samples per second that rises in pitch."""
    path = tmp_path_factory.mktemp("long") / "sea.mp4"
    return clip_file(path, frames=33)


@pytest.mark.parametrize(
    ("windows", "frames", "expected"),
    [
        ("first", 33, [0]),
        ("stride:8", 33, [0, 8, 16, 24]),
        ("stride:8", 32, [0, 8, 16]),
        ("stride:100", 33, [0]),
        ("uniform:1", 33, [0]),
        ("uniform:3", 33, [0, 12, 24]),
        ("uniform:4", 20, [0, 3, 7, 11]),
        ("uniform:9", 11, [0, 1, 2]),
        ("uniform:9", 9, [0]),
    ],
)
def test_windows_begin_with_the_clip_and_end_within_it(windows: str, frames: int, expected: list[int]) -> None:
    assert list(starts_of(windows, frames, 9)) == expected


@pytest.mark.parametrize("start", [1, 8, 24])
def test_a_window_has_the_frames_of_its_clip_from_its_first_on(long_clip: Path, start: int) -> None:
    whole = read_clip(long_clip)
    part = read_clip(long_clip, start=start, max_frames=9)
    assert torch.equal(part.frames, whole.frames[start : start + 9])
    assert part.rate == whole.rate


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("start", [Fraction(1, 16), Fraction(3 * 1001, 30000) + 2, Fraction(7, 2)])
def test_the_sound_of_a_window_is_that_part_of_the_whole_sound(tmp_path: Path, rate: int, start: Fraction) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, Sound(torch.rand(1, 5 * rate, generator=torch.Generator().manual_seed(1)) - 0.5, rate))
    whole = read_sound(path)
    first = int(start * RATE)
    expected = resample(whole.samples, whole.rate, RATE)[:, first : first + RATE]
    cut = read_cut(path, Fraction(1), start=start)
    assert torch.equal(cut.sound.samples, expected)
    assert (cut.added, cut.holes) == (0, 0)


def test_a_window_after_the_end_of_its_sound_is_silent_and_says_so(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", seconds=2.5)
    assert (read_cut(path, Fraction(1), start=Fraction(2)).added, read_cut(path, Fraction(1), start=Fraction(4)).added) == (0.5, 1.0)
    late = read_cut(path, Fraction(1), start=Fraction(4)).sound.samples
    assert late.shape == (1, RATE)
    assert not late.any()
    assert read_with_gaps(path, skip=4)[0].samples.shape[1] == 0


@pytest.fixture
def folder(tmp_path: Path, long_clip: Path) -> Path:
    """A folder with a clip of 33 frames and one of 9."""
    clips = tmp_path / "clips"
    (clips / "beach").mkdir(parents=True)
    (clips / "beach/sea.mp4").write_bytes(long_clip.read_bytes())
    clip_file(clips / "a.mp4", frames=9, seed=1)
    for name in ("a", "beach/sea"):
        (clips / f"{name}.txt").write_text(name)
    return clips


WINDOWS = ("beach/sea@000012", "beach/sea@000024")


def test_each_window_is_a_sample_with_its_frames_and_sound_named_after_its_clip(folder: Path, long_clip: Path) -> None:
    summary = encode(folder, resolution_buckets=BUCKETS, windows="uniform:3")
    assert summary.samples == ("a", "beach/sea", *WINDOWS)
    assert summary.notes[-1] == f'{folder}: 2 clips become 4 windows (windows = "uniform:3")'
    for name, start in zip(("beach/sea", *WINDOWS), (0, 12, 24), strict=True):
        clip = read_fitted(long_clip, Bucket(64, 64, 33))
        part = attrs.evolve(clip, frames=clip.frames[start : start + 9])
        assert torch.equal(encoded(summary.root, "latents", name, "latents"), TINY.video().encode(part)), name
        sound = read_cut(long_clip, Fraction(9, 16), start=Fraction(start, 16)).sound
        assert torch.equal(encoded(summary.root, "audio_latents", name, "latents"), TINY.audio().encode(sound)), name
    texts = {(summary.root / f"conditions/{name}.safetensors").read_bytes() for name in ("beach/sea", *WINDOWS)}
    assert len({entry.fingerprint for name, entry in read_source(summary.root, "conditions").items() if name != "a"}) == len(texts) == 1


def test_a_window_never_has_the_name_of_another_clip(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", frames=17)
    clip_file(tmp_path / "a@000008.mp4", frames=17, seed=1)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": name, "caption": "a"} for name in ("a.mp4", "a@000008.mp4")])
    summary = encode(path, resolution_buckets=BUCKETS, windows="stride:8")
    origins = {name: entry.origin for name, entry in read_source(summary.root, "latents").items()}
    assert origins == {"a": "a.mp4", "a@@000008": "a.mp4", "a@000008": "a@000008.mp4", "a@000008@000008": "a@000008.mp4"}
    table = PreprocessingTable(resolution_buckets=BUCKETS, windows="stride:8")
    again = preprocess(path, None, table, TINY, only=["a@@000008", "a@000008"], progress=False)
    assert (again.samples, again.done) == (("a@000008", "a@@000008"), 0)


def test_windows_of_a_clip_are_held_out_together(folder: Path) -> None:
    root = encode(folder, resolution_buckets=BUCKETS, windows="uniform:3").root
    manifest = Manifest({"video": read_source(root, "latents")})
    assert {entry.origin for entry in manifest.entries["video"].values()} == {"a.mp4", "beach/sea.mp4"}
    found = split(manifest, 2)
    assert {*found.held_out} in ({"a"}, {"beach/sea", *WINDOWS})


def test_other_windows_encode_only_what_begins_elsewhere_and_tell_what_is_left_over(folder: Path) -> None:
    chosen: dict[str, Any] = {"resolution_buckets": BUCKETS}
    first = encode(folder, **chosen)
    before = {path: path.stat().st_mtime_ns for path in first.root.rglob("*.safetensors")}
    assert made(encode(folder, windows="uniform:3", **chosen)) == dict.fromkeys(first.folders, (2, 2))
    assert made(encode(folder, windows="uniform:3", **chosen)) == dict.fromkeys(first.folders, (0, 4))
    other = encode(folder, windows="stride:24", **chosen)
    assert made(other) == dict.fromkeys(first.folders, (0, 3))
    assert other.notes[-1] == f"{other.root}: 1 sample is left over from windows that are no longer cut, and not used: {WINDOWS[0]}"
    again = encode(folder, **chosen)
    assert (again.samples, again.done, again.notes[-1][-34:]) == (first.samples, 0, ", ".join(WINDOWS))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_damaged_window_is_made_again_and_a_missing_one_too(folder: Path) -> None:
    chosen: dict[str, Any] = {"resolution_buckets": BUCKETS, "windows": "uniform:3"}
    root = encode(folder, **chosen).root
    path = root / f"latents/{WINDOWS[0]}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (root / f"latents/{WINDOWS[1]}.safetensors").unlink()
    summary = preprocess(folder, None, PreprocessingTable(**chosen), TINY, verify=True, progress=False)
    assert made(summary)["latents"] == (2, 2)
    assert path.read_bytes() == whole


def test_a_run_that_began_with_some_windows_goes_on_with_these(folder: Path) -> None:
    chosen: dict[str, Any] = {"resolution_buckets": BUCKETS, "windows": "uniform:3"}
    summary = preprocess(folder, None, PreprocessingTable(**chosen), TINY, only=["beach/sea", WINDOWS[1]], progress=False)
    assert summary.samples == ("beach/sea", WINDOWS[1])
    assert any("1 window is left out, because this run began with the other 2 samples" in note for note in summary.notes)


def rows_of(folder: Path, long_clip: Path, **row: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "sea.mp4").write_bytes(long_clip.read_bytes())
    return dataset_file(folder / "set.jsonl", [{"video": "sea.mp4", "caption": "the sea", **row}])


AT_24 = "sea@000024"


def test_references_and_masks_are_cut_by_the_window_of_their_clip(tmp_path: Path, long_clip: Path) -> None:
    clip_file(tmp_path / "other.mp4", frames=33, seed=3, sound=False)
    clip_file(tmp_path / "mask.mp4", frames=33, seed=4, sound=False)
    mask_file(tmp_path / "mask.wav", [1.0, 0.0], seconds=33 / 16)
    sound_file(tmp_path / "voice.wav", seconds=33 / 16, hertz=900.0)
    row = {"reference_video": "other.mp4", "video_mask": "mask.mp4", "audio_mask": "mask.wav", "reference_audio": "voice.wav"}
    root = encode(rows_of(tmp_path, long_clip, **row), resolution_buckets=BUCKETS, windows="stride:24").root
    reference = read_fitted(tmp_path / "other.mp4", Bucket(64, 64, 33))
    expected = TINY.video().encode(attrs.evolve(reference, frames=reference.frames[24:]))
    assert torch.equal(encoded(root, "reference_latents", AT_24, "latents"), expected)
    voice = read_cut(tmp_path / "voice.wav", Fraction(9, 16), start=Fraction(24, 16)).sound
    assert torch.equal(encoded(root, "reference_audio_latents", AT_24, "latents"), TINY.audio().encode(voice))
    assert encoded(root, "audio_masks", "sea", "mask").min() == 1, "amplitude 1 in the first half"
    assert encoded(root, "audio_masks", AT_24, "mask").max() == 0
    masks = [encoded(root, "video_masks", name, "mask") for name in ("sea", AT_24)]
    assert not torch.equal(*masks), "the mask's square has moved"


@pytest.mark.parametrize(("values", "last"), [([0.0, 1.0], 1.0), ([1.0, 0.0], 0.0)])
def test_a_window_after_the_end_of_its_sound_and_mask_goes_by_the_last_sample_of_the_mask(
    tmp_path: Path, long_clip: Path, values: list[float], last: float
) -> None:
    sound_file(tmp_path / "short.wav", seconds=0.7)
    mask_file(tmp_path / "mask.wav", values, seconds=0.7)
    path = rows_of(tmp_path, long_clip, audio="short.wav", audio_mask="mask.wav")
    root = encode(path, resolution_buckets=BUCKETS, windows="stride:24").root
    mask = encoded(root, "audio_masks", AT_24, "mask")
    assert mask.shape == encoded(root, "audio_latents", AT_24, "latents").shape[1:2]
    assert mask.tolist() == [last] * len(mask)


def test_windows_that_overlap_hold_the_frames_that_the_clip_has_there(tmp_path: Path, long_clip: Path) -> None:
    """Of a clip, of its reference and of the images for keyframes, all of which are read on from window to window."""
    path = rows_of(tmp_path, long_clip, reference_video="sea.mp4")
    root = encode(path, resolution_buckets=BUCKETS, windows="stride:5", keyframe_candidates=2).root
    whole = read_fitted(tmp_path / "sea.mp4", Bucket(64, 64, 33))
    for start in range(0, 25, 5):
        name = f"sea@{start:06d}" if start else "sea"
        window = attrs.evolve(whole, frames=whole.frames[start : start + 9])
        for folder in ("latents", "reference_latents"):
            assert torch.equal(encoded(root, folder, name, "latents"), TINY.video().encode(window))
        pictures = [TINY.video().encode(attrs.evolve(window, frames=window.frames[at : at + 1])) for at in (0, 8)]
        assert torch.equal(encoded(root, "keyframes", name, "pictures"), torch.stack(pictures))


@pytest.mark.parametrize(
    ("role", "what"),
    [
        ("reference_video", "has 17 frames, but its clip has 33 to the end of this window of 64x64x9"),
        ("video_mask", "has a value for each latent cell of the beginning of its clip, and none for other windows"),
        ("audio_mask", "lasts 0.562 s, but its sound 2.06"),
        ("reference_audio", "lasts 1.000 s, but this window of its clip begins at 1.500 s"),
    ],
)
def test_what_cannot_be_cut_to_a_window_is_refused_with_the_window(tmp_path: Path, long_clip: Path, role: str, what: str) -> None:
    clip_file(tmp_path / "reference_video.mp4", sound=False)
    save_file({"mask": torch.zeros(2, 2, 2)}, tmp_path / "video_mask.safetensors")
    mask_file(tmp_path / "audio_mask.wav", [1.0, 0.0], seconds=9 / 16)
    sound_file(tmp_path / "reference_audio.wav", seconds=1.0)
    ending = {"reference_video": "mp4", "video_mask": "safetensors"}.get(role, "wav")
    path = rows_of(tmp_path, long_clip, **{role: f"{role}.{ending}"})
    with pytest.raises(DataError) as error:
        encode(path, resolution_buckets=BUCKETS, windows="stride:24")
    assert message(error).startswith(f"{path}:1, from frame 24: {tmp_path / role}.{ending}: {what}")
    assert encode(path, resolution_buckets=BUCKETS, windows="stride:24", on_error="skip").samples == ("sea",)


def test_a_column_with_an_entry_for_each_frame_is_cut_or_refused(tmp_path: Path, long_clip: Path) -> None:
    path = rows_of(tmp_path, long_clip, speed=list(range(33)))

    def encode_with(column: type) -> Summary:
        table = options({"speed": column()}, resolution_buckets=BUCKETS, windows="stride:24")
        return preprocess(path, None, table, TINY, folders=["latents", "speed"], progress=False)

    with pytest.raises(DataError, match=r'from frame 24: the column "speed" has values for the frames of a clip, which it does not cut'):
        encode_with(Speed)
    root = encode_with(attrs.frozen(type("Cut", (Speed,), {"cuts_windows": True}))).root
    assert [encoded(root, "speed", name, "values").tolist() for name in ("sea", AT_24)] == [[0, 4.5], [24, 28.5]]


def test_the_sound_of_an_uneven_clip_begins_when_the_frame_of_its_window_is_shown(tmp_path: Path) -> None:
    ticks = [*range(0, 170, 10), *range(190, 510, 20)]  # 17 frames of 10 ms each, then 16 of 20 ms
    clip = timed_clip(tmp_path / "uneven.mkv", ticks, Fraction(1, 1000))
    write_sound(tmp_path / "uneven.wav", tone(1.0, hertz=500.0))
    path = dataset_file(tmp_path / "set.jsonl", [{"video": clip.name, "audio": "uneven.wav", "caption": "a"}])
    root = encode(path, resolution_buckets=BUCKETS, windows="stride:24").root
    rate = read_source(root, "latents")["uneven"].rate
    assert rate is not None
    sound = read_cut(tmp_path / "uneven.wav", 9 / Fraction(rate).limit_denominator(1001), start=Fraction(ticks[24], 1000)).sound
    assert torch.equal(encoded(root, "audio_latents", "uneven@000024", "latents"), TINY.audio().encode(sound))


@pytest.mark.parametrize("windows", ["", "last", "uniform:0", "stride", "stride:-3", "stride:1234567", "uniform:2.5"])
def test_a_choice_of_windows_that_is_none_is_refused(windows: str) -> None:
    ((place, what, _),) = PreprocessingTable(windows=windows, resolution_buckets=BUCKETS).problems()
    assert (place, what) == (("windows",), f'"{windows}" is not a choice of windows')


def test_a_summary_of_a_dataset_counts_its_windows(folder: Path) -> None:
    with bars(False) as phase:
        found = overview(folder, PreprocessingTable(resolution_buckets=BUCKETS, windows="uniform:3"), phase)
        assert dict(lines(found))["windows"] == "4 samples of 2 rows"
        assert "windows" not in dict(lines(overview(folder, PreprocessingTable(resolution_buckets=BUCKETS), phase)))


def test_windows_need_buckets() -> None:
    ((place, what, _),) = PreprocessingTable(windows="uniform:3").problems()
    assert (place, what) == (("windows",), '"uniform:3" needs buckets, since without them each clip is used whole')


@pytest.mark.parametrize("wrong", ["uniform:0", "stride:-1", "last", "uniform:2"])
def test_windows_that_are_none_or_have_no_length_are_refused_as_an_option_too(folder: Path, wrong: str) -> None:
    buckets = None if wrong == "uniform:2" else BUCKETS
    with pytest.raises(ConfigError) as caught:
        encode(folder, windows=wrong, resolution_buckets=buckets)
    told = "needs buckets, since without them each clip is used whole" if buckets is None else "is not a choice of windows"
    assert caught.value.problems[0].what == f'"{wrong}" {told}'
