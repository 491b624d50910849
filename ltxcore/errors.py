"""Errors that a user can act on. Each error says where the mistake is, what is wrong and what to do. For an unknown
word, it also suggests the known word that was probably meant.

Words that are merely similar do not count as typos: `max_value` is not a typo of `min_value`, nor `ema_decay` of
`weight_decay`.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterable, Iterator

import attrs

from ltxcore.redact import redacted

OF_HOST = ("can't allocate memory", "not enough memory: you tried to allocate", "Cannot allocate memory", "std::bad_alloc")
"""The phrases by which torch and the system report that host memory ran out."""

OF_DEVICE = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "cudaErrorMemoryAllocation", "hipErrorOutOfMemory")
"""The phrases by which torch, its libraries and the driver report, in errors of any class, that a device's memory ran
out.
"""

LONG = 8
"""The number of letters that a word must have to count as known in spite of two typos."""


@attrs.frozen
class Problem:
    """A mistake, described by three texts: where it is, what is wrong and what to do about it. Passwords and keys are
    removed from all of them.

    Attributes:
        what: what is wrong, such as "is not UTF-8 text"; shown after the place.
        where: the place, such as a file with a line, or a key of the run file.
        remedy: what to do about it, as a sentence.
    """

    what: str = attrs.field(converter=redacted)
    where: str = attrs.field(default="", converter=redacted)
    remedy: str = attrs.field(default="", converter=redacted)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{remedy}"


class LtxError(Exception):
    """A mistake that the user can fix. The error is printed without a traceback, and the program exits with status 2.

    An error may hold several problems, so that a user can fix all mistakes in a file at once and not one per run: `DataError.of(problems)`
    makes such an error. `DataError(what, where=..., remedy=...)` makes one with a single problem.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, remedy),)
        super().__init__(str(self))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> LtxError:
        """Make an error of this class that holds all of `problems`; there must be at least one."""
        error = cls.__new__(cls)
        error.problems = tuple(problems)
        if not error.problems:
            raise ValueError("an error needs at least one problem")
        Exception.__init__(error, str(error))
        return error

    def at(self, where: str) -> LtxError:
        """Return the same error with `where` filled in for each problem that does not yet say where it is."""
        return type(self).of(p if p.where else attrs.evolve(p, where=where) for p in self.problems)

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


class ConfigError(LtxError):
    """The run file asks for something that cannot be done with any data."""


class DataError(LtxError):
    """A sample, a source or a raw file cannot be used for the run."""


class PluginError(LtxError):
    """A plugin is missing or broken, or breaks its protocol."""


class CheckpointError(LtxError):
    """Weights, a LoRA or a saved run cannot be read, do not match, or could not be written completely."""


class OutOfMemory(LtxError):
    """The memory of a GPU is not enough for the work."""


class OutOfHostMemory(OutOfMemory):
    """The memory of the machine is not enough for the work."""


class ProcessError(LtxError):
    """Another process of the run has ended or does something different; or another process writes to the same folder."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error from torch or the system means that memory ran out, on a device or on the host."""
    if isinstance(error, LtxError):
        return False
    if any(each.__name__ == "OutOfMemoryError" for each in type(error).__mro__) or is_of_host(error):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in OF_DEVICE)


def is_of_host(error: BaseException) -> bool:
    """Return whether an error means that host memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(said in str(error) for said in OF_HOST)


def reason_of(error: BaseException) -> str:
    """Return the class of an error in someone else's code and its message, or say that it has no message."""
    kind, message = type(error).__name__, str(error)
    return f"{kind}: {message}" if message.strip() else f"{kind} without a message"


def listed(names: Iterable[str], limit: int = 5) -> str:
    """List names for a message: the first `limit` names, and the number of further names."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def many(number: int, one: str, several: str) -> str:
    """Return a number with the words that go with it: "1 tensor is", "2 tensors are"."""
    return f"1 {one}" if number == 1 else f"{number:,} {several}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the known word that the user may have meant by `name`, or else list the choices. A name that is merely similar is not
    suggested, since it may mean something else.
    """
    known = sorted(known)
    return did_you_mean(name, known) or known_names(known)


def known_names(known: Iterable[str]) -> str:
    """List the known names in a sentence."""
    names = sorted(known)
    return f"Known: {', '.join(names)}." if names else "None is known."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether the user meant a known name that is similar to `name`; "" if there are none, or too many."""
    found = [f'"{each}"' for each in meant(name, known)]
    return f"Did you mean {' or '.join(found)}?" if 0 < len(found) <= 3 else ""


@contextlib.contextmanager
def collecting(problems: list[Problem], where: str = "") -> Iterator[None]:
    """Return a context that adds the problems raised in it to `problems`, and lets the program continue. A problem
    without a place gets `where`.
    """
    try:
        yield
    except LtxError as error:
        problems.extend((error.at(where) if where else error).problems)


def meant(typed: str, known: Iterable[str]) -> list[str]:
    """Return the known words that `typed` may be a typo of, sorted by name. Only those that differ from it by the fewest typos are
    returned.
    """
    found = {name: count for name in known if (count := typos(typed, name)) is not None}
    return sorted(name for name, count in found.items() if count == min(found.values()))


def typos(typed: str, name: str) -> int | None:
    """Count the typos by which `typed` differs from `name`: letters that are wrong, missing, superfluous, or swapped
    with a neighbor. Return None if `typed` is too different to be a typo of `name`.

    Case is ignored, and so are `_`, `-` and spaces between words. Digits must agree, since a different number means
    something different. A second typo is allowed only if `name` is long and both names have the same number of words;
    each word may then have one typo, or two if the word itself is long.
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
    """Count the changes that turn one word into another: inserting, deleting or replacing a letter, or swapping two
    neighboring letters. Return `limit` + 1 if there are more than `limit` changes.

    Source: optimal string alignment, https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance
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
