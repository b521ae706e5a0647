"""Drawing: every figure whose claims have results, and only when what it is drawn from has changed."""

from __future__ import annotations

from pathlib import Path

from papertest import files, fingerprint
from papertest.fingerprint import Sources
from papertest.store import Result


def source(sources: Sources, name: str, results: dict[str, Result]) -> str:
    """The hash of what a figure is drawn from: its code, and the results that it shows."""
    (module, function), claims = sources.figures[name]
    shown = [results[i].model_dump(exclude={"fingerprint", "why"}) for i in claims]
    return files.checksum([fingerprint.of_code(sources, module, function), shown])


def drawable(sources: Sources, results: dict[str, Result]) -> list[str]:
    """The figures whose claims all have samples; a schematic has no claims."""
    return [
        name
        for name, (_, claims) in sources.figures.items()
        if all(i in results and results[i].samples for i in claims)
    ]


def draw(sources: Sources, results: dict[str, Result], folder: Path) -> None:
    """Draw into `folder` the figures that are not yet drawn from exactly these results; each PNG says from which."""
    for name in drawable(sources, results):
        key, target = source(sources, name, results), folder / f"{name}.png"
        if target.exists() and drawn_from(target) == key:
            continue
        from papertest import figures  # here: matplotlib takes a second, and most runs draw nothing

        _, claims = sources.figures[name]
        with figures.house_style():  # legends and texts that a figure adds take it too
            figure = sources.drawing(name)({i: results[i] for i in claims})
            files.write_bytes(target, figures.png(figure, source=key))


def drawn_from(png: Path) -> str | None:
    """The hash that a PNG carries, None where it carries none: its text chunk `Source`."""
    content = png.read_bytes()
    at = content.find(b"tEXtSource\0")
    if at < 4:
        return None
    length = int.from_bytes(content[at - 4 : at], "big")
    return content[at + len(b"tEXtSource\0") : at + 4 + length].decode("latin-1")
