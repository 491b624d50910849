"""Samples of ltx-trainer are read where they lie, legacy forms too; nothing but plain tensors is."""

import pickle
from pathlib import Path

import pytest
import torch

from helpers.encoded_sets import AUDIO, AUDIO_MASK, TEXT, VIDEO, message, read_latents, read_text, values
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch, padded_text
from ltxcore.encoded.store import OWN, read_mask, read_stored
from ltxcore.errors import DataError

ONLY_PLAIN = "\n    Only plain tensors, numbers and strings are read from a .pt file; encode the raw file with `ltx preprocess` instead."
REDO = f"\n    {OWN}"


def _save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def test_video_latents_come_with_their_fps(tmp_path: Path) -> None:
    latents = values(128, 3, 2, 4, dtype=torch.bfloat16)
    content = {"latents": latents, "num_frames": 3, "height": 2, "width": 4, "fps": 29.97002997002997}
    found, rate = read_latents(_save(tmp_path / "a.pt", content))
    assert torch.equal(found, latents)
    assert rate == 29.97002997002997


def test_video_latents_without_fps_do_not_say(tmp_path: Path) -> None:
    assert read_latents(_save(tmp_path / "a.pt", {"latents": values(128, 3, 2, 4)}))[1] is None


def test_audio_latents_are_read(tmp_path: Path) -> None:
    latents = values(8, 26, 16)
    path = _save(tmp_path / "a.pt", {"latents": latents, "num_time_steps": 26, "frequency_bins": 16, "duration": 1.0})
    assert torch.equal(read_latents(path)[0], latents)
    assert read_stored(path)[0].modality == "audio"


def test_legacy_video_tokens_are_put_back_into_their_grid(tmp_path: Path) -> None:
    latents = values(128, 3, 2, 4)
    tokens = torch.stack([latents[:, f, y, x] for f in range(3) for y in range(2) for x in range(4)])
    found, _ = read_latents(_save(tmp_path / "a.pt", {"latents": tokens, "num_frames": 3, "height": torch.tensor(2), "width": 4}))
    assert torch.equal(found, latents)


def test_legacy_audio_tokens_are_put_back_into_their_grid(tmp_path: Path) -> None:
    latents = values(8, 26, 16)
    tokens = torch.stack([latents[:, t, m] for t in range(26) for m in range(16)])
    found, _ = read_latents(_save(tmp_path / "a.pt", {"latents": tokens, "num_time_steps": 26, "frequency_bins": 16}))
    assert torch.equal(found, latents)


@pytest.mark.parametrize("left", [True, False])
def test_text_is_stripped_of_its_padding_on_either_side(tmp_path: Path, left: bool) -> None:
    video, audio = values(8, 12), values(8, 6, seed=1)
    words = slice(3, 8) if left else slice(0, 5)
    mask = torch.zeros(8, dtype=torch.int64)
    mask[words] = 1
    content = {"video_prompt_embeds": video, "audio_prompt_embeds": audio, "prompt_attention_mask": mask}
    found, length = read_text(_save(tmp_path / "a.pt", content))
    assert length == 8
    assert torch.equal(found["video"], video[words])
    assert torch.equal(found["audio"], audio[words])


