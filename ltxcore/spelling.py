"""Whether a word is a typo of another. Words that are merely alike are not: `max_value` is no typo of `min_value`, nor `ema_decay` of `weight_decay`."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONG = 8
"""Letters from which on a word may have two typos."""


def meant(typed: str, known: Iterable[str]) -> list[str]:
    """The known words that `typed` is a typo of, by name: those with the fewest typos; empty where it is none of any."""
    found = {name: count for name in known if (count := typos(typed, name)) is not None}
    return sorted(name for name, count in found.items() if count == min(found.values()))


def typos(typed: str, name: str) -> int | None:
    """How many letters are wrong, missing, too many, or two in each other's place; None where that does not make the one a typo of the other.

    Case, and `_`, `-` and spaces between words, count for nothing. Digits must agree, since another number is another thing. A second typo is allowed
    in long words alone, and in as many words of as many letters that each have one at most unless it is long itself.
    """
    one, other = typed.casefold(), name.casefold()
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return None
    whole, wanted = (re.sub(r"[_\-\s]", "", text) for text in (one, other))
    if whole == wanted:
        return 0
    if max(len(whole), len(wanted)) < 3:
        return None
    count = distance(whole, wanted, 2)
    if count == 1:
        return 1
    parts, theirs = (re.split(r"[_\-\s]", text) for text in (one, other))
    if count != 2 or len(wanted) < LONG or len(parts) != len(theirs):
        return None
    each = [(distance(a, b, 2), len(b)) for a, b in zip(parts, theirs, strict=True)]
    return 2 if all(wrong <= (2 if length >= LONG else 1) for wrong, length in each) else None


def distance(one: str, other: str, limit: int) -> int:
    """Letters to put in, take out or replace, and neighbours to exchange, to get from one word to another; `limit` + 1 where it takes more than that.

    Source: optimal string alignment.
    """
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before, last, row = [0], [0], list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = last, row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)
