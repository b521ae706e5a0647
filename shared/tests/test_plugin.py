"""The plugin: markers, fixtures, one test per claim that is recomputed, and one per figure, carrier and paper claim."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy  # noqa: F401  (what is imported here need not be imported again in each run)
import pytest
import torch  # noqa: F401

from papertest import plugin, store
from papertest.data import Carrier, Sdist
from papertest.measure import Measurer, Silent
from papertest.package import Package
from papertest.plugin import ExactClaim

pytest_plugins = ["pytester"]

RECORD = """
[paper]
title = "A Plugged Paper"
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
from pathlib import Path
from papertest import claim

@claim("answer")
def answer(run):
    with Path(__file__).with_name("log").open("a") as log:
        log.write("x")
    return 42

@claim("summed")
def summed(run):
    return 42

@claim("slow")
def slow(run):
    raise AssertionError("a trend claim is not measured by exact_claim")

@claim("large")
def large(run):
    raise AssertionError("nor is a paper claim")
"""
TEST = "def test_exact_claim(exact_claim):\n    exact_claim.hold()\n"


class Checkout:
    """A checkout with one package, and a pytest in it."""

    def __init__(self, pytester: pytest.Pytester, package: Package) -> None:
        self.pytester, self.package = pytester, package

    def record(self) -> None:
        """Measure the exact claims and commit their results."""
        measurer = Measurer(self.package, Silent())
        for claim in ("answer", "summed"):
            store.write_result(self.package, measurer.measure(claim, {}))
        self.forget()

    def forget(self) -> None:
        for name in [n for n in sys.modules if n.startswith("plugged_paper")]:
            del sys.modules[name]

    def run(self, test: str, *args: str) -> pytest.RunResult:
        assert self.package.home is not None
        path = self.package.home / "tests" / "test_it.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(test, "utf-8")
        try:
            return self.pytester.runpytest_inprocess(
                "--import-mode=importlib", "--strict-markers", "-ra", *args, str(path)
            )
        finally:
            self.forget()

    @property
    def measured(self) -> int:
        return len((self.package.code / "log").read_text())

    def edit(self, old: str, new: str) -> None:
        path = self.package.code / "reproduce.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs load this plugin and no other: they are many, and the others' imports take a second each."""
    if request.function is not test_an_installed_papertest_brings_its_markers:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("PYTEST_PLUGINS", "papertest.plugin")


@pytest.fixture
def checkout(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    root = pytester.path
    code = root / "packages" / "plugged-paper" / "src" / "plugged_paper"
    code.mkdir(parents=True)
    (root / "papers").mkdir()
    tiers = {"answer": "exact", "summed": "printed", "slow": "trend", "large": "paper"}
    claims = [CLAIM.format(id=i, n=n, tier=tier) for n, (i, tier) in enumerate(tiers.items())]
    (root / "papers" / "plugged-paper.toml").write_text(RECORD + "".join(claims) + PAPER, "utf-8")
    (code / "__init__.py").touch()
    (code / "reproduce.py").write_text(CODE)
    monkeypatch.syspath_prepend(code.parent)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within the same second has to count
    return Checkout(pytester, Package.at(code))


def test_an_installed_papertest_brings_its_markers(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.exact: *", "@pytest.mark.trend: *", "@pytest.mark.gpu: *"]
    )


def test_the_markers_are_known_to_strict_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        @pytest.mark.exact
        def test_a(): pass
        @pytest.mark.trend
        def test_b(): pass
    """)
    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=2)
    pytester.runpytest_inprocess("--strict-markers", "-m", "trend").assert_outcomes(passed=1, deselected=1)


GPU = """
import numpy  # noqa: F401  (what is imported here need not be imported again in each run)
import pytest
import torch  # noqa: F401
@pytest.mark.gpu
def test_on_gpu(): pass
def test_on_cpu(): pass
"""


def test_without_a_gpu_its_tests_are_skipped_and_say_why(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "has_cuda", lambda: False)
    pytester.makepyfile(GPU)
    done = pytester.runpytest_inprocess("-rs")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED *: needs a CUDA device, and this machine has none"])


def test_with_a_gpu_its_tests_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "has_cuda", lambda: True)
    pytester.makepyfile(GPU)
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_the_gpu_is_not_looked_for_without_need(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "has_cuda", lambda: pytest.fail("it was"))
    pytester.makepyfile("def test_on_cpu(): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_seed_fixture_seeds_all(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import random
        import numpy as np
        import pytest
        import torch
        drawn = []
        @pytest.mark.parametrize("time", range(2))
        def test_draw(seed, time):
            assert seed == 0
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
            assert drawn[0] == drawn[-1]
    """)
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_the_record_fixture(checkout: Checkout) -> None:
    checkout.run("def test_it(record): assert record.paper.title == 'A Plugged Paper'").assert_outcomes(passed=1)


