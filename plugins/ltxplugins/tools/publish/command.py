"""The command `ltx publish`, which uploads a finished run to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath


@click.command()
@click.argument("output_dir", type=FilePath())
@click.option(
    "--to", "repository", default="", metavar="NAME/MODEL", help="Repository to upload to; by default hub_model_id of the run file."
)
@click.option("--private", is_flag=True, help="If the repository is new, make it private.")
@click.option("--dry-run", type=FilePath(), metavar="FOLDER", help="Upload nothing; write to FOLDER what would be uploaded.")
def publish(output_dir: Path, repository: str, private: bool, dry_run: Path | None) -> None:
    """Upload the finished run in OUTPUT_DIR to the Hugging Face Hub.

    The upload consists of the weights (also their average and the best weights, if the run keeps them), a model card, the run file without
    the paths of this machine, the latest validation samples, and the licence texts found beside the base model. No training data are
    uploaded. With push_to_hub = true in its run file, a run does this at its end.
    """
    from ltxplugins.tools.publish.files import upload_of
    from ltxplugins.tools.publish.upload import publish as send

    if dry_run is None:
        click.echo(send(output_dir, repository, private=private or None))
        return
    upload = upload_of(output_dir, repository)
    upload.write(dry_run)
    click.echo(f"This would be uploaded to {upload.repository}:")
    for name in upload.files:
        click.echo(f"  {dry_run / name}")
