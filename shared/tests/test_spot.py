"""The default run: what is computed, and one seed of each trend held against the recorded ones, as much as fits."""

from __future__ import annotations

import json
import math
import shutil
from typing import Any

import pytest
from scipy import stats

from papertest import files

COMPUTED = ["answer 0", "pair 0", "ours 0", "sum 0"]
SPOT = [*COMPUTED, "curve 0", "base 0", "noise 0", "similar 0", "fast 0"]


@pytest.fixture
def recorded(toy, recorded_toy):
    """A clone of a checkout whose claims are recorded: nothing was measured in it yet."""
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    return toy


def change(toy, claim: str, **changes: Any) -> None:
    """Another recorded result."""
    path = toy.results / f"{claim}.json"
    files.write_json(path, files.read_json(path) | changes)


def costing(toy, claim: str, *seconds: float, shared: dict[str, float] | None = None) -> None:
    """Samples that took so long."""
    path = toy.results / f"{claim}.json"
    samples = files.read_json(path)["samples"]
    for sample, each in zip(samples, seconds, strict=True):
        sample["seconds"] = each
        sample["shared"] = shared or {}
    change(toy, claim, samples=samples)


def by_id(out: str) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in json.loads(out)}


def row(out: str, title: str) -> str:
    (line,) = [line for line in out.splitlines() if line[3:].startswith(title)]
    return line


def test_one_seed_of_each_trend_is_measured(recorded):
    done = recorded.run()
    assert (done.code, recorded.log()) == (0, SPOT), done.err
    assert (recorded.run().out, recorded.log()) == (done.out, [])
    assert "≈ 3 of 3 claims measured with one seed lie where the recorded seeds predict\n" in done.out
    assert "  ≈0.9  " in row(done.out, "Two runs are alike")
    assert row(done.out, "The noise is small").startswith(" ✓ ")  # the recorded verdict
    content = by_id(recorded.run("--json").out)
    assert {i: entry["how"] for i, entry in content.items()} == {
        "answer": "measured", "pair": "measured", "ours": "measured", "sum": "measured", "curve": "spot",
        "noise": "spot", "similar": "spot", "fast": "measured", "large": "not run"}  # fmt: skip
    assert (content["similar"]["measured"], content["similar"]["agrees"]) == (0.9, True)
    assert content["similar"]["verdict"] == "reproduced"  # of one seed there is none
    assert content["answer"]["agrees"] is None


def test_full_and_only_measure_every_seed(recorded):
    assert recorded.run("--only", "noise").code == 0
    assert [name for name in recorded.log() if "base" not in name] == ["noise 0", "noise 1", "noise 2"]
    done = recorded.run("--full", "--json")
    assert [name for name in recorded.log() if "curve" in name or "noise" in name] == ["curve 0", "curve 1", "curve 2"]
    assert {entry["how"] for entry in by_id(done.out).values()} == {"measured", "not run"}


def test_without_a_record_a_spot_check_agrees_with_nothing(toy):
    done = toy.run()
    assert (done.code, toy.log()) == (0, SPOT)
    assert "≈" not in row(done.out, "The noise is small") and row(done.out, "The noise is small").startswith(" ? ")
    assert by_id(toy.run("--json").out)["noise"]["why"] == "1 of 3 seeds are measured"


def test_a_seed_outside_of_the_prediction_is_told_and_contradicts_nothing(recorded):
    recorded.edit(recorded.claims, "+ 39", "+ 40")
    recorded.edit(recorded.claims, "2.0, 1.0]", "2.1, 1.0]")
    done = recorded.run()
    assert done.code == 0
    assert "≠43" in row(done.out, "The noise is small") and "≠3 … 1" in row(done.out, "The curve falls")
    assert (
        "≈ 1 of 3 claims measured with one seed lie where the recorded seeds predict; ≠ outside: see --show ID\n"
        in (done.out)
    )
    assert by_id(recorded.run("--json").out)["noise"]["agrees"] is False


