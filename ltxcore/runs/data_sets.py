"""The sets of a run's data: each is encoded and planned as if it were the only one, and then they are joined.

In the joined data, the name of a sample begins with that of its set, so samples of two sets never have the same name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.config.data_sets import SetTable, of_set, set_names
from ltxcore.encoded.checks import value_problems
from ltxcore.encoded.held_out import Split, clips_of, having_clips, origin_of
from ltxcore.encoded.joined_entries import joined_entries
from ltxcore.errors import ConfigError, DataError, LtxError, Problem, collecting
from ltxcore.members import Members, set_of
from ltxcore.protocols import Entry, Manifest
from ltxcore.runs.run_plan import Outline, RunPlan, check_measured, check_streams, data_root, ordered, plan, references_of, split_of

LONGEST = 10_000_000
"""The maximum number of samples in a pass over the data; weights that differ more would need too much memory for the order."""


def sets_of(found: Outline) -> tuple[Outline, ...]:
    """Return, for each set of a run, the facts about a run that has this set alone. A run without
    `[[data.sets]]` is its own only set.
    """
    sets = found.config.data.sets
    runs = [of_set(found.loaded, index) for index in range(len(sets))]
    named = zip(set_names(sets), runs, strict=True)
    return tuple(attrs.evolve(found, loaded=own, root=data_root(own, found.strategy), set=name) for name, own in named) or (found,)


def plan_of(found: Outline, sets: Sequence[tuple[Path, Collection[str] | None]]) -> RunPlan:
    """Plan a run with its encoded data.

    Args:
        found: the facts about the run that are known without its data.
        sets: for each set of the run, the folder of the encoded samples, and their names; None in place of the names for all samples there.

    Raises:
        DataError: sources have faults, or the strategy cannot train on some samples; the error names all of them.
        ConfigError: as in `run_plan.plan`.
    """
    there = [attrs.evolve(each, root=root) for each, (root, _) in zip(sets_of(found), sets, strict=True)]
    if not found.config.data.sets:
        return plan(there[0], sets[0][1])
    problems: list[Problem] = []
    plans = []
    for each, (_, names) in zip(there, sets, strict=True):
        own: list[Problem] = []
        with collecting(own):
            plans.append(plan(each, names))
        problems += said_of_set(each, own)
    if problems:
        raise DataError.of(problems)
    planned = together(found, plans)
    if problems := list(disagreements(planned.outline, planned.manifest)):
        raise DataError.of(problems)
    check_measured(found, planned.split)
    check_streams(found, planned.manifest, planned.split)
    return planned


def said_of_set(found: Outline, problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems of a set. Each problem names the set, unless its place is a key of the set."""
    if not found.set:
        return list(problems)
    key = found.loaded.at["data"].rpartition(".")
    return [
        each if f"{key[0]}[{key[2]}]" in each.where else attrs.evolve(each, what=f'in the set "{found.set}": {each.what}')
        for each in problems
    ]


def together(found: Outline, plans: Sequence[RunPlan]) -> RunPlan:
    """Return the plan of a run whose sets were planned one by one. Clips that are held out in one set are not trained on in another.

    Raises:
        ConfigError: nothing is left to train on in a set, or the weights differ too much.
        DataError: held-out samples of the unfinished run are gone.
    """
    config = found.config
    if not config.data.sets:
        return plans[0]
    manifest = joined({each.outline.set: (each.outline.root, each.manifest) for each in plans})
    _check_held_out(found, manifest)
    chosen = _chosen(manifest, plans)
    trained = {each.outline.set: 0 for each in plans}
    for name in chosen.train:
        trained[set_of(manifest.members, name)] += 1
    for each in plans:
        if not trained[each.outline.set]:
            what = f'all samples of the set "{each.outline.set}" are held out, here or in another set'
            raise ConfigError(what, where=each.outline.loaded.where("data"), remedy="Hold out fewer, or remove the set.")
    tables = dict(zip(set_names(config.data.sets), config.data.sets, strict=True))
    counts = per_epoch({name: tables[name] for name in trained}, trained)
    if sum(counts.values()) > LONGEST:
        what = f"a pass over the data would have {sum(counts.values()):,} samples, since the weights or repeats differ so much"
        raise ConfigError(what, where=found.loaded.where("data.sets"), remedy=f"Choose them so that a pass has at most {LONGEST:,}.")
    order = ordered(found, manifest, chosen.train, counts)
    return RunPlan(attrs.evolve(found, root=plans[0].outline.root), manifest, chosen, order)


