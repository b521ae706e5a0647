"""Runs of `reproduce` in processes of their own: killed, stopped, two at once, with every option."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from filelock import FileLock

from papertest import files

COMPUTED = ["answer 0", "pair 0", "ours 0", "sum 0"]
TRENDS = [
    "curve 0",
    "base 0",
    "curve 1",
    "base 1",
    "curve 2",
    "base 2",
    "noise 0",
    "noise 1",
    "noise 2",
    "similar 0",
    "similar 1",
    "similar 2",
]
ALL = [*COMPUTED, *TRENDS, "fast 0"]
SPOT = [*COMPUTED, "curve 0", "base 0", "noise 0", "similar 0", "fast 0"]
CLAIMS = ["answer", "pair", "ours", "sum", "curve", "noise", "similar", "fast", "large"]
KILLED = ["begin:1", "begin:8", "end:2", "end:17", "half:8", "replace:3", "replaced:10",  # while measuring
          "half:32", "replace:33", "replaced:34", "replace:37"]  # recording: judged again, tables  # fmt: skip


def test_second_run_measures_nothing(toy):
    first = toy.run("--full")
    assert (first.code, toy.log()) == (0, ALL), first.err
    second = toy.run("--full")
    assert (second.code, toy.log()) == (0, [])
    assert second.out == first.out


@pytest.mark.parametrize("point", KILLED)
def test_killed_at_any_point_the_next_run_goes_on(toy, recorded_toy, point: str):
    killed = toy.run("--record", TOY_POINT=f"{point}:SIGKILL")
    assert killed.code == -signal.SIGKILL, killed.err
    ended, kept, shared = toy.log("end"), toy.kept(), toy.shared()
    assert len(kept) + shared >= len(ended) - 1  # all but the one that was about to be written
    assert len(results(toy)) >= len({name.split()[0] for name in kept}) - 1
    assert toy.run("--record").code == 0
    again = toy.log()
    assert sorted([*kept, *again]) == sorted([i for i in ALL if "base" not in i] + [i for i in again if "base" in i])
    assert shared + sum("base" in i for i in again) == 3
    assert {i: toy.kept()[i] for i in kept} == kept
    assert toy.debris() == []
    assert results(toy) == results(recorded_toy)
    assert texts(toy) == texts(recorded_toy)


@pytest.mark.parametrize(("point", "tables"), [("replaced:33", 0), ("replaced:34", 1), ("replaced:37", 4)])
def test_the_last_kills_are_after_all_measuring(toy, point: str, tables: int):
    before = texts(toy)
    assert toy.run("--record", TOY_POINT=f"{point}:SIGKILL").code == -signal.SIGKILL
    assert toy.log() == ALL and len(results(toy)) == 9
    assert sum(a != b for a, b in zip(texts(toy), before, strict=True)) == tables


def test_a_real_command_killed_and_run_again(toy):
    """The other runs here are forked; this is the command as it is typed."""
    assert toy.finish(toy.start("--full", TOY_POINT="begin:2:SIGKILL")).code == -signal.SIGKILL
    assert toy.finish(toy.start("--full", TOY_POINT="begin:2:SIGINT")).code == 130
    done = toy.finish(toy.start("--full"))
    assert (done.code, sorted(toy.log("end"))) == (0, sorted(ALL))


def test_interrupted_says_so_and_goes_on(toy):
    stopped = toy.run("--full", TOY_POINT="begin:7:SIGINT")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == (
        "stopped: 4 of 9 claims are done and kept; the same command goes on from there"
    )
    assert "Traceback" not in stopped.err and stopped.out == ""
    assert toy.log() == ALL[:7]
    assert toy.run("--full").code == 0
    assert toy.log() == ALL[6:]


def test_two_at_once_measure_each_claim_once(toy):
    processes = [toy.start("--full", "--json", TOY_YIELDS="5") for _ in range(2)]
    first, second = (toy.finish(process) for process in processes)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.out == second.out
    assert sorted(toy.log()) == sorted(ALL)
    assert toy.debris() == []


def test_two_recording_at_once_leave_whole_files(toy, recorded_toy):
    processes = [toy.start("--record") for _ in range(2)]
    assert [toy.finish(process).code for process in processes] == [0, 0]
    assert sorted(toy.log()) == sorted(ALL)
    assert results(toy) == results(recorded_toy)
    assert texts(toy) == texts(recorded_toy)
    assert toy.debris() == []


def test_two_papers_of_a_checkout_never_measure_at_the_same_time(toy):
    """Two at once would disturb each other's times."""
    for path in [*toy.home.rglob("*.py"), *toy.home.glob("*.md"), toy.record]:
        other = toy.root / str(path.relative_to(toy.root)).replace("toy", "other")
        other.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8").replace("from toy.", "from other.").replace("run('toy')", "run('other')")
        other.write_text(text.replace('f"', 'f"other ') if path == toy.claims else text, "utf-8")
    beside = os.pathsep.join(str(toy.root / "packages" / name / "src") for name in ("toy", "other"))
    processes = [
        toy.start("--full", "--json", main=f"from {name}.reproduce import main; main()", TOY_YIELDS="3",
                  PYTHONPATH=os.pathsep.join([beside, os.environ.get("PYTHONPATH", "")]))
        for name in ("toy", "other")
    ]  # fmt: skip
    assert [toy.finish(process).code for process in processes] == [0, 0]
    lines = (toy.root.parent / "log").read_text().splitlines()
    running: list[str] = []
    for line in lines:
        what, name = line.split(" ", 1)
        if what == "begin":
            assert all(name.startswith("other ") == other.startswith("other ") for other in running), lines
            running.append(name)
        else:
            running.remove(name)
    assert sorted(line.split(" ", 1)[1] for line in lines if line.startswith("begin")) == sorted(
        [*ALL, *(f"other {name}" for name in ALL)])  # fmt: skip
    assert (toy.root / ".papertest" / "other" / "samples" / "noise" / "seed-2-cpu.json").exists()


