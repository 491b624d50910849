"""A run is planned from manifests, and refused with all that is wrong with its data."""

import os
from pathlib import Path

import attrs
import pytest
import torch

from helpers.encoded_sets import (
    AUDIO,
    AUDIO_MASK,
    INPAINTING,
    REFERENCE,
    TEXT,
    VIDEO,
    VIDEO_MASK,
    inpainting_set,
    message,
    put,
    put_text,
    values,
)
from ltxcore.encoded.manifest import append_entry, read_manifest, read_source, remove_sample
from ltxcore.encoded.store import checksum, write_sample
from ltxcore.errors import DataError
from ltxcore.protocols import Entry, Source

MASKS = "training_strategy.audio.conditions.0.mask_dir"
LATENTS = "training_strategy.audio.latents_dir"
MAKE_THEM = "\n    Make the missing samples with `ltx preprocess`, or remove these samples from the other folders."
LOOK = "\n    Check the media of these samples, and run `ltx preprocess` again, which encodes the samples again."


def refused(root: Path, sources: dict[str, Source], **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(root, sources, **options)  # type: ignore[arg-type]
    return message(caught.value, root)


def _overwrite(path: Path) -> None:
    """Any opening of this file after this is an error."""
    path.write_bytes(bytes(path.stat().st_size))


def test_a_run_is_planned_from_manifests_without_opening_a_sample(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "clips/b"])
    data = (tmp_path / "audio_latents" / "clips" / "b.safetensors").read_bytes()
    for path in tmp_path.rglob("*.safetensors"):
        _overwrite(path)
    manifest = read_manifest(tmp_path, sources)
    assert manifest.samples == ("a", "clips/b")
    entry = manifest.entries["audio"]["clips/b"]
    told = Entry((8, 6, 16), None, True, len(data), "sound clips/b", "clips/b.wav", "", "latents", "audio")
    assert entry == attrs.evolve(told, checksum=checksum(data))
    assert set(manifest.entries) == {"text", "audio", "audio.cond0.mask"}


def test_two_roles_may_read_one_folder(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    sources = {**INPAINTING, "audio.cond1.reference": AUDIO}
    manifest = read_manifest(tmp_path, sources)
    assert manifest.entries["audio.cond1.reference"] == manifest.entries["audio"]


# ---- merging


def test_each_process_appends_to_its_own_manifest_and_the_last_entry_wins(tmp_path: Path) -> None:
    put(tmp_path, "audio_latents", "a", {"latents": values(8, 5, 16)}, rank=1, fingerprint="old")
    put(tmp_path, "audio_latents", "b", {"latents": values(8, 5, 16)}, rank=0)
    put(tmp_path, "audio_latents", "a", {"latents": values(8, 7, 16)}, rank=0, fingerprint="new")
    assert sorted(path.name for path in (tmp_path / "audio_latents").glob("*.jsonl")) == ["manifest-0.jsonl", "manifest-1.jsonl"]
    entries = read_source(tmp_path, "audio_latents")
    assert list(entries) == ["a", "b"]
    assert (entries["a"].shape, entries["a"].fingerprint) == ((8, 7, 16), "new")


def test_a_sample_that_is_taken_out_is_neither_there_nor_missed_and_may_come_back(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "b"])
    for source in sources.values():
        remove_sample(tmp_path, source.folder, "a", rank=1)
    assert not (tmp_path / "audio_masks" / "a.safetensors").exists()
    assert read_manifest(tmp_path, sources).samples == ("b",)
    inpainting_set(tmp_path, ["a"])
    assert read_manifest(tmp_path, sources).samples == ("a", "b")


def test_taking_out_a_sample_that_was_never_there_changes_nothing(tmp_path: Path) -> None:
    remove_sample(tmp_path, "nowhere", "a")
    assert list(tmp_path.iterdir()) == []
    entry = put(tmp_path, "audio_latents", "a", {"latents": values(8, 5, 16)})
    remove_sample(tmp_path, "audio_latents", "b")
    assert read_source(tmp_path, "audio_latents") == {"a": entry}


