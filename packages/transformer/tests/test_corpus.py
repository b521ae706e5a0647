"""The corpora: nothing leaks between the parts, texts are clean, every format is read, bad input is named."""

from __future__ import annotations

import dataclasses
import json
import re

import polib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertest.data import Carrier

from transformer.reproduce.data import corpus
from transformer.reproduce.data.carriers import Catalogues
from transformer.reproduce.data.corpus import Pair, acceptable, clean, normalise, split, words


def assert_no_leak(parts: corpus.Corpus) -> None:
    for side in ("source", "target"):
        seen = [{normalise(getattr(pair, side)) for pair in part} for part in (parts.train, parts.dev, parts.test)]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]


# Few words, so that near-duplicates and shared targets abound.
text = st.lists(st.sampled_from(["a", "b", "C", "c,", "D", "E!", "f", "1", "{}"]), min_size=2, max_size=6).map(" ".join)
pairs = st.lists(st.builds(Pair, text, text, st.sampled_from(["one", "two", "three", "four"])), max_size=200)


@given(pairs, st.booleans())
def test_parts_share_no_source_and_no_target(made, by_document):
    parts = split(made, "de", unit=(lambda pair: pair.document) if by_document else None)
    assert_no_leak(parts)
    kept = parts.train + parts.dev + parts.test
    assert len({normalise(pair.source) for pair in kept}) == len(kept)
    assert all(words(pair.source) >= corpus.HELD_OUT_WORDS for pair in parts.dev + parts.test)
    if by_document:
        documents = [{pair.document for pair in part} for part in (parts.train, parts.dev, parts.test)]
        assert not documents[0] & documents[1]
        assert not (documents[0] | documents[1]) & documents[2]
    else:
        assert {normalise(pair.source) for pair in kept} == {normalise(pair.source) for pair in made}


def numbered(count: int) -> list[Pair]:
    """Pairs that differ in letters."""
    names = ["".join(chr(97 + int(digit)) for digit in str(i)) for i in range(count)]
    return [Pair(f"this is text {name}", f"das ist Text {name}", "made up") for name in names]


def test_split_has_the_size_it_should_and_does_not_depend_on_order():
    made = numbered(500)
    parts = split(made, "de")
    assert [len(part) for part in (parts.train, parts.dev, parts.test)] == [400, 50, 50]
    again = split(reversed(made), "de")
    assert (again.dev, again.test) == (parts.dev, parts.test)
    assert [pair for pair in made if pair in set(parts.train)] == parts.train


def test_near_duplicates_are_one_and_the_first_translation_stays():
    first, second = (
        Pair("Delete {} files?", "{} Dateien löschen?", "a"),
        Pair("delete 3 files", "Lösche 3 Dateien", "b"),
    )
    assert split([first, second], "de").train == [first]


