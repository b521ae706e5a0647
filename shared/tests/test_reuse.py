"""What is measured again, and what is not: by code, record, device, versions and machine; and what `--record` keeps."""

from __future__ import annotations

import json
import re
import shutil
import signal
from typing import Any

import pytest

from papertest import files, measure

OTHER_TORCH = "from papertest import measure; v = measure.versions() | {'torch': '0.0'}; measure.versions = lambda: v"
OTHER_PYTHON = "from papertest import measure; v = measure.versions() | {'python': '0', 'transformers': '0'}; " \
               "measure.versions = lambda: v"  # fmt: skip
NO_JAX = "from papertest import measure; v = dict(measure.versions()); v.pop('jax', None); measure.versions = lambda: v"
OTHER_MACHINE = "from papertest import measure; measure.machine = lambda device: 'a slide rule'"
CUDA = "from papertest import measure, reproduce; measure.has_cuda = reproduce.has_cuda = lambda: True; " \
       "measure.machine = lambda device: device"  # fmt: skip
CLOCK = """
import time
now = [0.0]
time.perf_counter = lambda: now[0]
time.spend = lambda seconds: now.__setitem__(0, now[0] + seconds)
"""
TREND = ["noise 0", "base 0", "noise 1", "base 1", "noise 2", "base 2"]


def content(toy, claim: str) -> dict[str, Any]:
    return files.read_json(toy.results / f"{claim}.json")


@pytest.mark.parametrize(("library", "before"), [("torch", OTHER_TORCH), ("jax", NO_JAX)])
def test_another_version_of_a_library_is_measured_again_and_says_why(toy, library: str, before: str):
    was = measure.versions()[library]
    now = "0.0" if library == "torch" else "not"
    assert toy.run("--only", "noise").code == 0
    runs = toy.shared()
    toy.log()
    done = toy.run("--only", "noise", TOY_BEFORE=before)
    assert (done.code, toy.log()) == (0, TREND)  # the shared runs too
    assert toy.shared() == 2 * runs
    assert f"noise is measured again: {library} was {was}, and is {now} here" in done.err.splitlines()
    assert toy.run("--only", "noise", TOY_BEFORE=before).err == "" and toy.log() == []
    done = toy.run("--only", "noise")
    there = "0.0" if library == "torch" else "not there"
    assert f"noise is measured again: {library} was {there}, and is {was} here" in done.err.splitlines()
    assert [name for name in toy.log() if "base" in name] == []  # those of this version are still there


def test_another_python_or_another_helper_library_is_no_reason(toy):
    assert toy.run("--full").code == 0
    toy.log()
    done = toy.run("--full", TOY_BEFORE=OTHER_PYTHON)
    assert (done.code, done.err, toy.log()) == (0, "", [])


def test_a_time_counts_on_its_own_machine_alone(toy):
    assert toy.run("--full").code == 0
    toy.log()
    done = toy.run("--full", TOY_BEFORE=OTHER_MACHINE)
    assert (done.code, toy.log()) == (0, ["fast 0"])
    assert done.err.splitlines()[0] == (
        f"fast is measured again: a time counts on its own machine, {measure.machine('cpu')}, and this is a slide rule"
    )


def test_each_device_has_its_own_samples(toy):
    for device in ("cpu", "cuda"):
        assert toy.run("--only", "noise", "--device", device, TOY_BEFORE=CUDA).code == 0
        assert toy.log() == TREND, device
    assert (toy.run("--only", "noise").code, toy.log()) == (0, [])
    assert {path.name for path in toy.state.glob("samples/noise/*")} == {
        f"seed-{seed}-{device}.json" for seed in range(3) for device in ("cpu", "cuda")}  # fmt: skip
    assert toy.shared() == 6


def test_what_needs_a_gpu_is_measured_where_there_is_one(toy):
    assert toy.run("--only", "large", "--record", TOY_BEFORE=CUDA).code == 0
    assert toy.log() == ["large 0", "large 1", "large 2"]
    assert [content(toy, "large")[key] for key in ("verdict", "value")] == ["reproduced", 2]
    assert {sample["device"] for sample in content(toy, "large")["samples"]} == {"cuda"}
    done = toy.run()  # on a machine without: what is recorded is shown, in parentheses
    (line,) = [line for line in done.out.splitlines() if "The same at scale" in line]
    assert line.startswith(" ✓ ") and "(2)" in line and "large 0" not in toy.log()
    recorded = (toy.results / "large.json").read_bytes()
    assert toy.run("--record").code == 0
    assert (toy.results / "large.json").read_bytes() == recorded