def test_a_sample_that_cannot_be_taken_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "audio_latents" / "a.safetensors").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        remove_sample(tmp_path, "audio_latents", "a")
    assert message(caught.value, tmp_path) == "ROOT/audio_latents/a.safetensors: cannot be removed: Is a directory"


def test_an_entry_for_a_name_that_climbs_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        append_entry(tmp_path, "latents", "../a", Entry((1,)))
    expected = 'the sample name "../a" could lead out of the data root\n    Use a relative path without ".." or empty parts, with "/" between its parts.'
    assert str(caught.value) == expected


def test_a_manifest_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        append_entry(tmp_path, "latents", "a", Entry((1,)))
    expected = (
        "ROOT/latents/manifest-0.jsonl: cannot be written: No such file or directory\n    Free some space, or name another data root."
    )
    assert message(caught.value, tmp_path) == expected


def test_preprocessing_reuses_only_what_is_there_as_recorded(tmp_path: Path) -> None:
    for name in ("kept", "gone", "changed"):
        put(tmp_path, "audio_latents", name, {"latents": values(8, 5, 16)})
    (tmp_path / "audio_latents" / "gone.safetensors").unlink()
    (tmp_path / "audio_latents" / "changed.safetensors").write_bytes(b"short")
    assert list(read_source(tmp_path, "audio_latents")) == ["kept"]


def test_a_folder_that_is_not_there_yet_has_nothing_to_reuse(tmp_path: Path) -> None:
    assert read_source(tmp_path / "nowhere", "latents") == {}


def test_a_folder_that_climbs_out_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_source(tmp_path, "../x")
    expected = 'the folder name "../x" could lead out of the data root'
    assert str(caught.value) == f'{expected}\n    Use a relative path without ".." or empty parts, with "/" between its parts.'


# ---- refusals


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    expected = "ROOT: there is no such folder\n    Name the folder that `ltx preprocess` wrote to."
    assert refused(tmp_path / "nowhere", INPAINTING) == expected


def test_a_missing_folder_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    sources = {**INPAINTING, "audio.cond0.mask": attrs.evolve(AUDIO_MASK, folder="audio_mask")}
    assert refused(tmp_path, sources) == f'{MASKS}: there is no folder "audio_mask" in ROOT\n    Did you mean "audio_masks"?'


def test_a_root_whose_samples_lie_one_folder_deeper_is_told_so(tmp_path: Path) -> None:
    inpainting_set(tmp_path / ".precomputed", ["a"])
    expected = [
        f'{where}there is no folder "{folder}" in ROOT\n    Did you mean the root "ROOT/.precomputed"?'
        for where, folder in (("", "conditions"), (f"{LATENTS}: ", "audio_latents"), (f"{MASKS}: ", "audio_masks"))
    ]
    assert refused(tmp_path, INPAINTING) == "\n".join(expected)


def test_a_folder_outside_the_root_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    sources = {**INPAINTING, "audio.cond0.mask": attrs.evolve(AUDIO_MASK, folder="../masks")}
    remedy = 'Use a relative path without ".." or empty parts, with "/" between its parts.'
    assert refused(tmp_path, sources) == f'{MASKS}: the folder name "../masks" could lead out of the data root\n    {remedy}'