def test_a_target_that_occurs_twice_is_never_held_out():
    made = numbered(100)
    same = [dataclasses.replace(pair, target="immer dasselbe") for pair in made]
    assert split(same, "de").train == same


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\n lines ", "two lines"),
        ("<b>Bold</b> and <a href='x'>link</a>.", "Bold and link."),
        ("one<br/>two", "one two"),
        ("Open [the page]({url}) now", "Open the page now"),
        ("See [1:the page] [2:]%1 and %(name)", "See the page {} and {}"),
        ("&lt;b&gt; &amp; more", "& more"),
        ("%(count)s of %d, {name:>3} or ${x} {{ y }}", "{} of {}, {} or {} {}"),
        ("100% done", "100% done"),
        ("&File and _Edit", "File and Edit"),
        ("R&D and Q & A", "R&D and Q & A"),
        ("文件(&F)", "文件"),
        ("编辑（_E）...", "编辑..."),
        ("**Note:** run `this`", "Note: run this"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected
    assert clean(expected) == expected


@pytest.mark.parametrize(
    ("source", "target", "good"),
    [
        ("Delete the file {}?", "Datei {} löschen?", True),
        ("File", "Datei", False),  # one word
        ("word " * 41, "Wort " * 41, False),
        ("{} - {}", "{} – {}", False),  # no words
        ("Home Assistant", "Home-Assistant", False),  # the same letters
        ("Delete the file {}?", "Datei löschen?", False),  # a placeholder is lost
        ("Delete the file?", "D", False),
        ("Go there", "Gehen Sie bitte dorthin, wo dies hier steht", False),
        ("See https://a.b for more", "Siehe https://a.b dazu", False),
        ("Write to me@a.b now", "Schreib an me@a.b", False),
        ("Set some_name to one", "Setze some_name auf eins", False),
        ("{n, plural, one {}} day", "{n, plural, one {}} Tag", False),
    ],
)
def test_acceptable(source, target, good):
    assert acceptable(Pair(source, target, ""), "de") is good


def test_chinese_must_have_simplified_characters_only():
    assert acceptable(Pair("Delete the file", "删除“文件”", ""), "zh")
    assert not acceptable(Pair("Delete the file", "刪除檔案", ""), "zh")
    assert not acceptable(Pair("Delete the file", "Delete file", ""), "zh")


PO = """
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "Save the file"
msgstr "Datei speichern"

#. Default: "Close the \\"window\\""
msgid "label_close"
msgstr "Fenster schließen"

#, fuzzy
msgid "Not quite right"
msgstr "Nicht ganz richtig"

msgid "Not yet translated"
msgstr ""

msgid "One new message"
msgid_plural "%d new messages"
msgstr[0] "Eine neue Nachricht"
msgstr[1] "%d neue Nachrichten"

#~ msgid "No longer used"
#~ msgstr "Nicht mehr benutzt"
"""


@dataclasses.dataclass(frozen=True)
class Local(Carrier):
    """A carrier that is there already."""

    root: object = None

    def path(self, inside=""):
        assert not inside
        return self.root


def group(tmp_path, files: str, **names: str) -> Catalogues:
    return Catalogues(Local("made", "1", "0" * 64, "MIT", tmp_path), files, names)


def test_po_and_mo(tmp_path):
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "a.po").write_text(PO, "utf-8")
    read = list(corpus.read(group(tmp_path, "{}/*.po", de="de"), "de"))
    assert read == [
        Pair("Save the file", "Datei speichern", "made:de/a.po"),
        Pair('Close the "window"', "Fenster schließen", "made:de/a.po"),
        Pair("One new message", "Eine neue Nachricht", "made:de/a.po"),
    ]
    polib.pofile(str(tmp_path / "de" / "a.po")).save_as_mofile(str(tmp_path / "de" / "a.mo"))
    read = {pair.source for pair in corpus.read(group(tmp_path, "{}/*.mo", de="de"), "de")}
    assert read == {"Save the file", "One new message"}  # a .mo has no comments, so "label_close" stays, and goes


def test_the_only_chinese_form_translates_the_plural(tmp_path):
    (tmp_path / "a.po").write_text('msgid "a message"\nmsgid_plural "%d messages"\nmsgstr[0] "%d 条消息"\n', "utf-8")
    assert list(corpus._gettext(tmp_path / "a.po", "zh")) == [("%d messages", "%d 条消息")]


def test_json(tmp_path):
    english = {"title": "Set it up", "step": {"user": "Enter the code", "old": "No longer there"}, "n": 3}
    (tmp_path / "en.json").write_text(json.dumps(english), "utf-8")
    (tmp_path / "de.json").write_text(json.dumps({"step": {"user": "Code eingeben"}, "title": "Einrichten"}), "utf-8")
    read = list(corpus.read(group(tmp_path, "{}.json", de="de"), "de"))
    assert read == [
        Pair("Set it up", "Einrichten", "made:de.json"),
        Pair("Enter the code", "Code eingeben", "made:de.json"),
    ]
    assert list(corpus.read(group(tmp_path, "{}.json", de="de"), "zh")) == []


def page(**paragraphs: str) -> str:
    return "<p dir='auto'>LibreOffice Help</p>" + "".join(
        f'<p id="{key}" class="paragraph" dir="auto">{text}</p>' for key, text in paragraphs.items()
    )


