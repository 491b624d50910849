"""Functions that divide samples into micro-batches, and put the micro-batches in order.

In every role, the samples of a micro-batch have the same shape, so that they can be stacked. Composition and order depend only on the
names, the batch size of each shape, the seed and the epoch, not on the number of processes or on earlier micro-batches. The micro-batches
of all epochs form one endless sequence. An optimizer step takes the next `accumulation x processes` micro-batches, and an epoch may end
within a step.

**Every sample is used exactly once per epoch.** If the number of samples of a shape is not a multiple of the batch size, one micro-batch of
that shape is smaller. Repeating samples to fill it would count them more than others. Leaving it out would drop samples, always the same
ones if their shape is rare. The loss of each micro-batch is multiplied by its weight (`weights`)
before gradients are averaged over the micro-batches of a step. A sample in a small micro-batch thus counts as much as any other sample of
the step.

A run can have several sets whose samples are used more than once per epoch. Micro-batches are then made of one shape, but of any set. The
samples of a set and shape are used in endless passes over them, one after the other, so that the numbers of uses differ by at most one.
Draws are keyed by sample and pass, so a sample that comes again in an epoch gets new draws.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.errors import ConfigError
from ltxcore.flow.draws import generator
from ltxcore.members import set_of
from ltxcore.protocols import Entry, Manifest

Shape = tuple[tuple[str, tuple[int, ...]], ...]

SizeOf = Callable[[Shape], int]
"""A function that returns the number of samples of a shape for which a micro-batch has room."""


@attrs.frozen
class MicroBatch:
    """Samples that are trained on together.

    Attributes:
        id: an identifier that is unique over all epochs, and the same in every run with this data, batch size and seed, on any number of
            processes.
        names: the names of the samples.
        epoch: the number of the pass over the data, counted from 0.
        passes: for each sample, the number of the pass over its set, counted from 0; empty if that is the epoch.
    """

    id: str
    names: tuple[str, ...]
    epoch: int = 0
    passes: tuple[int, ...] = ()


@attrs.frozen
class Portion:
    """The samples of one shape in one set.

    Attributes:
        names: the names of the samples.
        count: the number of samples that each epoch takes from them.
        set: the name of the set; "" if there is only one.
    """

    names: tuple[str, ...]
    count: int
    set: str = ""


@attrs.frozen
class Order:
    """The endless sequence of a run's micro-batches. Any micro-batch can be requested directly, as a resumed run does.

    Attributes:
        shapes: for each shape, the samples of each set.
        sizes: for each shape, the number of samples in a full micro-batch; 0 if even one sample is too large, in which case each sample is
            a micro-batch of its own.
        seed: the seed of the order.
        kinds: for each shape, the number of its kind, where samples of one kind have the same modalities; empty if there is only one kind.
    """

    shapes: tuple[tuple[Portion, ...], ...]
    sizes: tuple[int, ...]
    seed: int
    kinds: tuple[int, ...] = ()
    _epochs: dict[int, _Epoch] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of samples of each shape in an epoch."""
        return tuple(sum(portion.count for portion in portions) for portions in self.shapes)

    @property
    def sets(self) -> dict[str, tuple[int, int]]:
        """The number of samples of each set, and the number that an epoch takes from them; empty if there is only one set."""
        found: dict[str, tuple[int, int]] = {}
        for portion in (each for portions in self.shapes for each in portions if each.set):
            samples, count = found.get(portion.set, (0, 0))
            found[portion.set] = samples + len(portion.names), count + portion.count
        return dict(sorted(found.items()))

    @property
    def per_epoch(self) -> int:
        """The number of micro-batches in an epoch, the same in all epochs."""
        return sum(-(-count // max(1, size)) for count, size in zip(self.counts, self.sizes, strict=True))

    def micro_batch(self, index: int) -> MicroBatch:
        """Return micro-batch number `index`, counted from 0 over all epochs."""
        epoch, position = divmod(index, self.per_epoch)
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a step may need the end of one epoch and the beginning of the next
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = _Epoch.of(self, epoch)
        return self._epochs[epoch].micro_batch(position)

    def step(self, index: int, size: int) -> list[MicroBatch]:
        """Return the micro-batches of optimizer step `index`, counted from 0. `size` is accumulation x processes.

        However these are distributed over processes, the step is the same, as long as every process takes the same number.
        """
        return [self.micro_batch(number) for number in range(index * size, (index + 1) * size)]


def order_of(
    manifest: Manifest, names: Sequence[str], batch_size: int | SizeOf, seed: int, per_epoch: Mapping[str, int] = MappingProxyType({})
) -> Order:
    """Plan the micro-batches of a run over the samples `names`.

    Args:
        manifest: the manifest of the samples.
        names: the names of the samples to train on.
        batch_size: the number of samples in a full micro-batch, or a function that returns it for a shape.
        seed: the seed of the order.
        per_epoch: the number of samples of each set that an epoch takes, by the name of the set; by default, each sample once.

    Raises:
        ConfigError: there are no samples, or the batch size is below 1.
    """
    if isinstance(batch_size, int) and batch_size < 1:
        raise ConfigError(f"a batch size of {batch_size} is below 1")
    if not names:
        raise ConfigError("there are no samples to form micro-batches from")
    groups: dict[Shape, dict[str, list[str]]] = {}
    wanted = None if len(names) == len(manifest.samples) else frozenset(names)
    for entries, own in manifest.alike:
        of_sets = groups.setdefault(_shape(entries), {})
        kept = own if wanted is None else [name for name in own if name in wanted]
        if not manifest.members and kept:
            of_sets.setdefault("", []).extend(kept)
            continue
        for name in kept:
            of_sets.setdefault(set_of(manifest.members, name), []).append(name)
    for of_sets in groups.values():
        for own in of_sets.values():
            own.sort()
    # The sets are in the order of their first samples.
    groups = {shape: dict(sorted(of_sets.items(), key=lambda each: each[1][0])) for shape, of_sets in groups.items() if of_sets}
    different = sorted(groups)
    shapes = [groups[shape] for shape in different]
    counts = {each: _shared(per_epoch[each], [len(of_sets.get(each, ())) for of_sets in shapes]) for each in per_epoch}
    portions = (
        tuple(Portion(tuple(own), counts[each][index] if each in counts else len(own), each) for each, own in of_sets.items())
        for index, of_sets in enumerate(shapes)
    )
    sizes = (batch_size if isinstance(batch_size, int) else batch_size(shape) for shape in different)
    roles = [tuple(role for role, _ in shape) for shape in different]
    kinds = tuple(sorted({*roles}).index(each) for each in roles) if len({*roles}) > 1 else ()
    return Order(tuple(portions), tuple(sizes), seed, kinds)


def _shared(total: int, sizes: Sequence[int]) -> list[int]:
    """Divide a number of samples among groups in proportion to their sizes; what is left over goes to the largest remainders."""
    parts = [divmod(total * size, sum(sizes)) for size in sizes]
    rest = total - sum(whole for whole, _ in parts)
    more = sorted(range(len(parts)), key=lambda index: (-parts[index][1], index))[:rest]
    return [whole + (index in more) for index, (whole, _) in enumerate(parts)]


def weights(step: Sequence[MicroBatch]) -> list[float]:
    """Return the weights of an optimizer step's micro-batches.

    If the mean loss of every micro-batch is multiplied by its weight, the mean over micro-batches equals the mean over samples.

    With M micro-batches of n_i samples, N in total, the weight is `M * n_i / N`; it is 1 if all micro-batches have the same size.

    Source: docs/explanation/arithmetic.md#weight-of-a-micro-batch
    """
    total = sum(len(micro_batch.names) for micro_batch in step)
    return [len(step) * len(micro_batch.names) / total for micro_batch in step]


def shape_of(manifest: Manifest, name: str) -> Shape:
    """Return what samples must share to be stacked: the roles that they have, and their shapes in all of these but text, which is padded."""
    return _shape({role: entries[name] for role, entries in manifest.entries.items() if name in entries})


def _shape(entries: Mapping[str, Entry]) -> Shape:
    return tuple((role, entry.shape) for role, entry in sorted(entries.items()) if not _is_text(role, entry))


def _is_text(role: str, entry: Entry) -> bool:
    return entry.kind == "text" or role == "text"


@attrs.frozen(eq=False)
class _Epoch:
    """The order of one epoch: 4 bytes for each sample and for each micro-batch, from which a micro-batch is made when it is needed.

    Attributes:
        number: the number of the epoch.
        taken: for each shape, the samples that the epoch takes.
        orders: for each shape, the order of these samples.
        sizes: for each shape, the number of samples in a full micro-batch, at least 1.
        begins: for each shape, the number of the micro-batches of all shapes before it.
        order: the order of all micro-batches.
    """

    number: int
    taken: tuple[_Taken, ...]
    orders: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    begins: tuple[int, ...]
    order: Tensor

    @classmethod
    def of(cls, order: Order, epoch: int) -> _Epoch:
        """Draw the order of an epoch."""
        taken = tuple(_Taken.of(portions, order.seed, epoch, number) for number, portions in enumerate(order.shapes))
        orders = tuple(_permutation(len(each), order.seed, "samples", epoch, number) for number, each in enumerate(taken))
        sizes = tuple(max(1, size) for size in order.sizes)
        counts = [-(-len(each) // size) for each, size in zip(taken, sizes, strict=True)]
        mixed = _permutation(sum(counts), order.seed, "micro-batches", epoch)
        if order.kinds:
            of_kind = [kind for kind, count in zip(order.kinds, counts, strict=True) for _ in range(count)]
            mixed = torch.tensor(_spread(mixed.tolist(), of_kind), dtype=torch.int32)
        return cls(epoch, taken, orders, sizes, tuple(accumulate(counts, initial=0))[:-1], mixed)

    def micro_batch(self, position: int) -> MicroBatch:
        """Return the micro-batch at a position in this epoch."""
        index = int(self.order[position])
        shape = bisect_right(self.begins, index) - 1
        start = (index - self.begins[shape]) * self.sizes[shape]
        chosen = [self.taken[shape][place] for place in self.orders[shape][start : start + self.sizes[shape]].tolist()]
        passes = tuple(number for _, number in chosen)
        names = tuple(name for name, _ in chosen)
        return MicroBatch(f"{self.number}.{position}", names, self.number, () if {*passes} == {self.number} else passes)


def _permutation(size: int, seed: int, *key: str | int) -> Tensor:
    """Draw an order. It is drawn as in every earlier version, so that resumed runs go on in their order, and is not computed sample by sample."""
    return torch.randperm(size, generator=generator(seed, *key)).to(torch.int32)


def _spread(order: Sequence[int], kinds: Sequence[int]) -> list[int]:
    """Spread the micro-batches of each kind evenly over an epoch, so that every optimizer step has the kinds in nearly the same proportions.
    Those of one kind stay in their order.

    Source: docs/explanation/arithmetic.md#order-of-mixed-micro-batches
    """
    total, seen, place = Counter(kinds), Counter[int](), dict[int, float]()
    for index in order:
        place[index] = (seen[kinds[index]] + 0.5) / total[kinds[index]]
        seen[kinds[index]] += 1
    return sorted(order, key=lambda index: place[index])


@attrs.frozen(eq=False)
class _Taken:
    """The samples of one shape that an epoch takes, each with the number of the pass over its set in which it is used.

    Attributes:
        parts: parts of passes: the names of the set's samples, their order in the pass (None for their own order), the first and the last
            place in it, and the number of the pass.
        begins: the number of samples in all parts before each.
        size: the number of samples.
    """

    parts: tuple[tuple[tuple[str, ...], Tensor | None, int, int, int], ...]
    begins: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, portions: Sequence[Portion], seed: int, epoch: int, shape: int) -> _Taken:
        """Find what an epoch takes from the portions of a shape: all samples of whole passes, and some of those of a pass that an earlier
        epoch begins or a later epoch ends.
        """
        parts = []
        for index, portion in enumerate(portions):
            size, first = len(portion.names), epoch * portion.count
            for number in range(first // size, -(-(first + portion.count) // size)):
                start, end = max(first - number * size, 0), min(first + portion.count - number * size, size)
                order = _permutation(size, seed, "pass", number, shape, index) if end - start < size else None
                parts.append((portion.names, order, start, end, number))
        *begins, size = accumulate((end - start for _, _, start, end, _ in parts), initial=0)
        return cls(tuple(parts), tuple(begins), size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[str, int]:
        part = bisect_right(self.begins, index) - 1
        names, order, start, _, number = self.parts[part]
        place = start + index - self.begins[part]
        return names[place if order is None else int(order[place])], number
