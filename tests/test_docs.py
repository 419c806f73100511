"""Documentation: its commands parse, its programs run, its site needs no network."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

from dynamos.errors import UserError
from tests.helpers.data_files import write_mnist
from tests.helpers.sweeps import SMALL, run
from tune.cli.flags.parser import parser_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = ROOT / "examples"


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of every `dynamos-sweep` command line in the shell blocks of a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "dynamos-sweep":
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_have_the_flags_that_it_shows(page: Path) -> None:
    for words in command_lines(page):
        try:
            parser_of(words[0]).parse([word for word in words if word != "..."])
        except UserError as error:
            pytest.fail(f"{' '.join(words)}: {error}")


def test_commands_were_found() -> None:
    assert sum(len([*command_lines(page)]) for page in PAGES) > 40


def test_examples_are_short() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".sh", ".yaml")]
    assert len(files) >= 12
    assert {p.name: n for p in files if (n := len(p.read_text().splitlines())) >= 60} == {}


@pytest.mark.slow
def test_the_programs_of_the_readme_and_of_examples_run(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    [program] = blocks(ROOT / "README.md", "python")
    assert said("-c", program).startswith("0 ")
    assert "task 3 of 3: class-il" in said(str(EXAMPLES / "train.py"))
    said(str(EXAMPLES / "sweep.py"))
    assert "the choice is trial" in said(str(EXAMPLES / "read_sweep.py"), "from-python")
    assert "1797 images of 8x8" in said(str(EXAMPLES / "own_images.py"))
    assert (tmp_path / "images.npz").exists()


@pytest.mark.slow
def test_the_notebook_runs_in_jupyter(tmp_path: Path) -> None:
    notebook = nbformat.read(  # type: ignore[no-untyped-call]
        EXAMPLES / "notebook.ipynb", as_version=4
    )
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    assert "val_class_il" in str(notebook.cells[-1].outputs)
    [program] = blocks(ROOT / "docs" / "tutorial" / "python.md", "python")[1:2]
    code = "".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert all(line.strip() in code for line in program.splitlines() if "import" in line)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    write_mnist(tmp_path / "DIR" / "MNIST" / "raw", np.random.default_rng(1))
    shutil.copy(EXAMPLES / "own_method.py", tmp_path / "my_method.py")
    text = (tmp_path / "my_method.py").read_text().replace("class MeanER", "class Mine")
    (tmp_path / "my_method.py").write_text(text)
    shutil.copy(EXAMPLES / "space.yaml", tmp_path / "my_space.yaml")
    small = ["--set", *SMALL]
    further = {
        ("run", "--dataset"): ["--trials=2", *small],
        ("run", "--space"): ["--dry-run", "--gpus-per-trial=0"],  # there may be no GPU
        ("confirm", "seq-digits-averaged-1"): ["--seeds=2"],
    }
    # README's first line, `make sweep`, is in .ci/run
    done = run("run", "--trials=2", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [words for words in command_lines(ROOT / "README.md") if words[0] != "serve"]
    assert len(lines) >= 6
    for words in lines:
        done = run(*words, *further.get((words[0], words[1]), []), cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) > 30
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"|<link[^>]* href="(https?:[^"]+)"'
    )
    for page in pages:
        assert [found for found in loaded.findall(page.read_text())] == [], page
    for picture in (tmp_path / "site" / "pictures").glob("*.svg"):
        assert "url(http" not in picture.read_text()
