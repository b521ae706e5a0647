#!/usr/bin/env python3
"""Bring the notebooks in Chinese in step with the English ones, which are the source of everything but Chinese text.

uv run --all-packages python ci/notebooks_zh.py             of all packages
uv run --all-packages python ci/notebooks_zh.py moe rope    of some

Code, outputs, metadata and the order of cells are copied by cell id. A Markdown cell keeps its Chinese text; a new one
gets the English text, for you to translate. `ci/check --only notebooks` refuses what is not in step.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUFFIX = ".zh-CN.ipynb"
HAN = re.compile("[\u4e00-\u9fff]")
SAID = {"source": "code", "outputs": "outputs", "metadata": "metadata", "cell_type": "type"}


def pairs(root: Path) -> list[tuple[Path, Path]]:
    """The English notebook and the place of the Chinese one, of every notebook of every package."""
    found = [path for path in sorted(root.glob("packages/*/notebooks/*.ipynb")) if not path.name.endswith(SUFFIX)]
    return [(path, path.with_suffix(SUFFIX)) for path in found]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def merged(english: dict[str, Any], chinese: dict[str, Any] | None) -> dict[str, Any]:
    """The Chinese notebook as it has to be: the English one, with the Chinese text of the Markdown cells there is."""
    texts = {cell["id"]: cell["source"] for cell in (chinese or {"cells": []})["cells"] if is_text(cell)}
    cells = [cell | {"source": texts.get(cell["id"], cell["source"])} if is_text(cell) else cell
             for cell in english["cells"]]  # fmt: skip
    return english | {"cells": cells}


def differences(english: dict[str, Any], chinese: dict[str, Any]) -> list[str]:
    """What of the Chinese notebook is not in step, each with its cell's id; empty where everything is."""
    ours, theirs = ([cell["id"] for cell in notebook["cells"]] for notebook in (chinese, english))
    found = [f"{i} is missing" for i in theirs if i not in ours]
    found += [f"{i} is not in the English notebook" for i in ours if i not in theirs]
    if not found and ours != theirs:
        a, b = next((a, b) for a, b in zip_longest(ours, theirs) if a != b)
        found.append(f"{a or 'the end'} stands where the English notebook has {b or 'its end'}")
    cells = {cell["id"]: cell for cell in chinese["cells"]}
    for wanted in english["cells"]:
        cell = cells.get(wanted["id"], wanted)
        for key in sorted(wanted.keys() | cell.keys()):
            if cell.get(key) != wanted.get(key) and not (key == "source" and is_text(wanted)):
                found.append(f"{wanted['id']} differs in its {SAID.get(key, key)}")
    if rest(english) != rest(chinese):
        found.append("the notebook's own metadata differ")
    return found


def rest(notebook: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in notebook.items() if key != "cells"}


def untranslated(chinese: dict[str, Any]) -> list[str]:
    """The Markdown cells without a Chinese character, by their ids."""
    return [cell["id"] for cell in chinese["cells"] if is_text(cell) and not HAN.search("".join(cell["source"]))]


def is_text(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "markdown"


def main() -> int:
    slugs = sys.argv[1:]
    if unknown := [slug for slug in slugs if not (ROOT / "packages" / slug / "notebooks").is_dir()]:
        print(f"packages/{unknown[0]} has no notebooks; {__doc__}", file=sys.stderr)
        return 2
    for source, target in pairs(ROOT):
        if slugs and source.parts[-3] not in slugs:
            continue
        english, chinese = read(source), read(target) if target.exists() else None
        new = merged(english, chinese)
        if new != chinese:
            target.write_text(json.dumps(new, ensure_ascii=False, indent=1) + "\n", "utf-8", newline="\n")
        left = untranslated(new)
        state = f"translate {', '.join(left)}" if left else "in step" if new == chinese else "brought in step"
        print(f"{target.relative_to(ROOT).as_posix()}: {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