def with_splits(planned: RunPlan, plans: Sequence[RunPlan]) -> list[RunPlan]:
    """Return the plans of a run's sets with the splits of the whole run, in which a set may hold out more samples than if it were alone."""
    members = planned.manifest.members
    if not members:
        return [planned]

    def of(name: str, samples: Iterable[str]) -> tuple[str, ...]:
        return tuple(members[each].name for each in samples if members[each].set == name)

    splits = ((each, each.outline.set) for each in plans)
    return [
        attrs.evolve(each, split=attrs.evolve(each.split, train=of(name, planned.split.train), held_out=of(name, planned.split.held_out)))
        for each, name in splits
    ]


def per_epoch(sets: Mapping[str, SetTable], samples: Mapping[str, int]) -> dict[str, int]:
    """Return how many samples of each set are used in a pass over the data.

    With weights, each sample is used at least once, and those of the set with the lowest weight per sample exactly once.

    Args:
        sets: the sets, by name.
        samples: the number of training samples of each set.

    Source: docs/explanation/arithmetic.md#micro-batches-and-passes
    """
    weights = {name: Fraction(str(table.weight)) for name, table in sets.items() if table.weight is not None}
    if not weights:
        return {name: (table.repeats or 1) * samples[name] for name, table in sets.items()}
    unit = max(samples[name] / weight for name, weight in weights.items())
    return {name: round(weight * unit) for name, weight in weights.items()}


def joined(sets: Mapping[str, tuple[Path, Manifest]]) -> Manifest:
    """Return the manifest of all samples of several sets, given the data root and the manifest of each. If some of the samples are not
    encoded yet, so that their entries are not known, the result tells only which samples there are. A set called "" is the only one, and
    its manifest is returned unchanged.
    """
    if [*sets] == [""]:
        return sets[""][1]
    if len({frozenset(manifest.entries) for _, manifest in sets.values()}) > 1:
        sets = {each: (root, _only_names(manifest)) for each, (root, manifest) in sets.items()}
    first = next(iter(sets.values()))[1]
    entries = {role: joined_entries({each: manifest.entries[role] for each, (_, manifest) in sets.items()}) for role in first.entries}
    return Manifest(entries, Members({each: (root, SampleNames(manifest)) for each, (root, manifest) in sets.items()}))


@attrs.frozen
class SampleNames:
    """The names of a set's samples, which are found in its folders."""

    manifest: Manifest

    def __contains__(self, name: object) -> bool:
        return any(name in entries for entries in self.manifest.entries.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest.samples)

    def __len__(self) -> int:
        return len(self.manifest.samples)


def disagreements(found: Outline, manifest: Manifest) -> Iterator[Problem]:
    """Find samples of different sets that cannot be trained on together, such as text features of different encoders."""
    for role, source in found.strategy.sources().items():
        yield from value_problems(found.loaded.where("data.sets"), source, manifest.entries[role])
    problems: list[Problem] = []
    with collecting(problems):
        found.strategy.check(manifest)
        references_of(found, manifest)
    yield from problems


def shared_roots(sets: Sequence[Outline]) -> Iterator[Problem]:
    """Find sets that would be encoded into, or read from, the folder of another set."""
    for index, each in enumerate(sets):
        other = next((before for before in sets[:index] if before.root == each.root and not (_is_free(before) and _is_free(each))), None)
        if other is not None:
            what = f'the sets "{other.set}" and "{each.set}" have their encoded samples in the same folder, {each.root}'
            yield Problem(what, each.loaded.where("data.preprocessed_data_root"), "Name a folder for each set.")


def _is_free(found: Outline) -> bool:
    """Return whether the root of a set is the default, which is chosen when the set is encoded, so that no other dataset has the same
    root.
    """
    return found.config.data.dataset is not None and found.config.data.preprocessed_data_root is None


def _check_held_out(found: Outline, manifest: Manifest) -> None:
    """Check that the sets of a resumed run have all samples that it holds out: in a set with another name, the run would train on them."""
    if found.resumes:
        try:
            split_of(found, manifest)
        except LtxError as error:
            raise error.at(found.loaded.where("data.held_out")) from error


def _chosen(manifest: Manifest, plans: Iterable[RunPlan]) -> Split:
    held_out = {f"{each.outline.set}/{name}" for each in plans for name in each.split.held_out}
    clips = clips_of(manifest, held_out)
    held_out |= having_clips(manifest, clips)
    why = "" if held_out else "; ".join(f"{each.outline.set}: {each.split.why_none}" for each in plans if each.split.why_none)
    return Split(tuple(name for name in manifest.samples if name not in held_out), tuple(sorted(held_out)), why)


def _only_names(manifest: Manifest) -> Manifest:
    return Manifest({"rows": {name: Entry((), origin=origin_of(manifest, name)) for name in manifest.samples}})
