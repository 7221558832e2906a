import re
import subprocess
import sys

import pytest

from tests import HANGS
from tests.support.docs import ROOT


@pytest.mark.slow
def test_a_picture_of_a_run_has_lines_above_the_view(tmp_path):
    path = tmp_path / "run.svg"
    command = [sys.executable, "-m", "benchmarks.picture", path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=HANGS)
    assert_lines_above_the_view(path.read_text())


def test_the_picture_of_the_documentation_has_lines_above_the_view():
    assert_lines_above_the_view((ROOT / "docs/run.svg").read_text())


def assert_lines_above_the_view(svg):
    text = "\n".join(re.findall(r"<text[^>]*>([^<]*)", svg)).replace("&#160;", " ")
    above, view = text.split("1/7")
    assert "train@svm |" in above
    assert "epoch" in above
    assert ", 4 running" in view
    assert "epoch" in view
