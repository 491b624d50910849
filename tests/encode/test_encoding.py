"""What is made of a dataset: the folders, and what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import media_made
from helpers.clicks_made import changed
from helpers.encoded_sets import read_latents, read_text
from helpers.raw_media import FRAMES, RATE, clip_file, dataset_file, encode, mask_file, pictures, small_set, sound_file, tone
from helpers.whole_models import unified
from ltxcore.cli.main import main
from ltxcore.codecs.load_codecs import audio_codec, text_encoder, video_codec
from ltxcore.config.load import load_run
from ltxcore.config.render import document
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.cut_sounds import read_cut
from ltxcore.encode.pixels import read_fitted
from ltxcore.encode.preprocess import default_root
from ltxcore.encoded.manifest import read_manifest, read_source
from ltxcore.encoded.micro_batch import padded
from ltxcore.encoded.store import read_mask, write_sample
from ltxcore.media.probe import probe, read_clip, write_clip, write_sound
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.connectors import connectors_fingerprint
from ltxcore.models.load_base import load_backbone
from ltxcore.planner.estimate import Estimator
from ltxcore.protocols import Clip, Entry, Sound, Source
from ltxcore.runs.checks import check_run
from ltxcore.train.feed import Samples
from ltxcore.train.trained_model import load_model

DURATION = Fraction(FRAMES, RATE)


def stored(root: Path, folder: str, name: str) -> Path:
    return root / folder / f"{name}.safetensors"


def test_clips_sounds_masks_and_captions_are_encoded_as_the_codecs_do(tmp_path: Path) -> None:
    summary = encode(small_set(tmp_path))
    root = tmp_path / ".precomputed"
    assert summary.root == root
    assert summary.samples == ("clips/0", "clips/1", "clips/2")
    for index in range(3):
        name, path = f"clips/{index}", tmp_path / f"clips/{index}.mp4"
        clip, latents = read_clip(path), read_latents(stored(root, "latents", name))
        assert torch.equal(latents[0], video_codec("tiny").encode(clip))
        assert latents[1] == RATE
        sound = audio_codec("tiny").encode(read_cut(path, DURATION).sound)
        assert torch.equal(read_latents(stored(root, "audio_latents", name))[0], sound)
        expected = text_encoder("tiny").encode([f"clip number {index}"])[0]
        features, length = read_text(stored(root, "conditions", name))
        assert features.keys() == expected.keys()
        assert all(torch.equal(features[key], expected[key]) for key in expected)
        assert features["video"].shape == (3, 128)
        assert length == 32
        mask = read_mask(stored(root, "audio_masks", name))
        assert mask.shape == sound.shape[1:2]
        assert mask[0] == mask[-1] == 1
        assert mask[mask.shape[0] // 2] == 0


def test_a_run_can_be_planned_from_the_manifests_alone(tmp_path: Path) -> None:
    encode(small_set(tmp_path))
    sources = {
        "text": Source("conditions", "text"),
        "video": Source("latents", "latents", "video"),
        "audio": Source("audio_latents", "latents", "audio"),
        "audio.cond0.mask": Source("audio_masks", "mask", "audio"),
    }
    manifest = read_manifest(tmp_path / ".precomputed", sources)
    assert manifest.samples == ("clips/0", "clips/1", "clips/2")
    entries = {role: manifest.entries[role]["clips/1"] for role in sources}
    assert {role: entry.shape for role, entry in entries.items()} == {
        "text": (32,),
        "video": (128, 3, 2, 2),
        "audio": (8, 27, 16),
        "audio.cond0.mask": (27,),
    }
    assert all(
        entry.origin == "clips/1.mp4" and entry.finite and entry.bytes and len(entry.fingerprint) == 64 for entry in entries.values()
    )
    assert entries["video"].rate == RATE
    assert entries["video"].encoder == video_codec("tiny").fingerprint


def test_a_clip_is_fitted_to_its_bucket_and_keeps_its_rate(tmp_path: Path) -> None:
    clip_file(tmp_path / "wide.mp4", height=72, width=128, frames=30, rate=24000 / 1001)
    clip_file(tmp_path / "tall.mp4", height=128, width=72, frames=20, seed=1)
    rows = [{"video": f"{name}.mp4", "caption": name} for name in ("wide", "tall")]
    encode(dataset_file(tmp_path / "set.jsonl", rows), tmp_path / "out", resolution_buckets="96x64x25;64x96x17;64x96x9")
    for name, bucket, rate in (("wide", Bucket(96, 64, 25), 24000 / 1001), ("tall", Bucket(64, 96, 17), 16.0)):
        latents, found_rate = read_latents(stored(tmp_path / "out", "latents", name))
        assert torch.equal(latents, video_codec("tiny").encode(read_fitted(tmp_path / f"{name}.mp4", bucket)))
        assert found_rate == pytest.approx(rate, rel=1e-9)
        steps = read_latents(stored(tmp_path / "out", "audio_latents", name))[0].shape[1]
        assert steps == int(bucket.frames / rate * 100) // 4 + 1


def test_clips_of_one_rate_of_television_go_together_whatever_decimal_their_containers_tell(tmp_path: Path) -> None:
    exact = 24000 / 1001
    told = {"a.mp4": exact, "b.mov": 23.976, "c.avi": 23.98}
    for name, rate in told.items():
        # 281 frames: by 23.98, their sound would have a latent step less.
        clip, codec = pictures(frames=281, height=32, width=32, rate=rate), "aac" if name == "a.mp4" else "pcm_s16le"
        media_made.encode(tmp_path / name, clip, tone(13.0), pictures="mjpeg", pixels="yuvj420p", codec=codec)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": name, "caption": "c"} for name in told])
    assert {str(info.rate) for info in map(probe, (tmp_path / name for name in told))} == {"24000/1001", "2997/125", "1199/50"}
    encode(path, resolution_buckets="32x32x281")
    assert {entry.rate for entry in read_source(tmp_path / ".precomputed", "latents").values()} == {exact}
    for folder in ("latents", "audio_latents"):
        assert len({entry.shape for entry in read_source(tmp_path / ".precomputed", folder).values()}) == 1


def test_sounds_of_one_bucket_have_one_length_whatever_their_rate(tmp_path: Path) -> None:
    rows = []
    for rate in (8000, 11025, 22050, 44100, 48000):
        write_clip(tmp_path / f"{rate}.mp4", pictures(frames=33, rate=30), tone(1.2, rate=rate, channels=2))
        rows.append({"video": f"{rate}.mp4", "caption": ""})
    encode(dataset_file(tmp_path / "set.jsonl", rows))
    assert {entry.shape for entry in read_source(tmp_path / ".precomputed", "audio_latents").values()} == {(8, 28, 16)}


def test_a_sound_of_its_own_is_cut_to_its_clip_or_filled_up_to_it(tmp_path: Path) -> None:
    for index, seconds in enumerate((3.0, 0.5)):
        clip_file(tmp_path / f"{index}.mp4", sound=False, seed=index)
        sound_file(tmp_path / f"sounds/{index}.wav", seconds=seconds)
    rows = [{"video": f"{index}.mp4", "audio": f"sounds/{index}.wav", "caption": "c"} for index in range(2)]
    path = dataset_file(tmp_path / "set.jsonl", rows)
    summary = encode(path)
    assert {entry.shape for entry in read_source(summary.root, "audio_latents").values()} == {(8, 27, 16)}
    assert summary.notes == (
        f"{path}: resolution_buckets is 64x64x17, the size of all its clips",
        f"{path}: 1 sound ends early and was padded with silence, by at most 0.562 s ({path}:2: {tmp_path}/sounds/1.wav)",
    )


def test_holes_in_sounds_are_silence_and_told(tmp_path: Path) -> None:
    for index, hole in enumerate((0.0, 0.2, 0.3)):
        source = clip_file(tmp_path / f"whole/{index}.mp4", seed=index)
        changed(source, tmp_path / f"{index}.mp4", lambda at, hole=hole: hole * (at > 0.5))
    path = dataset_file(tmp_path / "set.jsonl", [{"video": f"{index}.mp4", "caption": "c"} for index in range(3)])
    summary = encode(path)
    assert summary.notes[1:] == (f"{path}: 2 sounds have gaps, which are now silent, of at most 0.300 s ({path}:3: {tmp_path}/2.mp4)",)
    cut = read_cut(tmp_path / "2.mp4", DURATION)
    assert cut.holes == pytest.approx(0.3)
    assert cut.sound.samples[:, round(0.55 * 16_000) : round(0.77 * 16_000)].abs().max() < 1e-3
    assert torch.equal(read_latents(stored(summary.root, "audio_latents", "2"))[0], audio_codec("tiny").encode(cut.sound))


def test_the_sound_of_clips_is_left_out_where_the_user_says_so(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    summary = encode(dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": "c"}]), skip_audio=True)
    assert list(summary.folders) == ["conditions", "latents"]


def test_sounds_alone_are_cut_to_the_longest_duration_that_fits(tmp_path: Path) -> None:
    rows = []
    for seconds in (0.6, 1.0, 1.7):
        sound_file(tmp_path / f"{seconds}.wav", seconds=seconds, rate=22050)
        rows.append({"audio": f"{seconds}.wav", "caption": "c"})
    path = dataset_file(tmp_path / "set.jsonl", rows)
    cut = encode(path, tmp_path / "cut", audio_durations=[0.5, 1.0])
    assert [entry.shape[1] for _, entry in sorted(read_source(cut.root, "audio_latents").items())] == [13, 26, 26]
    whole = encode(path, tmp_path / "whole")
    assert [entry.shape[1] for _, entry in sorted(read_source(whole.root, "audio_latents").items())] == [16, 26, 43]


def test_clips_that_are_only_listened_to_need_no_bucket_where_durations_are_given(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", frames=20)
    clip_file(tmp_path / "b.mp4", frames=30, height=96)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": f"{name}.mp4", "caption": "c"} for name in "ab"])
    summary = encode(path, folders=["audio_latents", "conditions"], audio_durations=[1.0])
    assert list(summary.folders) == ["conditions", "audio_latents"]
    assert {entry.shape for entry in read_source(summary.root, "audio_latents").values()} == {(8, 26, 16)}


def test_images_stand_beside_clips_and_have_no_rate(tmp_path: Path) -> None:
    clip_file(tmp_path / "clip.mp4", sound=False)
    clip_file(tmp_path / "image.png", sound=False, frames=1, height=80, width=96)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": name, "caption": "c"} for name in ("clip.mp4", "image.png")])
    summary = encode(path, resolution_buckets="64x64x17;64x64x1", skip_audio=True)
    entries = read_source(summary.root, "latents")
    assert (entries["clip"].shape, entries["clip"].rate) == ((128, 3, 2, 2), 16.0)
    assert (entries["image"].shape, entries["image"].rate) == ((128, 1, 2, 2), None)


def test_a_clip_may_give_a_bucket_of_one_frame(tmp_path: Path) -> None:
    clip_file(tmp_path / "clip.mp4", sound=False)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "clip.mp4", "caption": "c"}])
    summary = encode(path, resolution_buckets="64x64x1", skip_audio=True)
    entry = read_source(summary.root, "latents")["clip"]
    assert (entry.shape, entry.rate) == ((128, 1, 2, 2), 16.0)


def test_references_are_of_their_targets_bucket_divided_by_the_factors(tmp_path: Path) -> None:
    for name in "ab":
        height, width = (64, 128) if name == "a" else (128, 64)
        clip_file(tmp_path / f"{name}.mp4", frames=33, height=height, width=width, sound=False)
        clip_file(tmp_path / f"refs/{name}.mp4", frames=33, height=height // 2, width=width // 2, sound=False, seed=3)
    rows = [{"video": f"{name}.mp4", "reference_video": f"refs/{name}.mp4", "caption": "c"} for name in "ab"]
    path = dataset_file(tmp_path / "set.jsonl", rows)
    options = {"resolution_buckets": "128x64x33;64x128x33", "reference_downscale_factor": 2, "reference_temporal_scale_factor": 2}
    summary = encode(path, skip_audio=True, **options)
    assert read_source(summary.root, "latents")["a"].shape == (128, 5, 2, 4)
    entries = read_source(summary.root, "reference_latents")
    assert {name: (entry.shape, entry.rate) for name, entry in entries.items()} == {"a": ((128, 3, 1, 2), 8.0), "b": ((128, 3, 2, 1), 8.0)}
    clip = read_clip(tmp_path / "refs/a.mp4")
    kept = clip.frames[[0, *range(1, 33, 2)]]
    expected = video_codec("tiny").encode(Clip(kept, 8.0))
    assert torch.equal(read_latents(stored(summary.root, "reference_latents", "a"))[0], expected)


def test_an_image_may_be_the_reference_of_a_clip(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    clip_file(tmp_path / "r.png", frames=1, sound=False, seed=2)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "reference_video": "r.png", "caption": "c"}])
    entry = read_source(encode(path, skip_audio=True).root, "reference_latents")["a"]
    assert (entry.shape, entry.rate) == ((128, 1, 2, 2), None)


def test_a_reference_sound_is_named_after_its_target_and_cut_to_it_but_not_filled_up(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav", seconds=1.0)
    for name, seconds in (("long", 2.0), ("near", 0.95), ("short", 0.5)):
        sound_file(tmp_path / f"refs/{name}.wav", seconds=seconds, hertz=600.0)
    for name, steps in (("long", 26), ("near", 26), ("short", 13)):
        path = dataset_file(tmp_path / f"{name}.jsonl", [{"audio": "a.wav", "reference_audio": f"refs/{name}.wav", "caption": "c"}])
        summary = encode(path, tmp_path / "out", audio_durations=[1.0])
        entries = read_source(summary.root, "reference_audio_latents")
        assert {name: entry.shape for name, entry in entries.items()} == {"a": (8, steps, 16)}


def test_video_masks_follow_their_clips_to_the_bucket(tmp_path: Path) -> None:
    # Clips and masks are twice as wide as the bucket: the middle half counts. The left half of that is given, in the second half of the frames.
    clip_file(tmp_path / "a.mp4", sound=False, height=64, width=128)
    shown = torch.zeros(17, 64, 128, 3, dtype=torch.uint8)
    shown[9:, :, :64] = 255
    write_clip(tmp_path / "masks/a.mp4", Clip(shown, 16))
    still = torch.zeros(1, 32, 64, 3, dtype=torch.uint8)
    still[:, 16:, :] = 127
    write_clip(tmp_path / "masks/b.png", Clip(still, 1))
    expected = {
        "a.mp4": [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]],
        "b.png": [[[0.0, 0.0], [127 / 255, 127 / 255]]] * 3,
    }
    for mask, values in expected.items():
        path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "video_mask": f"masks/{mask}", "caption": "c"}])
        summary = encode(path, resolution_buckets="64x64x17", skip_audio=True)
        torch.testing.assert_close(
            read_mask(stored(summary.root, "video_masks", "a")), torch.tensor(values), atol=2e-2 if mask == "a.mp4" else 1e-6, rtol=0
        )
    assert (read_mask(stored(summary.root, "video_masks", "a")) == 0).sum() == 6


def test_the_black_and_white_of_a_lossy_mask_are_0_and_1_to_the_last_bit(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False, height=64, width=128)
    shown = torch.zeros(17, 64, 128, 3, dtype=torch.uint8)
    shown[:, :, 64:] = 255
    write_clip(tmp_path / "m.mp4", Clip(shown, 16))
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "video_mask": "m.mp4", "caption": "c"}])
    mask = read_mask(stored(encode(path, skip_audio=True).root, "video_masks", "a"))
    assert mask.unique().tolist() == [0.0, 1.0]


def test_a_soft_audio_mask_keeps_its_values_and_its_full_scale_is_1(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    mask_file(tmp_path / "m.wav", [1.0, 0.25])
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "audio_mask": "m.wav", "caption": "c"}])
    mask = read_mask(stored(encode(path).root, "audio_masks", "a"))
    # 0.53125 s given in full: up to 0.53 s in step 13, 0.125 of the 4 hundredths of which step 14 begins with another 0.125.
    torch.testing.assert_close(mask, torch.tensor([1.0] * 14 + [0.25 + 0.75 * 0.001 / 0.04] + [0.25] * 12), atol=1e-4, rtol=0)
    assert (mask == 1).sum() == 14


def test_a_mask_of_the_whole_sound_is_cut_with_it(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", frames=33)
    mask_file(tmp_path / "whole.wav", [1.0, 0.0], seconds=33 / 16)
    mask_file(tmp_path / "used.wav", [1.0, 0.0], seconds=17 / 16)
    given = []
    for name in ("whole", "used"):
        path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "audio_mask": f"{name}.wav", "caption": "c"}])
        mask = read_mask(stored(encode(path, resolution_buckets="64x64x17").root, "audio_masks", "a"))
        given.append(int((mask > 0.5).sum()))
    assert given == [27, 14]


def test_a_mask_of_latent_cells_is_taken_as_it_is(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    video, audio = torch.rand(3, 2, 2), torch.rand(27)
    write_sample(tmp_path, "hand", "video", {"mask": video}, Entry(()))
    torch.save({"mask": audio}, tmp_path / "hand/audio.pt")
    row = {"video": "a.mp4", "video_mask": "hand/video.safetensors", "audio_mask": "hand/audio.pt", "caption": "c"}
    root = encode(dataset_file(tmp_path / "set.jsonl", [row])).root
    assert torch.equal(read_mask(stored(root, "video_masks", "a")), video)
    assert torch.equal(read_mask(stored(root, "audio_masks", "a")), audio)


def test_the_trigger_word_is_encoded_before_every_caption(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    summary = encode(dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": "a dog"}]), lora_trigger="SKS")
    expected = text_encoder("tiny").encode(["SKS a dog"])[0]
    assert torch.equal(read_text(stored(summary.root, "conditions", "a"))[0]["audio"], expected["audio"])


def test_a_caption_without_words_is_stored_too(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    summary = encode(dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": ""}]))
    assert read_text(stored(summary.root, "conditions", "a"))[0]["video"].shape == (0, 128)


def test_only_what_a_run_reads_is_made(tmp_path: Path) -> None:
    summary = encode(small_set(tmp_path, 1), folders=["audio_latents", "audio_masks", "conditions"])
    assert list(summary.folders) == ["conditions", "audio_latents", "audio_masks"]
    assert not (summary.root / "latents").exists()


def test_sounds_in_any_container_and_number_of_channels_are_taken(tmp_path: Path) -> None:
    write_clip(tmp_path / "six.mp4", pictures(), tone(rate=48000, channels=6))
    write_sound(tmp_path / "three.wav", Sound(tone(rate=22050, channels=3).samples, 22050))
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": name, "caption": "c"} for name in ("six.mp4", "three.wav")])
    entries = read_source(encode(path, audio_durations=[1.0]).root, "audio_latents")
    assert {name: entry.shape for name, entry in entries.items()} == {"six": (8, 26, 16), "three": (8, 26, 16)}


def test_samples_go_beside_the_dataset_or_into_the_cache_where_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (
        default_root(tmp_path / "clips/set.jsonl") == tmp_path / "cache/ltx/precomputed" / default_root(tmp_path / "clips/set.jsonl").name
    )
    (tmp_path / "clips").mkdir()
    assert default_root(tmp_path / "clips/set.jsonl") == tmp_path / "clips/.precomputed"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    cached = default_root(tmp_path / "clips/set.jsonl")
    assert cached.parent == tmp_path / "cache/ltx/precomputed"
    assert cached.name.startswith("clips-")
    assert cached != default_root(tmp_path / "other/clips/set.jsonl")


CAPTIONS = ("a low hum", "a high and steady whistle")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Two sounds with captions and their model; encoded with features in `features`, and from there with what connectors make of them in `outputs`."""
    folder = tmp_path_factory.mktemp("connected")
    model = unified(folder / "models")
    rows = []
    for number, caption in enumerate(CAPTIONS):
        sound_file(folder / f"sound{number}.wav", seconds=0.5, hertz=300 * (number + 1))
        rows.append({"audio": f"sound{number}.wav", "caption": caption})
    dataset_file(folder / "set.jsonl", rows)
    preprocessed(folder, model, "features")
    shutil.copytree(folder / "features", folder / "outputs")
    assert text_and_sound(preprocessed(folder, model, "outputs", "--connector-outputs")) == (2, 0)
    return folder, model


