"""Notes and warnings besides the results of a command, passed to Python's `logging` as the logger "ltx".

The program shows them on the error stream (`telling`). A program that imports this package decides with `logging` what
happens to them; by default, they are not shown.
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
"""The environment variable that determines how much is shown; processes started by a launcher read it too."""

LEVELS = {"quiet": logging.WARNING, "": logging.INFO, "verbose": logging.INFO}
"""The level of our logger for each verbosity."""

LIBRARIES = {
    "DIFFUSERS_VERBOSITY": "info",
    "HF_HUB_VERBOSITY": "info",
    "LOGLEVEL": "INFO",
    "TORCH_CPP_LOG_LEVEL": "INFO",
    "TRANSFORMERS_VERBOSITY": "info",
}
"""The environment variables that make libraries log what they do; they are read when the libraries are imported.
LOGLEVEL is that of torch's launcher.
"""


def inform(text: str) -> None:
    """Tell the user what is happening, or how something is interpreted."""
    LOGGER.info("%s", redacted(text))


def warn(text: str) -> None:
    """Warn the user about something that is not an error but is probably not intended."""
    LOGGER.warning("%s", redacted(text))


@functools.cache
def notice(text: str) -> None:
    """Warn about something, such as a deprecated name, once per run, however often and from whichever process this is
    called.

    Python's own DeprecationWarning is hidden from users, and Python forgets which warnings it has shown whenever a
    library changes a filter.
    """
    if os.environ.get("RANK", "0") == "0":
        warn(text)


def is_quiet() -> bool:
    """Return whether the user wants no notes, and no progress bars either."""
    return LOGGER.level > logging.INFO


def is_verbose() -> bool:
    """Return whether the user wants to see what libraries log."""
    return os.environ.get(VERBOSITY) == "verbose"


@contextmanager
def telling(verbosity: str) -> Iterator[None]:
    """Show notes and warnings on the error stream: only warnings if `verbosity` is "quiet", and also what libraries log
    if it is "verbose".
    """
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
    """A handler that writes to the current error stream: a progress bar replaces the stream to stay below what is written."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(redacted(self.format(record)), err=True)


@contextmanager
def of_first(rank: int) -> Iterator[None]:
    """Let only the first of several processes that do the same work show notes and warnings; the others show only errors."""
    level = LOGGER.level
    if rank > 0:
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def hushed(library: str) -> Iterator[None]:
    """Hide what a library logs, unless the user asked to see it; used where we say the same in other words."""
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
    """Hide a library's Python warnings, unless the user asked to see what libraries log."""
    with warnings.catch_warnings():
        if not is_verbose():
            warnings.simplefilter("ignore")
        yield


def adopt(library: str) -> None:
    """Make a library that logs to standard output by its own handler log to the error stream like the others."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.INFO if is_verbose() else logging.WARNING)
