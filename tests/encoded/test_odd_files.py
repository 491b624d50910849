"""Whatever lies in a folder of samples, it costs itself alone: it is named in words, and the samples beside it are listed."""

from __future__ import annotations

import json
import os
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from helpers.encoded_sets import AUDIO, TEXT, VIDEO, put, put_text, text, values
from helpers.sampling import sampled
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.encoded.store import LARGEST, read_recorded, read_stored
from ltxcore.errors import DataError
from ltxcore.protocols import Entry

GRID = {"num_frames": 3, "height": 2, "width": 2}
TOKENS = values(12, 16)
DEEP = "[" * 50_000 + "]" * 50_000
FLOATS_8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def _safetensors(header: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + data


def _pt(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path.with_suffix(".pt"))


def _bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path.with_suffix(".pt"), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(2**20))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a rate of 10^400": (_pt({"latents": values(16, 3, 2, 2), "fps": 10**400}), "fps is a number of 1329 bits"),
    "a rate that is infinite": (_pt({"latents": values(16, 3, 2, 2), "fps": float("inf")}), "fps is inf"),
    "a rate that is NaN": (_pt({"latents": values(16, 3, 2, 2), "fps": float("nan")}), "fps is nan"),
    "a rate of 5,000 digits as text": (_pt({"latents": values(16, 3, 2, 2), "fps": "9" * 5000}), "fps is '999"),
    "a rate that is a tensor without values": (_pt({"latents": values(16, 3, 2, 2), "fps": torch.ones(1, device="meta")}), "without values"),
    "a grid that is infinite": (_pt({"latents": TOKENS, **GRID, "height": float("inf")}), "height is inf"),
    "a grid that is NaN": (_pt({"latents": TOKENS, **GRID, "height": float("nan")}), "height is nan"),
    "a grid that is negative": (_pt({"latents": TOKENS, **GRID, "height": -2, "width": -2}), "height is -2, not a number of cells"),
    "a grid of half a row": (_pt({"latents": TOKENS, **GRID, "height": 2.5}), "height is 2.5, not a number of cells"),
    "a grid of 10^30": (_pt({"latents": TOKENS, **GRID, "height": 10**30}), "height is a number of 100 bits"),
    "latents without values": (_pt({"latents": torch.empty(16, 3, 2, 2, device="meta")}), "latents is a tensor without values"),
    "latents of 10 TB by strides of 0": (
        _pt({"latents": torch.zeros(1).expand(128, 10_000, 1_000, 2_000)}),
        "latents has the shape [128, 10000, 1000, 2000], but only 4 bytes of data",
    ),
    "a mask of complex numbers": (_pt({"mask": torch.zeros(5, dtype=torch.complex64)}), "mask is of type complex64"),
    "a zip that unpacks to 300 MB": (_bomb, "would take 314,572,800 when unpacked, so it was not unpacked"),
    "a zip without a directory": (lambda path: path.with_suffix(".pt").write_bytes(b"PK\x03\x04" + bytes(500)), "is truncated or not a .pt file"),
    "a header 50,000 deep": (_bytes(_safetensors(DEEP)), "it has no readable header"),
    "a tensor's place 50,000 deep": (
        _bytes(_safetensors(f'{{"latents": {{"dtype": "F32", "shape": {DEEP}, "data_offsets": [0, 4]}}}}', bytes(4))),
        "it has no readable header",
    ),
    "a header of 10^18 bytes": (_bytes(struct.pack("<Q", 10**18) + bytes(100)), "it has no readable header"),
    "metadata that are a list": (
        _bytes(_safetensors('{"__metadata__": [1], "mask": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', bytes(4))),
        "is a damaged safetensors file",
    ),
    "text padded to 10^12": (
        lambda path: safetensors.torch.save_file(text(3), path, {"length": "1000000000000"}),
        "padded to 1,000,000,000,000 positions",
    ),
    "text without width": (lambda path: safetensors.torch.save_file({"video": torch.zeros(3, 0)}, path, {"length": "8"}), "have no values per token"),
    "a rate of 1e-300": (lambda path: safetensors.torch.save_file({"latents": values(16, 3, 2, 2)}, path, {"rate": "1e-300"}), "a rate of 1e-300 frames per second"),
    "a file of 4 GB and a byte": (_sparse, "has 4,294,967,297 bytes, but a sample has at most 4,294,967,296"),
    "a named pipe": (os.mkfifo, "cannot be read: it is a named pipe or a device, not an ordinary file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "cannot be read: it is a named pipe or a device, not an ordinary file"),
    "a link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_file_is_named_with_its_reason_and_the_samples_beside_it_are_listed(tmp_path: Path, case: str) -> None:
    make, reason = ODD[case]
    put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)})
    make(tmp_path / "latents" / "odd.safetensors")
    found = list_folder(tmp_path / "latents", remember=False)
    assert list(found.entries) == ["a"]
    problem = found.unreadable["odd"]
    assert problem.where.startswith(str(tmp_path / "latents" / "odd."))
    assert reason in problem.what
    assert len(problem.what) < 300


