"""A small workspace with two packages in order, for a test to break in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.workspace import HEADINGS

PACKAGE = """
[project]
name = "{slug}"
version = "0.1.0"
[project.optional-dependencies]
jax = ["jax"]
reproduce = ["papertest"]
[project.scripts]
reproduce = "{module}.reproduce:main"
[dependency-groups]
dev = ["{slug}[jax,reproduce]"]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    for slug in ("first-paper", "second-paper"):
        home, module = root / "packages" / slug, slug.replace("-", "_")
        for name in ("tests/test_it.py", "notebooks/walkthrough.ipynb", "figures/one.png", "results/one.json"):
            write(home / name, "")
        for readme, headings in HEADINGS.items():
            code = f"```python\nimport {module}\n```\n\n```python\n## no heading\nimport no_such_thing\n```\n"
            write(home / readme, "\n".join([f"# {slug}\n", code, *(f"## {heading}\n" for heading in headings)]))
        write(home / "pyproject.toml", PACKAGE.format(slug=slug, module=module))
        write(home / "src" / module / "__init__.py", f"from {module}.model import answer\n")
        write(home / "src" / module / "model.py", "answer = 42\n")
        write(home / "src" / module / "jax.py", f"from {module}.model import answer\n")
        write(home / "src" / module / "reproduce" / "__init__.py", "def main(): ...\n")
        write(home / "src" / module / "reproduce" / "claims.py", "import papertest\n")
        write(root / "papers" / f"{slug}.toml", "[paper]\n")
    write(root / "shared" / "src" / "papertest" / "__init__.py", "")
    write(root / "pyproject.toml", '[tool.uv]\nreinstall-package = ["first-paper", "second-paper"]\n')
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
