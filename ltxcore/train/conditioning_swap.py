"""Swap the conditioning of clips. A model that uses its conditioning has a higher loss with the conditioning of another
clip.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs
import torch
from torch import Tensor

from ltxcore.flow.sigmas import add_noise
from ltxcore.protocols import Backbone, Batch, Draws, ModelInput, Strategy
from ltxcore.train.feed import prepared

TEXT, GIVEN, FROZEN, REFERENCES = "text", "given", "frozen", "references"

OWN, OTHER = "own_context", "other_context"
"""The names of two contexts: in the first, a clip has all of its own conditioning; in the second, it has all of another
clip's.
"""

CONTEXTS: Mapping[str, frozenset[str]] = {
    OWN: frozenset(),
    OTHER: frozenset({TEXT, GIVEN, FROZEN, REFERENCES}),
    **{f"other_{part}": frozenset({part}) for part in (TEXT, GIVEN, FROZEN, REFERENCES)},
}
"""The contexts by name. Each context lists the parts of the conditioning that come from another clip: the text, the
tokens that conditions give, the frozen modality, the references.
"""


def exchanged(
    strategy: Strategy,
    backbone: Backbone,
    own: Batch,
    other: Batch,
    inputs: Mapping[str, ModelInput],
    draws: Draws,
    parts: Collection[str],
    device: torch.device,
) -> dict[str, ModelInput]:
    """Return `inputs`, which were prepared from `own`, with these parts taken from `other`. Targets, masks and noise do
    not change.

    Raises:
        DataError: a condition cannot apply to these samples.

    Source: docs/explanation/arithmetic.md#conditioning-swap
    """
    mixed = prepared(strategy, backbone, _mixed(strategy, own, other, inputs, parts), draws, device)
    if GIVEN not in parts:
        return mixed
    clean = prepared(strategy, backbone, other, draws, device)
    return {name: _with_given(given, clean[name].clean) for name, given in mixed.items()}


def present(inputs: Mapping[str, ModelInput], parts: Collection[str]) -> Tensor:
    """Return which clips have at least one of these parts, `[B]` bool; only in those clips can the swap replace
    anything.
    """
    found = []
    for given in (each for each in inputs.values() if not each.is_absent):
        size, target = given.tokens.shape[0], 0 if given.clean is None else given.clean.shape[1]
        whole = [
            TEXT in parts,
            FROZEN in parts and not given.is_generated,
            REFERENCES in parts and given.clean is not None and given.tokens.shape[1] > target,
        ]
        found.append(torch.full((size,), any(whole)))
        if GIVEN in parts and given.loss_mask is not None:
            found.append(~given.loss_mask.all(dim=1))
    return torch.stack(found).any(dim=0)


def _mixed(strategy: Strategy, own: Batch, other: Batch, inputs: Mapping[str, ModelInput], parts: Collection[str]) -> Batch:
    """Return the batch `own`, with each of the frozen modalities, references and text that `parts` names taken from
    `other`.

    Values and pictures from which tokens are appended count as references; values that say what is given stay, as masks do. The pictures of
    another clip are placed where the clip's own are.
    """

    def taken(role: str) -> Batch:
        if role not in inputs:
            return other if REFERENCES in parts else own
        return other if FROZEN in parts and not inputs[role].is_generated else own

    latents = {role: taken(role).latents[role] for role in own.latents}
    sources = strategy.sources()
    tensors = {role: (other if REFERENCES in parts and sources[role].appends else own).tensors[role] for role in own.tensors}
    pictures = {
        role: attrs.evolve(own.pictures[role], latents=other.pictures[role].latents)
        for role in own.pictures
        if REFERENCES in parts and sources[role].appends
    }
    pictures = {**own.pictures, **pictures}
    words = other if TEXT in parts else own
    return attrs.evolve(own, latents=latents, pictures=pictures, text=words.text, stored_text=words.stored_text, tensors=tensors)


def _with_given(given: ModelInput, clean: Tensor | None) -> ModelInput:
    """Return the input of a generated modality in which all fully or partly given tokens have the content of `clean`
    `[B, T, D]`. The noise level and the noise do not change.
    """
    if not given.is_generated or clean is None or given.noise is None or given.loss_mask is None:
        return given
    target = slice(0, clean.shape[1])
    content = add_noise(clean, given.noise, given.timesteps[:, target])
    tokens = given.tokens[:, target].where(given.loss_mask.unsqueeze(-1), content)
    return attrs.evolve(given, tokens=torch.cat([tokens, given.tokens[:, clean.shape[1] :]], dim=1))
