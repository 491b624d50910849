"""A run from its file to its result: encode, plan, load, train, measure, export, draw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from ltxcore.codecs.load import audio_codec, video_codec
from ltxcore.config.load import LoadedRun
from ltxcore.data.manifest import read_manifest
from ltxcore.engines.single import single_engine
from ltxcore.errors import ConfigError, LtxError
from ltxcore.preprocess.run import default_root, preprocess
from ltxcore.protocols import Codec
from ltxcore.train.checkpoint import check_space
from ltxcore.train.feed import Samples
from ltxcore.train.heldout import HeldOut
from ltxcore.train.model import load_model
from ltxcore.train.plan import Outline, RunPlan, located, outline, plan
from ltxcore.train.samples import Drawer
from ltxcore.train.session import Outcome, Session
from ltxcore.train.trackers import trackers_of

DRAWN = 2
"""Clips that are drawn before and after training."""


def run(loaded: LoadedRun, console: Console | None = None) -> Outcome:
    """Do what a run file says. An unfinished run in its `output_dir` goes on where it was last saved.

    Args:
        loaded: the run file.
        console: told what is going on; by default standard output.

    Raises:
        LtxError: with all that is wrong, before anything is written to `output_dir`; or what stopped the training.
    """
    console = console or Console()
    try:
        return _session(loaded, console).run()
    except LtxError as error:
        raise located(error, loaded) from error


def _session(loaded: LoadedRun, console: Console) -> Session:
    """Everything up to the first file in `output_dir`."""
    config = loaded.config
    found = outline(loaded)
    console.out(
        f"{config.model.training_mode} run of {' and '.join(sorted(found.modalities))} on the base model {found.info.name}", highlight=False
    )
    planned = plan(found, _encoded(found, config.data.dataset, found.root, console))
    samples = Samples(found.root, found.strategy.sources(), planned.manifest)
    apart, names = _held_out(planned, samples, console)
    console.out(f"{len(planned.split.train)} samples to train on, {len(names)} held out", highlight=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(planned, samples, device)
    count = sum(parameter.numel() for parameter in model.parameters.values())
    console.out(f"training {count:,} parameters on {device.type}, {config.optimization.steps} steps", highlight=False)
    if model.idle:
        console.out(f"not trained, since no loss of this run reaches them: {len(model.idle)}, such as {model.idle[0]}", highlight=False)
    engine = single_engine(
        model.backbone, model.parameters, config.optimization, precision=config.acceleration.mixed_precision_mode, device=device
    )
    check_space(found.folder.path, 2 * model.checkpoint_bytes())
    batch_size, seed = config.optimization.batch_size, config.seed
    return Session(
        plan=planned,
        samples=samples,
        model=model,
        engine=engine,
        held_out=HeldOut.of(found.build, found.setting, names, apart, batch_size, seed) if names else None,
        drawer=_drawer(planned, apart, names, console),
        trackers=trackers_of(loaded),
        console=console,
    )


def _encoded(found: Outline, dataset: Path | None, root: Path, console: Console) -> tuple[str, ...] | None:
    """Encode a dataset where that is not done yet; the names of its samples, or None where the run names a set that is encoded already."""
    if dataset is None:
        return None
    config = found.loaded.config
    summary = preprocess(
        dataset,
        root,
        config.preprocessing,
        model_path=config.model.model_path,
        text_encoder_path=config.model.text_encoder_path,
        video_vae_path=config.model.video_vae_path,
        audio_vae_path=config.model.audio_vae_path,
        folders={source.folder for source in found.strategy.sources().values()},
        where=found.loaded.where,
        progress=console.is_terminal,
    )
    brief = "\n".join([f"{len(summary.samples)} samples in {summary.root}, {summary.done} files encoded now", *summary.notes])
    console.out(str(summary) if summary.refused else brief, highlight=False)
    return summary.samples


def _held_out(planned: RunPlan, samples: Samples, console: Console) -> tuple[Samples, tuple[str, ...]]:
    """The held-out samples and where they are read from: the run's data, or a dataset of their own."""
    found = planned.outline
    dataset = found.loaded.config.data.held_out
    if not isinstance(dataset, Path):
        return samples, planned.split.held_out
    root = default_root(dataset)
    only = _encoded(found, dataset, root, console)
    manifest = read_manifest(root, found.strategy.sources(), only=only)
    found.strategy.check(manifest)
    return Samples(root, found.strategy.sources(), manifest), manifest.samples


def _drawer(planned: RunPlan, apart: Samples, names: tuple[str, ...], console: Console) -> Drawer | None:
    """Draws held-out clips, or the first clips of the training set where none are held out."""
    found = planned.outline
    config = found.loaded.config
    try:
        codecs = _codecs(found.modalities, config.model.model_path)
    except ConfigError as error:
        console.out(f"no samples are drawn: {error}", highlight=False)
        return None
    chosen = names[:DRAWN] or planned.split.train[:DRAWN]
    return Drawer.of(found.build, found.setting, chosen, apart, codecs, config.validation.inference_steps, config.seed)


def _codecs(modalities: frozenset[str], model_path: str) -> Mapping[str, Codec]:
    make = {"video": video_codec, "audio": audio_codec}
    return {name: make[name](model_path) for name in modalities}
