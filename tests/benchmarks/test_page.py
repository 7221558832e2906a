import shutil
import struct

import pytest

from benchmarks.page import BROWSERS, WIDTH, draw, report
from tests.support.docs import ROOT

PICTURES = ("report.png", "case-study.png")


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="needs Chromium")
def test_a_picture_of_a_run_with_a_failure(tmp_path):
    page = report(tmp_path)
    assert "expected n_neighbors" in page.read_text(encoding="utf-8")
    picture = tmp_path / "page.png"
    draw(page, picture, 700)
    assert size(picture) == (WIDTH, 700)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_documentation_are_small(name):
    picture = ROOT / "docs" / name
    assert size(picture)[0] == WIDTH
    assert picture.stat().st_size < 150_000


def size(picture):
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", head[16:24])
