"""The conditioning swap: a clip is denoised with another clip's conditioning, which makes a model worse if it uses its conditioning."""

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
"""The names of two contexts: with all of the clip's own conditioning, and with all of another clip's."""

CONTEXTS: Mapping[str, frozenset[str]] = {
    OWN: frozenset(),
    OTHER: frozenset({TEXT, GIVEN, FROZEN, REFERENCES}),
    **{f"other_{part}": frozenset({part}) for part in (TEXT, GIVEN, FROZEN, REFERENCES)},
}
"""The contexts by name, each with the parts of the conditioning that come from another clip: its text, the tokens that
conditions give, the frozen modality, the references.
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
    """Return `inputs`, which were prepared from `own`, with these parts taken from `other`; targets, masks and noise
    stay as they are.

    Raises:
        DataError: a condition cannot apply to these samples.

    Source: docs/explanation/arithmetic.md#conditioning-swap
    """
    mixed = prepared(strategy, backbone, _mixed(own, other, inputs, parts), draws, device)
    if GIVEN not in parts:
        return mixed
    clean = prepared(strategy, backbone, other, draws, device)
    return {name: _with_given(given, clean[name].clean) for name, given in mixed.items()}


def present(inputs: Mapping[str, ModelInput], parts: Collection[str]) -> Tensor:
    """Return which clips have any of these parts, which can then be replaced by another clip's, `[B]` bool."""
    found = []
    for given in inputs.values():
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


def _mixed(own: Batch, other: Batch, inputs: Mapping[str, ModelInput], parts: Collection[str]) -> Batch:
    """Return the targets and masks of `own` with the frozen modalities, references and text of `other`, as far as `parts` names them."""

    def taken(role: str) -> Batch:
        if role not in inputs:
            return other if REFERENCES in parts else own
        return other if FROZEN in parts and not inputs[role].is_generated else own

    latents = {role: taken(role).latents[role] for role in own.latents}
    return attrs.evolve(own, latents=latents, text=(other if TEXT in parts else own).text)


def _with_given(given: ModelInput, clean: Tensor | None) -> ModelInput:
    """Return a generated modality whose fully or partly given tokens have the content of `clean` `[B, T, D]`, at the
    same noise level and with the same noise.
    """
    if not given.is_generated or clean is None or given.noise is None or given.loss_mask is None:
        return given
    target = slice(0, clean.shape[1])
    content = add_noise(clean, given.noise, given.timesteps[:, target])
    tokens = given.tokens[:, target].where(given.loss_mask.unsqueeze(-1), content)
    return attrs.evolve(given, tokens=torch.cat([tokens, given.tokens[:, clean.shape[1] :]], dim=1))
