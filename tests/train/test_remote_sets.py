"""A run trains on a set at an address as on the same set on this machine, to the last bit, whatever the store does meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.older_runs import ltx
from helpers.slow_store import SlowStore, put_files, reads, slow_store
from helpers.training_runs import STOPPER, sound_set, tables, write_run
from ltxcore.encoded import mirror, remote

AT = "slow://bucket/set"
SHORT_RUN = {
    "optimization": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3},
    "validation": {"interval": 0, "skip_initial_validation": True, "inference_steps": 2},
}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowStore]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS", (0.0,) * 4)
    with slow_store() as store:
        yield store


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return sound_set(tmp_path / "set", 12)


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (output / "metrics.jsonl").read_text().splitlines()) if "loss" in line]


def ran(folder: Path, name: str, root: Path | str, status: int = 0, **changed: object) -> Path:
    run = tables(Path("unused"), folder / name, **{**SHORT_RUN, **changed})
    run["data"]["preprocessed_data_root"] = str(root)
    ltx(folder, "run", write_run(folder, run), status=status)
    return folder / name


def test_the_losses_and_the_lora_are_those_of_the_set_on_this_machine(tmp_path: Path, data: Path, system: type[SlowStore]) -> None:
    here = ran(tmp_path, "here", data)
    assert ltx(tmp_path, "shard", data, "--to", AT, "--size", "0.00002").endswith(
        f'conditions: copied 12 samples to {AT}/conditions\nTo train on it: data.preprocessed_data_root = "{AT}"\n'
    )
    system.seconds = 0.001
    system.faults.extend([OSError("503"), None, None, TimeoutError(), None, "short"])
    there = ran(tmp_path, "there", AT, data={"num_dataloader_workers": 3, "held_out": 4})
    assert losses(there) == losses(here)
    assert len(losses(there)) == 6
    assert (there / "lora.safetensors").read_bytes() == (here / "lora.safetensors").read_bytes()
    assert not system.faults
    told = (there / "run.json").read_text(), (there / "run.toml").read_text()
    assert json.loads(told[0])["data"]["root"] == AT
    assert f'preprocessed_data_root = "{AT}"' in told[1]
    assert "cache/ltx" not in "".join(told)


def test_a_run_reads_each_file_of_each_sample_once(tmp_path: Path, data: Path, system: type[SlowStore]) -> None:
    put_files(system(), data, "/bucket/set")
    ran(tmp_path, "out", AT)
    assert system.requests["list", "/bucket/set"] == 1
    samples = {path for _, path, _, _ in reads(system.requests) if path.endswith(".safetensors")}
    assert len(samples) == 36
    assert max(system.requests.values()) == 1


def test_an_interrupted_run_resumes_to_the_last_bit(
    tmp_path: Path, data: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FRESH", 0.0)
    put_files(system(), data, "/bucket/set")
    whole = ran(tmp_path, "whole", data)
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 3}}}
    parts = ran(tmp_path, "parts", AT, status=130, **stopper)
    assert len(losses(parts)) == 3
    ran(tmp_path, "parts", AT, **stopper)
    assert losses(parts) == losses(whole)
    assert (parts / "lora.safetensors").read_bytes() == (whole / "lora.safetensors").read_bytes()


def test_a_store_that_stays_away_ends_the_run_with_a_sentence(
    tmp_path: Path, data: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(system(), data, "/bucket/set")
    run = write_run(tmp_path, tables(Path("unused"), tmp_path / "out", data={"preprocessed_data_root": AT}))
    system.faults.extend([None] * 20 + [OSError("503 Slow Down")] * 100)
    told = ltx(tmp_path, "run", run, status=2)
    assert re.search(rf"{AT}/\w+/sound\d\d\.safetensors: cannot be read after 5 tries: OSError: 503 Slow Down", told)
    assert "Traceback" not in told
    monkeypatch.setattr(mirror, "FRESH", 0.0)
    assert f"{AT}: cannot be read after 5 tries" in ltx(tmp_path, "check", run, status=2)


def test_a_run_is_planned_on_a_machine_that_cannot_reach_its_set(tmp_path: Path, system: type[SlowStore]) -> None:
    run = write_run(tmp_path, tables(Path("unused"), tmp_path / "out", data={"preprocessed_data_root": AT}))
    system.faults.append(PermissionError("Forbidden"))
    told = ltx(tmp_path, "plan", run, "--gpu", "h100")
    assert f"the samples at {AT} are not looked at, since this machine cannot reach them: cannot be read, because the store refuses" in told
    assert "peak with margin" in told


@pytest.mark.parametrize("command", ["check", "plan", "doctor", "inspect"])
def test_commands_take_a_run_file_with_an_address(tmp_path: Path, data: Path, system: type[SlowStore], command: str) -> None:
    put_files(system(), data, "/bucket/set")
    run = write_run(tmp_path, tables(Path("unused"), tmp_path / "out", data={"preprocessed_data_root": AT}))
    there = ltx(tmp_path, command, run)
    here = ltx(tmp_path, command, run, "--set", f"data.preprocessed_data_root={data}")
    assert there.replace(AT, str(data)) == here
    assert "cache/ltx" not in there


def test_several_sets_may_lie_at_addresses_and_here(tmp_path: Path, data: Path, system: type[SlowStore]) -> None:
    put_files(system(), sound_set(tmp_path / "more", 8), "/bucket/more")
    sets = [{"preprocessed_data_root": str(data)}, {"preprocessed_data_root": "slow://bucket/more", "repeats": 2}]
    run = tables(Path("unused"), tmp_path / "out", **SHORT_RUN)
    run["data"] = {"sets": sets, "held_out": 2, "num_dataloader_workers": 0}
    ltx(tmp_path, "run", write_run(tmp_path, run))
    told = json.loads((tmp_path / "out" / "run.json").read_text())["data"]["sets"]
    assert {name: each["root"] for name, each in told.items()} == {"set": str(data), "more": "slow://bucket/more"}


def test_the_doctor_takes_an_address(tmp_path: Path, data: Path, system: type[SlowStore]) -> None:
    put_files(system(), data, "/bucket/set")
    assert ltx(tmp_path, "doctor", AT).replace(AT, str(data)) == ltx(tmp_path, "doctor", data)


@pytest.mark.parametrize(
    "arguments", [("shard", AT), ("shard", AT, "--unpack"), ("preprocess", "clips", "--output-dir", AT), ("decode", AT)]
)
def test_commands_that_write_refuse_an_address(tmp_path: Path, system: type[SlowStore], arguments: tuple[str, ...]) -> None:
    assert f"{AT} is an address, but this command takes only a path of this machine." in ltx(tmp_path, *arguments, status=2)


def test_a_dataset_is_not_encoded_to_an_address(tmp_path: Path, data: Path) -> None:
    (tmp_path / "clips").mkdir()
    run = tables(data, tmp_path / "out", data={"preprocessed_data_root": AT, "dataset": "clips"})
    told = ltx(tmp_path, "check", write_run(tmp_path, run), status=2)
    assert "data.preprocessed_data_root: is an address, but data can be encoded only into a folder of this machine" in told


@pytest.mark.parametrize("address", ["https://me:passwort@host/set", "s3://bucket/set?X-Amz-Signature=abcdef1234"])
def test_an_address_with_a_login_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    run = tables(Path("unused"), tmp_path / "out", data={"preprocessed_data_root": address})
    told = ltx(tmp_path, "check", write_run(tmp_path, run), status=2)
    assert "holds a login or a signature" in told
    assert not any(secret in told for secret in ("passwort", "abcdef1234"))
