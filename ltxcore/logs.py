"""What is told beside the results of a command: notes and warnings, by Python's `logging`, as the logger "ltx".

The program shows them on the error stream (`telling`). Whoever imports this package decides by `logging` what becomes of them; by default, nothing does.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ltxcore.redact import redacted

LOGGER = logging.getLogger("ltx")
LOGGER.addHandler(logging.NullHandler())

VERBOSITY = "LTX_VERBOSITY"
"""Environment variable that says how much is told, to the processes that a launcher starts too."""

LEVELS = {"quiet": logging.WARNING, "": logging.INFO, "verbose": logging.INFO}
"""The level of our logger, by the verbosity."""

LIBRARIES = {
    "DIFFUSERS_VERBOSITY": "info",
    "HF_HUB_VERBOSITY": "info",
    "LOGLEVEL": "INFO",
    "TORCH_CPP_LOG_LEVEL": "INFO",
    "TRANSFORMERS_VERBOSITY": "info",
}
"""What libraries read from the environment when they are imported: they tell what they do. LOGLEVEL is that of torch's launcher."""


def inform(text: str) -> None:
    """Tell what goes on, or how it is understood."""
    LOGGER.info("%s", redacted(text))


def warn(text: str) -> None:
    """Tell what is no error, but hardly meant."""
    LOGGER.warning("%s", redacted(text))


@functools.cache
def notice(text: str) -> None:
    """Warn of something, such as that a name is deprecated, once a run, whichever process and however often it is called.

    Python hides DeprecationWarning from users, and forgets which warnings it has shown whenever a library changes a filter.
    """
    if os.environ.get("RANK", "0") == "0":
        warn(text)


def is_quiet() -> bool:
    """Whether notes, and with them progress, are not wanted."""
    return LOGGER.level > logging.INFO


def is_verbose() -> bool:
    """Whether it is wanted what libraries tell."""
    return os.environ.get(VERBOSITY) == "verbose"


@contextmanager
def telling(verbosity: str) -> Iterator[None]:
    """Show notes and warnings on the error stream: warnings alone where it is "quiet", and what libraries tell, too, where it is "verbose"."""
    root, level, before = logging.getLogger(), LOGGER.level, dict(os.environ)
    ours, others = _Stream(), _Stream()
    others.addFilter(lambda record: record.name.partition(".")[0] != LOGGER.name)
    others.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    LOGGER.addHandler(ours)
    LOGGER.setLevel(LEVELS[verbosity])
    level_of_others = root.level
    if verbosity:
        os.environ[VERBOSITY] = verbosity
    if verbosity == "verbose":
        for name, value in LIBRARIES.items():
            os.environ.setdefault(name, value)
        root.addHandler(others)
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(ours)
        LOGGER.setLevel(level)
        root.removeHandler(others)
        root.setLevel(level_of_others)
        for name in (VERBOSITY, *LIBRARIES):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


class _Stream(logging.Handler):
    """To the error stream as it is now: a bar puts another in its place, to stay below what is told."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(redacted(self.format(record)), err=True)


@contextmanager
def of_first(rank: int) -> Iterator[None]:
    """Several processes do the same: the first tells it, and the others tell errors alone."""
    level = LOGGER.level
    if rank > 0:
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def hushed(library: str) -> Iterator[None]:
    """Keep from the user what a library logs, unless it is wanted: where what is to be said of it is said in other words."""
    names = [library, *(name for name in logging.root.manager.loggerDict if name.startswith(f"{library}."))]
    loggers = [] if is_verbose() else [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def unwarned() -> Iterator[None]:
    """Keep Python's warnings of a library from the user, unless it is wanted what libraries tell."""
    with warnings.catch_warnings():
        if not is_verbose():
            warnings.simplefilter("ignore")
        yield


def adopt(library: str) -> None:
    """Let a library that logs to the output, by a handler of its own, log to the error stream, as others do."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.INFO if is_verbose() else logging.WARNING)