def test_a_sample_that_lacks_its_mask_is_refused_and_named(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    put_text(tmp_path, "c")
    put(tmp_path, "audio_latents", "c", {"latents": values(8, 6, 16)})
    assert refused(tmp_path, INPAINTING) == f'{MASKS}: "audio_masks" lacks 1 sample of "audio_latents", "conditions": c{MAKE_THEM}'


def test_of_many_samples_that_are_lacking_five_are_named_and_all_counted(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["z"])
    for number in range(8):
        put(tmp_path, "audio_masks", f"s{number}", {"mask": torch.ones(6)})
    lacks = 'lacks 8 samples of "audio_masks": s0, s1, s2, s3, s4 and 3 more'
    assert (
        refused(tmp_path, INPAINTING) == f'ROOT/conditions: "conditions" {lacks}{MAKE_THEM}\n{LATENTS}: "audio_latents" {lacks}{MAKE_THEM}'
    )


def test_optional_sources_must_be_there_too(tmp_path: Path) -> None:
    put_text(tmp_path, "a")
    put(tmp_path, "latents", "a", {"latents": values(16, 2, 2, 2)})
    put(tmp_path, "reference_latents", "b", {"latents": values(16, 2, 2, 2)})
    put_text(tmp_path, "b")
    put(tmp_path, "latents", "b", {"latents": values(16, 2, 2, 2)})
    sources = {"text": TEXT, "video": VIDEO, "video.cond1.reference": REFERENCE}
    expected = 'training_strategy.video.conditions.1.latents_dir: "reference_latents" lacks 1 sample of "conditions", "latents": a'
    assert refused(tmp_path, sources) == expected + MAKE_THEM


def test_a_folder_without_samples_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    for path in (tmp_path / "audio_masks").iterdir():
        path.unlink()
    assert refused(tmp_path, INPAINTING) == f'{MASKS}: there are no samples in "audio_masks"\n    Run `ltx preprocess` again.'


def test_values_that_are_not_finite_are_refused_and_named(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    put(tmp_path, "audio_latents", "b", {"latents": torch.full((8, 6, 16), torch.nan)}, origin="b.wav")
    assert refused(tmp_path, INPAINTING) == f'{LATENTS}: 1 sample of "audio_latents" holds NaN or infinite values: b{LOOK}'


def test_own_values_that_are_not_finite_are_written_anew_by_whoever_wrote_them(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    put(tmp_path, "audio_masks", "b", {"mask": torch.full((6,), torch.nan)})
    assert refused(tmp_path, INPAINTING) == (
        f'{MASKS}: 1 sample of "audio_masks" holds NaN or infinite values: b\n    Write these samples again without NaN or infinite values.'
    )


def test_an_audio_mask_of_the_wrong_length_is_refused_with_both_lengths(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b", "c"])
    put(tmp_path, "audio_masks", "b", {"mask": torch.ones(5)})
    put(tmp_path, "audio_masks", "c", {"mask": torch.ones(7)})
    expected = f'{MASKS}: 2 masks of "audio_masks" do not fit the audio latents: b (5 for 6), c (7 for 6)'
    assert (
        refused(tmp_path, INPAINTING) == f"{expected}\n    Make masks from the same media as the latents, with one value per latent step."
    )


def test_a_video_mask_of_the_wrong_grid_is_refused(tmp_path: Path) -> None:
    put_text(tmp_path, "a")
    put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 4)})
    put(tmp_path, "video_masks", "a", {"mask": torch.ones(3, 4, 2)})
    sources = {"text": TEXT, "video": VIDEO, "video.cond0.mask": VIDEO_MASK}
    expected = f'{VIDEO_MASK.where}: 1 mask of "video_masks" does not fit the video latents: a (3 x 4 x 2 for 3 x 2 x 4)'
    assert refused(tmp_path, sources) == f"{expected}\n    Make masks from the same media as the latents, with one value per latent cell."


def test_text_of_two_encoders_in_one_folder_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b", "c"])
    put_text(tmp_path, "b", encoder="hash-2")
    expected = 'ROOT/conditions: the samples of "conditions" do not all have the same encoder: hash-1 in 2, hash-2 in b'
    assert (
        refused(tmp_path, INPAINTING)
        == f"{expected}\n    Encode the whole dataset with one model: run `ltx preprocess` with another --output-dir."
    )


def test_text_of_two_lengths_in_one_folder_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b", "c"])
    put_text(tmp_path, "c", length=16)
    expected = 'ROOT/conditions: the samples of "conditions" do not all have the same length: 8 in 2, 16 in c'
    assert (
        refused(tmp_path, INPAINTING)
        == f"{expected}\n    Encode the whole dataset with one model: run `ltx preprocess` with another --output-dir."
    )


@pytest.mark.parametrize(
    ("shape", "what"), [((4, 6, 16), "number of channels: 8 in 2, 4"), ((8, 6, 8), "number of frequency bins: 16 in 2, 8")]
)
def test_latents_of_two_codecs_in_one_folder_are_refused(tmp_path: Path, shape: tuple[int, ...], what: str) -> None:
    inpainting_set(tmp_path, ["a", "b", "c"])
    put(tmp_path, "audio_latents", "c", {"latents": values(*shape)})
    expected = f'{LATENTS}: the samples of "audio_latents" do not all have the same {what} in c'
    assert refused(tmp_path, INPAINTING) == f"{expected}\n    Write these samples again, all with the same {what.partition(':')[0]}."


def test_samples_whose_encoder_is_not_known_go_with_any(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    put_text(tmp_path, "b", encoder="")
    assert read_manifest(tmp_path, INPAINTING).samples == ("a", "b")


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    sources = {**INPAINTING, "audio.cond0.mask": attrs.evolve(AUDIO_MASK, folder="audio_latents")}
    expected = f'{MASKS}: "audio_latents" is read as an audio mask, but 2 samples hold audio latents: a, b'
    assert refused(tmp_path, sources) == f"{expected}\n    Name another folder."


def test_latents_of_the_other_modality_are_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    sources = {"text": TEXT, "video": attrs.evolve(VIDEO, folder="audio_latents")}
    expected = f'{VIDEO.where}: "audio_latents" is read as video latents, but 1 sample holds audio latents: a'
    assert refused(tmp_path, sources) == f"{expected}\n    Name another folder."


def test_text_without_features_for_a_modality_of_the_run_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    put(tmp_path, "conditions", "b", {"video": values(3, 8)}, shape=(8,), encoder="hash-1")
    expected = "ROOT/conditions: the text of 1 sample has no features for audio: b\n    Run `ltx preprocess` again with this model."
    assert refused(tmp_path, INPAINTING) == expected
    assert refused(tmp_path, {"text": TEXT, "video": AUDIO}).count("no features") == 1
    put(tmp_path, "latents", "a", {"latents": values(16, 2, 2, 2)})
    put(tmp_path, "latents", "b", {"latents": values(16, 2, 2, 2)})
    assert read_manifest(tmp_path, {"text": TEXT, "video": VIDEO}).samples == ("a", "b")


def test_a_recorded_sample_whose_file_is_gone_is_refused_and_named(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    (tmp_path / "audio_latents" / "b.safetensors").unlink()
    remedy = 'Run `ltx preprocess` again. If you removed the files on purpose, delete the manifest*.jsonl of "audio_latents" too: the folder is then indexed again.'
    assert (
        refused(tmp_path, INPAINTING)
        == f'{LATENTS}: the manifest of "audio_latents" records 1 sample whose file is missing: b\n    {remedy}'
    )


def test_a_sample_of_another_size_than_recorded_is_refused_and_named(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b"])
    path = tmp_path / "audio_latents" / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    expected = f'{LATENTS}: 1 sample of "audio_latents" has a size that differs from the recorded one: b'
    remedy = 'Run `ltx preprocess` again, which encodes them again. If the files are your own, delete the manifest*.jsonl of "audio_latents": the folder is then indexed again.'
    assert refused(tmp_path, INPAINTING) == f"{expected}\n    {remedy}"


def test_unreadable_files_are_named_the_first_five_with_reasons(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["z"])
    for number in range(7):
        (tmp_path / "audio_masks" / f"s{number}.safetensors").write_bytes(b"torn")
    lines = refused(tmp_path, INPAINTING).splitlines()
    for number in range(5):
        assert lines[2 * number] == f"ROOT/audio_masks/s{number}.safetensors: is truncated or not a safetensors file: it has 4 bytes"
    assert lines[10] == f'{MASKS}: 2 more of "audio_masks" cannot be read: s5, s6'
    assert lines[11].startswith('ROOT/conditions: "conditions" lacks 7 samples of the dataset')


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b", "c"])
    put(tmp_path, "audio_latents", "a", {"latents": torch.full((8, 6, 16), torch.inf)})
    put(tmp_path, "audio_masks", "b", {"mask": torch.ones(5)})
    (tmp_path / "conditions" / "c.safetensors").unlink()
    sources = {**INPAINTING, "video": VIDEO}
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path, sources)
    assert [problem.where.replace(str(tmp_path), "ROOT") for problem in caught.value.problems] == [
        VIDEO.where,
        "ROOT/conditions",
        LATENTS,
        MASKS,
    ]


# ---- only some samples


def test_a_run_may_be_planned_for_the_rows_of_its_dataset_alone(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a", "b", "left over"])
    put_text(tmp_path, "half")
    (tmp_path / "audio_masks" / "left over.safetensors").unlink()
    assert read_manifest(tmp_path, INPAINTING, only=["b", "a"]).samples == ("a", "b")


def test_a_row_that_no_folder_has_is_refused(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    lacks = f"lacks 1 sample of the dataset: x{MAKE_THEM}"
    expected = [f'ROOT/conditions: "conditions" {lacks}', f'{LATENTS}: "audio_latents" {lacks}', f'{MASKS}: "audio_masks" {lacks}']
    assert refused(tmp_path, INPAINTING, only=["a", "x"]) == "\n".join(expected)


# ---- killed processes


def test_a_torn_last_line_counts_as_not_written_and_its_sample_is_read_from_its_file(tmp_path: Path) -> None:
    entries = {name: put(tmp_path, "audio_latents", name, {"latents": values(8, 4, 16)}, fingerprint=name) for name in ("a", "b")}
    path = tmp_path / "audio_latents" / "manifest-0.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_source(tmp_path, "audio_latents") == entries


def test_a_line_after_a_torn_one_is_not_lost(tmp_path: Path) -> None:
    put(tmp_path, "audio_latents", "a", {"latents": values(8, 4, 16)})
    path = tmp_path / "audio_latents" / "manifest-0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    put(tmp_path, "audio_latents", "b", {"latents": values(8, 4, 16)})
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 3
    assert b'"name": "b"' in lines[1]
    assert list(read_source(tmp_path, "audio_latents")) == ["a", "b"]


def test_a_sample_written_but_not_yet_recorded_is_as_good_as_recorded(tmp_path: Path) -> None:
    entry = write_sample(
        tmp_path, "latents", "a", {"latents": values(16, 2, 2, 2)}, Entry((), 12.5, fingerprint="f", origin="o", encoder="e")
    )
    put(tmp_path, "latents", "b", {"latents": values(16, 2, 2, 2)})
    assert read_source(tmp_path, "latents")["a"] == entry


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name": "a"}',
        b'{"name": 3, "shape": [1]}',
        b'{"name": "a", "shape": "big"}',
        b'{"name": "a", "shape": [0.5]}',
    ],
)
def test_a_line_that_makes_no_sense_is_not_believed(tmp_path: Path, line: bytes) -> None:
    entry = put(tmp_path, "audio_latents", "a", {"latents": values(8, 4, 16)})
    path = tmp_path / "audio_latents" / "manifest-0.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    assert read_source(tmp_path, "audio_latents") == {"a": entry}


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inpainting_set(tmp_path, ["a"])
    scan = os.scandir

    def denied(path: str | os.PathLike[str] = ".") -> object:
        if str(path).endswith("audio_masks"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert refused(tmp_path, INPAINTING) == "ROOT/audio_masks: cannot be read: Permission denied"