def test_libreoffice_help(tmp_path):
    texts = tmp_path / "usr/share/libreoffice/help"
    for name in ("en-US", "de", "zh-CN"):
        (texts / name / "text" / "swriter").mkdir(parents=True)
    both = '<span class="switchinline"><span>Command</span><span>Ctrl</span></span>'
    english = page(
        a="Opens the <b>first</b> file.", b="Closes the second window.", c=f"Press {both} now.", d="Only here."
    )
    (texts / "en-US/text/swriter/one.html").write_text(english, "utf-8")
    (texts / "en-US/text/swriter/two.html").write_text(page(a="Only in English here."), "utf-8")
    (texts / "de/text/swriter/one.html").write_text(
        page(b="Schließt das zweite Fenster.", a="Öffnet die <b>erste</b> Datei.", c=f"Drücken Sie {both}."), "utf-8"
    )
    parts = corpus.libreoffice_help("de", tmp_path)
    document = "libreoffice-help:swriter/one.html"
    assert parts.train == [
        Pair("Opens the first file.", "Öffnet die erste Datei.", document),
        Pair("Closes the second window.", "Schließt das zweite Fenster.", document),
    ]
    assert corpus.libreoffice_help("zh", tmp_path).train == []


def test_libreoffice_help_holds_out_whole_files(tmp_path):
    texts = tmp_path / "usr/share/libreoffice/help"
    for name in ("en-US", "de"):
        (texts / name / "text").mkdir(parents=True)
    made = numbered(100)
    for i in range(0, 100, 5):
        for name, side in (("en-US", "source"), ("de", "target")):
            paragraphs = {f"p{j}": getattr(made[j], side) for j in range(i, i + 5)}
            (texts / name / "text" / f"{i}.html").write_text(page(**paragraphs), "utf-8")
    parts = corpus.libreoffice_help("de", tmp_path)
    assert [len(part) for part in (parts.train, parts.dev, parts.test)] == [80, 10, 10]
    assert len({pair.document for pair in parts.test}) == 2
    assert_no_leak(parts)


def write_wmt14(folder, language="de"):
    for name in ("train", "newstest2013", "newstest2014"):
        (folder / f"{name}.en").write_text(f"{name} one .\n{name} \u2028\r two .\nthree\n", "utf-8")
        (folder / f"{name}.{language}").write_text(f"{name} eins .\n{name} zwei .\n\n", "utf-8")


@pytest.mark.parametrize("language", ["de", "fr"])
def test_wmt14(tmp_path, language):
    write_wmt14(tmp_path, language)
    parts = corpus.wmt14(tmp_path, language)
    assert parts.language == language
    assert parts.train == [
        Pair("train one .", "train eins .", "wmt14:train"),
        Pair("train \u2028\r two .", "train zwei .", "wmt14:train"),
    ]
    assert parts.dev[0].document == "wmt14:newstest2013"
    assert len(parts.dev) == len(parts.test) == 3  # a score is over all of the published set


def test_wmt14_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="nowhere is missing"):
        corpus.wmt14(tmp_path / "nowhere")
    write_wmt14(tmp_path)
    with pytest.raises(ValueError, match="'zh'.*'de', 'fr'"):
        corpus.wmt14(tmp_path, "zh")
    with pytest.raises(ValueError, match=r"train\.fr is missing"):
        corpus.wmt14(tmp_path, "fr")
    (tmp_path / "newstest2013.de").write_text("eins\n", "utf-8")
    with pytest.raises(ValueError, match=r"newstest2013\.en has 3 lines and newstest2013\.de has 1"):
        corpus.wmt14(tmp_path)


def test_unknown_language_and_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="language is 'fr': it should be one of 'de', 'zh'"):
        corpus.catalogues("fr")
    with pytest.raises(ValueError, match="language is 'nl': it should be one of 'de', 'zh'"):
        corpus.libreoffice_help("nl", tmp_path)
    with pytest.raises(ValueError, match="en-US.*is missing"):
        corpus.libreoffice_help("de", tmp_path)


def test_carriers_are_pinned():
    for carrier in (each.carrier for each in corpus.CATALOGUES):
        assert re.fullmatch("[0-9a-f]{64}", carrier.sha256), carrier.name
        assert carrier.version
        assert carrier.licence


@pytest.mark.parametrize(("language", "total"), [("de", 36_938), ("zh", 30_368)])
def test_the_real_corpus(language, total):
    parts = corpus.catalogues(language)
    assert len(parts.dev) == len(parts.test) == corpus.HELD_OUT
    assert len(parts.train) + len(parts.dev) + len(parts.test) == total
    assert_no_leak(parts)
    assert all(words(pair.source) >= corpus.HELD_OUT_WORDS for pair in parts.dev + parts.test)
    documents = {pair.document.split(":")[0] for pair in parts.train}
    assert documents == {each.carrier.name for each in corpus.CATALOGUES if language in each.names}
