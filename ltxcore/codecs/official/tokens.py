"""Captions to token numbers."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError


@attrs.frozen(eq=False)
class Tokenizer:
    """The tokenizer of a text encoder, by the rules that LTX-2 was trained with.

    A caption is stripped of surrounding whitespace, led by the token that begins a text, not ended by any, cut after `length` tokens and padded
    on the left. Source: reference-behaviour A.5.

    Attributes:
        tokenizer: of the library `tokenizers`.
        begin: number of the token that begins a text.
        padding: number of the token that fills up.
        length: L, positions.
    """

    tokenizer: Any
    begin: int
    padding: int
    length: int

    @classmethod
    def of(cls, content: bytes, *, begin: int, padding: int, length: int, vocabulary: int, where: str) -> Tokenizer:
        """The tokenizer that is written in a tokenizer.json.

        Args:
            content: of the file.
            begin: number of the token that begins a text.
            padding: number of the token that fills up.
            length: positions.
            vocabulary: number of tokens that the text encoder has vectors for.
            where: the file, for messages.

        Raises:
            CheckpointError: it is no tokenizer, or has more tokens than the text encoder.
        """
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception:  # noqa: BLE001 - the library raises bare Exception
            raise CheckpointError("is no tokenizer", where=where, remedy="Download or copy it again.") from None
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise CheckpointError(
                f"this tokenizer has {size} tokens and the text encoder beside it {vocabulary}; they do not belong together", where=where
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, begin, padding, length)

    def __call__(self, caption: str) -> tuple[Tensor, Tensor]:
        """Token numbers of a caption and which of them count, both `[1, L]` int64."""
        numbers = [self.begin, *self.tokenizer.encode(caption.strip(), add_special_tokens=False).ids][: self.length]
        missing = self.length - len(numbers)
        ids = torch.tensor([[self.padding] * missing + numbers])
        mask = torch.tensor([[0] * missing + [1] * len(numbers)])
        return ids, mask
