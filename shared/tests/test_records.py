"""Records: a broken one is refused in one line that names file, table and key; ours all load."""

from __future__ import annotations

from pathlib import Path

import pytest

from papertest import records
from papertest.accept import Criterion
from papertest.arithmetic import Computed
from papertest.records import RecordError

PAPERS = sorted((Path(__file__).parents[2] / "papers").glob("*.toml"))

# what is wrong: (a text of the toy's record, what stands there instead, the message after "papers/toy.toml: ")
BROKEN = {
    "an unknown key of a claim": (
        'reports = ["answer"]\ntier = "exact"\nunit = "1"',
        'reports = ["answer"]\nteir = "exact"\ntier = "exact"\nunit = "1"',
        "[claims.answer] has the unknown key `teir`; did you mean `tier`?",
    ),
    "an unknown key of a reported number": (
        'unit = "ms"\nsetting = "none"\n\n[reported.curve]',
        'unit = "ms"\nunits = "ms"\nsetting = "none"\n\n[reported.curve]',
        "[reported.pair] has the unknown key `units`; did you mean `unit`?",
    ),
    "an unknown key of the paper": (
        "year = 2020",
        "year = 2020\ndoi = '1'",
        "[paper] has the unknown key `doi`; there are: title, authors, year, arxiv, bibtex, url",
    ),
    "an unknown table": ("[paper]", "[notes]\n[paper]", "[notes] has the unknown key `notes`; there are: paper, "
                         "reported, claims"),
    "a reported number without a unit": (
        'value = { a = 1.5, b = 2 }\nunit = "ms"',
        "value = { a = 1.5, b = 2 }",
        "[reported.pair] lacks the key `unit`",
    ),
    "an empty unit": (
        'value = { a = 1.5, b = 2 }\nunit = "ms"',
        'value = { a = 1.5, b = 2 }\nunit = ""',
        "[reported.pair] unit: String should have at least 1 character",
    ),
    "a missing year": ("year = 2020", "", "[paper] lacks the key `year`"),
    "a year that is text": ("year = 2020", "year = '2020'", "[paper] year: Input should be a valid integer"),
    "neither arxiv nor url": (
        'arxiv = "2001.00001"',
        "",
        "[paper]: needs `arxiv`, or `url` where the paper is not on arXiv",
    ),
    "a claim without a criterion": ("accept = { at_most = 50 }", "", "[claims.noise] lacks the key `accept`"),
    "an empty criterion": (
        "accept = { at_most = 50 }",
        "accept = {}",
        "[claims.noise] accept: must be a criterion such as { at_most = 1.1 } or a table of criteria, not {}",
    ),
    "an unknown criterion": (
        "accept = { at_most = 50 }",
        "accept = { at_mots = 50 }",
        "[claims.noise] accept: unknown criterion `at_mots`; accepted: digits, equals, within, within_percent, "
        "at_least, at_most, between, decreasing, increasing",
    ),
    "a negative slack": (
        "b = { within = 0.1 }",
        "b = { within = -0.1 }",
        "[claims.pair] accept: b: `within` needs a number that is not negative, not -0.1",
    ),
    "a reported id that is not there": (
        'reports = ["pair"]',
        'reports = ["pear"]',
        "[claims.pair] reports: there is no [reported.pear]; did you mean `pair`?",
    ),
    "no reported id": (
        'reports = ["pair"]',
        "reports = []",
        "[claims.pair] reports: List should have at least 1 item after validation, not 0",
    ),
    "an unknown tier": (
        'tier = "paper"',
        'tier = "papper"',
        "[claims.large] tier: Input should be 'exact', 'printed', 'trend', 'speed' or 'paper'",
    ),
    "no title": ('title = "The pair"\n', "", "[claims.pair] lacks the key `title`"),
    "no Chinese title": ('title_zh = "一对数"\n', "", "[claims.pair] lacks the key `title_zh`"),
    "an empty title": (
        'title = "The pair"',
        'title = ""',
        "[claims.pair] title: String should have at least 1 character",
    ),
    "a title too long for a line": (
        'title = "The pair"',
        f'title = "{"x" * 61}"',
        "[claims.pair] title: String should have at most 60 characters",
    ),
    "a Chinese title too long for a line": (
        'title_zh = "一对数"',
        f'title_zh = "{"数" * 61}"',
        "[claims.pair] title_zh: String should have at most 60 characters",
    ),
    "a title twice": (
        'title = "The pair"',
        'title = "The answer is 42"',
        "[claims.pair] title: [claims.answer] has the same",
    ),
    "a Chinese title twice": (
        'title_zh = "一对数"',
        'title_zh = "答案是 42"',
        "[claims.pair] title: [claims.answer] has the same",
    ),
    "a Chinese title in English": (
        'title_zh = "一对数"',
        'title_zh = "The pair"',
        "[claims.pair] title_zh: must be in Chinese, not 'The pair'",
    ),
    "a Chinese sentence in English": (
        'what_zh = "一对。"\nreports',
        'what_zh = "A pair."\nreports',
        "[claims.pair] what_zh: must be in Chinese, not 'A pair.'",
    ),
    "a Chinese reason in English": (
        'why_zh = "图中如此。"',
        'why_zh = "It is drawn so."',
        "[claims.curve] why_zh: must be in Chinese, not 'It is drawn so.'",
    ),
    "a Chinese transcription in English": (
        'what_zh = "一对。"\nvalue',
        'what_zh = "A pair."\nvalue',
        "[reported.pair] what_zh: must be in Chinese, not 'A pair.'",
    ),
    "a Chinese place in English": (
        'where = "Figure 1"',
        'where = "Figure 1"\nwhere_zh = "Figure 1"',
        "[reported.curve] where_zh: must be in Chinese, not 'Figure 1'",
    ),
    "no Chinese reason": ('why_zh = "图中如此。"\n', "", "[claims.curve] lacks the key `why_zh`"),
    "no unit of what is measured": (
        'tier = "exact"\nunit = "ms"',
        'tier = "exact"',
        "[claims.pair] lacks the key `unit`",
    ),
    "a paper-tier claim without a cost": (
        'cost = "0.5 GPU-hours"',
        "",
        "[claims.large]: a claim of tier `paper`, and only such a one, states `needs` and `cost`",
    ),
    "an exact claim with needs and cost": (
        'tier = "exact"\nunit = "ms"',
        'tier = "exact"\nunit = "ms"\nneeds = "cuda"\ncost = "1 GPU-hours"',
        "[claims.pair]: a claim of tier `paper`, and only such a one, states `needs` and `cost`",
    ),
    "a cost that is not in GPU-hours": (
        'cost = "0.5 GPU-hours"',
        'cost = "5 dollars"',
        "[claims.large] cost: must begin with GPU-hours, such as '0.1 GPU-hours', not '5 dollars'",
    ),
    "hardware that is none": ('needs = "cuda"', 'needs = "tpu"', "[claims.large] needs: Input should be 'cuda'"),
    "two seeds": (
        "accept = { at_most = 50 }",
        "accept = { at_most = 50 }\nseeds = 2",
        "[claims.noise] seeds: Input should be greater than or equal to 3",
    ),
    "seeds of a speed claim": (
        'tier = "speed"',
        'tier = "speed"\nseeds = 3',
        "[claims.fast]: `seeds` is for the tiers trend and paper, and this is speed",
    ),
    "seeds of an exact claim": (
        'tier = "exact"\nunit = "ms"',
        'tier = "exact"\nunit = "ms"\nseeds = 3',
        "[claims.pair]: `seeds` is for the tiers trend and paper, and this is exact",
    ),
    "a control of an exact claim": (
        'tier = "exact"\nunit = "ms"',
        'tier = "exact"\nunit = "ms"\ncontrols = ["answer"]',
        "[claims.pair]: `controls` is for what is measured; a claim of tier exact is never undecided",
    ),
    "a control of a printed sum": (
        'tier = "printed"',
        'tier = "printed"\ncontrols = ["answer"]',
        "[claims.sum]: `controls` is for what is measured; a claim of tier printed is never undecided",
    ),
    "a control that is not there": (
        'controls = ["noise"]',
        'controls = ["noize"]',
        "[claims.curve] controls: there is no [claims.noize]; did you mean `noise`?",
    ),
    "a claim that is its own control": (
        'controls = ["noise"]',
        'controls = ["curve"]',
        "[claims.curve] controls: `curve` would be its own control",
    ),
    "a printed sum of ours": (
        'tier = "printed"',
        'tier = "printed"\nby = "us"',
        "[claims.sum]: `by = \"us\"` is for what we measure, and a printed sum is the paper's",
    ),
    "by somebody else": ('by = "us"', 'by = "them"', "[claims.ours] by: Input should be 'us'"),
    "rounding where nothing is computed again": (
        "memory = { at_most = 2.5 } }",
        'memory = { at_most = 2.5 } }\nrounding = ["memory"]',
        "[claims.fast]: `rounding` is for what is computed again, and this is speed",
    ),
    "rounding without parts": (
        'by = "us"',
        'by = "us"\nrounding = ["error"]',
        "[claims.ours]: `rounding` names parts, and `accept` has none",
    ),
    "rounding of a part that is not there": (
        "b = { within = 0.1 } }",
        'b = { within = 0.1 } }\nrounding = ["c"]',
        "[claims.pair]: `rounding` has the part `c`, which `accept` has not; there are: a, b",
    ),
    "earlier in one language": (
        'by = "us"',
        'by = "us"\nearlier = "5 GB."',
        "[claims.ours]: `earlier` and `earlier_zh` go together",
    ),
    "earlier in Chinese alone": (
        'by = "us"',
        'by = "us"\nearlier_zh = "五 GB。"',
        "[claims.ours]: `earlier` and `earlier_zh` go together",
    ),
    "a scale that is none": (
        "scale = [0, 1]",
        'scale = "logit"',
        '[claims.similar] scale: must be "linear", "log" or the range [low, high] of a bounded quantity, not \'logit\'',
    ),
    "a range the wrong way round": (
        "scale = [0, 1]",
        "scale = [1, 0]",
        '[claims.similar] scale: must be "linear", "log" or the range [low, high] of a bounded quantity, not [1, 0]',
    ),
    "a scale of a part that is not there": (
        "memory = { at_most = 2.5 } }",
        'memory = { at_most = 2.5 } }\nscale = { sped = "log" }',
        "[claims.fast]: `scale` has the part `sped`, which `accept` has not; did you mean `speed`?",
    ),
    "a paper's value of a part that is not there": (
        "paper = { speed =",
        "paper = { sped =",
        "[claims.fast]: `paper` has the part `sped`, which `accept` has not; did you mean `speed`?",
    ),
    "a comparison with two reported values": (
        "accept = { at_most = 50 }",
        "accept = { within = 50 }",
        "[claims.noise] accept: a criterion that compares with the paper's value needs exactly one id in `reports`, "
        "or `paper`",
    ),
    "a comparison with a part that the paper's value lacks": (
        "memory = { at_most = 2.5 }",
        "memory = { within = 2.5 }",
        "[claims.fast] paper: lacks the part `memory`, which `accept` compares with it",
    ),
    "a comparison with a row that is not reported": (
        "b = { within = 0.1 }",
        "c = { within = 0.1 }",
        "[claims.pair] paper: lacks the part `c`, which `accept` compares with it",
    ),
    "one number for a table of criteria": (
        "paper = { speed = \"{times.theirs} / {times.ours}\" }",
        'paper = "{times.theirs} / {times.ours}"',
        "[claims.fast] paper: has the part 'of a single number', which `accept` has not",
    ),
    "a whole table for other parts": (
        "paper = { speed = \"{times.theirs} / {times.ours}\" }",
        'paper = "{times}"',
        "[claims.fast] paper: has the part 'ours', which `accept` has not",
    ),
    "a paper's value without an entry": (
        'paper = "{answer}"',
        'paper = "42"',
        "[claims.sum] paper: '42' names no entry of [reported], such as {table-3.h_1}",
    ),
    "a paper's value of an entry that is not there": (
        'paper = "{answer}"',
        'paper = "{anser} / 2"',
        "[claims.sum] paper: {anser}: there is no [reported.anser]",
    ),
    "a paper's value of a column that is not there": (
        'paper = "{curve}"',
        'paper = "{curve[0]}"',
        "[claims.curve] paper: {curve[0]}: the columns are 10, 20, 30",
    ),
    "a paper's value that is no arithmetic": (
        'paper = "{answer}"',
        'paper = "{answer} +"',
        "[claims.sum] paper: '{answer} +' is not arithmetic",
    ),
    "a paper's value that cannot be computed": (
        'paper = "{answer}"',
        'paper = "{answer} / ({answer} - 42)"',
        "[claims.sum] paper: '{answer} / ({answer} - 42)' cannot be computed: division by zero",
    ),
    "a paper's value that is a number": (
        'paper = "{answer}"',
        "paper = 42",
        "[claims.sum] paper: Input should be a valid string",
    ),
    "an empty table of the paper's values": (
        "paper = { speed = \"{times.theirs} / {times.ours}\" }",
        "paper = {}",
        "[claims.fast]: `paper` is an empty table: leave it out where the paper states no such number",
    ),
    "a value that is text": ("value = 42", "value = '42'", "[reported.answer] value: Input should be a valid number"),
    "an id that is not lower-case words": (
        "[claims.large]",
        "[claims.Large_one]",
        "[claims.Large_one]: an id is lower-case words joined by '-'",
    ),
    "not TOML": ("[paper]", "[paper", "not TOML: Expected ']' at the end of a table declaration (at line 2, column 7)"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_record_is_refused_in_one_line(toy, what: str):
    old, new, said = BROKEN[what]
    toy.edit(toy.record, old, new)
    with pytest.raises(RecordError) as refused:
        records.load(toy.record)
    assert str(refused.value) == f"papers/toy.toml: {said}"
    assert "\n" not in str(refused.value)


def test_the_command_says_that_line_and_ends_with_2(toy):
    toy.edit(toy.record, 'setting = "none"\n\n[reported.parts]', "[reported.parts]")
    for args in ([], ["--list"], ["--show", "curve"], ["--record"]):
        done = toy.run(*args)
        assert (done.code, done.out) == (2, "")
        assert done.err == "reproduce: papers/toy.toml: [reported.curve] lacks the key `setting`\n"


def test_a_missing_record_is_named(tmp_path: Path):
    with pytest.raises(RecordError, match="papers/absent.toml: there is no such record"):
        records.load(tmp_path / "absent.toml")


def test_controls_in_a_circle_are_refused_however_long(toy):
    toy.edit(toy.record, 'why_zh = "文中如此。"', 'why_zh = "文中如此。"\ncontrols = ["answer", "similar"]')
    toy.edit(toy.record, "scale = [0, 1]", 'scale = [0, 1]\ncontrols = ["fast"]')
    assert records.load(toy.record).claims["similar"].controls == ["fast"]  # curve, noise, similar, fast: no circle
    toy.edit(toy.record, 'tier = "speed"', 'tier = "speed"\ncontrols = ["curve"]')
    with pytest.raises(RecordError, match=r"^papers/toy.toml: \[claims.curve\] controls: `curve` would be its own"):
        records.load(toy.record)


def test_a_good_record_loads(toy):
    record = records.load(toy.record)
    assert list(record.claims) == ["answer", "pair", "ours", "sum", "curve", "noise", "similar", "fast", "large"]
    assert record.claims["noise"].accept == Criterion("at_most", 50)
    assert record.claims["pair"].accept == {"a": Criterion("digits", 1), "b": Criterion("within", 0.1)}
    assert [record.claims[i].runs for i in ("answer", "sum", "noise", "fast", "large")] == [1, 1, 3, 1, 3]
    assert record.reported_value("pair") == {"a": 1.5, "b": 2}
    assert record.reported_value("noise") == {"answer": 42, "curve": [3, 2, 1]}
    assert record.reported_value("sum") == {"parts: x": 20, "parts: y": 22, "answer": 42}
    assert record.where("noise") == "Table 1; Figure 1"
    assert record.claims["ours"].by == "us" and record.claims["answer"].by is None
    assert record.claims["curve"].controls == ["noise"]
    assert record.paper.link == "https://arxiv.org/abs/2001.00001"


def test_the_papers_value_is_computed_or_what_it_reports_or_nothing(toy):
    record = records.load(toy.record)
    assert record.paper_value("pair") == {"a": 1.5, "b": 2}  # compared with: the one entry that it reports
    assert record.paper_value("answer") == 42
    assert record.paper_value("curve") == [3, 2, 1]
    assert record.paper_value("fast") == {"speed": 1.5}  # some of the parts
    assert record.computed("fast") == {"speed": Computed(1.5, "15 / 10")}
    assert record.paper_value("sum") == 42
    assert [record.paper_value(i) for i in ("ours", "noise", "similar", "large")] == [None] * 4  # not compared with


def test_the_scale_is_the_tiers_unless_it_is_stated(toy):
    toy.edit(toy.record, "b = { within = 0.1 } }", 'b = { within = 0.1 } }\nscale = { a = "log", b = [0, 9] }')
    claims = records.load(toy.record).claims
    assert claims["noise"].scales == {"": "linear"}
    assert claims["fast"].scales == {"": "log"}
    assert claims["similar"].scales == {"": (0.0, 1.0)}
    assert claims["pair"].scales == {"": "linear", "a": "log", "b": (0.0, 9.0)}


def test_a_paper_that_is_not_on_arxiv_has_a_url(toy):
    toy.edit(toy.record, 'arxiv = "2001.00001"', 'url = "https://example.org/toy.pdf"')
    paper = records.load(toy.record).paper
    assert (paper.arxiv, paper.link) == (None, "https://example.org/toy.pdf")
    assert "A Toy (2020)\n" in toy.run("--list").out


def test_titles_of_sixty_characters_and_earlier_in_both_languages_load(toy):
    toy.edit(toy.record, 'title = "The pair"', f'title = "{"x" * 60}"')
    toy.edit(toy.record, 'by = "us"', 'by = "us"\nearlier = "5 GB."\nearlier_zh = "原为 5 GB。"')
    claims = records.load(toy.record).claims
    assert len(claims["pair"].title) == 60 and claims["ours"].earlier == "5 GB."


def test_the_papers_are_there():
    assert PAPERS


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_record_of_ours_loads(path: Path, our_records):
    record = our_records[path.stem]
    assert record.reported and record.claims
    assert all(record.reported_value(claim) is not None for claim in record.claims)
    for claim, entry in record.claims.items():
        if entry.compares:
            assert record.paper_value(claim) is not None
