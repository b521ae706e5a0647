"""Figures: ours filled, the paper's hollow and dashed, labels on both, the same bytes each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from papertest import drawing
from papertest.figures import COLOURS, bars, measured, panels, png, reported
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.store import Result


def example() -> Figure:
    figure, (left, right) = panels(2)
    measured(left, [1, 2, 4], [1.0, 2.0, 3.0], "ours", "measured here")
    reported(left, [1, 2, 4], [1.1, 2.1, 3.1], "ours", "the paper")
    left.legend()
    bars(right, ["standard", "flash"], [40.0, 4.0], [41.5, 4.4], ["standard", "ours"])
    right.legend()
    return figure


@pytest.mark.parametrize("columns", [1, 3])
def test_panels_stand_side_by_side(columns: int) -> None:
    figure, axes = panels(columns, height=2.0, width=3.0)
    assert len(axes) == len(figure.axes) == columns
    assert figure.get_size_inches().tolist() == [3.0 * columns, 2.0]


def test_our_numbers_are_filled_and_solid() -> None:
    _, (axes,) = panels()
    measured(axes, [1, 2], [3.0, 4.0], "peer", "PyTorch")
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[1, 3], [2, 4]]
    assert (line.get_label(), line.get_linestyle(), line.get_marker()) == ("PyTorch", "-", "o")
    assert to_hex(line.get_color()) == to_hex(line.get_markerfacecolor()) == COLOURS["peer"]


def test_the_papers_values_are_hollow_and_dashed_in_the_same_colour() -> None:
    _, (axes,) = panels()
    reported(axes, [1, 2], [3.0, 4.0], "peer", "the paper")
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[1, 3], [2, 4]]
    assert (line.get_label(), line.get_linestyle()) == ("the paper", "--")
    assert to_hex(line.get_color()) == COLOURS["peer"]
    assert to_rgba(line.get_markerfacecolor()) == to_rgba("white")


def test_a_caller_may_change_a_line() -> None:
    _, (axes,) = panels()
    measured(axes, [1], [1.0], "ours", "a", marker="s", linewidth=3)
    reported(axes, [1], [1.0], "ours", "b", linestyle="none")
    first, second = axes.get_lines()
    assert (first.get_marker(), first.get_linewidth(), second.get_linestyle()) == ("s", 3, "None")


def test_an_unknown_role_is_an_error() -> None:
    _, (axes,) = panels()
    with pytest.raises(KeyError):
        measured(axes, [1], [1.0], "mine", "a")


def test_bars_come_in_pairs_with_their_numbers_on_top() -> None:
    _, (axes,) = panels()
    bars(axes, ["standard", "flash"], [40.3, 4.4123456], [41.5, 4.25], ["standard", "ours"])
    assert [p.get_height() for p in axes.patches] == [40.3, 41.5, 4.4123456, 4.25]
    assert [t.get_text() for t in axes.texts] == ["40.3", "41.5", "4.412", "4.25"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["standard", "flash"]
    assert axes.get_legend_handles_labels()[1] == ["measured here", "the paper"]  # each once
    ours, papers = axes.patches[2:]
    assert to_hex(ours.get_facecolor()) == to_hex(papers.get_edgecolor()) == COLOURS["ours"]
    assert papers.get_facecolor() == to_rgba("white")
    assert (ours.get_hatch(), papers.get_hatch()) == (None, "///")


def test_bars_need_a_value_of_each_for_every_role() -> None:
    _, (axes,) = panels()
    with pytest.raises(ValueError, match="zip"):
        bars(axes, ["a", "b"], [1.0, 2.0], [1.0], ["ours", "ours"])


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = png(example()), png(example())
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_another_value_gives_other_bytes() -> None:
    figure = example()
    figure.axes[0].get_lines()[0].set_ydata([1.0, 2.0, 3.5])
    assert png(figure) != png(example())


def test_no_version_or_date_stands_in_the_file() -> None:
    content = png(example())
    assert b"Software" not in content
    assert b"tEXt" not in content


CODE = """
from pathlib import Path
from papertest import claim, figure
from papertest.figures import measured, panels