def test_a_shared_run_cannot_read_what_is_reported(toy):
    """It serves claims that report other things, and its key does not say which."""
    toy.edit(toy.claims, "return height ", 'return run.reported["curve"].value[0] ')
    done = toy.run("--only", "curve", "--only", "noise")
    assert done.code == 1 and toy.shared() == 0
    said = "KeyError: 'a shared run cannot read `reported` (curve): hand it what it needs as an argument' (traceback: "
    assert [line.split(": ", 1)[1].split("/")[0] for line in done.err.splitlines() if "KeyError" in line] == [said] * 2


def test_a_claim_reads_what_it_reports_and_nothing_else(toy):
    toy.edit(toy.claims, "value = double(21)", 'value = run.reported["answer"].value')
    assert toy.run("--only", "answer").code == 0
    toy.edit(toy.claims, 'run.reported["answer"]', 'run.reported["pair"]')
    assert "answer: KeyError: 'pair'" in toy.run("--only", "answer").err


def test_other_arguments_are_another_shared_run(toy):
    assert toy.run("--only", "curve").code == 0
    toy.edit(toy.claims, "run.shared(base, 3.0) + 39", "run.shared(base, 4.0) + 38")
    toy.log()
    assert (toy.run("--only", "noise").code, toy.log()) == (0, TREND)
    assert toy.shared() == 6


def test_a_claims_seconds_are_without_the_shared_runs(toy):
    toy.edit(toy.claims, 'event("begin", f"base {run.seed}")', "inner = run.shared(below); spend(8)")
    toy.edit(toy.claims, "def base(", "def below(run):\n    spend(100)\n    return 1\n\n\ndef base(")
    toy.edit(toy.claims, 'event("begin", f"curve {run.seed}")', "spend(3)")
    toy.edit(toy.claims, 'event("end", f"curve {run.seed}")', "spend(1)")
    toy.edit(toy.claims, 'event("begin", f"noise {run.seed}")', "spend(5)")
    toy.edit(toy.claims, "import event", "import event\nimport time\n\nspend = time.spend")
    assert toy.run("--record", TOY_BEFORE=CLOCK).code == 0
    curve, noise = ([(sample["seconds"], sorted(sample["shared"].values())) for sample in content(toy, i)["samples"]]
                    for i in ("curve", "noise"))  # fmt: skip
    assert curve == [(4, [8, 100])] * 3
    assert noise == [(5, [8])] * 3  # what `base` is made from is no part of what `noise` asks for
    (said,) = json.loads(toy.run("--only", "curve", "--json", TOY_BEFORE=CLOCK).out)
    assert said["seconds"] == 3 * (4 + 8 + 100)


def test_recording_again_keeps_what_is_recorded(toy, recorded_toy):
    """A maintainer's clone has no samples of its own, and need not measure what is recorded."""
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in toy.results.iterdir()}
    assert (toy.run("--record").code, toy.log()) == (0, [])
    assert {path.name: path.read_bytes() for path in toy.results.iterdir()} == before
    assert (toy.run("--record", "--only", "curve", "--fresh").code, "curve 2" in toy.log()) == (0, True)


def test_recording_measures_only_the_seed_that_is_missing(toy, recorded_toy):
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    similar = content(toy, "similar")
    del similar["samples"][1]
    files.write_json(toy.results / "similar.json", similar)
    assert (toy.run("--record").code, toy.log()) == (0, ["similar 1"])
    again = content(toy, "similar")
    assert [(sample["seed"], sample["value"]) for sample in again["samples"]] == [(0, 0.9), (1, 0.92), (2, 0.96)]
    assert again["verdict"] == "reproduced"


def test_a_further_seed_of_the_record_is_all_that_is_measured(toy):
    assert toy.run("--record").code == 0
    shutil.rmtree(toy.root / ".papertest")
    toy.log()
    toy.edit(toy.record, "accept = { at_least = 0.5 }", "accept = { at_least = 0.5 }\nseeds = 5")
    before = content(toy, "similar")["samples"]
    assert (toy.run("--record").code, toy.log()) == (0, ["similar 3", "similar 4"])
    after = content(toy, "similar")["samples"]
    assert (after[:3], [sample["seed"] for sample in after]) == (before, [0, 1, 2, 3, 4])


def test_a_change_of_the_criterion_measures_all_seeds_again(toy):
    """Seeds that were seen judge no new criterion."""
    assert toy.run("--record").code == 0
    shutil.rmtree(toy.root / ".papertest")
    toy.log()
    toy.edit(toy.record, "accept = { at_least = 0.5 }", "accept = { at_least = 0.6 }")
    done = toy.run("--record")
    assert toy.log() == [f"similar {seed}" for seed in range(3)]
    assert "similar is measured again: the recorded one: its code, record or data have changed" in done.err.splitlines()


def test_results_are_written_seed_by_seed(toy):
    stopped = toy.run("--record", "--only", "similar", TOY_POINT="begin:3:SIGKILL")
    assert stopped.code == -signal.SIGKILL
    found = content(toy, "similar")
    assert [sample["seed"] for sample in found["samples"]] == [0, 1]
    assert (found["verdict"], found["why"]) == ("undecided", "2 of 3 seeds are measured")
    shutil.rmtree(toy.root / ".papertest")
    toy.log()
    assert (toy.run("--record", "--only", "similar").code, toy.log()) == (0, ["similar 2"])
    assert content(toy, "similar")["verdict"] == "reproduced"


