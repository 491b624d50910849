"""Suggestions for encoding with less memory, which are added to errors when memory runs out."""

from __future__ import annotations

from contextlib import AbstractContextManager

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.devices import is_gpu
from ltxcore.encode.rules import Place
from ltxcore.memory import telling

STAYS = "What was encoded so far is kept; run the same command again to do the rest."


@attrs.frozen
class Less:
    """Suggestions for encoding with less memory, which are added to errors when memory runs out.

    Attributes:
        codecs: the VAEs and text encoder, and the device that they compute on.
        options: the options of `[preprocessing]`.
        workers: the number of samples to decode at a time.
        where: a function that returns the place of a key for messages, which is an option of the command or a key of a run file.
    """

    codecs: Codecs
    options: PreprocessingTable
    workers: int
    where: Place

    def captions(self) -> AbstractContextManager[None]:
        """Return a context manager for the encoding of captions: it turns running out of memory into an error with suggestions.

        Raises:
            OutOfMemory: memory ran out.
        """
        many = self.options.batch_size
        return telling(f"encoding captions, {many} at a time", self.codecs.device, lambda: self._said(self._for_captions()))

    def media(self, doing: str) -> AbstractContextManager[None]:
        """Return a context manager for the encoding of a sample's media: it turns running out of memory into an error with suggestions.

        Raises:
            OutOfMemory: memory ran out.
        """
        return telling(doing, self.codecs.device, lambda: self._said(self._for_media()))

    def _for_captions(self) -> list[str]:
        codecs, many = self.codecs, self.options.batch_size
        return [
            *([f"a smaller {self._option('batch_size')} than {many}"] if many > 1 else []),
            *(
                [self._key("load_text_encoder_in_8bit")]
                if is_gpu(codecs.device) and not (codecs.text_in_8bit or codecs.text_offload)
                else []
            ),
            *([self._key("offload_text_encoder")] if not (codecs.text_in_8bit or codecs.text_offload) else []),
        ]

    def _for_media(self) -> list[str]:
        return [
            *([] if self.options.vae_tiling else ["--vae-tiling" if self._is_command else "preprocessing.vae_tiling = true"]),
            f"smaller {self._option('resolution_buckets')}, or fewer frames in them",
            *(["--workers 1, which decodes one sample at a time"] if self._is_command and self.workers > 1 else []),
        ]

    @property
    def _is_command(self) -> bool:
        return self.where("preprocessing.batch_size").startswith("--")

    def _option(self, name: str) -> str:
        return f"--{name.replace('_', '-')}" if self._is_command else f"preprocessing.{name}"

    def _key(self, name: str) -> str:
        return f"--{name.replace('_', '-')}" if self._is_command else f"acceleration.{name} = true"

    def _said(self, least: list[str]) -> str:
        return f"Each of these needs less memory: {'; '.join(least)}. {STAYS}" if least else STAYS
