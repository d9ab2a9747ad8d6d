"""`make space`: the folder is what a Space needs, and serves as a Space would serve it."""

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from cifar_torch.checkpoint import STATE
from tests.server import ROOT, free_port, running

NOBODY = "65534"
READ_ONLY = "-all,+dac_read_search"  # of root's powers: to read, wherever this Python may lie


def make_space(folder: Path | str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Without the virtual environment, as for somebody who has only Python.
    python = Path(sys.base_prefix) / "bin" / "python3"
    command = [python if python.exists() else sys.executable, "-I", "scripts/make_space.py", folder]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="space-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def space(open_folder) -> Path:
    folder = open_folder / "space"
    done = make_space(folder)
    assert done.returncode == 0, done.stderr
    assert "with these checkpoints: best, report" in done.stdout and "gradio deploy" in done.stdout
    return folder


def test_it_holds_what_a_space_needs_and_no_more(space):
    assert {path.name for path in space.iterdir()} == {
        ".gitattributes",
        "README.md",
        "app.py",
        "checkpoints",
        "cifar_torch",
        "requirements.txt",
    }
    names = [path.name for path in space.rglob("*")]
    assert "model.safetensors" in names
    for unwanted in ("__pycache__", "training_state.safetensors"):
        assert unwanted not in names
    for module in (ROOT / "cifar_torch").rglob("*.py"):
        assert (space / module.relative_to(ROOT)).read_bytes() == module.read_bytes()


def test_its_settings_fit_its_requirements(space):
    _, settings, body = (space / "README.md").read_text("utf-8").split("---\n")
    values = dict(line.split(": ", 1) for line in settings.splitlines())
    requirements = (space / "requirements.txt").read_text().splitlines()
    assert values["sdk"] == "gradio"
    assert f"gradio[mcp]=={values['sdk_version']}" in requirements
    assert (space / values["app_file"]).is_file()
    assert "# cifar-torch" in body


def test_written_again_it_is_up_to_date_and_keeps_the_history(space, tmp_path):
    folder = tmp_path / "space"
    shutil.copytree(space, folder)
    (folder / ".git").mkdir()
    (folder / "cifar_torch" / "old.py").write_text("gone by now")
    (folder / "app.py").write_text("old")
    assert make_space(folder).returncode == 0
    assert (folder / ".git").is_dir()
    assert not (folder / "cifar_torch" / "old.py").exists()
    assert (folder / "app.py").read_bytes() == (ROOT / "app.py").read_bytes()


def test_runs_that_have_not_ended_are_left_out(tmp_path):
    project = tmp_path / "project"
    for name in ("cifar_torch", "scripts", "app.py", "requirements.txt", "README.md"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, project / name)
    for name, files in {
        "mine": ["model.safetensors"],
        "other": ["model.safetensors", STATE],
    }.items():
        (project / "checkpoints" / name).mkdir(parents=True)
        for file in files:
            (project / "checkpoints" / name / file).touch()
    done = make_space(tmp_path / "space", project)
    assert "with these checkpoints: mine.\n" in done.stdout, done.stderr
    assert [path.name for path in (tmp_path / "space" / "checkpoints").iterdir()] == ["mine"]


def test_the_clone_of_a_new_space_may_be_written_into(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("---\nsdk: gradio\n---\n")
    (tmp_path / ".gitattributes").touch()
    assert make_space(tmp_path).returncode == 0


@pytest.mark.parametrize("files", [["thesis.txt"], ["app.py"], ["README.md", "app.py"]])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("precious")
    done = make_space(tmp_path)
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert all((tmp_path / name).read_text() == "precious" for name in files)


def test_the_project_itself_is_a_folder_of_somebody_else():
    done = make_space(".")
    assert (done.returncode, "holds other files" in done.stderr) == (1, True)


def test_sentences_for_mistakes(tmp_path):
    (tmp_path / "file").touch()
    own = "checkpoints/space"  # which would be copied into itself
    for folder in ("", own, tmp_path / "file", tmp_path / "file" / "below"):
        done = make_space(folder)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def clean_python(open_folder) -> Path:
    """The Python of a new virtual environment.

    Installing 6 GB of wheels again would take minutes, so a .pth file lends it the packages of the
    one that runs these tests; the project itself is not among them.
    """
    folder = open_folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    Path(packages, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def as_ordinary_user(python: Path) -> list[str]:
    """What comes before a command so that root runs it as nobody."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reading = [f"--{kind}={READ_ONLY}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    for options in (reading, []):
        command = [*prefix, *options]
        if subprocess.run([*command, python, "-c", ""], capture_output=True).returncode == 0:
            return command
    return pytest.fail("run these tests as an ordinary user, or keep Python where others can read")


@pytest.fixture(scope="module")
def served(space, clean_python, open_folder):
    port = free_port()
    home, temporary = open_folder / "home", open_folder / "tmp"
    home.mkdir(mode=0o555)
    temporary.mkdir()
    temporary.chmod(0o1777)
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "TMPDIR": str(temporary),
        "SYSTEM": "spaces",
        "SPACE_ID": "somebody/cifar-torch",
        "SPACE_AUTHOR_NAME": "somebody",
        "SPACE_REPO_NAME": "cifar-torch",
        "SPACE_HOST": "somebody-cifar-torch.hf.space",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ALLOW_FLAGGING": "never",
        "GRADIO_THEME": "huggingface",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [*as_ordinary_user(clean_python), str(clean_python), "app.py"]
    with running(command, port, cwd=space, env=environment) as app:
        yield app


def cat_coloured() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    return file.getvalue()


def test_it_classifies_over_http(served):
    files = {"file": ("gradient.jpg", cat_coloured())}
    reply = httpx.post(f"{served.url}/api/classify", files=files, timeout=60).json()
    assert len(reply["answers"][0]["confidences"]) == 10
    assert sum(reply["answers"][0]["confidences"].values()) == pytest.approx(1, abs=1e-3)


def test_it_classifies_through_gradio(served, tmp_path):
    picture = tmp_path / "gradient.jpg"
    picture.write_bytes(cat_coloured())
    client = Client(served.url, verbose=False)
    assert client.predict(handle_file(picture), api_name="/classify")["confidences"]


def test_it_serves_without_complaint(served):
    # Spaces install the package of that name themselves, for Gradio to reload the code.
    complaints = [line for line in served.output().splitlines() if "Error:" in line]
    assert [line for line in complaints if "`spaces` package is required" not in line] == []
