"""Drawing: every figure whose claims have results, and only when what it is drawn from has changed."""

from __future__ import annotations

from pathlib import Path

from papertest import files, fingerprint
from papertest.fingerprint import Sources
from papertest.store import Result


def draw(sources: Sources, results: dict[str, Result], folder: Path) -> None:
    """Draw into `folder` the figures whose claims all have samples and that are not yet drawn from exactly these."""
    for name, ((module, function), claims) in sources.figures.items():
        if any(i not in results or not results[i].samples for i in claims):
            continue
        content = [[results[i].samples, results[i].reported] for i in claims]
        key = files.checksum([fingerprint.of_code(sources, module, function), content])
        target, stamp = folder / f"{name}.png", sources.package.state / "drawn" / f"{folder.parent.name}-{name}"
        if target.exists() and stamp.exists() and stamp.read_text("utf-8") == key:
            continue
        from papertest import figures  # here: matplotlib takes a second, and most runs draw nothing

        with figures.house_style():  # legends and texts that a figure adds take it too
            files.write_bytes(target, figures.png(sources.drawing(name)({i: results[i] for i in claims})))
        files.write_bytes(stamp, key.encode())
