"""Real English-German and English-Chinese text: translation catalogues, LibreOffice's help, and WMT14 from local files.

`catalogues` reads what programs on the package index say to their users in both languages. The other two read local
files: `libreoffice_help` two unpacked Debian packages, `wmt14` the set that the paper was trained on.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer.reproduce.data.carriers import CATALOGUES, Catalogues

HELD_OUT = 1_000  # pairs in dev, and in test; a tenth of the pairs where that is less
HELD_OUT_WORDS = 4  # on the English side, at least
SOURCE_WORDS = (2, 40)
TARGET_WORDS = 60  # of German; Chinese puts no spaces between words
RATIO = {"de": (0.4, 3.0), "zh": (0.1, 1.2)}  # characters of the translation for each English one


@dataclass(frozen=True, slots=True)
class Pair:
    """An English text and its translation; `document` is the file that both came from, "<carrier>:<file>"."""

    source: str
    target: str
    document: str


@dataclass(frozen=True)
class Corpus:
    """English and `language` in three parts that share no source and no target."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    language: str


def catalogues(language: str) -> Corpus:
    """English and `language` ("de" or "zh", simplified Chinese) from the carriers: 36,938 and 30,368 pairs.

    They are what programs show: messages, labels, help, 2 to 40 English words long (6.5 on average). `clean` and
    `acceptable` say what is done to them; the first translation of a normalised English text is kept. dev and test are
    1,000 pairs each, with at least 4 English words; no normalised source or target is in two parts. Texts that differ
    by a word ("Unable to create the user.", "Unable to update the user.") may be, so BLEU here is higher than on text
    that owes nothing to the training set. The first call fetches about 160 MB; reading takes 3 seconds.

    Raises:
        ValueError: for another language.
        papertest.data.DataError: where a carrier cannot be fetched.
    """
    _check_language(language, RATIO)
    return split((pair for group in CATALOGUES for pair in read(group, language)), language)


def read(group: Catalogues, language: str) -> Iterator[Pair]:
    """The acceptable pairs of one distribution, in the order of its files' names."""
    if language not in group.names:
        return
    root = group.carrier.path()
    for path in sorted(root.glob(group.files.format(group.names[language]))):
        document = f"{group.carrier.name}:{path.relative_to(root).as_posix()}"
        for source, target in _json(path) if path.suffix == ".json" else _gettext(path, language):
            pair = Pair(clean(source), clean(target), document)
            if acceptable(pair, language):
                yield pair


def _gettext(path: Path, language: str) -> Iterator[tuple[str, str]]:
    """The messages of a .po or .mo file that are translated and not fuzzy."""
    import polib

    file: Any = (polib.mofile if path.suffix == ".mo" else polib.pofile)(str(path))
    for entry in file.translated_entries():
        if entry.msgid_plural:  # form 0 is German's singular, and Chinese's only form: there the plural is closer
            yield (entry.msgid if language == "de" else entry.msgid_plural), entry.msgstr_plural.get(0, "")
        else:
            default = re.search(r'^Default: "(.*)"', entry.comment or "", re.S | re.M)  # Plone's msgid may be a key
            yield (polib.unescape(default[1]) if default else entry.msgid), entry.msgstr


def _json(path: Path) -> Iterator[tuple[str, str]]:
    """The texts that path and the en.json beside it hold under the same keys."""
    english = path.with_name("en.json")
    if english.exists():
        targets = dict(_leaves(json.loads(path.read_text("utf-8"))))
        for key, source in _leaves(json.loads(english.read_text("utf-8"))):
            if key in targets:
                yield source, targets[key]


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, name))
    elif isinstance(value, str):
        yield key, value


