"""What encoding takes less memory with, told where memory runs out."""

from __future__ import annotations

from contextlib import AbstractContextManager

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.devices import is_gpu
from ltxcore.encode.rules import Place
from ltxcore.memory import telling

STAYS = "What is encoded by now stays, and the same command goes on with the rest."


@attrs.frozen
class Less:
    """Encoding, as it was asked for.

    Attributes:
        codecs: that encode, with their text encoder, and where they compute.
        options: of `[preprocessing]`.
        workers: samples decoded at a time.
        where: the place of a key, for messages: an option of the command, or a key of a run file.
    """

    codecs: Codecs
    options: PreprocessingTable
    workers: int
    where: Place

    def captions(self) -> AbstractContextManager[None]:
        """Around the encoding of captions.

        Raises:
            OutOfMemory: memory ran out.
        """
        many = self.options.batch_size
        return telling(f"encoding captions, {many} at a time", self.codecs.device, lambda: self._said(self._for_captions()))

    def media(self, doing: str) -> AbstractContextManager[None]:
        """Around the encoding of a sample.

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
        tiled = (
            "--vae-tiling" if self._is_command else "`ltx preprocess --vae-tiling` (then data.preprocessed_data_root names what it wrote)"
        )
        return [
            *([] if self.codecs.tiling else [tiled]),
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
        return f"Each of these takes less: {'; '.join(least)}. {STAYS}" if least else STAYS