def test_the_seeds_of_a_result_keep_their_own_machine_and_versions(toy):
    toy.run("--record", "--only", "similar", TOY_POINT="begin:3:SIGKILL", TOY_BEFORE=OTHER_MACHINE)
    assert toy.run("--record", "--only", "similar").code == 0
    found = content(toy, "similar")
    here = measure.machine("cpu")
    assert [sample["machine"] for sample in found["samples"]] == ["a slide rule", "a slide rule", here]
    (said,) = json.loads(toy.run("--only", "similar", "--json").out)
    assert said["machines"] == ["a slide rule", here]
    text = (toy.home / "README.md").read_text()
    assert f"Measured on {'; '.join(sorted(['a slide rule', here]))}; torch " in text


def test_a_recorded_time_of_another_machine_is_not_kept(toy):
    assert toy.run("--record", TOY_BEFORE=OTHER_MACHINE).code == 0
    shutil.rmtree(toy.root / ".papertest")
    toy.log()
    done = toy.run("--record")
    assert (done.code, toy.log()) == (0, ["fast 0"])
    assert "fast is measured again: the recorded one: a time counts on its own machine, a slide rule" in done.err
    assert content(toy, "fast")["samples"][0]["machine"] == measure.machine("cpu")


def test_fewer_than_fifteen_rounds_are_undecided(toy):
    toy.edit(toy.claims, "else 15)]", "else 14)]")
    assert toy.run("--record", "--only", "fast").code == 0
    found = content(toy, "fast")
    assert (found["verdict"], found["why"]) == ("undecided", "14 of 15 rounds are measured")


@pytest.mark.parametrize(
    ("null", "verdict"),
    [("[1.0299] * 15", "reproduced"), ("[0.9701] * 15", "reproduced"), ("[2.0, 0.5]", "reproduced"),
     ("[1.0301] * 15", "undecided"), ("[0.9699] * 15", "undecided"), ("[3.0, 0.5]", "undecided")],
)  # fmt: skip
def test_the_same_side_twice_gives_one_or_the_machine_is_too_noisy(toy, null: str, verdict: str):
    toy.edit(toy.claims, "null=[1.0, 1.01, 0.99]", f"null={null}")
    assert toy.run("--record", "--only", "fast").code == 0
    found = content(toy, "fast")
    assert found["verdict"] == verdict
    assert found["why"].startswith("noisy machine: the same side twice gave ") == (verdict == "undecided")
    assert ("? undecided (noisy machine)" in (toy.home / "README.md").read_text()) == (verdict == "undecided")


def test_a_noisy_machine_overrules_what_would_fail_too(toy):
    toy.edit(toy.claims, "1.5 + i % 5 / 50", "1.0 + i % 5 / 50")
    for null, said in (("1.2", "1.200"), ("float('nan')", "nan")):
        toy.claims.write_text(re.sub(r"null=\[.*\]", f"null=[{null}]", toy.claims.read_text()))
        assert toy.run("--record", "--only", "fast").code == 0
        assert content(toy, "fast")["why"] == f"noisy machine: the same side twice gave {said}, not 1.00 ± 0.03"


def test_undecided_says_what_would_decide_it(toy):
    toy.edit(toy.claims, "+ 39", "+ 45 + 2 * run.seed")
    toy.edit(toy.claims, "1.5 + i % 5 / 50", "1.165 + i % 5 / 40")
    assert toy.run("--record").code == 0
    noise, fast = content(toy, "noise"), content(toy, "fast")
    assert (noise["verdict"], noise["seeds"]) == ("undecided", None)  # its mean is on the bound
    assert noise["why"] == "[45.03, 54.97] straddles ≤ 50; no number of seeds would decide"
    assert (fast["verdict"], fast["seeds"]) == ("undecided", 27)
    assert fast["why"] == "speed [1.194, 1.235] straddles ≥ 1.2; 27 rounds would decide"
    assert "? undecided (27 rounds would decide)" in (toy.home / "README.md").read_text()
    toy.edit(toy.claims, "+ 45 + 2 * run.seed", "+ 44.5 + 2 * run.seed")
    assert toy.run("--record").code == 0
    noise = content(toy, "noise")
    assert noise["why"] == f"[44.53, 54.47] straddles ≤ 50; {noise['seeds']} seeds would decide"
    assert f"? undecided ({noise['seeds']} seeds would decide)" in (toy.home / "README.md").read_text()
    assert f"? 未定（需 {noise['seeds']} 个种子）" in (toy.home / "README.zh-CN.md").read_text()
