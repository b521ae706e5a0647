"""The tests that every package imports: green on a package as it should be, red for each thing that may be wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch  # noqa: F401  (what is imported here need not be imported again in each run)

from papertest import figures, store
from papertest.fingerprint import Sources
from papertest.measure import Measurer, Silent
from papertest.package import Package

pytest_plugins = ["pytester"]

RECORD = """
[paper]
title = "A Suited Paper"
authors = ["A. Author"]
year = 2021
arxiv = "2101.00001"
bibtex = "@misc{x}"

[reported.answer]
where = "Table 1"
what = "The answer."
what_zh = "答案。"
value = 42
unit = "1"
setting = "none"
"""
CLAIM = """
[claims.{id}]
title = "It is {id}"
title_zh = "是{n}"
what = "It is."
what_zh = "是。"
reports = ["answer"]
tier = "{tier}"
unit = "1"
accept = {{ equals = true }}
why = "It is printed."
why_zh = "论文给出。"
"""
PAPER = """needs = "cuda"
cost = "0.5 GPU-hours"
"""
CODE = """
from matplotlib import pyplot as plt
from papertest import claim, figure
from papertest.data import Carrier
from papertest.figures import measured, panels

CORPUS = Carrier("corpus", "1.0", "SHA", "MIT")

@claim("answer")
def answer(run):
    return 42

@claim("summed")
def summed(run):
    return 42

@claim("large")
def large(run):
    raise AssertionError("there is no GPU here")

@figure("curve", "answer")
def curve(results):
    drawing, (axes,) = panels()
    measured(axes, [1, 2], [results["answer"].value, 3.0], "ours", "ours")
    axes.set(title="The answer", xlabel="step", ylabel="value")
    axes.legend()
    return drawing

@figure("block")
def block(results):
    drawing, (axes,) = panels()
    axes.text(0.5, 0.5, "a block")
    axes.set_axis_off()
    return drawing
