"""The core's use of conditions with drawn values: it draws the values, applies the condition to the samples of each value, and joins the
results.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from ltxcore.conditions import ConditionUse, applied_state
from ltxcore.drawn import Value, corners, drawn_part, spoken
from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.protocols import Batch, Draws, Inputs, StoredLatents
from ltxcore.state import Grid, LatentState

if TYPE_CHECKING:
    from torch import Tensor

VALUE = ".value."
"""The separator between the key of a condition and one of its fields in the name of the random number that determines the field's value."""

AGAIN = ".again"
"""The separator between the name of a random number and the number of times that the field's value has been drawn before."""

Attempt = Callable[[Mapping[str, Any]], LatentState]
"""A function that applies a condition with some values to samples of one size, which have no content. It raises an error if the condition
refuses the values.
"""

Fitting = list[dict[str, int]]
"""The combinations of parts that fit samples of one size, each part by its number."""


MOST_SIZES = 1024
"""The largest number of cases for which the combinations that fit are remembered; a case is a size of samples with the values of the keys
that need not fit.
"""


def drawn_values(
    use: ConditionUse,
    key: str,
    batch: Batch,
    draws: Draws,
    attempt_of: Callable[[Batch], Attempt],
    known: dict[Hashable, Fitting],
    chosen: Tensor,
) -> tuple[list[dict[str, Any]], Tensor]:
    """Draw the values of a condition's drawn fields for every sample of a micro-batch; what fits depends on the sizes of samples alone.
    Return the values, and the samples to which the condition is applied with them, `[B]` bool.

    Args:
        use: the condition.
        key: the condition's key.
        batch: the samples.
        draws: their random numbers.
        attempt_of: returns a function that applies the condition to samples without content.
        known: the combinations that are known to fit; new ones are added.
        chosen: the samples that the condition applies to, `[B]` bool. If the condition's class redraws values, samples for which the
            condition refuses every draw are left out.
    """
    rows = range(draws.size)
    if use.appends and getattr(draws, "are_largest", False):
        return [largest_of(use, attempt_of(without_content(batch, rows)[0]))] * draws.size, chosen

    def fitting(rows: Sequence[int]) -> Callable[[Mapping[str, Any]], Fitting]:
        def of(fixed: Mapping[str, Any]) -> Fitting:
            empty, size = without_content(batch, rows)
            place = (key, repr(fixed), size)
            found = known.get(place)  # kept by itself, since another thread may clear the known ones at any time
            if found is None:
                found = fitting_of(use, fixed, attempt_of(empty))
                if len(known) >= MOST_SIZES:
                    known.clear()
                known[place] = found
            return found

        return of

    if use.redraws:
        return accepted_values(use, key, draws, chosen, fitting, lambda rows: attempt_of(without_content(batch, rows)[0]))
    numbers = numbers_of(use, key, draws)
    if use.appends:
        return [values_of(use, numbers[0], fitting(rows))] * draws.size, chosen
    return [values_of(use, each, fitting([row])) for row, each in enumerate(numbers)], chosen


def accepted_values(
    use: ConditionUse,
    key: str,
    draws: Draws,
    chosen: Tensor,
    fitting: Callable[[Sequence[int]], Callable[[Mapping[str, Any]], Fitting]],
    attempt_of: Callable[[Sequence[int]], Attempt],
) -> tuple[list[dict[str, Any]], Tensor]:
    """Draw values for every chosen sample, and draw them anew if the condition refuses the sample with these values, as often as the
    condition's class allows. Return the values, and the chosen samples for which the condition accepts them, `[B]` bool. Samples that are
    not chosen have the first of the possible values.

    Source: docs/explanation/arithmetic.md#drawn-values
    """
    values = [{field: each.bounds[0] for field, each in use.drawn.items()} for _ in range(draws.size)]
    accepted = chosen.clone()
    waiting = {row: attempt_of([row]) for row in chosen.nonzero().flatten().tolist()}
    for again in range(use.redraws + 1):
        numbers = numbers_of(use, key, draws, again) if waiting else []
        for row in tuple(waiting):
            try:
                values[row] = values_of(use, numbers[row], fitting([row]))
                waiting[row](values[row])
            except DataError:
                continue
            del waiting[row]
    accepted[list(waiting)] = False
    return values, accepted


def numbers_of(use: ConditionUse, key: str, draws: Draws, again: int = 0) -> list[dict[str, float]]:
    """Draw a number from 0 to 1 for each drawn field of a condition and each sample; the same for all samples if the condition appends.
    `again` is how often they have been drawn before.

    Source: docs/explanation/arithmetic.md#drawn-values
    """
    if use.appends:
        return [{field: draws.shared_uniform(f"{key}{VALUE}{field}") for field in use.drawn}] * draws.size
    behind = f"{AGAIN}{again}" if again else ""
    drawn = {field: draws.uniform(f"{key}{VALUE}{field}{behind}").tolist() for field in use.drawn}
    return [{field: drawn[field][index] for field in drawn} for index in range(draws.size)]


