"""Upload a run to the Hugging Face Hub in one commit, so that either all files arrive or none."""

from __future__ import annotations

import shlex
from pathlib import Path

from ltxcore.api import LtxError
from ltxcore.api.commands import hide, redacted
from ltxplugins.tools.publish.files import Upload, upload_of

MESSAGE = "Upload a run of ltx"


class PublishError(LtxError):
    """A finished run could not be uploaded. The run itself remains complete on this machine."""


def publish(folder: Path, repository: str = "", *, private: bool | None = None) -> str:
    """Upload the run in an output folder, and return the address of the repository, which is created if it does not
    exist. HF_ENDPOINT can name another Hub.

    Args:
        folder: the output folder of a finished run.
        repository: "name/model"; by default, the repository that `[hub]` in the run file names.
        private: whether to make a new repository private; by default, the account's setting applies.

    Raises:
        ConfigError: the folder is not the output folder of a run, or no repository is named.
        CheckpointError: the run has not finished.
        PublishError: the Hub could not be reached, or refused the upload. The run itself is not changed.
    """
    upload = upload_of(folder, repository)
    try:
        return _sent(upload, private)
    except Exception as error:  # the run is complete, so any fault of the network or the Hub is only reported
        raise PublishError(
            f"could not be uploaded: {_brief(error)}",
            where=upload.repository,
            remedy=f"The run in {folder} is complete. Try again with: ltx publish {shlex.quote(str(folder))}",
        ) from error


def _sent(upload: Upload, private: bool | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    hide(get_token())
    api = HfApi(library_name="ltx")
    api.create_repo(upload.repository, exist_ok=True, private=private)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in upload.files.items()]
    api.create_commit(upload.repository, operations, commit_message=MESSAGE)
    return redacted(f"{api.endpoint}/{upload.repository}")


def _brief(error: BaseException) -> str:
    """Say what went wrong and why, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("For more information")]
    said = f"{type(error).__name__}: {' '.join(lines)}" if lines else type(error).__name__
    return said if error.__cause__ is None else f"{said}; {_brief(error.__cause__)}"