@pytest.mark.parametrize("kept", [False, True])
def test_waits_for_another_run_to_measure_and_to_record(toy, kept: bool):
    args = ["--only", "answer", "--record"]
    if kept:
        assert toy.run(*args[:2]).code == 0
    toy.log()
    toy.state.mkdir(parents=True, exist_ok=True)
    with FileLock(toy.state.parent / "lock"):  # of the checkout, not of the paper
        waiting = toy.start(*args)
        assert waiting.stderr is not None
        said = [waiting.stderr.readline() for _ in range(1 if kept else 2)]
        assert said[-1] == "another `reproduce` is measuring in this checkout: waiting for its claim to finish\n"
        assert toy.log() == [] and not (toy.results / "large.json").exists()
    assert toy.finish(waiting).code == 0
    assert toy.log() == ([] if kept else ["answer 0"])
    assert set(results(toy)) == {"answer.json", "large.json"}  # what is not run needs no measuring


def test_fresh_measures_again(toy):
    toy.run("--only", "noise")
    toy.log()
    assert toy.run("--only", "noise", "--fresh").code == 0
    again = ["noise 0", "base 0", "noise 1", "base 1", "noise 2", "base 2"]
    assert toy.log() == again
    toy.edit(toy.claims, "+ 39", "+ 38")  # the samples are stale, the shared runs are not
    assert (toy.run("--only", "noise", "--fresh").code, toy.log()) == (0, again)
    assert (toy.run("--full", "--fresh").code, toy.log()) == (0, ALL)  # a shared run is made once for all claims
    assert (toy.run("--fresh").code, toy.log()) == (0, SPOT)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--only", "anser"], "reproduce: --only anser: there is no such claim; did you mean `answer`?"),
        (["--only", "zzz"], "reproduce: --only zzz: there is no such claim; there are: answer, pair, "
                             "ours, sum, curve, noise, similar, fast, large"),
        (["--show", "anser"], "reproduce: --show anser: there is no such claim; did you mean `answer`?"),
        (["--only", "answer", "--tier", "trend"], "reproduce: none of the chosen claims is of tier trend"),
        (["--device", "cuda"], "reproduce: --device cuda: this machine has no CUDA device that torch can use; "
                               "accepted here: cpu"),
        (["--quick", "--record"], "reproduce: --record takes full runs from seed 0: drop --quick and --seed"),
        (["--seed", "3", "--record"], "reproduce: --record takes full runs from seed 0: drop --quick and --seed"),
    ],
)  # fmt: skip
def test_bad_usage_ends_in_one_line(toy, args: list[str], said: str):
    done = toy.run(*args)
    assert (done.code, done.out, done.err) == (2, "", said + "\n")
    assert toy.log() == []


