"""Notes and warnings: to whom they are told, and how much of them."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings

import pytest

from ltxcore.logs import (
    LIBRARIES,
    LOGGER,
    VERBOSITY,
    adopt,
    hushed,
    inform,
    is_quiet,
    is_verbose,
    notice,
    of_first,
    telling,
    unwarned,
    warn,
)

LIBRARY = logging.getLogger("some_library.part")


def tell_all() -> None:
    inform("a note")
    logging.getLogger("ltx.plugin").info("of a plugin")
    warn("a warning")
    LIBRARY.info("at work")


@pytest.mark.parametrize(
    ("verbosity", "said"),
    [
        ("", "a note\nof a plugin\na warning\n"),
        ("quiet", "a warning\n"),
        ("verbose", "a note\nof a plugin\na warning\nsome_library.part: at work\n"),
    ],
)
def test_the_error_stream_is_told_as_much_as_is_asked_for(verbosity: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with telling(verbosity):
        tell_all()
        assert (is_quiet(), is_verbose()) == (verbosity == "quiet", verbosity == "verbose")
    tell_all()
    assert capsys.readouterr() == ("", said)


def test_whoever_imports_the_package_is_told_by_logging_alone() -> None:
    code = (
        "import logging, sys\n"
        "from ltxcore.logs import inform, is_quiet, warn\n"
        "warn('before')\n"
        "logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s', stream=sys.stdout)\n"
        "inform('a note'), warn('a warning'), print(is_quiet())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("INFO ltx a note\nWARNING ltx a warning\nFalse\n", "")


@pytest.mark.parametrize("verbosity", ["quiet", "verbose"])
def test_processes_that_are_started_meanwhile_know_how_much_to_tell(verbosity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VERBOSITY, *LIBRARIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGLEVEL", "ERROR")
    with telling(verbosity):
        told = {name: os.environ.get(name) for name in (VERBOSITY, *LIBRARIES)}
    asked = LIBRARIES if verbosity == "verbose" else dict.fromkeys(LIBRARIES)
    assert told == {**asked, VERBOSITY: verbosity, "LOGLEVEL": "ERROR"}  # what the user has set stays
    assert {name for name in (VERBOSITY, *LIBRARIES) if name in os.environ} == {"LOGLEVEL"}


def test_what_is_told_is_free_of_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sixteen_letters_at_least")
    with telling(""):
        inform("sent hf_sixteen_letters_at_least")
        warn("sent hf_sixteen_letters_at_least")
    assert "sixteen" not in capsys.readouterr().err


def test_a_percent_sign_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(""):
        inform("100 % of %s")
    assert capsys.readouterr().err == "100 % of %s\n"


def test_the_error_stream_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with telling(""):
        now = io.StringIO()
        monkeypatch.setattr(sys, "stderr", now)
        inform("below a bar")
    assert now.getvalue() == "below a bar\n"


def test_a_notice_is_told_once_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    notice.cache_clear()
    for text in ("old name", "old name", "older name"):
        notice(text)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, "old name"),
        (logging.WARNING, "older name"),
    ]


def test_a_notice_is_told_by_the_first_process_alone(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    notice.cache_clear()
    monkeypatch.setenv("RANK", "3")
    notice("old name")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("rank", "said"), [(0, "a note\nof a plugin\na warning\nsome_library.part: at work\n"), (1, "some_library.part: at work\n")]
)
def test_of_several_processes_the_first_tells_what_all_of_them_do(rank: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with telling("verbose"):
        with of_first(rank):
            tell_all()
        inform("afterwards")
    assert capsys.readouterr().err == f"{said}afterwards\n"


@pytest.mark.parametrize(("verbosity", "said"), [("", ""), ("verbose", "failed\nsome_library.part: failed\nsome_library.late: failed\n")])
def test_what_is_said_in_other_words_is_not_said_by_the_library_unless_that_is_wanted(
    verbosity: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = logging.StreamHandler(sys.stderr)
    LIBRARY.addHandler(own)
    with telling(verbosity):
        with hushed("some_library"):
            LIBRARY.error("failed")
            logging.getLogger("some_library.late").error("failed")
        assert (LIBRARY.handlers, LIBRARY.propagate) == ([own], True)
    LIBRARY.removeHandler(own)
    assert capsys.readouterr().err == said


def test_warnings_of_a_library_are_kept_from_the_user_unless_they_are_wanted() -> None:
    with unwarned():
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
    with telling("verbose"), unwarned(), pytest.warns(FutureWarning):
        warnings.warn("deprecated", FutureWarning, stacklevel=1)


@pytest.mark.parametrize(("verbosity", "said"), [("quiet", "careful\n"), ("", "careful\n"), ("verbose", "loud: at work\nloud: careful\n")])
def test_a_library_with_a_handler_of_its_own_for_the_output_is_told_of_on_the_error_stream(
    verbosity: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    loud = logging.getLogger("loud")
    loud.propagate = False
    loud.addHandler(logging.StreamHandler(sys.stdout))
    with telling(verbosity):
        adopt("loud")
        loud.info("at work")
        loud.warning("careful")
    assert capsys.readouterr() == ("", said)


def test_the_logger_is_as_it_was_after_a_command() -> None:
    before = (LOGGER.level, list(LOGGER.handlers), logging.getLogger().level, list(logging.getLogger().handlers))
    with pytest.raises(KeyError), telling("verbose"):
        raise KeyError
    assert (LOGGER.level, list(LOGGER.handlers), logging.getLogger().level, list(logging.getLogger().handlers)) == before