@pytest.mark.parametrize("dtype", FLOATS_8)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_samples_of_8_bit_floating_point_are_read_as_the_numbers_they_are(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    mask = torch.tensor([0.0, 0.25, 0.5, 1.0])
    samples: dict[str, dict[str, Any]] = {"mask": {"mask": mask}, "latents": {"latents": values(8, 3, 4)}}
    for name, tensors in samples.items():
        held = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        path = tmp_path / f"{name}{suffix}"
        torch.save(held, path) if suffix == ".pt" else safetensors.torch.save_file(held, path)
        sample, entry = read_recorded(path)
        assert entry.finite
        assert torch.equal(sample.tensors[name], held[name].float())


def test_a_text_of_8_bit_floating_point_is_stripped_of_its_padding(tmp_path: Path) -> None:
    features, mask = values(4, 6).to(torch.float8_e4m3fn), torch.tensor([0, 0, 1, 1])
    torch.save({"prompt_embeds": features, "prompt_attention_mask": mask}, tmp_path / "a.pt")
    assert torch.equal(read_stored(tmp_path / "a.pt")[0].tensors["audio"], features.float()[2:])


def test_what_a_tensor_repeats_by_its_strides_is_read_as_long_as_it_fits(tmp_path: Path) -> None:
    torch.save({"mask": torch.tensor(0.5).expand(3, 4, 5)}, tmp_path / "a.pt")
    assert torch.equal(read_stored(tmp_path / "a.pt")[0].tensors["mask"], torch.full((3, 4, 5), 0.5))


def test_a_manifest_that_is_a_named_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)})
    os.mkfifo(tmp_path / "latents" / "manifest-9.jsonl")
    with pytest.raises(DataError, match=r"manifest-9\.jsonl: cannot be read: it is a named pipe"):
        list_folder(tmp_path / "latents")


LINES: dict[str, dict[str, Any]] = {
    "no shape": {"shape": []},
    "a shape that is too short": {"shape": [16]},
    "a shape of 10^400": {"shape": [10**400, 3, 2, 2]},
    "a shape that no file of its size can have": {"shape": [16, 10**12, 2, 2]},
    "a kind that is none": {"kind": "film"},
    "another modality": {"modality": "audio"},
    "a rate of 0": {"rate": 0},
    "a rate of 10^400": {"rate": 10**400},
    "a rate that is NaN": {"rate": float("nan")},
    "a time that is NaN": {"time": float("nan")},
    "a time of 10^400": {"time": 10**400},
    "a checksum that is a number": {"checksum": 5},
    "sizes that are text": {"bytes": "many"},
    "a removal of nothing": {"removed": "yes"},
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_cannot_be_true_counts_as_not_written_and_the_file_speaks_for_itself(tmp_path: Path, case: str) -> None:
    entry = put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)}, rate=24.0)
    path = tmp_path / "latents" / "manifest-0.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), **LINES[case]}) + "\n")
    assert list_folder(tmp_path / "latents").entries == {"a": entry}


@pytest.mark.parametrize("line", [DEEP, f'{{"name": "a", "shape": {DEEP}}}', '{"name": "\\ud800", "shape": []}', "9" * 10_000])
def test_a_line_that_python_cannot_take_counts_as_not_written(tmp_path: Path, line: str) -> None:
    entry = put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)})
    with (tmp_path / "latents" / "manifest-0.jsonl").open("a") as file:
        file.write(line + "\n")
    assert list_folder(tmp_path / "latents").entries == {"a": entry}


# ---- mutations: a sample of thousands

HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 9000,
    "../../a",
    "\ud800",
    [],
    [[]],
    {},
    [-1, 5],
]