@pytest.mark.parametrize(
    "args", [["--tier", "exakt"], ["--seed", "-1"], ["--minutes", "-1"], ["--minutes", "x"], ["--ful"]]
)
def test_an_option_that_is_none_ends_with_2(toy, args: list[str]):
    done = toy.run(*args)
    assert done.code == 2
    assert args[0] in done.err and "Traceback" not in done.err
    assert toy.log() == []


@pytest.mark.parametrize("args", [["--quick"], ["--seed", "7"]])
def test_quick_and_other_seeds_are_kept_apart_and_never_recorded(toy, args: list[str]):
    assert toy.run("--full", *args).code == 0
    seed = 7 if "--seed" in args else 0
    assert [i for i in toy.log() if "noise" in i] == [f"noise {s}" for s in range(seed, seed + (1 if seed == 0 else 3))]
    assert list(toy.results.iterdir()) == []
    assert toy.run("--only", "answer", "--record").code == 0
    assert toy.log() == ["answer 0"]


def test_json_is_a_list_of_objects(toy):
    done = toy.run("--full", "--json")
    content = {entry["id"]: entry for entry in json.loads(done.out)}
    assert list(content) == CLAIMS
    for entry in content.values():
        assert list(entry) == [
            "id", "record", "tier", "by", "title", "where", "reported", "paper", "unit", "accept", "how", "agrees",
            "measured", "interval", "verdict", "why", "recorded", "recorded_verdict", "seconds",
            "machines"]  # fmt: skip
    assert content["pair"]["reported"] == {"a": 1.5, "b": 2}
    assert content["pair"]["measured"] == {"a": 1.52, "b": 2.05}
    assert content["pair"]["where"] == "Table 2"
    assert content["noise"]["interval"] == {"": [[42, 42]]}
    assert content["fast"]["paper"] == {"speed": 1.5} and content["fast"]["unit"] == "ratio"
    assert {i: e["by"] for i, e in content.items() if e["by"]} == {"ours": "us"}
    assert {i: e["verdict"] for i, e in content.items()} == dict.fromkeys(content, "reproduced") | {"large": "not run"}
    assert {i: e["how"] for i, e in content.items()} == dict.fromkeys(content, "measured") | {"large": "not run"}


def test_what_was_never_measured_is_not_run_in_json_too(toy):
    content = {entry["id"]: entry for entry in json.loads(toy.run("--minutes", "0", "--json").out)}
    assert list(content) == CLAIMS
    assert {i: e["verdict"] for i, e in content.items() if e["verdict"] != "reproduced"} == dict.fromkeys(
        ["curve", "noise", "similar", "fast", "large"], "not run")  # fmt: skip
    (shown,) = json.loads(toy.run("--show", "fast", "--json").out)
    assert (shown["how"], shown["verdict"], shown["measured"]) == ("not run", "not run", None)


def test_paper_tier_is_not_run_here_and_says_what_it_costs(toy):
    done = toy.run("--tier", "paper")
    assert done.code == 0
    assert " – The same at scale" in done.out and "1 not run\n" in done.out
    assert "not run: no CUDA device here; costs 0.5 GPU-hours" in toy.run("--show", "large").out
    (said,) = json.loads(toy.run("--tier", "paper", "--json", "--device", "cpu").out)
    assert said["why"] == "needs CUDA, and --device says cpu; costs 0.5 GPU-hours"
    assert toy.log() == []


