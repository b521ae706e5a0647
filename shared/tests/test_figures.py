"""Figures: ours filled, the paper's hollow, effects in their accepted regions, the same bytes each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from PIL import Image

from papertest import drawing
from papertest.figures import COLOURS, band, bars, effects, measured, panels, png, reported, speeds
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.store import Result


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """matplotlib keeps every figure until it is closed."""
    yield
    plt.close("all")


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


def test_what_a_figure_was_drawn_from_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(png(example(), source="0123abcd"))
    with Image.open(path) as image:
        assert image.info["Source"] == "0123abcd" and "Software" not in image.info
    assert drawing.drawn_from(path) == "0123abcd"
    assert png(example(), source="0123abcd") == path.read_bytes() != png(example(), source="other")
    path.write_bytes(png(example()))
    assert drawing.drawn_from(path) is None


def a_result(**fields: Any) -> Result:
    """Of three seeds; what is measured is a table with a number and a list."""
    usual: dict[str, Any] = {
        "unit": "percentage points",
        "value": {"gain": 2.0, "speed": [3.0, 4.0]},
        "interval": {"gain": [(1.5, 2.5)], "speed": [(2.5, 3.5), (3.0, 5.0)]},
        "bounds": {"gain": [(1.0, float("inf"))], "speed": [(float("-inf"), 9.0), (2.0, 8.0)]},
        "paper": {"speed": [3.5, 4.5]},
        "samples": [{"value": {"gain": 2.0 + d, "speed": [3.0, 4.0 + d]}} for d in (-0.25, 0.0, 0.25)],
    }
    return RESULT.model_copy(update=usual | fields)


def marks(axes: Axes, marker: str) -> list[list[list[float]]]:
    """The points of each line with this marker."""
    return [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == marker]


def spans(axes: Axes) -> list[tuple[float, float, float, float]]:
    """Left, right, and middle and height of each pale band."""
    found: list[tuple[float, float, float, float]] = []
    for each in axes.collections:
        (x0, y0), (x1, y1) = each.get_paths()[0].get_extents().get_points().tolist()
        found.append((x0, x1, (y0 + y1) / 2, y1 - y0))
    return found


def test_an_effect_has_seeds_mean_interval_region_and_the_papers_value() -> None:
    _, (axes,) = panels(width=7.8)
    effects(axes, [("gain", a_result(), "gain"), ("at 512", a_result(), "speed[1]")])
    assert marks(axes, "o") == [[[2.0, 0.0]], [[4.0, 1.0]]]
    assert marks(axes, "|") == [[[1.75, 0], [2, 0], [2.25, 0]], [[3.75, 1], [4, 1], [4.25, 1]]]
    assert marks(axes, "D") == [[[4.5, 1.0]]]  # only where the paper has one
    intervals = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "None"]
    assert intervals[:2] == [[[1.5, 0], [2.5, 0]], [[3.0, 1], [5.0, 1]]]
    left, right = axes.get_xlim()
    assert left < 0 and right > 8  # no effect is in sight, and every bound
    assert [tuple(map(pytest.approx, span)) for span in [(1, right, 0, 0.8), (2, 8, 1, 0.8)]] == spans(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gain", "at 512"]
    assert axes.get_ylim() == (1.5, -0.5)  # from the top down
    hollow = next(line for line in axes.get_lines() if line.get_marker() == "D")
    assert to_rgba(hollow.get_markerfacecolor()) == to_rgba("white")


@pytest.mark.parametrize(("unit", "options", "at"), [
    ("ratio", {}, 1.0), ("nats", {}, 0.0), ("ratio", {"no_effect": 0.0}, 0.0), ("nats", {"no_effect": 0.5}, 0.5),
])  # fmt: skip
def test_a_line_stands_where_nothing_changes(unit: str, options: dict[str, float], at: float) -> None:
    _, (axes,) = panels()
    effects(axes, [("gain", a_result(unit=unit), "gain")], **options)
    upright = [line for line in axes.get_lines() if list(line.get_ydata()) == [0, 1]]
    assert [list(line.get_xdata()) for line in upright] == [[at, at]]
    assert axes.get_xlim()[0] < at


def test_one_sample_has_neither_ticks_nor_interval() -> None:
    _, (axes,) = panels()
    result = a_result(value=2.0, interval=None, bounds={}, paper=None, samples=[{"value": 2.0}])
    effects(axes, [("it", result, "")])
    assert (marks(axes, "o"), marks(axes, "|"), marks(axes, "D"), spans(axes)) == ([[[2.0, 0.0]]], [], [], [])
    assert legend_of(axes) == ["measured"]


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else sorted(text.get_text() for text in legend.get_texts())


def test_the_legend_has_each_kind_once_and_all_that_has_a_label() -> None:
    _, (axes,) = panels(width=7.8)
    effects(axes, [(f"row {i}", a_result(), "speed[0]") for i in range(3)])
    assert legend_of(axes) == ["accepted", "measured, 95 % interval", "one seed each", "the paper"]
    assert sorted(axes.get_legend_handles_labels()[1]) == legend_of(axes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("columns", "width"), [(1, 7.8), (2, 4.6)])
@pytest.mark.parametrize("draw", [effects, speeds])
def test_the_legend_is_below_the_axis_label_and_in_the_figure(draw: Any, columns: int, width: float) -> None:
    figure, axes = panels(columns, width=width)
    for each in axes:
        draw(each, [("a comparison\n(of two lines)", a_result(), "gain"), ("another", a_result(), "speed[1]")])
        each.set(title="What changes accuracy", xlabel="percentage points")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # pyright: ignore
    boxes = [each.get_legend().get_window_extent(renderer) for each in axes]
    for each, box in zip(axes, boxes, strict=True):
        assert box.y1 <= each.xaxis.label.get_window_extent(renderer).y0
        assert box.y0 >= 0 and box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_effects_on_a_logarithmic_axis_keep_their_distance_from_zero() -> None:
    _, (axes,) = panels()
    axes.set_xscale("log")
    effects(axes, [("it", a_result(unit="ratio"), "gain")])
    left, right = axes.get_xlim()
    assert 0 < left < 1 and right > 2.5


@pytest.mark.parametrize("part", ["", "loss", "speed", "speed[2]", "gain[1]"])
def test_a_part_that_is_no_number_is_an_error(part: str) -> None:
    _, (axes,) = panels()
    with pytest.raises(ValueError, match="is no number that one measures: it measures {'gain': 2.0, 'speed':"):
        effects(axes, [("it", a_result(), part)])


def test_a_claim_that_was_not_run_is_an_error() -> None:
    _, (axes,) = panels()
    with pytest.raises(ValueError, match="'' is no number that one measures: it measures None"):
        effects(axes, [("it", a_result(value=None, interval=None, bounds={}, samples=[]), "")])


def test_a_seed_without_a_number_is_left_out() -> None:
    _, (axes,) = panels()
    result = a_result(value=2.0, interval=None, bounds={}, paper=2.0, samples=[{"value": x} for x in (1.0, None, 3.0)])
    effects(axes, [("it", result, "")])
    assert marks(axes, "|") == [[[1, 0], [3, 0]]]


def test_speeds_are_bars_with_interval_bound_and_a_mark_at_one() -> None:
    _, (axes,) = panels()
    ratio = a_result(unit="ratio", value=1.7, interval={"": [(1.6, 1.8)]}, bounds={"": [(1.2, float("inf"))]},
                     paper=None, samples=[{"value": None, "rounds": [1.6, 1.8]}])  # fmt: skip
    memory = a_result(unit="ratio", value={"m": 0.5, "n": 1}, interval=None, paper={"m": 0.6},
                      bounds={"m": [(0.4, 0.9)], "n": [(0, 1)]}, samples=[{"value": {"m": 0.5, "n": 1}}])  # fmt: skip
    speeds(axes, [("forward", ratio, ""), ("memory", memory, "m")])
    assert [(patch.get_x(), patch.get_width()) for patch in axes.patches] == [(0, 1.7), (0, 0.5)]
    assert [text.get_text() for text in axes.texts] == ["1.7", "0.5"]
    assert marks(axes, "|") == [[[1.6, 0], [1.8, 0]]]
    assert marks(axes, "D") == [[[0.6, 1.0]]]
    upright = [
        (x[0], sum(y) / 2) for x, y in (line.get_data() for line in axes.get_lines()) if x[0] == x[-1] and y[0] < y[-1]
    ]
    assert [(x, pytest.approx(y)) for x, y in upright] == [(1.2, 0), (0.4, 1), (0.9, 1), (1, 0.5)]
    assert axes.get_xlim() == (0, pytest.approx(1.15 * 1.8))
    assert legend_of(axes) == ["measured, 95 % interval", "no difference", "required", "the paper"]


def test_a_band_goes_from_the_least_to_the_largest_around_the_mean() -> None:
    _, (axes,) = panels()
    band(axes, [1, 2], [[1.0, 5.0], [3.0, 4.0]], "peer", "theirs")
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[1, 2.0], [2, 4.5]] and line.get_label() == "theirs"
    (area,) = axes.collections
    assert {tuple(point) for point in area.get_paths()[0].vertices.tolist()} == {(1, 1), (1, 3), (2, 4), (2, 5)}
    assert to_hex(area.get_facecolor()[0]) == to_hex(line.get_color()) == COLOURS["peer"]
    with pytest.raises(ValueError, match="zip"):
        band(axes, [1, 2], [[1.0, 5.0], [3.0]], "peer", "theirs")


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

@figure("block")
def block(results):
    assert results == {}
    return panels()[0]
"""
RESULT = Result(
    claim="one", tier="exact", by=None, title="One is one", where="Table 1", reported=1, paper=1, unit="1",
    accept="≥ 1", value=1, interval=None, bounds={"": [(1, 1)]}, verdict="reproduced", why="", deciding="", seeds=None,
    control=None, null=None, fingerprint="f", samples=[{"value": 1}],
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
    assert [p.name for p in folder.iterdir()] == ["block.png"]  # a schematic waits for nothing
    drawing.draw(sources, {"one": RESULT}, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["block.png", "curve.png"]  # not `both`


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
