import shutil
from collections import namedtuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltxcore.errors import CheckpointError
from ltxcore.files import replacing
from ltxcore.safetensors_files import AT_ONCE, Stored, dtype_of, pieces, read_header, scaled, write_tensors

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.ones(3, dtype=torch.bfloat16),
    "c": torch.tensor(7, dtype=torch.int64),
    "d": torch.tensor([True, False]),
}


def stored(tensors):
    return {name: Stored(t.dtype, tuple(t.shape), lambda t=t: t) for name, t in tensors.items()}


def test_what_is_written_is_read_by_the_library(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, stored(TENSORS), {"who": "me"})
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())
    header = read_header(path)
    assert header.metadata == {"who": "me"}
    assert {name: slot.shape for name, slot in header.slots.items()} == {"a": (2, 3), "b": (3,), "c": (), "d": (2,)}
    assert {name: dtype_of(slot) for name, slot in header.slots.items()} == {name: value.dtype for name, value in TENSORS.items()}


def test_values_are_cast_to_the_dtype_that_was_announced_and_made_contiguous(tmp_path):
    path = tmp_path / "x.safetensors"
    value = torch.arange(6.0).reshape(2, 3).T
    write_tensors(path, {"a": Stored(torch.bfloat16, (3, 2), lambda: value)}, {})
    assert torch.equal(load_file(path)["a"], value.bfloat16())


def test_tensors_start_at_addresses_that_their_dtype_can_be_read_from(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, stored(TENSORS), {})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0


def test_a_tensor_of_another_shape_than_announced_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match=r"a was announced as \(2,\) and is \(3,\)"):
        write_tensors(tmp_path / "x", {"a": Stored(torch.float32, (2,), lambda: torch.ones(3))}, {})


def test_a_file_appears_whole_at_the_end_and_its_folder_is_made(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with replacing(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.parent == path.parent
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_disk_without_room_is_found_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(1, 1, 2**29))
    big = {"a": Stored(torch.float32, (2**28,), lambda: torch.zeros(2**28))}
    with pytest.raises(CheckpointError) as error:
        write_tensors(tmp_path / "x", big, {})
    assert (
        str(error.value)
        == f"{tmp_path}: the disk has 0.5 GiB free, but 1.0 GiB are needed\n    Free some space, or choose a folder on another disk."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError) as error:
        read_header(tmp_path / "none.safetensors")
    assert str(error.value) == f"{tmp_path}/none.safetensors: there is no such file\n    Check the path, or download the file."


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    size = path.stat().st_size
    assert str(error.value) == f"{path}: is truncated: only {size} of {size + 5} bytes are there\n    Download or copy the file again."


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert str(error.value) == f"{path}: is not a safetensors file, or its beginning is damaged\n    Download or copy the file again."


@pytest.mark.parametrize("shape", [(), (1,), (2,), (2, 1)])
def test_a_scale_is_for_all_of_a_weight_or_for_each_of_its_rows(shape: tuple[int, ...]) -> None:
    scale = torch.tensor([2.0, 4.0])[: max(1, torch.Size(shape).numel())].reshape(shape)
    found = scaled(torch.tensor([[1.0, 2.0], [3.0, -4.0]]).to(torch.float8_e4m3fn), scale)
    second = float(scale.flatten()[-1])
    assert found.dtype == torch.float32
    assert found.tolist() == [[2.0, 4.0], [3.0 * second, -4.0 * second]]


def test_a_scaled_weight_of_sixteen_bits_keeps_its_dtype() -> None:
    assert scaled(torch.ones(2, 2, dtype=torch.bfloat16), torch.tensor(3.0)).dtype == torch.bfloat16


def test_many_rows_are_scaled_a_few_at_a_time_into_the_dtype_that_is_asked_for() -> None:
    stored = torch.randn(3 * AT_ONCE // 64, 100).to(torch.float8_e4m3fn)
    factors = torch.rand(len(stored))
    for scale in (factors, factors[:, None], torch.tensor(0.3), torch.tensor([0.3])):
        whole = stored.float() * scale.reshape(-1, 1)
        assert torch.equal(scaled(stored, scale), whole)
        assert torch.equal(scaled(stored, scale, torch.bfloat16), whole.to(torch.bfloat16))
    assert scaled(torch.tensor(2.0), torch.tensor(0.5)) == 1
    assert [(each.start, each.stop) for each in pieces(torch.empty(3, AT_ONCE))] == [(0, 1), (1, 2), (2, 3)]
