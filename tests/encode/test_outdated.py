"""What was set right since a sample was encoded is found from what it was made of."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ltxcore.encode.outdated import exact_rate, told_by_reason
from ltxcore.encode.products import Made, Product


def product(*corrections: str, size: str = "64x64x9") -> Product:
    return Product("latents", {"content": "of a file", "size": size}, "codec", lambda: Made({}), corrections)


@pytest.mark.parametrize(
    ("then", "since"),
    [
        (product(), ("alpha", "hdr", "turned")),
        (product("hdr"), ("alpha", "turned")),
        (product("alpha", "turned"), ("hdr",)),
        (product("alpha", "hdr", "turned"), ()),
        (product(size="32x32x9"), None),
        (product("hdr", size="32x32x9"), None),
        (product("square_pixels"), None),
    ],
)
def test_what_was_set_right_since_is_all_that_was_not_when_it_was_made(then: Product, since: tuple[str, ...] | None) -> None:
    assert product("alpha", "hdr", "turned").set_right_since(then.fingerprint) == since


def test_a_file_in_which_nothing_is_set_right_has_the_fingerprint_that_it_always_had() -> None:
    assert product().fingerprint == "5bb792cef8a182e9b3f7045cdf3032ff6104581528b03edee3b497627e4e7aaa"
    assert product().set_right_since(product().fingerprint) == ()


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25, 2), Fraction(13986013, 466667)])
def test_the_rate_of_a_stored_sample_is_that_of_its_container_again(rate: Fraction) -> None:
    assert exact_rate(float(rate)) == rate


def test_there_is_no_rate_of_an_image() -> None:
    assert exact_rate(None) is None


def test_nothing_is_told_of_no_samples() -> None:
    assert list(told_by_reason({})) == []