""".replace("SHA", 64 * "a")


class Checkout:
    """A checkout with one package that is as it should be, and its tests."""

    def __init__(self, pytester: pytest.Pytester, package: Package) -> None:
        self.pytester, self.package = pytester, package

    def run(self, *args: str) -> pytest.RunResult:
        assert self.package.home is not None
        try:
            path = str(self.package.home / "tests" / "test_claims.py")
            return self.pytester.runpytest_inprocess("--import-mode=importlib", "--strict-markers", "-rA", *args, path)
        finally:
            forget()

    def edit(self, old: str, new: str) -> None:
        path = self.package.code / "reproduce.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def forget() -> None:
    for name in [n for n in sys.modules if n.startswith("suited_paper")]:
        del sys.modules[name]


@pytest.fixture
def checkout(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "papertest.plugin")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within the same second has to count
    home = pytester.path / "packages" / "suited-paper"
    for folder in ("src/suited_paper", "tests", "results", "figures"):
        (home / folder).mkdir(parents=True)
    (pytester.path / "papers").mkdir()
    tiers = {"answer": "exact", "summed": "printed", "large": "paper"}
    claims = [CLAIM.format(id=i, n=n, tier=tier) for n, (i, tier) in enumerate(tiers.items())]
    (pytester.path / "papers" / "suited-paper.toml").write_text(RECORD + "".join(claims) + PAPER, "utf-8")
    (home / "src/suited_paper/__init__.py").touch()
    (home / "src/suited_paper/reproduce.py").write_text(CODE)
    (home / "tests/test_claims.py").write_text("from papertest.suite import TestClaims  # noqa: F401\n")
    monkeypatch.syspath_prepend(home / "src")
    package = Package.at(home / "src" / "suited_paper")
    measurer = Measurer(package, Silent(), device="cpu", state=pytester.path / "state")
    for claim in tiers:
        store.write_result(package, measurer.measure(claim, {}))
    for name in ("curve", "block"):
        results = store.recorded(package, pytest.fail)
        (home / f"figures/{name}.png").write_bytes(figures.png(Sources(package).drawing(name)(results)))
    forget()
    return Checkout(pytester, package)


def test_a_package_as_it_should_be_is_green(checkout: Checkout) -> None:
    done = checkout.run("-v")
    done.assert_outcomes(passed=12)
    done.stdout.fnmatch_lines(
        [
            "*::TestClaims::test_exact_claim[[]answer] PASSED*",
            "*::TestClaims::test_exact_claim[[]summed] PASSED*",
            "*::TestClaims::test_a_figure_draws_from_the_committed_results[[]block] PASSED*",
            "*::TestClaims::test_carriers_are_pinned[[]corpus] PASSED*",
            "*::TestClaims::test_without_a_gpu_the_cost_is_told[[]large] PASSED*",
        ]
    )


def test_exact_claims_alone_can_be_chosen(checkout: Checkout) -> None:
    checkout.run("-m", "exact").assert_outcomes(passed=2, deselected=10)


def edited(old: str, new: str) -> Callable[[Checkout], None]:
    return lambda checkout: checkout.edit(old, new)


def removed(name: str) -> Callable[[Checkout], None]:
    return lambda checkout: home(checkout).joinpath(name).unlink()


def added(name: str) -> Callable[[Checkout], None]:
    return lambda checkout: home(checkout).joinpath(name).touch()


def home(checkout: Checkout) -> Path:
    assert checkout.package.home is not None
    return checkout.package.home


LARGE = '@claim("large")\ndef large(run):\n    raise AssertionError("there is no GPU here")\n'
DRAWS = "test_a_figure_draws_from_the_committed_results"
TWICE = 'CORPUS = Carrier("corpus", "1.0", "a", "MIT")\nAGAIN = '
WRONG: dict[str, tuple[Callable[[Checkout], None], list[str]]] = {  # what is wrong, and the tests that are red then
    "an exact claim has another value": (
        edited('return 42\n\n@claim("summed")', 'return 41\n\n@claim("summed")'),
        ["test_exact_claim[answer]"],
    ),
    "a printed claim has another value": (
        edited('return 42\n\n@claim("large")', 'return 41\n\n@claim("large")'),
        ["test_exact_claim[summed]"],
    ),
    "a claim is measured that the record does not have": (
        edited("CORPUS =", '@claim("more")\ndef more(run):\n    return 1\n\nCORPUS ='),
        ["test_every_claim_of_the_record_is_measured_and_no_other"],
    ),
    "a result lacks": (
        removed("results/large.json"),
        ["test_every_result_is_committed_and_no_other"],
    ),
    "a result of no claim": (added("results/more.json"), ["test_every_result_is_committed_and_no_other"]),
    "a figure lacks": (removed("figures/block.png"), ["test_every_figure_is_committed_and_no_other"]),
    "a figure that nothing draws": (added("figures/old.png"), ["test_every_figure_is_committed_and_no_other"]),
    "a file that is no figure": (added("figures/block.svg"), ["test_every_figure_is_committed_and_no_other"]),
    "a figure shows a claim that the record does not have": (
        edited('@figure("curve", "answer")', '@figure("curve", "answer", "more")'),
        [f"{DRAWS}[curve]", "test_a_figure_shows_claims_of_the_record[curve]"],
    ),
    "a figure reads a claim that it does not name": (
        edited('results["answer"].value', 'results["summed"].value'),
        [f"{DRAWS}[curve]"],
    ),
    "no title": (edited('title="The answer", ', ""), [f"{DRAWS}[curve]"]),
    "no x label": (edited('xlabel="step", ', ""), [f"{DRAWS}[curve]"]),
    "no y label": (edited(', ylabel="value"', ""), [f"{DRAWS}[curve]"]),
    "no legend": (edited("    axes.legend()\n", ""), [f"{DRAWS}[curve]"]),
    "a line that came after the legend": (
        edited("    axes.legend()\n", '    axes.legend()\n    axes.plot([1], [1], label="late")\n'),
        [f"{DRAWS}[curve]"],
    ),
    "a schematic with a label and no legend": (
        edited("axes.set_axis_off()", 'axes.plot([1], [1], label="x")'),
        [f"{DRAWS}[block]"],
    ),
    "a drawing warns": (edited("axes.set_axis_off()", "axes.legend()"), [f"{DRAWS}[block]"]),
    "a drawing draws something else each time": (
        edited('"a block")', 'str(id(axes)))'),
        [f"{DRAWS}[block]"],
    ),
    "a carrier without a hash": (edited(64 * "a", ""), ["test_carriers_are_pinned[corpus]"]),
    "a carrier without a version": (edited('"1.0"', '"1"'), ["test_carriers_are_pinned[corpus]"]),
    "a carrier without a licence": (edited('"MIT"', '""'), ["test_carriers_are_pinned[corpus]"]),
    "a carrier named twice": (
        edited("\n@claim(\"answer\")", f'AGAIN = Carrier("corpus", "1.1", "{64 * "b"}", "MIT")\n\n@claim("answer")'),
        ["test_carriers_are_named_once"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_red(what: str, checkout: Checkout) -> None:
    harm, red = WRONG[what]
    harm(checkout)
    done = checkout.run()
    failed = [
        line.partition("::TestClaims::")[2].split(" - ")[0] for line in done.outlines if line.startswith("FAILED")
    ]
    assert sorted(failed) == sorted(red)


def test_a_claim_that_is_measured_nowhere_is_red(checkout: Checkout) -> None:
    checkout.edit(LARGE, "")
    failed = [line for line in checkout.run().outlines if line.startswith("FAILED")]
    assert any("test_every_claim_of_the_record_is_measured_and_no_other" in line for line in failed)


NAMED = "axes.set_xticks([1, 2], ['one', 'two'])\n    "


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('xlabel="step", ', ""),  # names at the ticks serve as well
        ("axes.legend()", "drawing.legend(loc='outside lower center')"),
    ],
)
def test_other_ways_to_say_what_a_figure_shows(old: str, new: str, checkout: Checkout) -> None:
    checkout.edit("    axes.set(title", f"    {NAMED}axes.set(title")
    checkout.edit(old, new)
    checkout.run().assert_outcomes(passed=12)


def test_a_colour_bar_needs_no_title(checkout: Checkout) -> None:
    checkout.edit("    axes.legend()", "    axes.legend()\n    drawing.colorbar(plt.cm.ScalarMappable(), ax=axes)")
    checkout.run().assert_outcomes(passed=12)
