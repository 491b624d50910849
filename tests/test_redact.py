"""What must not be told is not told: secrets in anything, homes in what leaves the machine."""

from __future__ import annotations

import pytest

from ltxcore.errors import ConfigError, Problem
from ltxcore.redact import hide, is_hidden, leaving, redacted, without_secrets

SECRET = "correct-horse-4711"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"http://me:{SECRET}@host/v1: there is no answer", "http://***@host/v1: there is no answer"),
        (f"proxy https://me:p@ss{SECRET}@host:8080 refuses", "proxy https://***@host:8080 refuses"),
        (f"https://{SECRET}@github.com/a/b", "https://***@github.com/a/b"),
        (f"GET https://host/file?rev=1&token={SECRET}&x=2#top", "GET https://host/file?rev=1&token=***&x=2#top"),
        (f"https://bucket/x.mp4?X-Amz-Signature={SECRET}", "https://bucket/x.mp4?X-Amz-Signature=***"),
        (f"--set trackers.mine.api_key={SECRET}", "--set trackers.mine.api_key=***"),
        (f'+api_key = "{SECRET}"', '+api_key = "***"'),
        (f"{{'api_key': '{SECRET}', 'steps': 3}}", "{'api_key': '***', 'steps': 3}"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        ("Incorrect API key provided: sk-abcdefghijklmnop1234.", "Incorrect API key provided: ***."),
        ("token hf_abcdefghijklmnopqrstuv is invalid", "token *** is invalid"),
    ],
)
def test_a_secret_is_not_told(text: str, told: str) -> None:
    assert redacted(text) == told
    assert redacted(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "run.toml:12: optimization.steps: must be at least 1, not 0",
        "the answer is longer than 1024 tokens: --max-tokens=2048",
        "https://huggingface.co/me/made/resolve/main/samples/a.mp4",
        "clips/me@home.mp4: there is no such file",
        'key_variable = "OPENAI_API_KEY", pad_token = 0, first_token=3',
        "a bearer of secret letters walks by; the password is whispered",
        "/data/secret/token.json: cannot be read",
        "https://host/search?q=a&page=2",
    ],
)
def test_what_is_no_secret_is_told_as_it_is(text: str) -> None:
    assert redacted(text) == text
    assert without_secrets({"prompt": text}) == {"prompt": text}


def test_the_keys_in_the_environment_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_SERVICE_PASSWORD", "TINY_KEY"):
        monkeypatch.setenv(name, f"{name.lower()}0815")
        assert redacted(f"the server says: {name.lower()}0815 is wrong") == "the server says: *** is wrong"


def test_what_a_variable_holds_that_is_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SHORT_KEY": "t2v",
        "A_TOKEN": "examples",
        "TOKEN": "/var/run/secrets/token1",
        "KEYBOARD": "pc105-something",
    }.items():
        monkeypatch.setenv(name, value)
        assert redacted(f"in {value}/a.mp4") == f"in {value}/a.mp4"


def test_what_a_user_has_said_is_a_secret_is_not_told() -> None:
    hide("tr0ub4dor")
    hide("")
    hide(None)
    assert redacted("login of me with tr0ub4dor refused") == "login of me with *** refused"


def test_no_error_tells_a_secret() -> None:
    url = f"http://me:{SECRET}@host"
    error = ConfigError(f"{url} refuses", where=url, remedy=f"See {url}.")
    assert SECRET not in f"{error} {error!r} {error.problems!r} {error.at('a')}"
    assert SECRET not in str(ConfigError.of([Problem(url)]))


def test_a_run_file_says_where_a_secret_was() -> None:
    tables = {
        "trackers": {"mine": {"api_key": SECRET, "url": f"https://me:{SECRET}@host/x", "token": "<word>", "names": [f"?key={SECRET}"]}}
    }
    kept = without_secrets(tables)
    assert kept == {"trackers": {"mine": {"api_key": "***", "url": "https://***@host/x", "token": "<word>", "names": ["?key=***"]}}}
    found = {key for key, value in kept["trackers"]["mine"].items() if is_hidden(key, value)}
    assert found == {"api_key", "url"}
    assert is_hidden(0, kept["trackers"]["mine"]["names"][0])
    assert not any(is_hidden(key, value) for key, value in tables["trackers"]["mine"].items())
    assert not is_hidden("prompt", "a disc *** sways")


def test_a_home_is_not_told_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/tmp/x/home/alice")
    told = leaving(
        {
            "data": {
                "root": "/tmp/x/home/alice/sets/a",
                "home": "/tmp/x/home/alice",
                "other": "/tmp/x/home/alice2/a",
                "bob": "/home/bob/a.mp4",
            },
            "command": "ltx run '/tmp/x/home/alice/my runs/run.toml'",
            "mac": ["file /Users/carol/a.mp4 is there"],
            "steps": 3,
        }
    )
    assert told == {
        "data": {"root": "~/sets/a", "home": "~", "other": "/tmp/x/home/alice2/a", "bob": "~/a.mp4"},
        "command": "ltx run ~/'my runs/run.toml'",
        "mac": ["file ~/a.mp4 is there"],
        "steps": 3,
    }


@pytest.mark.parametrize("home", ["/", "", "~"])
def test_where_there_is_no_home_paths_stay(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert leaving("/data/a.mp4, ~/b.mp4 and /var/home/x") == "/data/a.mp4, ~/b.mp4 and /var/home/x"


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (r"C:\Users\carol\sets\a.mp4", r"~\sets\a.mp4"),
        (r"C:\Users\Carol Danvers\a.mp4 is there", r"~\a.mp4 is there"),
        (r"in d:\Users\carol and there", "in ~ and there"),
        ("file C:/Users/carol/a.mp4", "file ~/a.mp4"),
        (r'{"root": "C:\\Users\\carol\\a"}', r'{"root": "~\\a"}'),
        (r"D:\Users.mp4", r"D:\Users.mp4"),
    ],
)
def test_a_home_on_windows_is_not_told_to_others(told: str, left: str) -> None:
    assert leaving(told) == left
