"""The set-up: what `make` says and does before anything of ours runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests import browser
from tests.server import ROOT

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@needs_make
def test_make_alone_explains_itself():
    done = make()
    assert done.returncode == 0
    phony = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony
    for target in phony.group(1).split():
        assert f"\nmake {target} " in f"\n{done.stdout}", target


@needs_make
@pytest.mark.parametrize("version", [(3, 9), (3, 14), (2, 7)])
def test_another_python_is_refused_in_a_sentence(tmp_path, version):
    python = tmp_path / "python"
    pretend = f"import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}" "$2"\n')
    python.chmod(0o755)
    done = make("app", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    sentence = done.stderr.splitlines()[0]
    assert sentence.startswith("cifar-torch needs Python 3.10 to 3.13, and ")
    assert "is {}.{}".format(*version) in sentence
    assert not (tmp_path / "venv").exists()


@needs_make
def test_space_without_a_folder_is_answered_in_a_sentence():
    done = make("space")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("Name the folder to write")


def read_requirements(name: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r")):
            found.setdefault(Requirement(line).name, []).append(Requirement(line))
    return found


@pytest.mark.parametrize(
    ("name", "section"),
    [("requirements.txt", r"dependencies"), ("requirements-dev.txt", r"dev")],
)
def test_the_tested_versions_lie_in_the_ranges(name, section):
    project = (ROOT / "pyproject.toml").read_text()
    block = re.search(rf"^{section} = \[(.*?)\n?\]$", project, re.M | re.S)
    assert block
    ranges = [Requirement(text) for text in re.findall(r'"([^"]+)"', block.group(1))]
    pinned = read_requirements(name)
    assert {r.name for r in ranges} == set(pinned)
    for wanted in ranges:
        for pin in pinned[wanted.name]:
            version = Version(str(pin.specifier).removeprefix("=="))
            assert version in wanted.specifier, f"{pin} is not in {wanted}"
            assert pin.extras == wanted.extras


def run_without_browser(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_page.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.browser\ndef test_page():\n    assert False\n\n"
        "def test_other():\n    pass\n"
    )
    code = (
        "import sys, pytest; from tests import browser; browser._candidates = lambda: iter(());"
        "sys.exit(pytest.main(sys.argv[1:], plugins=[browser]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-c", ROOT / "pyproject.toml", tmp_path],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "REQUIRE_BROWSER"}, **environment},
        capture_output=True,
        text=True,
    )


def test_without_a_browser_the_last_line_says_so(tmp_path):
    done = run_without_browser(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "1 browser tests were left out: there is no Chromium or Chrome."


def test_without_a_browser_that_is_required_the_run_fails(tmp_path):
    done = run_without_browser(tmp_path, REQUIRE_BROWSER="1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith("which REQUIRE_BROWSER=1 makes a failure.")


@pytest.mark.skipif(os.name == "nt", reason="the stub is a shell script")
def test_a_browser_that_only_says_it_is_not_there_is_none(tmp_path, monkeypatch):
    stub = tmp_path / "stub"
    stub.write_text("#!/bin/sh\necho 'requires the chromium snap' >&2\nexit 1\n")
    stub.chmod(0o755)
    works = tmp_path / "works"
    works.write_text("#!/bin/sh\necho Chromium 1.0\n")
    works.chmod(0o755)
    monkeypatch.setattr(browser, "_candidates", lambda: iter([str(stub), str(works)]))
    assert browser.find_browser.__wrapped__() == str(works)