def values_of(use: ConditionUse, numbers: Mapping[str, float], fitting: Callable[[Mapping[str, Any]], Fitting]) -> dict[str, Any]:
    """Return the values that a sample's numbers stand for.

    Args:
        use: the condition.
        numbers: a number for each drawn field.
        fitting: returns, given the values of the fields without `fit`, the combinations of parts, one for each field with `fit`, that fit
            the sample.
    """
    values = {field: drawn_part(each.parts, numbers[field])[1] for field, each in use.drawn.items() if not each.fit}
    kept = fitting(values) if len(values) < len(use.drawn) else []
    for field in (field for field, each in use.drawn.items() if each.fit):
        parts, left = use.drawn[field].fine_parts, list(dict.fromkeys(each[field] for each in kept))
        part, values[field] = drawn_part([parts[number] for number in left], numbers[field])
        kept = [each for each in kept if parts[each[field]] is part]
    return values


def fitting_of(use: ConditionUse, fixed: Mapping[str, Any], attempt: Attempt) -> Fitting:
    """Return, in order, the combinations of parts, one for each field with `fit`, that the condition accepts for samples of one size at all
    ends of the parts.

    Raises:
        LtxError: no combination is accepted; the error is the refusal of the first one.
    """
    fields = {field: each.fine_parts for field, each in use.drawn.items() if each.fit}
    kept, refusal = [], None
    for numbered in itertools.product(*map(enumerate, fields.values())):
        try:
            for ends in itertools.product(*(part.ends for _, part in numbered)):
                attempt({**fixed, **dict(zip(fields, ends, strict=True))})
        except PluginError:
            raise
        except LtxError as error:
            refusal = refusal or error
        else:
            kept.append(dict(zip(fields, (number for number, _ in numbered), strict=True)))
    if not kept and refusal is not None:
        raise refusal
    return kept


def check_bounds(use: ConditionUse, attempt: Attempt) -> None:
    """Apply a condition with all values at which it is validated; one combination of the values of fields with `fit` has to fit. If the
    class redraws values, it is enough that one combination of the values of all fields fits.

    Raises:
        LtxError: the condition refuses samples of this size.
    """
    accepted, refusal = 0, None
    for values in corners({field: each for field, each in use.drawn.items() if not each.fit}):
        try:
            fitting_of(use, values, attempt)
            accepted += 1
        except DataError as error:
            if not use.redraws:
                raise
            refusal = refusal or error
    if not accepted and refusal is not None:
        raise refusal


def largest_of(use: ConditionUse, attempt: Attempt) -> dict[str, Any]:
    """Of the values at which a condition is validated, return those with which it appends the most tokens to samples of one size, and of
    these, values with which attention has weights, which take memory.

    Raises:
        LtxError: the condition refuses samples of this size.
    """
    found: list[tuple[Appended, dict[str, Any]]] = []
    for fixed in corners({field: each for field, each in use.drawn.items() if not each.fit}):
        for numbers in fitting_of(use, fixed, attempt):
            values = {**fixed, **{field: use.drawn[field].fine_parts[number].high for field, number in numbers.items()}}
            after = attempt(values)
            found.append((Appended(after.num_appended, after.is_weighted), values))
    return max(found, key=lambda each: each[0])[1]


class Appended(NamedTuple):
    """The most that conditions append to a sample, in the order of the memory that it takes: the number of tokens, and whether attention
    then has weights.
    """

    tokens: int
    is_weighted: bool

    @classmethod
    def by_all(cls, each: Sequence[Appended]) -> Appended:
        """Return what several conditions append together."""
        return cls(sum(one.tokens for one in each), any(one.is_weighted for one in each))


def appended_at_most(use: ConditionUse, batch: Batch, attempt_of: Callable[[Batch], Attempt]) -> Appended:
    """Return the most that a condition can append to each of these samples.

    Raises:
        LtxError: the condition refuses samples of this size.
    """
    attempt = attempt_of(without_content(batch, range(len(batch.names)))[0])
    after = attempt(largest_of(use, attempt))
    return Appended(after.num_appended, after.is_weighted)