@pytest.mark.parametrize("claim", ["noise", "similar"])
def test_the_prediction_is_the_99_percent_interval_for_one_further_seed(recorded, claim: str):
    """On the claim's scale: `similar` is bounded by 0 and 1."""
    if claim == "noise":
        values, there, back, old = [40.0, 41.0, 43.0], float, float, "run.shared(base, 3.0) + 39"
        samples = files.read_json(recorded.results / "noise.json")["samples"]
        change(recorded, "noise", samples=[s | {"value": v} for s, v in zip(samples, values, strict=True)])
    else:
        values, old = [0.9, 0.92, 0.96], "[0.9, 0.92, 0.96][run.seed % 3]"
        there, back = (lambda x: math.log(x / (1 - x))), (lambda y: 1 / (1 + math.exp(-y)))
    column = [there(x) for x in values]
    half = stats.t.ppf(0.995, 2) * stats.tstd(column) * math.sqrt(1 + 1 / 3)
    low, high = sum(column) / 3 - half, sum(column) / 3 + half
    code = recorded.claims.read_text()
    found: list[bool] = []
    for place in (low - half / 100, low + half / 100, high - half / 100, high + half / 100):
        recorded.claims.write_text(code.replace(old, repr(float(back(place)))))
        done = recorded.run("--json", "--tier", "trend")
        assert done.code == 0
        found.append(by_id(done.out)[claim]["agrees"])
    assert found == [False, True, True, False]


def test_what_does_not_fit_is_shown_as_recorded_with_its_cost(recorded):
    costing(recorded, "curve", 100, 100, 100)
    costing(recorded, "noise", 1000, 1000, 1000)
    costing(recorded, "similar", 100, 100, 100)
    costing(recorded, "fast", 400)
    costing(recorded, "answer", 1000)
    done = recorded.run("--minutes", "25")  # what is computed, 1000 s, and what fits into the rest
    assert (done.code, recorded.log()) == (0, [*COMPUTED, "curve 0", "base 0", "similar 0"])
    noise, fast = row(done.out, "The noise is small"), row(done.out, "Half as fast")
    assert "(42)" in noise and noise.endswith("costs 17 min") and noise.startswith(" ✓ ")
    assert "(1.54 [1.524, 1.556]×)" in fast and fast.endswith("costs 7 min")
    assert "( ) recorded, not measured here: 2 more would take about 23 min (--minutes, --full)\n" in done.out
    content = by_id(recorded.run("--json", "--minutes", "0").out)
    assert (content["noise"]["how"], content["noise"]["measured"], content["noise"]["recorded"]) == (
        "recorded",
        None,
        42,
    )
    assert content["curve"]["how"] == "spot"  # measured already: it costs nothing
    assert recorded.log() == []
    assert recorded.run("--full", "--minutes", "0").code == 0
    assert "noise 2" in recorded.log()


@pytest.mark.parametrize("minutes", ["0", "0.001"])
def test_what_is_computed_runs_whatever_the_time(recorded, minutes: str):
    for claim in ("answer", "sum", "ours"):
        costing(recorded, claim, 1000)
    for claim in ("curve", "noise", "similar"):
        costing(recorded, claim, 99.7, 100, 100)
    costing(recorded, "fast", 20)
    done = recorded.run("--minutes", minutes)
    assert (done.code, recorded.log()) == (0, COMPUTED)
    assert row(done.out, "Half as fast").endswith("costs 20 s")
    assert row(done.out, "The curve falls").endswith("costs 100 s")
    assert row(done.out, "The answer is 42").startswith(" ✓ ") and "(42)" not in row(done.out, "The answer is 42")


def test_a_shared_run_is_paid_once(recorded):
    """600 s of it and 1 s of each claim fit into 10 min and 2 s together."""
    for claim in ("curve", "noise"):
        costing(recorded, claim, 1, 1, 1, shared={"key": 600})
    recorded.run("--minutes", "10.1", "--tier", "trend")
    assert recorded.log() == ["curve 0", "base 0", "noise 0", "similar 0"]


def test_a_shared_run_is_not_paid_by_a_claim_that_is_left_out(recorded):
    for claim in ("answer", "pair", "ours", "sum", "similar"):
        costing(recorded, claim, *[0.0] * len(files.read_json(recorded.results / f"{claim}.json")["samples"]))
    costing(recorded, "curve", 100.0, 0.0, 0.0, shared={"base": 600.0})
    costing(recorded, "noise", 1.0, 0.0, 0.0, shared={"base": 600.0})
    done = recorded.run("--minutes", "10", "--tier", "trend")
    assert recorded.log() == ["similar 0"]  # neither fits: the run that `curve` would have paid for is missing
    assert by_id(recorded.run("--json", "--minutes", "10", "--tier", "trend").out)["noise"]["how"] == "recorded"
    assert "costs 10 min" in row(done.out, "The noise is small")


