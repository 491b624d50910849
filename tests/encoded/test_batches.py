"""Which samples go together depends on names, batch size, seed and epoch alone; every sample comes once an epoch."""

from collections import Counter
from collections.abc import Sequence

import pytest

from ltxcore.encoded.batches import MicroBatch, order_of, shape_of, weights
from ltxcore.errors import ConfigError
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


def test_no_samples_and_no_batch_size_are_refused() -> None:
    manifest = _buckets()
    with pytest.raises(ConfigError) as caught:
        order_of(manifest, [], 2, 0)
    assert str(caught.value) == "there are no samples to form micro-batches from"
    with pytest.raises(ConfigError) as caught:
        order_of(manifest, manifest.samples, 0, 0)
    assert str(caught.value) == "a batch size of 0 is below 1"