@claim("one")
def one(run):
    return 1

@figure("curve", "one")
def curve(results):
    with Path(__file__).with_name("drawn").open("a") as drawn:
        drawn.write("x")
    drawing, (axes,) = panels()
    measured(axes, [1, 2], [results["one"].value, 3.0], "ours", "ours")
    return drawing

@figure("both", "one", "two")
def both(results):
    raise AssertionError("`two` has no result")
"""
RESULT = Result(
    claim="one", tier="exact", where="Table 1", reported=1, unit="1", accept="≥ 1", value=1, interval=None, spread=None,
    verdict="reproduced", why="", fingerprint="f", machine="a machine", versions={}, seconds=0.1,
    samples=[{"value": 1}],
)  # fmt: skip


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    """A package with two figures; each drawing of `curve` leaves an x in the file `drawn`."""
    code = tmp_path / "packages" / "drawn-paper" / "src" / "drawn_paper"
    code.mkdir(parents=True)
    (code / "__init__.py").touch()
    (code / "reproduce.py").write_text(CODE)
    monkeypatch.syspath_prepend(code.parent)
    yield Sources(Package.at(code))
    for name in [n for n in sys.modules if n.startswith("drawn_paper")]:
        del sys.modules[name]


def drawings(sources: Sources) -> int:
    return len((sources.package.code / "drawn").read_text())


def test_a_figure_is_drawn_only_when_what_it_shows_has_changed(sources: Sources, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    drawing.draw(sources, {"one": RESULT}, folder)
    first = (folder / "curve.png").read_bytes()
    drawing.draw(sources, {"one": RESULT}, folder)
    assert drawings(sources) == 1
    changed = RESULT.model_copy(update={"value": 2, "samples": [{"value": 2}]})
    drawing.draw(sources, {"one": changed}, folder)
    assert drawings(sources) == 2
    assert (folder / "curve.png").read_bytes() != first


def test_a_figure_is_drawn_again_when_its_code_has_changed(sources: Sources, tmp_path: Path) -> None:
    drawing.draw(sources, {"one": RESULT}, tmp_path)
    path = sources.package.code / "reproduce.py"
    path.write_text(CODE.replace("3.0", "5.0"))
    drawing.draw(Sources(sources.package), {"one": RESULT}, tmp_path)
    assert drawings(sources) == 2


def test_a_figure_that_was_deleted_is_drawn_again(sources: Sources, tmp_path: Path) -> None:
    drawing.draw(sources, {"one": RESULT}, tmp_path)
    first = (tmp_path / "curve.png").read_bytes()
    (tmp_path / "curve.png").unlink()
    drawing.draw(sources, {"one": RESULT}, tmp_path)
    assert (tmp_path / "curve.png").read_bytes() == first


def test_a_figure_waits_until_all_its_claims_have_samples(sources: Sources, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    drawing.draw(sources, {}, folder)
    drawing.draw(sources, {"one": RESULT.model_copy(update={"samples": []})}, folder)
    assert not folder.exists()
    drawing.draw(sources, {"one": RESULT}, folder)
    assert [p.name for p in folder.iterdir()] == ["curve.png"]  # not `both`


def test_two_packages_may_have_claims_and_figures_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both: list[Sources] = []
    for slug in ("first", "second"):
        code = tmp_path / "packages" / slug / "src" / slug
        code.mkdir(parents=True)
        (code / "__init__.py").touch()
        (code / "reproduce.py").write_text(
            "from papertest.claims import claim, figure\n\n\n"
            f"@claim('one')\ndef one(run):\n    return {slug!r}\n\n\n"
            f"@figure('curve', 'one')\ndef curve(results):\n    return {slug!r}\n"
        )
        monkeypatch.syspath_prepend(code.parent)
        both.append(Sources(Package.at(code)))
    assert [sources.function("one")(None) for sources in (*both, both[0])] == ["first", "second", "first"]
    assert [sources.drawing("curve")({}) for sources in (*both, both[0])] == ["first", "second", "first"]
    for name in [n for n in sys.modules if n.split(".")[0] in ("first", "second")]:
        del sys.modules[name]