def applied_by_value(
    use: ConditionUse, values: Sequence[Mapping[str, Any]], state: LatentState, inputs: Inputs, chosen: Tensor, where: str
) -> LatentState:
    """Apply a condition to the chosen samples, once for all samples with the same values; samples that are not chosen stay as they are.

    Args:
        use: the condition.
        values: the values of the condition's drawn fields for every sample; the same for all if the condition appends.
        state: the state of all samples.
        inputs: the data of the condition.
        chosen: the samples that the condition applies to, `[B]` bool; all of them if it appends.
        where: the place for messages.

    Raises:
        LtxError: the condition refuses some of the samples.

    Source: docs/explanation/arithmetic.md#drawn-values
    """
    if use.appends:
        return applied_with(use, values[0], state, inputs, where)
    groups: list[tuple[Mapping[str, Any], list[int]]] = []
    for index in chosen.nonzero().flatten().tolist():
        group = next((rows for same, rows in groups if same == values[index]), None)
        if group is None:
            groups.append((values[index], [index]))
        else:
            group.append(index)
    mask, levels = state.denoise_mask.clone(), state.levels.clone()
    for same, rows in groups:
        after = applied_with(use, same, rows_of(state, rows), rows_of(inputs, rows), where)
        mask[rows], levels[rows] = after.denoise_mask, after.levels
    return attrs.evolve(state, denoise_mask=mask, levels=levels)


def applied_with(use: ConditionUse, values: Mapping[str, Any], state: LatentState, inputs: Inputs, where: str) -> LatentState:
    """Apply a condition with values for its drawn fields.

    Raises:
        LtxError: the condition refuses these values, or refuses to apply; the place of the error states the values.
    """
    place = f"{where}, with {spoken(values)}" if values else where
    try:
        having = use.having(values)
    except LtxError as error:
        raise error.at(place) from error
    return applied_state(having, state, inputs, place)


def reported(use: ConditionUse, key: str, values: Sequence[Mapping[str, Any]]) -> dict[str, list[Value]]:
    """Return the values of all samples by "KEY/FIELD", with their names in metrics."""
    return {f"{key}/{field}": [Value(each[field], drawn.label(each[field])) for each in values] for field, drawn in use.drawn.items()}


@attrs.frozen(eq=False)
class AtEnd:
    """Draws in which the value of one key is at an end of its range, or is the nearest value that fits; the values of all other keys are
    unchanged.

    Attributes:
        draws: the other draws.
        key: the key, as "CONDITION/KEY".
        number: 0 for the least value, 1 for the greatest.
    """

    draws: Draws
    key: str
    number: float

    @property
    def size(self) -> int:
        return self.draws.size

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self.draws.normal(key, shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        drawn = self.draws.uniform(key, shape)
        return drawn.new_full(drawn.shape, self.number) if self._is_meant(key) else drawn

    def shared_uniform(self, key: str) -> float:
        return self.number if self._is_meant(key) else self.draws.shared_uniform(key)

    def _is_meant(self, key: str) -> bool:
        condition, _, field = self.key.rpartition("/")
        number = f"{condition}{VALUE}{field}"
        return key == number or key.startswith(f"{number}{AGAIN}")


def size_of(grid: Grid, modality: str) -> str:
    """Spell the size of a clip as a bucket is written, or that of a sound in latent steps."""
    frames, rows, columns = grid.scale
    is_video = modality == "video"
    return f"{grid.width * columns}x{grid.height * rows}x{(grid.frames - 1) * frames + 1}" if is_video else f"{grid.frames} latent steps"


def rows_of(value: Any, rows: Sequence[int]) -> Any:
    """Return a value in which every tensor has only the rows of some samples."""
    return _mapped(value, lambda tensor: tensor[list(rows)])


def without_content(batch: Batch, rows: Sequence[int]) -> tuple[Batch, Hashable]:
    """Return samples that have the sizes and rates of some samples of a batch, but no content, and therefore take no memory; and a key that
    tells their sizes apart.
    """
    import torch

    sizes: list[Hashable] = []

    def emptied(tensor: Tensor) -> Tensor:
        sizes.append(tuple(tensor.shape[1:]))
        return torch.zeros(1, dtype=tensor.dtype).expand(len(rows), *tensor.shape[1:])

    def emptied_beside_rate(stored: StoredLatents) -> StoredLatents:
        rate = stored.rate[list(rows)]
        sizes.append(tuple(rate.tolist()))
        return StoredLatents(emptied(stored.latents), rate)

    empty = Batch(
        names=tuple(batch.names[row] for row in rows),
        latents={role: emptied_beside_rate(stored) for role, stored in batch.latents.items()},
        masks=_mapped(batch.masks, emptied),
        text=attrs.evolve(batch.text, features={}, mask=torch.zeros(len(rows), 0)),
        tensors=_mapped(batch.tensors, emptied),
        pictures=_mapped(batch.pictures, emptied),
    )
    return empty, (len(rows), *sizes)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if hasattr(value, "ndim"):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if attrs.has(type(value)):
        return attrs.evolve(value, **{field.name: _mapped(getattr(value, field.name), change) for field in attrs.fields(type(value))})
    return value