def ltx(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == exit_code, done.output
    return done.output


def preprocessed(
    folder: Path, model: Mapping[str, object], root: str, *options: str, dataset: str = "set.jsonl", exit_code: int = 0
) -> str:
    named = [f"--{key.replace('_', '-')}={path}" for key, path in model.items()]
    places = [str(folder / dataset), f"--output-dir={folder / root}", "--no-progress"]
    return ltx("preprocess", *places, *named, "--audio-durations=0.4", *options, exit_code=exit_code)


def text_and_sound(said: str) -> tuple[int, ...]:
    """How many files of text and of sound were made now."""
    lines = [line.split() for line in said.splitlines() if line.startswith(("conditions", "audio_latents"))]
    assert [line[0] for line in lines] == ["conditions", "audio_latents"]
    return tuple(int(line[1]) for line in lines)


def run_file(folder: Path, model: Mapping[str, object], root: str, output: Path, **changed: Mapping[str, Any]) -> Path:
    told: dict[str, Any] = {
        "output_dir": str(output / "out"),
        "model": {key: str(path) for key, path in model.items()},
        "lora": {"rank": 2, "target_modules": "auto"},
        "training_strategy": {"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}},
        "optimization": {"steps": 2, "batch_size": 1, "learning_rate": 1e-2},
        "acceleration": {"mixed_precision_mode": "bf16"},
        "data": {"preprocessed_data_root": str(folder / root), "held_out": 0, "num_dataloader_workers": 0},
        **changed,
    }
    path = output / f"{root}.toml"
    path.write_text(document(told))
    return path


def other_connectors(model: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The same model with one number of one connector changed."""
    with safe_open(model["model_path"], framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(model["model_path"])
    name = next(name for name in tensors if name.endswith("audio_embeddings_connector.learnable_registers"))
    tensors[name][0, 0] += 1.0
    save_file(tensors, folder / "other.safetensors", metadata)
    return {**model, "model_path": folder / "other.safetensors"}


def test_what_is_stored_is_what_the_backbone_makes_of_the_features(made: tuple[Path, dict[str, Path]]) -> None:
    folder, model = made
    backbone = load_backbone(str(model["model_path"]), frozenset({"video", "audio"}), dtype=torch.bfloat16)
    for name in ("sound0", "sound1"):
        features, outputs = (load_file(folder / root / "conditions" / f"{name}.safetensors") for root in ("features", "outputs"))
        context = backbone.connect(padded(features, 1024))
        for modality, stored in outputs.items():
            assert (stored.dtype, stored.shape[0]) == (torch.bfloat16, 1024)
            assert torch.equal(stored, context.features[modality][0])
        assert bool(context.mask.all())
        assert backbone.connect(context) is context  # once is enough


def test_header_and_manifest_say_which_they_are(made: tuple[Path, dict[str, Path]]) -> None:
    folder, model = made
    identity = connectors_fingerprint(open_checkpoint(str(model["model_path"])))
    assert len(identity) == 16
    for root, connectors in (("features", ""), ("outputs", identity)):
        entries = read_source(folder / root, "conditions")
        assert {entry.connectors for entry in entries.values()} == {connectors}
        with safe_open(folder / root / "conditions" / "sound0.safetensors", framework="pt") as file:
            assert file.metadata()["encoder"] == entries["sound0"].encoder


def test_a_run_sees_the_same_and_has_the_same_losses_to_the_last_bit(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    seen = []
    for root in ("features", "outputs"):
        run = run_file(folder, model, root, tmp_path)
        ltx("inspect", str(run), "--steps=2", f"--dump={tmp_path / 'seen.safetensors'}")
        seen.append(load_file(tmp_path / "seen.safetensors"))
    features, outputs = seen
    assert features.keys() == outputs.keys()
    for wanted in ("context", "predicted", "loss"):
        assert any(wanted in name for name in features), sorted(features)
    # The one context is bfloat16, the other the same numbers as float32.
    assert all(torch.equal(features[name].double(), outputs[name].double()) for name in features)


@pytest.mark.parametrize(
    ("root", "prompts", "loaded", "are_away"),
    [
        ("features", [], True, False),
        ("features", [{"prompt": "a hum"}], True, False),
        ("outputs", [], False, True),
        ("outputs", [{"prompt": "a hum"}], True, True),
    ],
)
def test_connectors_are_loaded_where_some_text_has_still_to_go_through_them_and_stay_only_for_captions(
    made: tuple[Path, dict[str, Path]], tmp_path: Path, root: str, prompts: list[Any], loaded: bool, are_away: bool
) -> None:
    folder, model = made
    plan = check_run(load_run(run_file(folder, model, root, tmp_path, validation={"samples": prompts, "video_dims": [64, 64, 9]}))).plan
    assert plan is not None
    samples = Samples(plan.outline.root, plan.outline.strategy.sources(), plan.manifest)
    connectors = load_model(plan, samples, torch.device("cpu")).backbone.connectors
    assert (connectors is not None) == loaded
    counted = Estimator.of(plan).without_activations(plan.config, 1).parameters.connectors
    assert (counted == 0) == are_away
    if connectors is not None:
        assert connectors.are_away == are_away
        weights = [each for module in connectors.modules.values() for each in module.state_dict().values()]
        assert counted in (0, sum(each.numel() for each in weights))


def test_other_connectors_make_the_text_anew_and_are_refused_until_then(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    other = other_connectors(model, tmp_path)
    for root in ("features", "outputs"):
        shutil.copytree(folder / root, tmp_path / root)
    run = run_file(tmp_path, other, "outputs", tmp_path)
    assert ltx("check", str(run), exit_code=2).strip() == (
        f"{tmp_path}/outputs/conditions: before it was stored, this text went through connectors that the model other.safetensors does not have\n"
        "    Run `ltx preprocess` again with this model, into another folder or in place of this text."
    )
    shutil.copy(folder / "set.jsonl", tmp_path)
    for number in range(2):
        shutil.copy(folder / f"sound{number}.wav", tmp_path)
    assert text_and_sound(preprocessed(tmp_path, other, "features")) == (0, 0)
    assert text_and_sound(preprocessed(tmp_path, other, "outputs", "--connector-outputs")) == (2, 0)
    assert "outputs.toml is valid." in ltx("check", str(run))


def test_a_set_of_both_is_refused_with_the_names_of_its_samples(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    shutil.copytree(folder / "features", tmp_path / "mixed")
    shutil.copy(folder / "sound0.wav", tmp_path)
    dataset_file(tmp_path / "one.jsonl", [{"audio": "sound0.wav", "caption": CAPTIONS[0]}])
    preprocessed(tmp_path, model, "mixed", "--connector-outputs", dataset="one.jsonl")
    run = run_file(tmp_path, model, "mixed", tmp_path)
    assert ltx("check", str(run), exit_code=2).strip() == (
        f'{tmp_path}/mixed/conditions: "conditions" mixes the outputs of connectors, in 1 sample (sound0), with text features, in 1 sample (sound1)\n'
        "    Run `ltx preprocess` again on the whole dataset, either with connector_outputs or without it."
    )


def test_a_model_without_connectors_refuses_the_option(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, _ = made
    refused = (
        "the model tiny has no text connectors, so there are no connector outputs to store\n"
        "    Leave connector_outputs out: the model's blocks use the text features directly."
    )
    tiny = {"model_path": "tiny"}
    assert preprocessed(folder, tiny, "tiny", "--connector-outputs", exit_code=2).strip() == f"--connector-outputs: {refused}"
    assert not (folder / "tiny").exists()
    run = run_file(folder, tiny, "tiny", tmp_path, preprocessing={"connector_outputs": True}, data={"dataset": str(folder / "set.jsonl")})
    line = next(number for number, text in enumerate(run.read_text().splitlines(), 1) if text.startswith("connector_outputs"))
    assert ltx("check", str(run), exit_code=2).strip() == f"{run}:{line}: preprocessing.connector_outputs: {refused}"


def test_the_doctor_finds_nothing_stale_in_it_unless_the_option_was_switched(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    for outputs, stale in ((True, 0), (False, 2)):
        preprocessing = {"connector_outputs": outputs, "audio_durations": [0.4]}
        data = {"dataset": str(folder / "set.jsonl"), "preprocessed_data_root": str(folder / "outputs"), "held_out": 0}
        run = run_file(folder, model, "outputs", tmp_path, preprocessing=preprocessing, data=data)
        assert ltx("doctor", str(run)).count("was made with an encoder other than") == stale
