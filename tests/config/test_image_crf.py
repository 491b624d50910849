"""How strongly images are compressed follows from the generation of the model unless the user says it."""

from __future__ import annotations

import pytest

from ltxcore.config.image_crf import image_crf


@pytest.mark.parametrize(("generation", "crf"), [("tiny", 0), ("2.0", 33), ("2.3", 33), ("2.5", 18)])
def test_images_are_compressed_as_in_the_pipelines_of_each_generation(generation: str, crf: int) -> None:
    assert image_crf(None, generation) == crf
    assert [image_crf(asked, generation) for asked in (0, 25)] == [0, 25]
