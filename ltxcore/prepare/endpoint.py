"""An endpoint that speaks the chat protocol of OpenAI: a server of one's own (vLLM, llama.cpp, Ollama) or a service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import attrs

from ltxcore.errors import ConfigError, DataError
from ltxcore.redact import hide

INSTALL = 'Install it: pip install "ltx[tools]"'


@attrs.frozen
class Endpoint:
    """Where captions come from.

    Attributes:
        base_url: of the server, such as "http://127.0.0.1:8000/v1".
        model: its name for the model.
        key_variable: environment variable that holds the key; a server that wants none takes any.
        retries: how often a request is sent again that failed by a server too busy (429), failing (5xx) or out of reach; each time later.
        timeout: seconds for one answer.
        max_tokens: of an answer.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    retries: int = 5
    timeout: float = 600.0
    max_tokens: int = 1024

    def client(self) -> Any:
        """What sends requests; safe to use from several threads.

        Raises:
            ConfigError: the package for it is not installed, or the address is none.
        """
        key = os.environ.get(self.key_variable)
        hide(key)
        hide(_password(self.base_url))
        no_address = f'"{self.base_url}" is no address of a server'
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(no_address, where="--base-url", remedy="It begins with http:// or https://.")
        try:
            import openai
        except ImportError as error:
            raise ConfigError("captions need the package openai, which is not installed", remedy=INSTALL) from error
        try:
            return openai.OpenAI(base_url=self.base_url, api_key=key or "none", max_retries=self.retries, timeout=self.timeout)
        except Exception as error:  # of the library beneath, whose words may be a part of the password
            raise ConfigError(no_address, where="--base-url", remedy="In a password, / is written %2F, @ %40, # %23, ? %3F.") from error

    def ask(self, client: Any, parts: Sequence[dict[str, Any]]) -> str:
        """The answer to one message.

        Raises:
            DataError: there is none: refused, cut off, late, or an error of the server.
        ConfigError: there would be none for any message: no server, no such model, a wrong key.
        """
        import openai

        messages = [{"role": "user", "content": list(parts)}]
        try:
            answer = client.chat.completions.create(model=self.model, messages=messages, max_tokens=self.max_tokens, temperature=0.0)
        except openai.APIStatusError as error:
            what = f"the server answers {error.status_code}: {_said(error)}"
            if error.status_code in (401, 403, 404):  # which it would say of every row
                raise ConfigError(what, where=self.base_url, remedy=_remedy(error.status_code, self)) from error
            raise DataError(what) from error
        except openai.APITimeoutError as error:
            raise DataError(f"the server gives no answer within {self.timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise ConfigError("there is no answer from this server", where=self.base_url, remedy="See that it runs.") from error
        except openai.APIError as error:
            raise DataError(f"the server's answer cannot be read: {error.message}") from error
        choices = getattr(answer, "choices", None)  # a page of HTML arrives as text
        if not choices:
            raise DataError(
                "the server's answer holds no message", remedy="See that --base-url ends as the server's manual says, often in /v1."
            )
        choice = choices[0]
        if getattr(choice.message, "refusal", None):
            raise DataError(f"the model refuses: {choice.message.refusal}")
        if choice.finish_reason == "length":
            raise DataError(f"the answer is longer than {self.max_tokens} tokens", remedy="Allow more: --max-tokens.")
        return str(choice.message.content or "")


def _password(address: str) -> str:
    """What stands between the user and the host in an address, whatever letters it has."""
    login, at, _ = address.partition("://")[2].rpartition("@")
    return login.partition(":")[2] if at else ""


def _said(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message).splitlines()[0][:300]


def _remedy(status: int, endpoint: Endpoint) -> str:
    if status == 404:
        return f'See that --base-url is right, and that the server knows the model "{endpoint.model}".'
    return f"Put your key into the environment variable {endpoint.key_variable}, or name another with --key-variable."
