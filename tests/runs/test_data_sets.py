"""A run on several sets: how often their samples are seen, what is held out, what is refused, and that a resumed run goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.raw_media import sound_file
from helpers.training_runs import STOPPER, put_sound, tables, write_run
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.data_sets import SetTable
from ltxcore.config.load import LoadedRun, load_run, read_run
from ltxcore.engines.process import Processes
from ltxcore.errors import LtxError
from ltxcore.planner.costs import _passes
from ltxcore.planner.largest_batch import sets_here
from ltxcore.runs.checks import check_ahead, check_run
from ltxcore.runs.data_sets import per_epoch, plan_of, sets_of
from ltxcore.runs.run_plan import RunPlan, draft
from ltxcore.train.dealing import OWN, data_of
from ltxcore.train.start_run import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets")
    for number in range(10):
        put_sound(path / "many", number)
    for number in (9, 20, 21, 22, 23):  # one clip is in both sets, but longer in the other
        put_sound(path / "few", number, steps=12 if number in (9, 23) else 8)
    return path


def run_of(folder: Path, *sets: dict[str, Any], held_out: float | None = 0, **changed: Any) -> LoadedRun:
    named = tables(folder, folder / "out", **changed)
    named["data"] = {**({} if held_out is None else {"held_out": held_out}), "num_dataloader_workers": 0, "sets": list(sets)}
    return load_run(write_run(folder, named))


def many(**keys: Any) -> dict[str, Any]:
    return {"preprocessed_data_root": "many", **keys}


def few(**keys: Any) -> dict[str, Any]:
    return {"preprocessed_data_root": "few", **keys}


def planned(loaded: LoadedRun) -> RunPlan:
    found = draft(loaded).checked()
    return plan_of(found, [(each.root, None) for each in sets_of(found)])


def test_samples_are_seen_as_often_as_the_repeats_of_their_set_say(folder: Path) -> None:
    plan = planned(run_of(folder, many(), few(repeats=3)))
    assert plan.order.sets == {"few": (5, 15), "many": (10, 10)}
    names = [name for number in range(plan.order.per_epoch) for name in plan.order.micro_batch(number).names]
    assert {names.count(name) for name in names if name.startswith("many/")} == {1}
    assert {names.count(name) for name in names if name.startswith("few/")} == {3}


def test_weights_are_shares_of_the_training_and_each_sample_is_seen_at_least_once_in_a_pass(folder: Path) -> None:
    plan = planned(run_of(folder, many(weight=1), few(weight=3)))
    assert plan.order.sets == {"few": (5, 30), "many": (10, 10)}
    assert planned(run_of(folder, many(weight=8), few(weight=1))).order.sets == {"few": (5, 5), "many": (10, 40)}
    sets = {name: SetTable(weight=weight) for name, weight in (("a", 0.3), ("b", 0.7), ("c", 0.1))}
    assert per_epoch(sets, {"a": 7, "b": 9, "c": 100}) == {"a": 300, "b": 700, "c": 100}


def test_samples_of_one_name_in_two_sets_are_each_read_from_their_own(folder: Path) -> None:
    plan = planned(run_of(folder, many(), few()))
    assert {"many/sound09", "few/sound09"} <= {*plan.manifest.samples}
    data = data_of(plan)[OWN].samples
    lengths = {name: data.load([name]).latents["audio"].latents.shape[2] for name in ("many/sound09", "few/sound09")}
    assert lengths == {"many/sound09": 8, "few/sound09": 12}
    assert data.sets(["many/sound09", "few/sound09"]) == ("many", "few")


def test_each_set_holds_out_what_it_says_or_what_all_sets_do(folder: Path) -> None:
    plan = planned(run_of(folder, many(held_out=3), few(), held_out=1))
    held_out = [name.partition("/")[0] for name in plan.split.held_out if name != "few/sound09"]
    assert (held_out.count("many"), held_out.count("few")) == (3, 1)
    shares = planned(run_of(folder, many(), few(held_out=0), held_out=0.5))
    assert [name.partition("/")[0] for name in shares.split.held_out if "sound09" not in name] == ["many"] * 4


def test_the_best_weights_can_be_kept_if_any_set_holds_out_samples(folder: Path) -> None:
    keys = {"checkpoints": {"keep_best": True}, "validation": {"interval": 1}}
    assert len(planned(run_of(folder, many(held_out=2), few(), held_out=0, **keys)).split.held_out) >= 2
    with pytest.raises(LtxError, match=r"checkpoints\.keep_best: uses the validation loss, but no sample is held out"):
        planned(run_of(folder, many(held_out=0), few(), held_out=0, **keys))


def test_a_clip_that_one_set_holds_out_is_not_trained_on_in_another(folder: Path) -> None:
    plan = planned(run_of(folder, many(held_out=9), few(held_out=0)))
    assert {"many/sound09", "few/sound09"} <= {*plan.split.held_out}
    assert not {*plan.split.held_out} & {*plan.split.train}
    assert (
        check_run(run_of(folder, many(held_out=9), few(held_out=0))).samples
        == "many: 1 to train on, 9 held out; few: 4 to train on, 1 held out"
    )
    put_sound(folder / "one", 9)
    with pytest.raises(LtxError, match='all samples of the set "one" are held out, here or in another set'):
        planned(run_of(folder, many(held_out=9), {"preprocessed_data_root": "one", "held_out": 0}))


def test_a_run_on_one_set_trains_on_what_a_run_without_sets_does(folder: Path) -> None:
    alone = planned(run_of(folder, many(), held_out=3))
    named = {**tables(folder / "many", folder / "out"), "data": {"preprocessed_data_root": "many", "held_out": 3}}
    usual = planned(load_run(write_run(folder, named)))
    assert [f"many/{name}" for name in usual.split.held_out] == [*alone.split.held_out]
    for number in range(12):
        assert alone.order.micro_batch(number).names == tuple(f"many/{name}" for name in usual.order.micro_batch(number).names)
    assert (usual.manifest.members, usual.order.sets) == ({}, {})


@pytest.mark.parametrize(
    ("sets", "changed", "key", "what"),
    [
        ([many(held_out=10), few()], {}, "data.sets[0].held_out", "held_out = 10 leaves nothing to train on: there are 10 samples"),
        ([many(), few(held_out=5)], {}, "data.sets[1].held_out", "held_out = 5 leaves nothing to train on: there are 5 samples"),
        (
            [many(weight=1e6), few(weight=1e-3)],
            {},
            "data.sets",
            "a pass over the data would have 5,000,000,005 samples, since the weights or repeats differ so much",
        ),
        (
            [many(held_out=0), few(held_out=0)],
            {"checkpoints": {"keep_best": True}},
            "data.held_out",
            "leaves no sample for the validation loss, which checkpoints.keep_best and stop_after need",
        ),
    ],
)
def test_what_is_wrong_is_said_of_the_set_by_the_check_and_before_a_run(
    sets: list[dict[str, Any]], changed: dict[str, Any], key: str, what: str, folder: Path
) -> None:
    loaded = run_of(folder, *sets, held_out=None if "checkpoints" in changed else 0, **changed)
    for act in (check_run, planned):
        with pytest.raises(LtxError) as error:
            act(loaded)
        assert what in [each.what for each in error.value.problems]
        assert next(each.where for each in error.value.problems if each.what == what).rpartition(": ")[2] == key


def test_sets_that_are_not_there_are_named_once_each_by_the_check(folder: Path) -> None:
    path = write_run(
        folder, {**tables(folder, folder / "out"), "data": {"sets": [many(), {"dataset": "no"}, {"preprocessed_data_root": "nor"}]}}
    )
    with pytest.raises(LtxError) as error:
        check_run(read_run(path))
    assert [each.where.rpartition(": ")[2] for each in error.value.problems] == [
        "data.sets[1].dataset",
        "data.sets[2].preprocessed_data_root",
    ]


def test_faults_of_all_sets_are_found_at_once(tmp_path: Path) -> None:
    for root in ("a", "b"):
        for number in range(2):
            put_sound(tmp_path / root, number)
        (tmp_path / root / "audio_masks" / "sound01.safetensors").unlink()
    loaded = run_of(tmp_path, {"preprocessed_data_root": "a"}, {"preprocessed_data_root": "b"})
    for act in (check_run, planned):
        with pytest.raises(LtxError) as error:
            act(loaded)
        told = str(error.value)
        for name in ("a", "b"):
            assert f'in the set "{name}": the manifest of "audio_masks" records 1 sample whose file is missing: sound01' in told


def test_the_check_and_the_plan_say_how_often_each_set_is_seen(folder: Path) -> None:
    loaded = run_of(folder, many(), few(repeats=3, name="rare"), optimization={"steps": 12, "batch_size": 5})
    said = (
        "The run trains on each of 10 samples of many 2 times (40 % of the training) and each of 5 samples of rare 6 times "
        "(60 % of the training); 2 of 6 micro-batches are not full"
    )
    checked = check_run(loaded)
    assert checked.samples == "many: 10 to train on, 0 held out; rare: 5 to train on, 0 held out"
    assert [note for note in checked.notes if note.startswith(said)]
    found = draft(loaded).checked()
    passes = _passes(found, sets_here(found), 1)
    assert passes is not None
    assert passes.sets == {"many": (10, 10), "rare": (5, 15)}


def test_two_processes_deal_what_one_deals(folder: Path) -> None:
    many_steps = {"optimization": {"gradient_accumulation_steps": 2, "batch_size": 2}}
    data = data_of(planned(run_of(folder, many(weight=1), few(weight=2.5), **many_steps)))[OWN]
    for index in range(6):
        alone = data.step(index, accumulation=2, rank=0, world_size=1)
        shares = [data.step(index, accumulation=1, rank=rank, world_size=2) for rank in (0, 1)]
        assert [(each.micro_batch, each.weight, each.draws) for each in alone] == [
            (each.micro_batch, each.weight, each.draws) for share in shares for each in share
        ]


def test_an_interrupted_run_ends_where_one_that_was_not_interrupted_ends_and_has_a_loss_for_each_set(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    results = {}
    for name, stops in (("once", {}), ("twice", {"plugins": ["stopper.py"], "trackers": {"stopper": {"at": 2}}})):
        keys = {"output_dir": str(tmp_path / name), "validation": {"inference_steps": 2, "skip_initial_validation": True}, **stops}
        sets = ({"preprocessed_data_root": str(folder / each), "weight": weight} for each, weight in (("many", 1), ("few", 2)))
        loaded = run_of(tmp_path, *sets, held_out=1, **keys)
        outcome = run(loaded, processes=Processes())
        if stops:
            assert (outcome.finished, outcome.step) == (False, 2)
            outcome = run(loaded, processes=Processes())
        assert outcome.finished
        results[name] = load_file(outcome.weights)
        status = json.loads((outcome.output_dir / "run.json").read_text())
        trained = {each: found["train"] for each, found in status["data"]["sets"].items()}
        assert sum(trained.values()) == status["data"]["train"]
        assert status["data"]["sets"]["few"]["per_epoch"] == 2 * status["data"]["sets"]["many"]["per_epoch"]
        metrics = [json.loads(line) for line in (outcome.output_dir / "metrics.jsonl").read_text().splitlines()]
        assert {key for each in metrics for key in each if "/set_" in key and key.startswith("loss/")} == {
            "loss/audio/set_few",
            "loss/audio/set_many",
        }
        assert any("held_out/own_context/audio/sigma_0.90/set_few" in each for each in metrics)
    assert all(torch.equal(tensor, results["twice"][name]) for name, tensor in results["once"].items())


def test_raw_media_of_each_set_are_encoded_on_first_use_with_its_caption_prefix(tmp_path: Path) -> None:
    for name, count in (("bells", 2), ("drums", 3)):
        for number in range(count):
            sound_file(tmp_path / name / f"{number}.wav", seconds=1.0)
            (tmp_path / name / f"{number}.txt").write_text("a tone")
    keys = {
        "training_strategy": {"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}},
        "optimization": {"steps": 1, "batch_size": 2},
        "validation": {"skip_initial_validation": True},
        "preprocessing": {"lora_trigger": "TOK"},
    }
    bells, drums = {"dataset": "bells"}, {"dataset": "drums", "caption_prefix": "a drum,"}
    ahead = check_run(run_of(tmp_path, bells, drums, **keys))
    assert ahead.plan is None, "something is still to be encoded"
    assert ahead.samples == (
        f"bells: 2, not encoded yet; the first run encodes {tmp_path / 'bells'}; "
        f"drums: 3, not encoded yet; the first run encodes {tmp_path / 'drums'}"
    )
    assert any("each of 2 samples of bells 0.333 times (40 % of the training)" in note for note in ahead.notes), ahead.notes
    assert run(run_of(tmp_path, bells, drums, **keys), processes=Processes()).finished
    texts = {name: load_file(tmp_path / f"{name}.precomputed" / "conditions" / "0.safetensors") for name in ("bells", "drums")}
    encoder = text_encoder("tiny")
    for name, caption in (("bells", "TOK a tone"), ("drums", "TOK a drum, a tone")):
        (expected,) = encoder.encode([caption])
        assert all(torch.equal(texts[name][key], expected[key]) for key in texts[name])
    again = {**keys, "output_dir": str(tmp_path / "again")}
    assert check_run(run_of(tmp_path, bells, drums, **again)).plan is not None, "everything is encoded"
    other = check_run(run_of(tmp_path, bells, {**drums, "caption_prefix": "a bell,"}, **again))
    assert other.samples == "bells: 2 to train on, 0 held out; drums: 3 to train on, 0 held out; the first run encodes all 3 again"
    (tmp_path / "drums" / "0.wav").write_bytes(b"no sound")
    (tmp_path / "bells" / "0.txt").unlink()
    with pytest.raises(LtxError) as error:
        check_run(run_of(tmp_path, bells, drums, **again))
    assert [each.what.partition(":")[0] for each in error.value.problems] == ['in the set "bells"', 'in the set "drums"']


def test_sets_in_one_folder_of_encoded_samples_are_refused(tmp_path: Path) -> None:
    put_sound(tmp_path / "raw.precomputed", 1)
    sound_file(tmp_path / "raw" / "sound.wav", seconds=1.0)
    loaded = run_of(tmp_path, {"dataset": "raw"}, {"name": "b", "preprocessed_data_root": "raw.precomputed"})
    for act in (check_run, lambda each: check_ahead(draft(each).checked())):
        with pytest.raises(LtxError, match=r'the sets "raw" and "b" have their encoded samples in the same folder, .*raw\.precomputed'):
            act(loaded)


def test_clips_that_an_unfinished_run_holds_out_are_never_trained_on_even_if_their_set_is_renamed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    sets = [{"preprocessed_data_root": str(folder / name), "held_out": 2} for name in ("many", "few")]
    keys = {
        "plugins": ["stopper.py"],
        "trackers": {"stopper": {"at": 1}},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
    }
    assert not run(run_of(tmp_path, *sets, output_dir=str(tmp_path / "out"), **keys), processes=Processes()).finished
    other = run_of(tmp_path, sets[0], {**sets[1], "name": "rare"}, output_dir=str(tmp_path / "out"), **keys)
    with pytest.raises(LtxError, match=r"held-out samples of this run are no longer in its data: few/sound\d\d"):
        run(other, processes=Processes(), allow_changes=True)
