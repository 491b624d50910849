"""Send requests to an endpoint with OpenAI's chat protocol: a self-hosted server (vLLM, llama.cpp, Ollama) or a
service.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from ltxcore.api import ConfigError, DataError
from ltxcore.api.commands import hide, listed

QUICK = 2.0
"""The number of seconds allowed for the first request, which only asks for the list of models."""

HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")

OTHERWISE: Mapping[str, str | None] = {"max_tokens": "max_completion_tokens", "temperature": None}
"""The replacement for each parameter that a model may refuse; None to leave the parameter out. Self-hosted servers
support the older names best, so these are tried first.
"""

REFUSED = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|deprecated", re.IGNORECASE)
"""The words with which servers refuse a parameter that they do not support. They do not match errors about values that
are too large.
"""

SOUND_RATE = 16_000
"""The samples per second of the audio that is sent."""

INSTALL = 'Run `pip install "ltx[tools]"`.'


@attrs.frozen
class Endpoint:
    """The server and the model that write the captions.

    Attributes:
        base_url: the server's address, such as "http://127.0.0.1:8000/v1".
        model: the server's name for the model.
        key_variable: the environment variable that holds the key; a server that needs no key accepts any value.
        retries: the number of times to repeat a request, after longer and longer pauses, if the server is too busy
            (429), fails (5xx) or cannot be reached.
        timeout: the number of seconds allowed for one answer.
        max_tokens: the maximum number of tokens in an answer.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    retries: int = 5
    timeout: float = 600.0
    max_tokens: int = 1024

    def client(self) -> Client:
        """Return a client that sends requests. The client is safe to use from several threads.

        Raises:
            ConfigError: the package `openai` is not installed, or the address is not valid.
        """
        key = os.environ.get(self.key_variable)
        hide(key)
        hide(_password(self.base_url))
        no_address = f'"{self.base_url}" is not the address of a server'
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(no_address, where="--base-url", remedy="The address must begin with http:// or https://.")
        try:
            import openai
        except ImportError as error:
            raise ConfigError("captioning needs the package openai, which is not installed", remedy=INSTALL) from error
        try:
            return Client(
                self, openai.OpenAI(base_url=self.base_url, api_key=key or "none", max_retries=self.retries, timeout=self.timeout)
            )
        except Exception as error:  # errors of the underlying library may contain a part of the password
            raise ConfigError(
                no_address, where="--base-url", remedy="In a password, write / as %2F, @ as %40, # as %23 and ? as %3F."
            ) from error