def test_text_for_video_alone_has_no_features_for_audio(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pt", {"video_prompt_embeds": values(8, 12), "prompt_attention_mask": torch.ones(8)})
    assert set(read_text(path)[0]) == {"video"}


def test_one_legacy_prompt_serves_both_modalities(tmp_path: Path) -> None:
    embeds = values(8, 12)
    found, _ = read_text(_save(tmp_path / "a.pt", {"prompt_embeds": embeds, "prompt_attention_mask": torch.ones(8)}))
    assert torch.equal(found["video"], embeds)
    assert torch.equal(found["audio"], embeds)


@pytest.mark.parametrize("wrap", [lambda mask: mask, lambda mask: {"mask": mask}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_masks_are_read_bare_or_by_name_soft_or_true_and_false(tmp_path: Path, wrap, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    mask = torch.tensor([0.0, 1.0, 1.0]).to(dtype)
    assert torch.equal(read_mask(_save(tmp_path / "a.pt", wrap(mask))), mask.float())


class Harmful:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pt", {"latents": Harmful(tmp_path / "harm")})
    with pytest.raises(DataError) as caught:
        read_stored(path)
    what = "holds more than plain tensors, so it was refused, and nothing in it was run"
    assert message(caught.value, tmp_path) == f"ROOT/a.pt: {what}{ONLY_PLAIN}"
    assert not (tmp_path / "harm").exists()


def test_a_bare_pickle_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with pytest.raises(DataError) as caught:
        read_stored(tmp_path / "a.pt")
    assert message(caught.value, tmp_path) == f"ROOT/a.pt: is truncated or not a .pt file{REDO}"
    assert not (tmp_path / "harm").exists()


def _outcome(path: Path) -> object:
    """The shape that is read, or how the message begins."""
    try:
        return read_stored(path)[0].shape
    except DataError as error:
        return str(error)[: len(f"{path}: ")]


def test_damaged_bytes_change_values_at_most_or_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pt", {"latents": values(8, 2, 4), "num_time_steps": 2, "frequency_bins": 4})
    whole = path.read_bytes()
    outcomes = set()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        outcomes.add(_outcome(path))
    assert outcomes == {(8, 2, 4), f"{path}: "}


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pt", {"latents": values(8, 26, 16)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError) as caught:
        read_stored(path)
    assert message(caught.value, tmp_path).startswith("ROOT/a.pt: is truncated or not a .pt file: ")
    assert message(caught.value, tmp_path).endswith(REDO)


@pytest.mark.parametrize("data", [b"", b"P", b"hello", b"PK\x03\x04", bytes(100)])
def test_what_is_not_a_pt_file_is_a_data_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.pt: "):
        read_stored(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([torch.zeros(3)], f"holds a value of type list, not a table of tensors{ONLY_PLAIN}"),
        ({"latents": [1.0, 2.0]}, f"latents is of type list, not a plain tensor{ONLY_PLAIN}"),
        ({"latents": torch.zeros(2, 2).to_sparse()}, f"latents is of type Tensor, not a plain tensor{ONLY_PLAIN}"),
        ({"samples": torch.zeros(3)}, f"holds samples; a sample holds latents, mask, or prompt_embeds with prompt_attention_mask{REDO}"),
        ({}, f"holds nothing; a sample holds latents, mask, or prompt_embeds with prompt_attention_mask{REDO}"),
        (
            {"latents": torch.zeros(6, 128)},
            f"latents in the form of tokens need num_frames, height and width (video), or num_time_steps and frequency_bins (audio){REDO}",
        ),
        (
            {"latents": torch.zeros(6, 128), "num_frames": 2, "height": 2, "width": 2},
            f"there are 6 tokens, but num_frames, height, width say 2 x 2 x 2{REDO}",
        ),
        ({"latents": torch.zeros(128, 1, 2, 2), "fps": "24"}, f"fps is '24', not a number{REDO}"),
        ({"latents": torch.zeros(128, 1, 2, 2), "fps": 0}, f"a rate of 0 frames per second is not possible{REDO}"),
        (
            {"video_prompt_embeds": torch.zeros(8, 4), "prompt_attention_mask": torch.ones(7)},
            f"the video text features of shape [8, 4] do not fit prompt_attention_mask of shape [7]{REDO}",
        ),
        ({"mask": torch.tensor([2.0])}, f"the mask has values from 2 to 2; they must lie between 0 (generated) and 1 (given){REDO}"),
        (
            {"prompt_attention_mask": torch.ones(7)},
            f'this file holds no tensors; a sample holds "latents", "mask", "pictures" and "frames", "values", or text features named "video" and "audio"{REDO}',
        ),
    ],
)
def test_what_is_no_sample_is_named(tmp_path: Path, content: object, what: str) -> None:
    with pytest.raises(DataError) as caught:
        read_stored(_save(tmp_path / "a.pt", content))
    assert message(caught.value, tmp_path) == f"ROOT/a.pt: {what}"


def _audio_set(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        _save(
            root / "audio_latents" / f"{name}.pt", {"latents": values(8, 26, 16, seed=number), "num_time_steps": 26, "frequency_bins": 16}
        )
        _save(root / "audio_masks" / f"{name}.pt", {"mask": torch.linspace(0, 1, 26)})
        mask = torch.tensor([0, 0, 1, 1])
        _save(
            root / "conditions" / f"{name}.pt",
            {"video_prompt_embeds": values(4, 12), "audio_prompt_embeds": values(4, 6), "prompt_attention_mask": mask},
        )


def test_a_set_of_ltx_trainer_is_planned_and_loaded_without_conversion(tmp_path: Path) -> None:
    _audio_set(tmp_path, ["clips/a", "b"])
    sources = {"text": TEXT, "audio": AUDIO, "audio.cond0.mask": AUDIO_MASK}
    manifest = read_manifest(tmp_path, sources)
    assert manifest.samples == ("b", "clips/a")
    batch = load_batch(tmp_path, sources, ["clips/a", "b"], list(sources), manifest)
    assert torch.equal(batch.latents["audio"].latents[0], values(8, 26, 16, seed=0))
    assert torch.equal(batch.masks["audio.cond0.mask"][1], torch.linspace(0, 1, 26))
    text = padded_text(batch)
    assert text.mask.tolist() == [[0, 0, 1, 1]] * 2
    assert torch.equal(text.features["audio"][0, 2:], values(4, 6)[2:])
    assert not text.features["audio"][:, :2].any()


def test_an_early_set_is_joined_by_the_numbers_in_its_names(tmp_path: Path) -> None:
    for number in (3, 4):
        _save(tmp_path / "latents" / f"latent_{number}.pt", {"latents": values(128, 1, 2, 2)})
        _save(
            tmp_path / "conditions" / f"condition_{number}.pt",
            {"prompt_embeds": values(4, 12, seed=number), "prompt_attention_mask": torch.ones(4)},
        )
    sources = {"text": TEXT, "video": VIDEO}
    manifest = read_manifest(tmp_path, sources)
    assert manifest.samples == ("latent_3", "latent_4")
    batch = load_batch(tmp_path, sources, ["latent_4"], list(sources), manifest)
    assert torch.equal(padded_text(batch).features["video"][0], values(4, 12, seed=4))


def test_clips_that_happen_to_be_called_condition_keep_their_names(tmp_path: Path) -> None:
    for name in ("condition_1", "latent_1"):
        _save(tmp_path / "latents" / f"{name}.pt", {"latents": values(128, 1, 2, 2)})
        _save(tmp_path / "conditions" / f"{name}.pt", {"prompt_embeds": values(4, 12), "prompt_attention_mask": torch.ones(4)})
    assert read_manifest(tmp_path, {"text": TEXT, "video": VIDEO}).samples == ("condition_1", "latent_1")