def test_a_test_outside_packages_has_no_record(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(record): pass")
    done = pytester.runpytest_inprocess()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*is in no packages/<slug>/: its fixtures of papertest need one*"])


def test_one_test_an_exact_claim(checkout: Checkout) -> None:
    checkout.record()
    done = checkout.run(TEST, "-v")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["*test_exact_claim[[]answer] PASSED*", "*test_exact_claim[[]summed] PASSED*"])


def test_exact_claims_bear_the_marker(checkout: Checkout) -> None:
    checkout.record()
    checkout.run(TEST + "def test_other(): pass\n", "-m", "exact").assert_outcomes(passed=2, deselected=1)


def test_the_claim_is_recomputed_each_time(checkout: Checkout) -> None:
    checkout.record()
    assert checkout.measured == 1
    checkout.run(TEST)
    checkout.run(TEST)
    assert checkout.measured == 3


def test_what_the_reader_measured_is_neither_used_nor_changed(checkout: Checkout) -> None:
    checkout.record()
    before = {path: path.read_bytes() for path in checkout.package.state.rglob("*") if path.is_file()}
    assert before
    checkout.run(TEST).assert_outcomes(passed=2)
    checkout.edit('return 42\n\n@claim("summed")', 'raise KeyError\n\n@claim("summed")')
    checkout.run(TEST).assert_outcomes(passed=1, failed=1)
    assert {path: path.read_bytes() for path in checkout.package.state.rglob("*") if path.is_file()} == before


def test_a_changed_verdict_fails_and_says_both(checkout: Checkout) -> None:
    checkout.record()
    checkout.edit('return 42\n\n@claim("summed")', 'return 41\n\n@claim("summed")')
    done = checkout.run(TEST)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(
        ["*answer: committed as 'reproduced', now 'not reproduced' (41 is not equal to the paper's 42)*"]
    )
    done.stdout.fnmatch_lines(["*committed value 42, now 41*"])


def test_what_is_kept_does_not_hide_a_changed_machine(checkout: Checkout) -> None:
    """The sample is thrown away first: what the code reads may have changed without the code."""
    assert checkout.package.code.exists()
    checkout.edit(
        '    return 42\n\n@claim("summed")',
        "    return int(Path(__file__).with_name('n').read_text())\n\n@claim(\"summed\")",
    )
    (checkout.package.code / "n").write_text("42")
    checkout.record()
    checkout.run(TEST).assert_outcomes(passed=2)
    (checkout.package.code / "n").write_text("41")
    checkout.run(TEST).assert_outcomes(passed=1, failed=1)


def test_a_verdict_that_turns_good_fails_too(checkout: Checkout) -> None:
    checkout.edit('return 42\n\n@claim("summed")', 'return 41\n\n@claim("summed")')
    checkout.record()
    checkout.run(TEST).assert_outcomes(passed=2)  # `not reproduced`, as committed
    checkout.edit("return 41", "return 42")
    done = checkout.run(TEST)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*answer: committed as 'not reproduced', now 'reproduced'*"])


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (remove, "*answer has no result: `reproduce --only answer --record` writes it*"),
        (damage, "*answer.json is cut short or not JSON; `reproduce --only answer --record` writes it again*"),
    ],
)
def test_without_a_committed_result_it_fails(checkout: Checkout, harm: Callable[[Path], None], line: str) -> None:
    checkout.record()
    assert checkout.package.results is not None
    harm(checkout.package.results / "answer.json")
    done = checkout.run(TEST)
    assert done.parseoutcomes()["failed"] >= 1
    done.stdout.fnmatch_lines([line])