_PLACEHOLDER = re.compile(
    r"""%\(\w+\)[-+#0-9.]*[a-z]?  # %(name)s
      | %[-+#0-9.]*[sdifrgxu]\b   # %s %.2f
      | %\d\b                     # %1
      | \$?\{\{[^{}]*\}\}         # {{ name }}
      | \$?\{[^{}]*\}             # {name} ${name}
    """,
    re.X,
)
_BREAK = re.compile(r"</?(?:br|p|li|ul|ol|div|h\d|td|tr)\b[^<>]*>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)|\[\d+:([^\[\]]*)\]")  # [text](address), and Babel's [1:text]
_CHINESE_ACCELERATOR = re.compile(r"\s*[(（][&_]\w[)）]")  # 文件(&F)
_ACCELERATOR = re.compile(r"(?<![A-Z])&(?=[^\W\d_])|(?<![^\W_])_(?=[^\W\d_])")  # &File, _File; not R&D, a_name
_LETTERS = re.compile(r"[^\W\d_]+")
_HAN = re.compile(r"[\u4e00-\u9fff]")


def clean(text: str) -> str:
    """The text without tags, link targets, emphasis and accelerators; a placeholder is {}; one space between words."""
    text = _TAG.sub("", _BREAK.sub(" ", html.unescape(text)))
    text = _PLACEHOLDER.sub("{}", _LINK.sub(r"\1\2", text))
    text = _ACCELERATOR.sub("", _CHINESE_ACCELERATOR.sub("", text))
    return " ".join(text.replace("**", "").replace("`", "").split())


def acceptable(pair: Pair, language: str) -> bool:
    """Whether a clean pair is text and its translation.

    The English has 2 to 40 words, the German at most 60; the two differ in letters, have as many placeholders, and no
    absurd ratio of lengths; the Chinese has Chinese characters, all simplified. Neither holds an address, a name with
    an underscore, or what is left of a nested message such as {count, plural, one {# day} other {# days}}.
    """
    source, target = pair.source, pair.target
    low, high = RATIO[language]
    return (
        SOURCE_WORDS[0] <= words(source) <= SOURCE_WORDS[1]
        and words(target) <= TARGET_WORDS
        and normalise(source) != normalise(target) != ""
        and source.count("{}") == target.count("{}")
        and low * len(source) <= len(target) <= high * len(source)
        and (language != "zh" or _simplified(target))
        and not any(mark in text.replace("{}", "") for text in (source, target) for mark in ("://", "@", "_", "{", "}"))
    )


def _simplified(text: str) -> bool:
    """Whether there are Chinese characters, and GB 2312 has all of them: some zh_Hans catalogues mix in others."""
    characters = "".join(_HAN.findall(text))
    return characters != "" and characters.encode("gb2312", "ignore").decode("gb2312") == characters


def words(text: str) -> int:
    """How many of the parts between spaces hold a letter."""
    return sum(_LETTERS.search(part) is not None for part in text.split())


def normalise(text: str) -> str:
    """Only the letters, in lower case: near-duplicates become equal."""
    return "".join(_LETTERS.findall(text.casefold()))


def libreoffice_help(language: str, root: Path) -> Corpus:
    """LibreOffice's help in English and `language` ("de" or "zh"), paragraphs aligned by file and id.

    `root` holds Debian's libreoffice-help-en-us and libreoffice-help-de or -zh-cn, unpacked with `dpkg-deb -x`.
    Cleaned as `catalogues`: release 7.4.7 leaves 22,615 pairs in German and 15,753 in Chinese, 14 English words long on
    average. dev and test hold whole files, about 1,000 pairs, less those of under 4 words or with a target seen twice.

    Raises:
        ValueError: for another language, or where a folder is missing.
    """
    folders = {"de": "de", "zh": "zh-CN"}
    _check_language(language, folders)
    help_folder = root / "usr/share/libreoffice/help"
    english, other = (_folder(help_folder / name / "text") for name in ("en-US", folders[language]))
    pairs: list[Pair] = []
    for path in sorted(english.rglob("*.html")):
        name = path.relative_to(english).as_posix()
        targets = _paragraphs(other / name)
        found = (
            Pair(clean(s), clean(targets[key]), f"libreoffice-help:{name}")
            for key, s in _paragraphs(path).items()
            if key in targets
        )
        pairs += [pair for pair in found if acceptable(pair, language)]
    return split(pairs, language, unit=lambda pair: pair.document)


