"""Real recordings, as Debian's alsa-utils and sound-theme-freedesktop ship them: WAV and Ogg, mono and stereo, 8 to 96 kHz."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.encoded_sets import read_latents
from helpers.raw_media import dataset_file, encode, mask_file, message
from ltxcore.encoded.manifest import read_manifest, read_source
from ltxcore.encoded.store import read_mask
from ltxcore.media.probe import probe, read_sound
from ltxcore.protocols import Source

ALSA = Path("/usr/share/sounds/alsa")
FREEDESKTOP = Path("/usr/share/sounds/freedesktop/stereo")
SOURCES = {"text": Source("conditions", "text"), "audio": Source("audio_latents", "latents", "audio")}

pytestmark = pytest.mark.skipif(
    not (ALSA.is_dir() and FREEDESKTOP.is_dir()), reason="needs the Debian packages alsa-utils and sound-theme-freedesktop"
)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A dataset of all of them, captioned by their names."""
    (tmp_path / "alsa").symlink_to(ALSA)
    (tmp_path / "theme").symlink_to(FREEDESKTOP)
    files = sorted([*(tmp_path / "alsa").glob("*.wav"), *(tmp_path / "theme").glob("*.oga")])
    rows = [{"audio": path.relative_to(tmp_path).as_posix(), "caption": path.stem.replace("-", " ").replace("_", " ")} for path in files]
    return dataset_file(tmp_path / "sounds.jsonl", rows)


def test_recordings_of_all_rates_and_channels_become_samples_of_the_lengths_asked_for(recordings: Path) -> None:
    names = [path.stem for path in [*ALSA.glob("*.wav"), *FREEDESKTOP.glob("*.oga")]]
    assert len({(probe(path).sound_rate, probe(path).channels) for path in [*ALSA.glob("*.wav"), *FREEDESKTOP.glob("*.oga")]}) >= 5
    summary = encode(recordings, audio_durations=[0.2, 0.5, 1.0], on_error="skip")
    assert len(summary.samples) + len(summary.refused) == len(names)
    manifest = read_manifest(summary.root, SOURCES)
    assert manifest.samples == summary.samples
    entries = manifest.entries["audio"]
    assert {entry.shape for entry in entries.values()} == {(8, 6, 16), (8, 13, 16), (8, 26, 16)}
    for name, entry in entries.items():
        lasts = probe(recordings.parent / entry.origin).duration or 0
        assert entry.shape[1] == (26 if lasts > 0.999 else 13 if lasts > 0.499 else 6), name
    assert encode(recordings, audio_durations=[0.2, 0.5, 1.0], on_error="skip").done == 0


def test_recordings_that_are_too_short_are_named(recordings: Path) -> None:
    short = [path for path in sorted((recordings.parent / "theme").glob("*.oga")) if (probe(path).duration or 0) < 0.2 - 1e-3]
    lines = recordings.read_text().splitlines()
    expected = []
    for path in short:
        line = next(number for number, text in enumerate(lines, 1) if f'"theme/{path.name}"' in text)
        expected.append(
            f"{recordings}:{line}: {path}: lasts {probe(path).duration:.3f} s, but the shortest of audio_durations is 0.2 s\n"
            '    Add a shorter one, or leave it out with on_error = "skip".'
        )
    assert short
    with pytest.raises(Exception) as error:  # noqa: PT011 (the whole message is compared)
        encode(recordings, audio_durations=[0.2, 0.5, 1.0])
    assert message(error) == "\n".join(expected)


def test_one_recording_as_wav_and_as_ogg_gives_nearly_the_same_latents(recordings: Path) -> None:
    root = encode(recordings, audio_durations=[0.2, 0.5, 1.0], on_error="skip").root
    pairs = [("Front_Center", "front-center"), ("Rear_Left", "rear-left"), ("Side_Right", "side-right")]
    for wav, ogg in pairs:
        one = read_latents(root / f"audio_latents/alsa/{wav}.safetensors")[0]
        other = read_latents(root / f"audio_latents/theme/audio-channel-{ogg}.safetensors")[0]
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.95


def test_whole_recordings_keep_their_own_length_and_take_masks(recordings: Path) -> None:
    folder = recordings.parent
    rows = []
    for path in sorted((folder / "alsa").glob("*.wav")):
        mask_file(folder / f"masks/{path.name}", [1.0, 0.0, 1.0], seconds=read_sound(path).duration)
        rows.append({"audio": f"alsa/{path.name}", "audio_mask": f"masks/{path.name}", "caption": path.stem})
    root = encode(dataset_file(folder / "inpainting.jsonl", rows)).root
    entries = read_source(root, "audio_latents")
    assert len(entries) == len(rows)
    for name, entry in entries.items():
        hundredths = int((probe(folder / entry.origin).duration or 0) * 16_000) // 160
        assert entry.shape == (8, hundredths // 4 + 1, 16)
        mask = read_mask(root / f"audio_masks/{name}.safetensors")
        assert mask.shape == (entry.shape[1],)
        assert mask.mean().item() == pytest.approx(2 / 3, abs=0.03)
        assert mask[0] == mask[-1] == 1
