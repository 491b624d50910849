"""The test of a strategy against its protocol, on samples of many shapes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ltxcore.errors import DataError
from ltxcore.protocols import MODALITIES, Batch, ModelInput, Source, Strategy
from ltxcore.state import Grid
from ltxcore.testing.keys import checking
from ltxcore.testing.trials import NAMES, Samples, alone, draws_of, samples_of, setting_of, tensors_of

Fault = tuple[str, str]
"""A fault, with the label of the samples that show it."""

TEXT = "text"


def check_strategy(table: Any, *, grids: Mapping[str, Sequence[Grid]] | None = None, **fields: Any) -> None:
    """Check that a strategy does what the training loop relies on.

    The strategy prepares samples of several shapes, three at a time, with everything that its sources name. The strategy may
    refuse some shapes with a DataError, but not all of them.

    Args:
        table: an object of the class that `ltx_strategies` names, or the class.
        grids: the latent grids to try the strategy on, by modality, instead of `ltxcore.testing.trials.GRIDS`.
        fields: the keys to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("strategy", table, fields, in_table=False) as (one, findings):
        try:
            strategy = one.build(setting_of(grids))
        except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
            findings.note(f"raises {type(error).__name__} from build(): {error}")
        findings.tell()
        for fault, label in faults_of(strategy, grids):
            findings.note(fault, label)


def faults_of(strategy: Strategy, grids: Mapping[str, Sequence[Grid]] | None = None) -> Iterator[Fault]:
    """Find the faults of a strategy that has been built."""
    sources = strategy.sources()
    wrong = list(_faults_of_sources(sources))
    yield from ((fault, "") for fault in wrong)
    if wrong:
        return
    accepted, refusal = 0, ""
    for samples in samples_of(sources, grids):
        try:
            strategy.check(samples.manifest)
        except DataError as error:
            refusal = error.problems[0].what
            continue
        except Exception as error:  # noqa: BLE001 - as above
            yield f"raises {type(error).__name__} from check(): {error}", samples.label
            return
        accepted += 1
        for fault in _faults_on(strategy, sources, samples):
            yield fault, samples.label
    if not accepted:
        yield f'refuses all samples that it is tried on, the last with "{refusal}"; pass other keys, or grids that suit it', ""


def _faults_of_sources(sources: Any) -> Iterator[str]:
    if not isinstance(sources, Mapping) or not all(isinstance(source, Source) for source in sources.values()):
        yield f"returns {sources!r} from sources(); it must return a mapping from roles to ltxcore.api.Source"
        return
    if TEXT not in sources or sources[TEXT].kind != "text":
        yield 'has no source "text" of kind "text", which holds the captions'
    if not any(role in MODALITIES and source.kind == "latents" for role, source in sources.items()):
        yield 'has no source "video" or "audio" of kind "latents", which holds what is trained'
    for role, source in sources.items():
        if source.kind not in ("latents", "mask", "pictures", "values", "text"):
            yield f'has a source "{role}" of kind {source.kind!r}; it must be "latents", "mask", "pictures", "values" or "text"'
        elif source.kind != "text" and source.modality not in MODALITIES:
            yield f'has a source "{role}" of the modality {source.modality!r}; it must be "video" or "audio"'


def _faults_on(strategy: Strategy, sources: Mapping[str, Source], samples: Samples) -> Iterator[str]:
    optional = {role for role, source in sources.items() if source.optional}
    modalities = set()
    for number in range(4):
        wanted = strategy.wanted(draws_of(number=number))
        if not wanted <= set(sources):
            yield f"asks for roles that are not among its sources: {', '.join(sorted(wanted - set(sources)))}"
            return
        batch = samples.with_roles((set(sources) - optional) | wanted)
        try:
            prepared = strategy.prepare(batch, draws_of(number=number))
        except Exception as error:  # noqa: BLE001 - as above
            yield f"passes check(), but raises {type(error).__name__} from prepare(): {error}"
            return
        modalities.add(frozenset(prepared))
        yield from _faults_of_inputs(strategy, prepared)
        yield from _purity(strategy, batch, prepared, number)
        faults = [*_neighbours(strategy, batch, prepared, number), *_faults_of_loss(strategy, prepared)]
        yield from faults or _neighbours_in_loss(strategy, batch, prepared, number)
    if len(modalities) > 1:
        yield "prepares different modalities for different draws; only the run file may decide which modalities there are"
    found = strategy.metadata(samples.manifest)
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        yield f"returns {found!r} from metadata(); it must return a mapping from texts to texts"


def _faults_of_inputs(strategy: Strategy, prepared: Mapping[str, ModelInput]) -> Iterator[str]:
    if not any(given.is_generated for given in prepared.values()):
        yield "generates no modality"
    for name, given in prepared.items():
        batch, tokens = given.tokens.shape[:2]
        shapes = {"sigma": (batch,), "timesteps": (batch, tokens), "positions": (batch, 3 if name == "video" else 1, tokens, 2)}
        for field, shape in shapes.items():
            found = tuple(getattr(given, field).shape)
            if found != shape:
                yield f"prepares {name}.{field} {list(found)} for tokens [{batch}, {tokens}, ...]; it must be {list(shape)}"
                return
        for field in ("tokens", "sigma", "timesteps", "positions"):
            if getattr(given, field).dtype != torch.float32:
                yield f"prepares {name}.{field} in {getattr(given, field).dtype}; it must be float32"
        yield from _faults_of_marker(name, given)
        following = given.timesteps if given.levels is None else given.timesteps - given.levels
        if bool((following < 0).any()) or bool((following > given.sigma.unsqueeze(1) + 1e-6).any()):
            yield f"prepares {name}.timesteps that are not between 0 and sigma, apart from the levels of given tokens"
        if not given.is_generated and bool(following.any()):
            yield f"prepares the frozen {name} with timesteps above 0, apart from the levels of given tokens"
    sigmas = [given.sigma for given in prepared.values() if given.is_generated]
    if strategy.shared_sigma and any(not torch.equal(sigmas[0], sigma) for sigma in sigmas):
        yield "sets shared_sigma, but its modalities have different sigmas"