def _mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    held = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        # Half of them where headers and directories are.
        at = rng.choice([rng.randrange(len(held)), rng.randrange(min(400, len(held))), len(held) - 1 - rng.randrange(min(400, len(held)))])
        change = rng.randrange(4)
        if change == 0:
            held[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            held[at] = rng.choice(b'\x00\xff{}[]",:0-9')
        elif change == 2:
            del held[at : at + rng.randrange(1, 20)]
        else:
            held[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
        if not held:
            return b""
    return bytes(held)


def _mutated_table(table: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    changed = dict(table)
    for _ in range(rng.choice([1, 1, 2])):
        key = rng.choice(sorted(changed) or ["name"])
        if isinstance(changed.get(key), dict) and rng.random() < 0.7:
            changed[key] = _mutated_table(changed[key], rng)
        elif isinstance(changed.get(key), list) and changed[key] and rng.random() < 0.5:
            changed[key] = [*changed[key][1:], rng.choice(HOSTILE)]
        elif key in changed and rng.random() < 0.1:
            del changed[key]
        else:
            changed[key] = rng.choice(HOSTILE)
    return changed


def _mutated_header(data: bytes, rng: random.Random) -> bytes:
    (size,) = struct.unpack("<Q", data[:8])
    return _safetensors(json.dumps(_mutated_table(json.loads(data[8 : 8 + size]), rng)), data[8 + size :])


def _seeds(root: Path) -> list[Path]:
    """Healthy samples of every kind, ours and ltx-trainer's."""
    put(root, "latents", "a", {"latents": values(16, 3, 2, 2)}, rate=24.0, fingerprint="f", origin="a.mp4")
    put(root, "audio_latents", "a", {"latents": values(8, 5, 16)})
    put(root, "masks", "a", {"mask": torch.linspace(0, 1, 5)})
    put_text(root, "a", words=2)
    grid = {"num_frames": 3, "height": 2, "width": torch.tensor(2)}
    torch.save({"latents": TOKENS, **grid, "fps": 24.0}, root / "latents" / "b.pt")
    torch.save({"prompt_embeds": values(4, 6), "prompt_attention_mask": torch.ones(4)}, root / "conditions" / "b.pt")
    torch.save({"mask": torch.ones(5)}, root / "masks" / "b.pt")
    return sorted([*root.rglob("*.safetensors"), *root.rglob("*.pt")])


def _mutations(seeds: list[Path], numbers: range) -> Iterator[tuple[int, str, bytes]]:
    for number in numbers:
        rng = random.Random(number)
        path = rng.choice(seeds)
        data = path.read_bytes()
        of_header = path.suffix == ".safetensors" and rng.random() < 0.5
        yield number, path.suffix, _mutated_header(data, rng) if of_header else _mutated_bytes(data, rng)


def _read(path: Path) -> Entry | str:
    try:
        return read_recorded(path)[1]
    except DataError as error:
        return str(error)


def _check_files(root: Path, numbers: range) -> None:
    outcomes = {"read": 0, "refused": 0}
    for number, suffix, data in _mutations(_seeds(root), numbers):
        path = root / f"mutated{suffix}"
        path.write_bytes(data)
        found = _read(path)
        if isinstance(found, Entry):
            assert (found.bytes, bool(found.kind)) == (len(data), True), number
            outcomes["read"] += 1
        else:
            assert found.startswith(f"{path}: "), number
            outcomes["refused"] += 1
    assert outcomes["read"] > len(numbers) // 20  # numbers alone were changed
    assert outcomes["refused"] > len(numbers) // 3


def _check_manifests(root: Path, numbers: range) -> None:
    _seeds(root)
    path = root / "latents" / "manifest-0.jsonl"
    line = json.loads(path.read_text())
    healthy = list_folder(root / "latents").entries["a"]
    for number in numbers:
        rng = random.Random(number)
        changed = json.dumps(_mutated_table(line, rng)).encode()
        path.write_bytes((_mutated_bytes(changed, rng) if rng.random() < 0.3 else changed) + b"\n")
        manifest, problems = survey_manifest(root, {"text": TEXT, "video": VIDEO, "audio": AUDIO}, remember=False)
        found = manifest.entries["video"].get("a")
        assert found is None or len(found.shape) == len(healthy.shape), number
        assert all(isinstance(str(problem), str) for problem in problems), number


@pytest.mark.parametrize("part", sampled(range(50), 1))
def test_mutated_samples_are_read_or_refused_in_words(tmp_path: Path, part: int) -> None:
    _check_files(tmp_path, range(part * 400, (part + 1) * 400))


@pytest.mark.parametrize("part", sampled(range(34), 1))
def test_mutated_manifest_lines_leave_a_manifest_or_words(tmp_path: Path, part: int) -> None:
    _check_manifests(tmp_path, range(part * 150, (part + 1) * 150))


def test_an_entry_of_a_version_to_come_is_read_for_what_is_known_of_it(tmp_path: Path) -> None:
    entry = put(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)})
    path = tmp_path / "latents" / "manifest-0.jsonl"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "colour": "blue"}) + "\n")
    assert list_folder(tmp_path / "latents").entries == {"a": entry}
    assert not (tmp_path / "latents" / ".index.jsonl").exists()
    del told["checksum"]  # as 0.1.0 wrote it
    path.write_text(json.dumps(told) + "\n")
    assert list_folder(tmp_path / "latents").entries == {
        "a": Entry(**{**{key: getattr(entry, key) for key in Entry.__annotations__}, "checksum": ""})
    }