def _paragraphs(path: Path) -> dict[str, str]:
    """The paragraphs by their id. Position would misalign one in twelve: German sorts lists of functions anew."""
    if not path.exists():
        return {}
    found: list[tuple[str, str]] = re.findall(r'<p id="([^"]+)" class=[^>]*>(.*?)</p>', path.read_text("utf-8"), re.S)
    return {key: text for key, text in found if "switchinline" not in text}  # that is one text per system, all in one


def wmt14(folder: Path, language: str = "de") -> Corpus:
    """The paper's data: train.en, newstest2013.en (dev) and newstest2014.en (test), each with its .de (or .fr).

    One sentence a line, UTF-8. Taken as they are, except that training pairs with an empty side are dropped.

    Raises:
        ValueError: for another language, a missing folder or file, or two sides of different lengths.
    """
    _check_language(language, ("de", "fr"))
    _folder(folder)
    train, dev, test = (_parallel(folder, name, language) for name in ("train", "newstest2013", "newstest2014"))
    return Corpus([pair for pair in train if pair.source and pair.target], dev, test, language)


def _parallel(folder: Path, name: str, language: str) -> list[Pair]:
    sources, targets = (_lines(folder / f"{name}.{side}") for side in ("en", language))
    if len(sources) != len(targets):
        raise ValueError(
            f"{name}.en has {len(sources)} lines and {name}.{language} has {len(targets)}: they should be as many"
        )
    return [Pair(source, target, f"wmt14:{name}") for source, target in zip(sources, targets, strict=True)]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        names = "train, newstest2013 and newstest2014"
        raise ValueError(f"{path} is missing: {path.parent} should hold {names}, each with {path.suffix} and its twin")
    with path.open(encoding="utf-8", newline="\n") as file:  # only \n ends a sentence: WMT holds other line breaks
        return [line.strip() for line in file]


def split(pairs: Iterable[Pair], language: str, unit: Callable[[Pair], str] | None = None) -> Corpus:
    """One pair per normalised source, the first, in three parts that share no normalised source or target.

    Units (normalised sources, or what `unit` says) are taken in the order of their sha256: the first go to test, the
    next to dev, until each part is full; the rest is train. In test and dev a pair must have 4 English words, and
    a target that occurs once in the whole corpus; a unit without such a pair goes to train.
    """
    unique: dict[str, Pair] = {}
    for pair in pairs:
        unique.setdefault(normalise(pair.source), pair)
    targets = Counter(normalise(pair.target) for pair in unique.values())
    units: dict[str, list[Pair]] = {}
    for source, pair in unique.items():
        units.setdefault(unit(pair) if unit else source, []).append(pair)

    size = min(HELD_OUT, len(unique) // 10)
    test: list[Pair] = []
    dev: list[Pair] = []
    held_out: set[str] = set()
    for name in sorted(units, key=lambda name: hashlib.sha256(name.encode()).digest()):
        fit = [
            pair
            for pair in units[name]
            if words(pair.source) >= HELD_OUT_WORDS and targets[normalise(pair.target)] == 1
        ]
        if len(dev) >= size:
            break
        if fit:
            (test if len(test) < size else dev).extend(fit)
            held_out.add(name)
    train = [pair for name, group in units.items() if name not in held_out for pair in group]
    return Corpus(train, dev, test, language)


def _check_language(language: str, accepted: Iterable[str]) -> None:
    if language not in accepted:
        raise ValueError(f"language is {language!r}: it should be one of {', '.join(map(repr, accepted))}")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path} is missing: it should be a folder")
    return path