def _faults_of_marker(name: str, given: ModelInput) -> Iterator[str]:
    """Find faults in the marker: no tokens may be marked except target tokens in the first latent frame of a video."""
    if given.marked is None:
        return
    shape, target = tuple(given.tokens.shape[:2]), given.tokens.shape[1] if given.clean is None else given.clean.shape[1]
    if name != "video":
        yield f"marks tokens of {name}; the model only takes a marker for video"
    elif tuple(given.marked.shape) != shape or given.marked.dtype != torch.bool:
        yield f"prepares video.marked {list(given.marked.shape)} in {given.marked.dtype}; it must be {list(shape)} in torch.bool"
    elif bool(given.marked[:, target:].any()):
        yield "marks appended tokens; only the target's first latent frame may be marked"


def _purity(strategy: Strategy, batch: Batch, prepared: Mapping[str, ModelInput], number: int) -> Iterator[str]:
    fresh, state = copy.deepcopy(batch), torch.get_rng_state()
    again = strategy.prepare(fresh, draws_of(batch.names, number))
    if not torch.equal(torch.get_rng_state(), state):
        yield "draws from the global random number generator; take numbers from draws"
    elif any(
        not torch.equal(given.tokens, again[name].tokens) or not torch.equal(given.timesteps, again[name].timesteps)
        for name, given in prepared.items()
    ):
        yield "prepares the same micro-batch differently the second time"
    before, after = tensors_of(batch), tensors_of(fresh)
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    if changed:
        yield f"changes {', '.join(changed)} in place; make new tensors instead"


def _neighbours(strategy: Strategy, batch: Batch, prepared: Mapping[str, ModelInput], number: int) -> Iterator[str]:
    """Report inputs that depend on other samples in the micro-batch."""
    for index in range(len(NAMES)):
        try:
            single = _single(strategy, batch, number, index)
        except Exception as error:  # noqa: BLE001 - as above
            yield f"raises {type(error).__name__} from prepare() for a sample alone: {error}"
            return
        for name, given in prepared.items():
            other = [
                field
                for field in ("tokens", "sigma", "timesteps", "positions", "marked")
                if not _alike(None if (own := getattr(given, field)) is None else own[index : index + 1], getattr(single[name], field))
            ]
            if other:
                yield f"prepares a different {name}.{other[0]} for a sample alone than for the same sample in a micro-batch"
                return


def _neighbours_in_loss(strategy: Strategy, batch: Batch, prepared: Mapping[str, ModelInput], number: int) -> Iterator[str]:
    """Report losses that depend on other samples in the micro-batch."""
    losses = strategy.loss(_zeros(prepared), prepared)
    for index in range(len(NAMES)):
        single = _single(strategy, batch, number, index)
        try:
            found = strategy.loss(_zeros(single), single)
        except Exception as error:  # noqa: BLE001 - as above
            yield f"raises {type(error).__name__} from loss() for a sample alone: {error}"
            return
        if found.keys() != losses.keys():
            yield "returns losses of different modalities for a single sample and for the same sample in a micro-batch"
            return
        if any(not torch.allclose(found[name], loss[index : index + 1], rtol=1e-4, atol=1e-6) for name, loss in losses.items()):
            yield "returns a different loss for a single sample than for the same sample in a micro-batch"
            return


def _single(strategy: Strategy, batch: Batch, number: int, index: int) -> Mapping[str, ModelInput]:
    return strategy.prepare(alone(batch, index), draws_of(NAMES[index : index + 1], number))


def _zeros(prepared: Mapping[str, ModelInput]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(given.tokens) for name, given in prepared.items()}


def _alike(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)


def _faults_of_loss(strategy: Strategy, prepared: Mapping[str, ModelInput]) -> Iterator[str]:
    predicted = {name: zeros.requires_grad_() for name, zeros in _zeros(prepared).items()}
    try:
        losses = strategy.loss(predicted, prepared)
    except Exception as error:  # noqa: BLE001 - as above
        yield f"raises {type(error).__name__} from loss(): {error}"
        return
    generated = {name for name, given in prepared.items() if given.is_generated}
    if not losses or not set(losses) <= generated:
        yield f"has losses of {sorted(losses)}, but generates {sorted(generated)}"
        return
    for name, loss in losses.items():
        if tuple(loss.shape) != (len(prepared[name].tokens),):
            yield f"has a loss of shape {list(loss.shape)} for {name}; it must be one number per sample, [B]"
            return
        if not bool(loss.isfinite().all()):
            yield f"has a loss for {name} that is not finite"
            return
    total = torch.stack([loss.sum() for loss in losses.values()]).sum()
    if not total.requires_grad:
        yield "has a loss that does not depend on what is predicted"
        return
    total.backward()
    for name in losses:
        gradient, clean = predicted[name].grad, prepared[name].clean
        if gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.any()):
            yield f"has a loss for {name} whose gradient is zero or not finite"
        elif clean is not None and bool(gradient[:, clean.shape[1] :].any()):
            yield f"reads appended {name} tokens in its loss; only target tokens count"