# what is recorded, what is measured then, the exit code, what is said: only reproduced against not reproduced differs
CONTRADICTIONS = [
    ("double(21)", "double(20)", "answer", 1, "recorded as reproduced, here not reproduced: 40 is not equal to the "
                                              "paper's 42"),
    ("+ 39", "+ 60", "noise", 1, "recorded as reproduced, here not reproduced: 63 is not ≤ 50"),
    ("+ 39", "+ 46 + run.seed", "noise", 0, ""),  # reproduced against undecided
    ("1.5 + i % 5 / 50", "1.0 + i % 5 / 50", "fast", 1, "recorded as reproduced, here not reproduced: speed [1.024, "
                                                        "1.056] is not ≥ 1.2"),
    ("null=[1.0, 1.01, 0.99]", "null=[1.1, 1.1]", "fast", 0, ""),  # a noisy machine
    ("return 3.0", "return 5.0", "ours", 1, "recorded as reproduced, here not reproduced: 5 is not ≤ 4"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "claim", "code", "said"), CONTRADICTIONS)
def test_only_reproduced_against_not_reproduced_ends_with_1(toy, old: str, new: str, claim: str, code: int, said: str):
    assert toy.run("--only", claim, "--record").code == 0
    toy.edit(toy.claims, old, new)
    done = toy.run("--only", claim)
    assert done.code == code, done.out
    assert ("recorded as" in done.out) == bool(said) and said in done.out
    assert toy.run("--only", claim, "--quick").code == 0  # a quick run is no verdict
    shown = toy.run("--only", claim, "--json")
    assert shown.code == code and json.loads(shown.out)[0]["recorded_verdict"] == "reproduced"
    assert toy.run("--only", claim, "--record").code == 0  # a maintainer's new record contradicts nothing
    toy.edit(toy.claims, new, old)  # and the other way round
    assert toy.run("--only", claim).code == code


def test_undecided_twice_contradicts_nothing(toy):
    toy.edit(toy.claims, "+ 39", "+ 46 + run.seed")
    assert toy.run("--only", "noise", "--record").code == 0
    assert toy.run("--only", "noise").code == 0
    toy.edit(toy.claims, "+ 46 + run.seed", "+ 60")
    done = toy.run("--only", "noise")
    assert (done.code, "recorded as" in done.out) == (0, False)
    assert "1 not reproduced" in done.out


def test_list_measures_nothing(toy):
    done = toy.run("--list")
    assert done.code == 0 and "A Toy (2020, arXiv 2001.00001)" in done.out
    assert all(f"  {claim} " in done.out for claim in CLAIMS)
    listed = json.loads(toy.run("--list", "--json", "--tier", "exact").out)
    assert [entry["id"] for entry in listed] == ["answer", "pair", "ours"]
    assert listed[2] == {"id": "ours", "record": "toy", "tier": "exact", "by": "us",
                         "title": "Three gigabytes are enough", "where": "Table 1",
                         "what": "It takes at most 4 GB."}  # fmt: skip
    assert toy.log() == [] and not toy.state.exists()


def test_claims_that_fail_are_reported_and_the_others_run(toy):
    toy.edit(toy.claims, "double(21)", "1 / 0")
    toy.edit(toy.claims, '{"a": 1.52, "b": 2.05}', '{"a": 1.52, "b": __import__("numpy").float32(2)}')
    toy.edit(toy.claims, "[top, 2.0, 1.0]", '[top, "2.0", 1.0]')
    toy.edit(toy.claims, "return [0.9, 0.92, 0.96][run.seed % 3]", "return 1.5")
    done = toy.run("--full", "--json")
    said = [line for line in done.err.splitlines() if not line.endswith("…")]
    trace = [toy.state / "errors" / f"{claim}.txt" for claim in ("answer", "pair")]
    assert said == [
        f"answer: ZeroDivisionError: division by zero (traceback: {trace[0]})",
        f"pair: TypeError: Object of type float32 is not JSON serializable (traceback: {trace[1]})",
        "curve: holds '2.0', which is not a number",
        "similar: is bounded by 0 and 1, and 1.5 is outside",
    ]
    assert "1 / 0" in trace[0].read_text()
    assert done.code == 1
    assert [entry["id"] for entry in json.loads(done.out)] == ["ours", "sum", "noise", "fast", "large"]
    assert toy.log() == ALL
    shown = toy.run("--show", "similar")  # what is kept of it has not the record's shape
    assert (shown.code, shown.err) == (0, "similar: is bounded by 0 and 1, and 1.5 is outside\n")