def test_a_claim_whose_code_raises_fails(checkout: Checkout) -> None:
    checkout.record()
    checkout.edit('return 42\n\n@claim("summed")', "raise KeyError('no such thing')\n\n@claim(\"summed\")")
    done = checkout.run(TEST)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*ClaimFailed: answer: KeyError: 'no such thing'*"])


def test_one_test_a_paper_claim_figure_and_carrier(checkout: Checkout) -> None:
    checkout.edit('@claim("answer")', DATA + '@claim("answer")')
    done = checkout.run(
        "def test_paper(paper_claim): assert paper_claim == 'large'\n"
        "def test_figure(figure_name): assert figure_name in ('curve', 'block')\n"
        "def test_carrier(carrier): assert carrier.sha256 == 64 * carrier.name[0]\n"
        "def test_package(package): assert package.slug == 'plugged-paper'\n",
        "-v",
    )
    done.assert_outcomes(passed=6)
    for name in ("paper[[]large", "figure[[]block", "figure[[]curve", "carrier[[]a-corpus", "carrier[[]b-corpus"):
        done.stdout.fnmatch_lines([f"*test_{name}] PASSED*"])


DATA = """
from papertest import figure
from papertest.data import Carrier, Sdist

HELD = [Carrier("a-corpus", "1.0", sha256="{}", licence="MIT")]
BESIDE = Sdist(
    "b-corpus", "1.0", "{}", "MIT"
)

@figure("curve", "answer")
def curve(results):
    raise AssertionError("it is only named")

@figure("block")
def block(results):
    raise AssertionError("it is only named")

""".format(64 * "a", 64 * "b")


def test_carriers_are_of_their_kind(checkout: Checkout) -> None:
    checkout.edit('@claim("answer")', DATA + '@claim("answer")')
    assert plugin.carriers_of(checkout.package) == [
        Carrier("a-corpus", "1.0", 64 * "a", "MIT"),
        Sdist("b-corpus", "1.0", 64 * "b", "MIT"),
    ]
    assert not [name for name in sys.modules if name.startswith("plugged_paper")]


def test_a_carrier_that_the_source_does_not_show_is_an_error(checkout: Checkout) -> None:
    checkout.edit('@claim("answer")', 'def of(n):\n    return Carrier(n, "1.0", "0", "MIT")\n\n@claim("answer")')
    with pytest.raises(pytest.UsageError, match="^plugged_paper/reproduce.py:6: name, version, sha256 and licence"):
        plugin.carriers_of(checkout.package)


def test_what_a_package_has_not_has_no_test_and_none_is_skipped(checkout: Checkout) -> None:
    done = checkout.run("def test_it(figure_name): pass\ndef test_carrier(carrier): pass\ndef test_other(): pass\n")
    assert done.parseoutcomes() == {"passed": 1}


@pytest.mark.parametrize("names", ['"carrier"', '"carrier, other"', '["other", "carrier"]', 'argnames="carrier"'])
def test_a_test_may_have_values_of_its_own(names: str, pytester: pytest.Pytester) -> None:
    two = "other" in names
    values = 'argvalues=["a", "b"]' if "argnames" in names else '[("a", "a")]' if two else '["a", "b"]'
    other = ", other" if two else ""
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.parametrize({names}, {values})\n"
        f"def test_it(carrier{other}): assert carrier in 'ab'\n"
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1 if two else 2)


def test_hold_needs_no_pytest_run(checkout: Checkout) -> None:
    checkout.record()
    ExactClaim(checkout.package, "answer").hold()
    checkout.forget()
