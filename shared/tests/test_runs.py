"""Runs of `reproduce` in processes of their own: killed, stopped, two at once, with every option."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from filelock import FileLock

from papertest import files

ALL = [
    "answer 0",
    "pair 0",
    "curve 0",
    "base 0",
    "curve 1",
    "base 1",
    "curve 2",
    "base 2",
    "noise 0",
    "noise 1",
    "noise 2",
]
KILLED = ["begin:1", "begin:6", "end:2", "end:11", "half:4", "replace:3", "replaced:5",  # while measuring
          "half:13", "replace:16", "replace:18"]  # while recording: a result, the last result, a table  # fmt: skip


def test_second_run_measures_nothing(toy):
    first = toy.run()
    assert (first.code, toy.log()) == (0, ALL), first.err
    second = toy.run()
    assert (second.code, toy.log()) == (0, [])
    assert second.out == first.out


@pytest.mark.parametrize("point", KILLED)
def test_killed_at_any_point_the_next_run_goes_on(toy, recorded_toy, point: str):
    killed = toy.run("--record", TOY_POINT=f"{point}:SIGKILL")
    assert killed.code == -signal.SIGKILL, killed.err
    ended, kept, shared = toy.log("end"), toy.kept(), toy.shared()
    assert len(kept) + shared >= len(ended) - 1  # all but the one that was about to be written
    assert toy.run("--record").code == 0
    again = toy.log()
    assert sorted([*kept, *again]) == sorted([i for i in ALL if "base" not in i] + [i for i in again if "base" in i])
    assert shared + sum("base" in i for i in again) == 3
    assert {i: toy.kept()[i] for i in kept} == kept
    assert toy.debris() == []
    assert results(toy) == results(recorded_toy)
    assert texts(toy) == texts(recorded_toy)


def test_a_real_command_killed_and_run_again(toy):
    """The other runs here are forked; this is the command as it is typed."""
    assert toy.finish(toy.start(TOY_POINT="begin:2:SIGKILL")).code == -signal.SIGKILL
    assert toy.finish(toy.start(TOY_POINT="begin:2:SIGINT")).code == 130
    done = toy.finish(toy.start())
    assert (done.code, sorted(toy.log("end"))) == (0, sorted(ALL))


def test_interrupted_says_so_and_goes_on(toy):
    stopped = toy.run(TOY_POINT="begin:5:SIGINT")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == (
        "stopped: 2 of 5 claims are measured and kept; the same command goes on from there"
    )
    assert "Traceback" not in stopped.err
    assert toy.log() == ALL[:5]
    assert toy.run().code == 0
    assert toy.log() == ALL[4:]


def test_two_at_once_measure_each_claim_once(toy):
    processes = [toy.start("--json", TOY_YIELDS="5") for _ in range(2)]
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


@pytest.mark.parametrize("kept", [False, True])
def test_waits_for_another_run_to_measure_and_to_record(toy, kept: bool):
    args = ["--only", "answer", "--record"]
    if kept:
        assert toy.run(*args[:2]).code == 0
    toy.log()
    toy.state.mkdir(parents=True, exist_ok=True)
    with FileLock(toy.state / "lock"):
        waiting = toy.start(*args)
        assert waiting.stderr is not None
        said = [waiting.stderr.readline() for _ in range(1 if kept else 2)]
        assert said[-1] == "another `reproduce` is measuring in this checkout: waiting for its claim to finish\n"
        assert toy.log() == [] and list(toy.results.iterdir()) == []
    assert toy.finish(waiting).code == 0
    assert toy.log() == ([] if kept else ["answer 0"])
    assert [path.name for path in toy.results.iterdir()] == ["answer.json"]


def test_fresh_measures_again(toy):
    toy.run("--only", "noise")
    toy.log()
    assert toy.run("--only", "noise", "--fresh").code == 0
    again = ["noise 0", "base 0", "noise 1", "base 1", "noise 2", "base 2"]
    assert toy.log() == again
    toy.edit(toy.claims, "+ 39", "+ 38")  # the samples are stale, the shared runs are not
    assert (toy.run("--only", "noise", "--fresh").code, toy.log()) == (0, again)
    assert (toy.run("--fresh").code, toy.log()) == (0, ALL)  # a shared run is made once for all claims


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--only", "anser"], "reproduce: --only anser: there is no such claim; did you mean `answer`?"),
        (["--only", "zzz"], "reproduce: --only zzz: there is no such claim; there are: answer, pair, "
                             "curve, noise, large"),
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


@pytest.mark.parametrize("args", [["--tier", "exakt"], ["--seed", "-1"]])
def test_an_option_that_is_none_ends_with_2(toy, args: list[str]):
    done = toy.run(*args)
    assert done.code == 2
    assert args[0] in done.err and "Traceback" not in done.err
    assert toy.log() == []


@pytest.mark.parametrize("args", [["--quick"], ["--seed", "7"]])
def test_quick_and_other_seeds_are_kept_apart_and_never_recorded(toy, args: list[str]):
    assert toy.run(*args).code == 0
    seed = 7 if "--seed" in args else 0
    assert [i for i in toy.log() if "noise" in i] == [f"noise {s}" for s in range(seed, seed + (1 if seed == 0 else 3))]
    assert list(toy.results.iterdir()) == []
    assert toy.run("--only", "answer", "--record").code == 0
    assert toy.log() == ["answer 0"]


def test_json_is_a_list_of_objects(toy):
    done = toy.run("--json")
    content = {entry["id"]: entry for entry in json.loads(done.out)}
    assert list(content) == ["answer", "pair", "curve", "noise", "large"]
    for entry in content.values():
        assert {"id", "tier", "where", "reported", "measured", "verdict"} <= set(entry)
    assert content["pair"]["reported"] == {"a": 1.5, "b": 2}
    assert content["pair"]["measured"] == {"a": 1.52, "b": 2.05}
    assert content["pair"]["where"] == "Table 2"
    assert content["noise"]["interval"] == {"": [[42, 42]]}
    assert {i: e["verdict"] for i, e in content.items()} == dict.fromkeys(content, "reproduced") | {"large": "not run"}


def test_paper_tier_is_not_run_here_and_says_what_it_costs(toy):
    done = toy.run("--tier", "paper")
    assert done.code == 0
    assert "large: not run: no CUDA device here; costs 0.5 GPU-hours" in done.out
    assert toy.log() == []


def test_a_verdict_that_differs_from_the_recorded_one_ends_with_1(toy):
    assert toy.run("--only", "answer", "--record").code == 0
    toy.edit(toy.claims, "double(21)", "double(20)")
    done = toy.run("--only", "answer")
    assert done.code == 1
    assert "recorded: reproduced" in done.out
    assert "answer: not reproduced: 40 is not equal to the paper's 42" in done.out
    assert toy.run("--only", "answer", "--quick").code == 0  # a quick run is no verdict


def test_list_measures_nothing(toy):
    done = toy.run("--list")
    assert done.code == 0 and "A Toy (2020, arXiv 2001.00001)" in done.out
    assert all(claim in done.out for claim in ("answer", "pair", "curve", "noise", "large"))
    listed = json.loads(toy.run("--list", "--json", "--tier", "exact").out)
    assert [entry["id"] for entry in listed] == ["answer", "pair"]
    assert toy.log() == [] and not toy.state.exists()


def test_claims_that_fail_are_reported_and_the_others_run(toy):
    toy.edit(toy.claims, "double(21)", "1 / 0")
    toy.edit(toy.claims, '{"a": 1.52, "b": 2.05}', '{"a": 1.52, "b": __import__("numpy").float32(2)}')
    toy.edit(toy.claims, "[top, 2.0, 1.0]", '[top, "2.0", 1.0]')
    done = toy.run("--json")
    said = [line for line in done.err.splitlines() if not line.endswith("…")]
    trace = [toy.state / "errors" / f"{claim}.txt" for claim in ("answer", "pair")]
    assert said == [
        f"answer: ZeroDivisionError: division by zero (traceback: {trace[0]})",
        f"pair: TypeError: Object of type float32 is not JSON serializable (traceback: {trace[1]})",
        "curve: holds '2.0', which is not a number",
    ]
    assert "1 / 0" in trace[0].read_text()
    assert done.code == 1
    assert [entry["id"] for entry in json.loads(done.out)] == ["noise", "large"]
    assert toy.log() == ALL


def test_a_value_of_another_shape_is_reported(toy):
    toy.edit(toy.claims, "double(21)", "[42, 42]")
    toy.edit(toy.claims, '{"a": 1.52, "b": 2.05}', '{"a": 1.52}')
    done = toy.run("--tier", "exact")
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "answer: measured 2 numbers, the paper reports 1",
        "pair: measured ['a'], but the record's criteria are for ['a', 'b']: ['b'] has no counterpart",
    ]


def test_a_claim_measured_nowhere_is_named(toy):
    toy.edit(toy.claims, '@claim("noise")', '@claim("noize")')
    done = toy.run()
    assert done.code == 2
    assert done.err == ('reproduce: papers/toy.toml: [claims.noise] is measured nowhere: '
                        'no @claim("noise") in toy.reproduce\n')  # fmt: skip


def results(toy) -> dict[str, dict[str, Any]]:
    """The recorded results, each file whole, without the times."""
    found = {path.name: files.read_json(path) for path in toy.results.iterdir()}
    for result in found.values():
        for part in [result, *result["samples"]]:
            del part["seconds"]
    return found


def texts(toy) -> list[str]:
    """The write-ups and READMEs with their generated tables."""
    return [(folder / name).read_text() for folder in (toy.root, toy.home) for name in ("README.md", "README.zh-CN.md")]