FAULTS = {
    "a measurement of a speed claim": ("return Timed(rounds, null=[1.0, 1.01, 0.99])", "return 1.5", "fast",
        "TypeError: a claim of tier speed, and only such a one, gives papertest.Timed"),
    "rounds of an exact claim": ("    return 3.0", "    return Timed([3.0] * 15, [1.0])", "ours",
        "TypeError: a claim of tier speed, and only such a one, gives papertest.Timed"),
    "no null comparison": ("null=[1.0, 1.01, 0.99]", "null=[]", "fast",
        "ValueError: papertest.Timed needs rounds, and a null comparison"),
    "no rounds": ("Timed(rounds, null", "Timed([], null", "fast",
        "ValueError: papertest.Timed needs rounds, and a null comparison"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_what_a_claim_may_not_give_is_refused_and_not_kept(toy, what: str):
    old, new, claim, said = FAULTS[what]
    toy.edit(toy.claims, old, new)
    done = toy.run("--only", claim)
    assert (done.code, toy.kept()) == (1, {})
    trace = toy.state / "errors" / f"{claim}.txt"
    assert done.err.splitlines()[-1] == f"{claim}: {said} (traceback: {trace})"


def test_a_value_of_another_shape_is_reported(toy):
    toy.edit(toy.claims, "double(21)", "[42, 42]")
    toy.edit(toy.claims, '{"a": 1.52, "b": 2.05}', '{"a": 1.52}')
    toy.edit(toy.claims, "return 3.0", "return []")
    done = toy.run("--tier", "exact")
    assert done.code == 1
    assert done.err.splitlines()[-3:] == [
        "answer: measured 2 numbers, the paper reports 1",
        "pair: measured ['a'], but the record's criteria are for ['a', 'b']: ['b'] has no counterpart",
        "ours: holds no numbers, so there is nothing to judge",
    ]


def test_a_claim_measured_nowhere_is_named(toy):
    toy.edit(toy.claims, '@claim("noise")', '@claim("noize")')
    done = toy.run()
    assert done.code == 2
    assert done.err == ('reproduce: papers/toy.toml: [claims.noise] is measured nowhere: '
                        'no @claim("noise") in toy.reproduce\n')  # fmt: skip


def test_a_claim_measured_twice_is_named(toy):
    toy.edit(toy.claims, '@claim("noise")', '@claim("curve")')
    done = toy.run()
    assert (done.code, done.err) == (2, 'reproduce: @claim("curve") stands on two functions, '
        "toy.reproduce.claims.curve and toy.reproduce.claims.noise: a claim has one\n")  # fmt: skip


@pytest.mark.parametrize("args", [[], ["--json"], ["--list"], ["--show", "curve"]])
def test_a_closed_pipe_ends_quietly(toy, args: list[str]):
    """`reproduce | head -1`, whose reader is gone before the first line."""
    assert toy.run("--full").code == 0
    reader, writer = os.pipe()
    os.close(reader)
    process = toy.start(*args, stdout=writer)
    os.close(writer)
    done = toy.finish(process)
    assert (done.code, done.err) == (0, "")


def results(toy) -> dict[str, dict[str, Any]]:
    """The recorded results, each file whole, without the times."""
    found = {path.name: files.read_json(path) for path in toy.results.iterdir() if path.suffix == ".json"}
    for result in found.values():
        for sample in result["samples"]:
            del sample["seconds"]
            sample["shared"] = list(sample["shared"])
    return found


def texts(toy) -> list[str]:
    """The write-ups and READMEs with their generated tables."""
    return [(folder / name).read_text() for folder in (toy.root, toy.home) for name in ("README.md", "README.zh-CN.md")]