def test_show_tells_all_about_one_claim(recorded):
    out = recorded.run("--show", "curve", COLUMNS="80").out
    assert max(map(len, out.splitlines())) <= 80
    for said in ("curve: The curve falls", "tier  Trend", "where  Figure 1", "the paper  3, 2, 1", "unit  1",
                 "criterion  decreasing", "why  It is drawn so.", "controls  noise", "recorded  ✓ reproduced",
                 "seed 0: 3 … 1 (", "seed 2: 3 … 1 (", "numpy "):  # fmt: skip
        assert said in out, said
    assert "   here  " not in out and recorded.log() == []
    recorded.run("--full")
    out = recorded.run("--show", "similar", COLUMNS="120").out
    assert [out.count(f"seed {i}: 0.9") for i in range(3)] == [2, 2, 2]
    assert out.count("95 % interval: 0.9312 [0.7921, 0.9796]") == 2
    out = recorded.run("--show", "fast", COLUMNS="120").out
    assert "speed 15 / 10 = 1.5" in out and "15 rounds: speed 1.54, memory 2 (" in out
    assert out.count("the same side twice: 1.000") == 2
    assert "cost  0.5 GPU-hours" in recorded.run("--show", "large").out


def test_show_measures_nothing_and_shows_what_is_measured_here(recorded):
    recorded.edit(
        recorded.record, 'by = "us"', 'by = "us"\nearlier = "A first set-up gave 5 GB."\nearlier_zh = "原为 5 GB。"'
    )
    recorded.run("--only", "ours")
    recorded.log()
    recorded.edit(recorded.claims, "return 3.0", "return 5.0")
    out = recorded.run("--show", "ours").out
    assert "recorded  ✓ held" in out and "earlier  A first set-up gave 5 GB." in out
    assert " here  " not in out and recorded.log() == []  # of other code
    recorded.run("--only", "ours")
    assert "here  ✗ missed: 5 is not ≤ 4\n" in recorded.run("--show", "ours").out
    (content,) = json.loads(recorded.run("--show", "ours", "--json").out)
    assert (content["measured"], content["recorded"], content["recorded_verdict"]) == (5, 3, "reproduced")


def test_a_control_is_measured_after_what_it_controls_and_overrules_it(toy):
    """`curve` is controlled by `noise`, which stands below it."""
    content = by_id(toy.run("--full", "--json").out)
    assert content["curve"]["verdict"] == "reproduced"
    toy.edit(toy.claims, "+ 39", "+ 60")
    content = by_id(toy.run("--full", "--json").out)
    assert (content["curve"]["verdict"], content["curve"]["why"]) == (
        "undecided",
        "its control noise is not reproduced",
    )
    toy.edit(toy.claims, "+ 60", "+ 46 + run.seed")
    content = by_id(toy.run("--full", "--json").out)
    assert (content["curve"]["verdict"], content["curve"]["why"]) == ("undecided", "its control noise is undecided")
    content = by_id(toy.run("--only", "curve", "--json").out)
    assert content["curve"]["why"] == "its control noise is not run"


def test_a_chain_of_controls_is_followed_to_its_end(toy):
    """curve is controlled by noise, noise by similar, similar by fast: the last one takes all with it, and back."""
    toy.edit(toy.record, 'why_zh = "文中如此。"', 'why_zh = "文中如此。"\ncontrols = ["similar"]')
    toy.edit(toy.record, "scale = [0, 1]", 'scale = [0, 1]\ncontrols = ["fast"]')
    assert toy.run("--record").code == 0
    chain = ("curve", "noise", "similar", "fast")
    assert [files.read_json(toy.results / f"{i}.json")["verdict"] for i in chain] == ["reproduced"] * 4
    toy.edit(toy.claims, "1.5 + i % 5 / 50", "1.0 + i % 5 / 50")
    content = by_id(toy.run("--full", "--json").out)
    assert [content[i]["verdict"] for i in chain] == ["undecided"] * 3 + ["not reproduced"]
    assert toy.run("--only", "fast", "--record").code == 0
    found = [files.read_json(toy.results / f"{i}.json") for i in chain]
    assert [each["verdict"] for each in found] == ["undecided"] * 3 + ["not reproduced"]
    assert [each["control"] for each in found] == ["noise", "similar", "fast", None]
    assert "? undecided (control `noise`)" in (toy.home / "README.md").read_text()