@attrs.define(eq=False)
class Client:
    """Sends requests to an endpoint, and remembers which parameters the model refuses.

    Attributes:
        endpoint: the endpoint.
        sender: OpenAI's client.
        sound_rate: the samples per second of the audio that is sent.
    """

    endpoint: Endpoint
    sender: Any
    sound_rate: int | None = attrs.field(default=SOUND_RATE, init=False)
    _refused: set[str] = attrs.field(factory=set, init=False)
    _models: tuple[str, ...] = attrs.field(default=(), init=False)

    def meet(self, pictures: int) -> None:
        """Check within two seconds that there is a server and that it lists the model. A server without a list, or with
        a slow one, may still answer requests.

        Args:
            pictures: the number of pictures in a request, for the suggested command lines.

        Raises:
            ConfigError: there is no server at this address, or the server requires a different key.
        """
        import openai

        try:
            page = self.sender.with_options(max_retries=0, timeout=QUICK).models.list()
            self._models = tuple(str(each.id) for each in page.data)
        except openai.APIConnectionError as error:
            if not isinstance(error, openai.APITimeoutError) or "connect" in type(error.__cause__).__name__.lower():
                raise self._not_there(error, pictures) from error
        except openai.AuthenticationError as error:
            raise self._useless(error) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):  # the server has no such list, or a list in another format
            return

    def ask(self, parts: Sequence[dict[str, Any]]) -> str:
        """Send one message, and return the answer.

        Raises:
            DataError: there is no answer, because the server refused or failed, or the answer was cut off or late.
            ConfigError: no request can succeed, because there is no such server or model, or the key is wrong.
        """
        import openai

        endpoint = self.endpoint
        try:
            answer = self._sent([{"role": "user", "content": list(parts)}])
        except openai.APIStatusError as error:
            is_unlisted = bool(self._models) and not _lists(self._models, endpoint.model) and error.status_code in (400, 422)
            if is_unlisted or error.status_code in (401, 403, 404):  # every row would cause the same error
                raise self._useless(error) from error
            raise DataError(_answered(error)) from error
        except openai.APITimeoutError as error:
            raise DataError(f"the server did not answer within {endpoint.timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise ConfigError(
                "the server no longer answers",
                where=endpoint.base_url,
                remedy="Check that the server is running; captions already written are kept.",
            ) from error
        except openai.APIError as error:
            raise DataError(f"the server's answer cannot be read: {error.message}") from error
        choices = getattr(answer, "choices", None)  # a page of HTML arrives as text
        if not choices:
            raise DataError(
                "the server's answer holds no message",
                remedy="Check in the server's manual how --base-url must end; it often ends with /v1.",
            )
        choice = choices[0]
        if getattr(choice.message, "refusal", None):
            raise DataError(f"the model refuses: {choice.message.refusal}")
        if choice.finish_reason == "length":
            raise DataError(f"the answer is longer than {endpoint.max_tokens} tokens", remedy="Allow more tokens with --max-tokens.")
        return str(choice.message.content or "")

    def _sent(self, messages: list[dict[str, Any]]) -> Any:
        """Send messages, and return the answer. A parameter that the model refuses is renamed or left out in this and
        all later requests.
        """
        import openai

        while True:
            refused = frozenset(self._refused)
            asked = {"max_tokens": self.endpoint.max_tokens, "temperature": 0.0}
            words = {name: OTHERWISE[name] if name in refused else name for name in asked}
            options = {word: asked[name] for name, word in words.items() if word is not None}
            try:
                return self.sender.chat.completions.create(model=self.endpoint.model, messages=messages, **options)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                found = {name for name in asked if name not in refused and _refuses(error, name)}
                if not found:
                    raise
                self._refused |= found

    def _not_there(self, error: Any, pictures: int) -> ConfigError:
        host, port = _host(self.endpoint.base_url)
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error.__cause__ or error).splitlines()[0])[:200]
        if host not in HERE:
            remedy = "Check that the address is right, and that it can be reached from here."
        else:
            lines = (
                f"vllm serve Qwen/Qwen2.5-VL-7B-Instruct --port {port} --limit-mm-per-prompt '{{\"image\": {pictures}}}'",
                f"llama-server -hf ggml-org/Qwen2.5-VL-7B-Instruct-GGUF --port {port} -c 16384",
                f"OLLAMA_HOST=127.0.0.1:{port} ollama serve   (and once: ollama pull qwen2.5vl)",
            )
            remedy = "\n      ".join(("Start one there, for example with one of these:", *lines))
        return ConfigError(f"there is no server at this address: {reason}", where=self.endpoint.base_url, remedy=remedy)

    def _useless(self, error: Any) -> ConfigError:
        endpoint = self.endpoint
        if error.status_code in (401, 403):
            remedy = f"Put your key into the environment variable {endpoint.key_variable}, or name another with --key-variable."
        elif self._models and not _lists(self._models, endpoint.model):
            remedy = f'The server does not list the model "{endpoint.model}". Name one that it has with --model: {listed(self._models)}.'
        else:
            remedy = f'Check that --base-url is right, and that the server knows the model "{endpoint.model}".'
        return ConfigError(_answered(error), where=endpoint.base_url, remedy=remedy)


def _password(address: str) -> str:
    """Return the password in an address, whatever characters it contains; "" if there is none."""
    login, at, _ = address.partition("://")[2].rpartition("@")
    return login.partition(":")[2] if at else ""


def _host(address: str) -> tuple[str, int]:
    """Return the host and port of an address."""
    place = urlsplit(address)
    try:
        return place.hostname or "", place.port or 80
    except ValueError:  # the port is not a number
        return "", 80


def _lists(models: Sequence[str], name: str) -> bool:
    """Return whether a model is in a list of models. Ollama lists names with the tag "latest", which users may leave
    out.
    """
    return name in models or f"{name}:latest" in models


def _refuses(error: Any, name: str) -> bool:
    """Return whether an error says that a parameter is not supported."""
    body = error.body if isinstance(error.body, dict) else {}
    text = f"{body.get('code') or ''} {body.get('message') or error.message}"
    is_named = body.get("param") == name or re.search(rf"\b{name}\b", text) is not None
    return is_named and REFUSED.search(text) is not None


def _answered(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    said = str(body.get("message") or error.message).splitlines()[0][:300]
    return f"the server answers {error.status_code}: {said}"
