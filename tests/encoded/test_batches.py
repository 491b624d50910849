"""Which samples go together depends on names, batch size, seed and epoch alone; every sample comes once an epoch, or as often as its set says."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ltxcore.encoded.batches import MicroBatch, Shape, order_of, shape_of, weights
from ltxcore.errors import ConfigError
from ltxcore.flow.draws import CountedDraws
from ltxcore.members import Member
from ltxcore.protocols import Entry, Manifest


def _manifest(video: dict[str, tuple[int, ...]], reference: dict[str, tuple[int, ...]] | None = None) -> Manifest:
    entries = {
        "text": {name: Entry((8,), kind="text") for name in video},
        "video": {name: Entry(shape, kind="latents") for name, shape in video.items()},
    }
    if reference is not None:
        entries["video.cond0.reference"] = {name: Entry(reference[name], kind="latents") for name in video}
    return Manifest(entries)


def _buckets() -> Manifest:
    """11 wide clips, 5 tall ones, 1 long one."""
    shapes = {f"wide{i:02}": (16, 3, 2, 4) for i in range(11)} | {f"tall{i}": (16, 3, 4, 2) for i in range(5)} | {"long": (16, 9, 2, 4)}
    return _manifest(shapes)


def _names(batches: list[MicroBatch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def micro_batches(manifest: Manifest, names: Sequence[str], batch_size: int, seed: int, epoch: int) -> list[MicroBatch]:
    """Those of one epoch, in order."""
    planned = order_of(manifest, names, batch_size, seed)
    return planned.step(epoch, planned.per_epoch)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 20])
def test_every_sample_comes_exactly_once_an_epoch(batch_size: int) -> None:
    manifest = _buckets()
    for epoch in range(3):
        batches = micro_batches(manifest, manifest.samples, batch_size, seed=5, epoch=epoch)
        assert sorted(_names(batches)) == list(manifest.samples)


def test_samples_of_a_micro_batch_have_one_shape_and_only_the_last_of_a_shape_is_smaller() -> None:
    manifest = _buckets()
    batches = micro_batches(manifest, manifest.samples, 4, seed=5, epoch=0)
    assert all(len({shape_of(manifest, name) for name in batch.names}) == 1 for batch in batches)
    sizes = Counter((batch.names[0][:4], len(batch.names)) for batch in batches)
    assert sizes == {("wide", 4): 2, ("wide", 3): 1, ("tall", 4): 1, ("tall", 1): 1, ("long", 1): 1}


def test_the_shape_in_every_role_counts_and_that_of_text_does_not() -> None:
    names = ["a", "b", "c", "d"]
    manifest = _manifest(
        dict.fromkeys(names, (16, 3, 2, 4)), {"a": (16, 3, 1, 2), "b": (16, 3, 2, 4), "c": (16, 3, 1, 2), "d": (16, 3, 2, 4)}
    )
    assert {frozenset(batch.names) for batch in micro_batches(manifest, names, 2, 0, 0)} == {frozenset("ac"), frozenset("bd")}
    texts = Manifest(
        {**_manifest(dict.fromkeys(names, (16, 3, 2, 4))).entries, "text": {name: Entry((i + 1,)) for i, name in enumerate(names)}}
    )
    assert len(micro_batches(texts, names, 4, 0, 0)) == 1


def test_order_and_composition_follow_from_seed_and_epoch_alone() -> None:
    manifest = _buckets()
    names = list(manifest.samples)
    once = micro_batches(manifest, names, 4, seed=5, epoch=1)
    assert once == micro_batches(manifest, names[::-1], 4, seed=5, epoch=1)
    assert _names(once) != _names(micro_batches(manifest, names, 4, seed=5, epoch=2))
    assert _names(once) != _names(micro_batches(manifest, names, 4, seed=6, epoch=1))


def test_who_is_in_the_small_micro_batch_changes_from_epoch_to_epoch() -> None:
    manifest = _buckets()
    alone = {
        batch.names
        for epoch in range(30)
        for batch in micro_batches(manifest, manifest.samples, 4, 5, epoch)
        if batch.names[0].startswith("tall") and len(batch.names) == 1
    }
    assert len(alone) == 5


def test_micro_batches_of_different_shapes_are_mixed() -> None:
    manifest = _buckets()
    orders = {tuple(batch.names[0][:4] for batch in micro_batches(manifest, manifest.samples, 4, 5, epoch)) for epoch in range(10)}
    assert len(orders) > 3


def test_any_micro_batch_can_be_asked_for_directly() -> None:
    manifest = _buckets()
    planned = order_of(manifest, manifest.samples, 4, seed=5)
    assert planned.per_epoch == 6
    straight = [planned.micro_batch(number) for number in range(24)]
    resumed = order_of(manifest, manifest.samples, 4, seed=5)
    for number in (23, 0, 6, 5, 17):
        assert resumed.micro_batch(number) == straight[number]
    assert [batch.epoch for batch in straight] == [number // 6 for number in range(24)]
    assert len({batch.id for batch in straight}) == 24


def test_a_step_takes_the_next_micro_batches_across_the_end_of_an_epoch() -> None:
    manifest = _buckets()
    planned = order_of(manifest, manifest.samples, 4, seed=5)
    step = planned.step(1, 4)
    assert step == [planned.micro_batch(number) for number in (4, 5, 6, 7)]
    assert [batch.epoch for batch in step] == [0, 0, 1, 1]


def test_weights_make_the_mean_over_micro_batches_the_mean_over_samples() -> None:
    sizes = [4, 1, 3]
    step = [MicroBatch(str(i), tuple(f"{i}.{j}" for j in range(size))) for i, size in enumerate(sizes)]
    losses = [[1.0, 2.0, 3.0, 4.0], [50.0], [7.0, 8.0, 9.0]]
    means = [sum(each) / len(each) for each in losses]
    weighed = sum(weight * mean for weight, mean in zip(weights(step), means, strict=True)) / len(step)
    assert weighed == pytest.approx(sum(map(sum, losses)) / 8)
    assert weights(step[:1] * 3) == [1.0, 1.0, 1.0]


def _room(shape: Shape) -> int:
    """Room for 60 tokens: 2 wide clips or tall ones, and not for a long one."""
    ((_, (_, frames, rows, columns)),) = shape
    return 60 // (frames * rows * columns)


def test_a_shape_with_a_batch_size_of_its_own_fills_micro_batches_with_it_and_a_sample_that_is_too_large_is_alone() -> None:
    manifest = _buckets()
    planned = order_of(manifest, manifest.samples, _room, seed=5)
    assert (planned.sizes, planned.per_epoch) == ((2, 2, 0), 6 + 3 + 1)
    for epoch in range(3):
        batches = planned.step(epoch, planned.per_epoch)
        assert sorted(_names(batches)) == list(manifest.samples)
        sizes = Counter((batch.names[0][:4], len(batch.names)) for batch in batches)
        assert sizes == {("wide", 2): 5, ("wide", 1): 1, ("tall", 2): 2, ("tall", 1): 1, ("long", 1): 1}


def test_shapes_with_the_same_batch_size_are_ordered_as_if_it_were_that_of_all() -> None:
    manifest = _buckets()
    assert order_of(manifest, manifest.samples, lambda _: 4, 5) == order_of(manifest, manifest.samples, 4, 5)


def test_no_samples_and_no_batch_size_are_refused() -> None:
    manifest = _buckets()
    with pytest.raises(ConfigError) as caught:
        order_of(manifest, [], 2, 0)
    assert str(caught.value) == "there are no samples to form micro-batches from"
    with pytest.raises(ConfigError) as caught:
        order_of(manifest, manifest.samples, 0, 0)
    assert str(caught.value) == "a batch size of 0 is below 1"


def _two_sets() -> Manifest:
    """4 wide clips and a tall one in a set, 3 wide clips and 2 tall ones in another."""
    shapes = {f"a/wide{i}": (16, 3, 2, 4) for i in range(4)} | {"a/tall": (16, 3, 4, 2)}
    shapes |= {f"b/wide{i}": (16, 3, 2, 4) for i in range(3)} | {f"b/tall{i}": (16, 3, 4, 2) for i in range(2)}
    members = {name: Member(name[0], Path(name[0]), name[2:]) for name in shapes}
    return Manifest(_manifest(shapes).entries, members)


def _of_set(batches: list[MicroBatch], each: str) -> Counter[tuple[str, int]]:
    """How often each sample of a set comes in each pass over it."""
    passes = ((name, number) for batch in batches for name, number in zip(batch.names, batch.passes or [batch.epoch] * 9, strict=False))
    return Counter((name, number) for name, number in passes if name.startswith(each))


def test_a_set_with_repeats_comes_that_often_an_epoch_and_is_drawn_for_anew_each_time() -> None:
    manifest = _two_sets()
    planned = order_of(manifest, manifest.samples, 2, 5, {"a": 5, "b": 15})
    assert planned.sets == {"a": (5, 5), "b": (5, 15)}
    for epoch in range(3):
        batches = planned.step(epoch, planned.per_epoch)
        names = _names(batches)
        assert {name: names.count(name) for name in manifest.samples} == {name: 1 if name[0] == "a" else 3 for name in manifest.samples}
        assert {number for _, number in _of_set(batches, "a")} == {epoch}
        assert set(_of_set(batches, "b").values()) == {1}, "no sample is drawn for twice in the same pass"
        assert {number for _, number in _of_set(batches, "b")} == {3 * epoch, 3 * epoch + 1, 3 * epoch + 2}
        assert any(len({name[0] for name in batch.names}) == 2 for batch in batches), "micro-batches may hold samples of both sets"


def test_samples_of_a_set_that_an_epoch_does_not_finish_come_equally_often_over_the_epochs() -> None:
    manifest = _two_sets()
    planned = order_of(manifest, manifest.samples, 2, 5, {"a": 7, "b": 5})
    for epochs in range(1, 9):
        names = _names([planned.micro_batch(number) for number in range(epochs * planned.per_epoch)])
        for shape in ("a/wide", "a/tall"):
            counts = [names.count(name) for name in manifest.samples if name.startswith(shape)]
            assert max(counts) - min(counts) <= 1
        assert sum(name.startswith("a") for name in names) == 7 * epochs
    assert set(_of_set([planned.micro_batch(number) for number in range(40)], "a").values()) == {1}


def test_sets_that_come_once_an_epoch_are_dealt_as_one_set_of_all_their_samples_is() -> None:
    manifest = _two_sets()
    one = order_of(Manifest(manifest.entries), manifest.samples, 2, 5)
    several = order_of(manifest, manifest.samples, 2, 5, {"a": 5, "b": 5})
    assert [one.micro_batch(number) for number in range(20)] == [several.micro_batch(number) for number in range(20)]


def test_what_is_drawn_for_a_sample_depends_on_the_pass_over_its_set() -> None:
    once, again = (CountedDraws(1, 0, ("a", "b"), "0.0", passes).uniform("x") for passes in ((), (0, 1)))
    assert once[0] == again[0]
    assert once[1] != again[1]
    assert torch.equal(once, CountedDraws(1, 7, ("a", "b"), "7.3", (0, 0)).uniform("x"))


def mixed() -> Manifest:
    """12 clips of two shapes with sound, 8 without, and 4 sounds alone."""
    clips = {f"clip{i:02}": (16, 3 + i % 2, 2, 2) for i in range(12)}
    silent, sounds = {f"silent{i}": (16, 3, 2, 2) for i in range(8)}, [f"sound{i}" for i in range(4)]
    entries = {
        "text": {name: Entry((8,), kind="text") for name in (*clips, *silent, *sounds)},
        "video": {name: Entry(shape, kind="latents") for name, shape in (clips | silent).items()},
        "audio": {name: Entry((8, 6, 16), kind="latents") for name in (*clips, *sounds)},
    }
    return Manifest(entries)


def kind(batch: MicroBatch) -> str:
    (found,) = {name.rstrip("0123456789") for name in batch.names}
    return found


def test_samples_of_a_micro_batch_have_the_same_modalities() -> None:
    batches = micro_batches(mixed(), mixed().samples, 3, seed=5, epoch=0)
    assert sorted(_names(batches)) == list(mixed().samples)
    assert Counter(map(kind, batches)) == {"clip": 4, "silent": 3, "sound": 2}


@pytest.mark.parametrize("size", [2, 3, 6])
def test_every_step_has_the_kinds_of_samples_in_nearly_their_proportions(size: int) -> None:
    planned = order_of(mixed(), mixed().samples, 1, seed=5)
    assert planned.per_epoch == 24
    shares = {"clip": 12 / 24, "silent": 8 / 24, "sound": 4 / 24}
    for index in range(3 * planned.per_epoch // size):
        found = Counter(map(kind, planned.step(index, size)))
        for each, share in shares.items():
            assert abs(found[each] - share * size) <= 1, (index, found)
    epochs = [[batch.names for batch in planned.step(epoch, planned.per_epoch)] for epoch in range(2)]
    assert epochs[0] != epochs[1]  # which samples of a kind come when differs


def test_the_order_is_that_of_earlier_versions_so_that_their_runs_resume_in_it() -> None:
    names = [f"{'ab'[number % 3 == 0]}/clip_{number:02}" for number in range(40)]
    video = {name: Entry((16, 3, 2, 4) if n % 4 else (16, 3, 4, 2), kind="latents") for n, name in enumerate(names) if n % 5}
    audio = {name: Entry((8, 26, 16), kind="latents") for n, name in enumerate(names) if n % 7 or not n % 5}
    manifest = Manifest({"video": video, "audio": audio}, {name: Member(name[0], Path("root"), name[2:]) for name in names})
    order = order_of(manifest, manifest.samples, 3, 7, {"a": 50, "b": 20})
    of_epochs = [order.micro_batch(number) for number in range(4 * order.per_epoch)]
    told = json.dumps([[each.id, each.names, each.epoch, each.passes] for each in of_epochs])
    # Recorded with the code that kept whole epochs in lists.
    assert hashlib.sha256(told.encode()).hexdigest() == "8ab0108677251419e92be3bf0534033f85101fa0b6fca2db6495d71328519aa7"
