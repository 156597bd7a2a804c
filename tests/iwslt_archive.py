"""A small archive in the layout of IWSLT'14, whose every output line was worked out by hand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

LANGS = ("de", "en")
SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")


def house(number: int) -> tuple[str, str, str, str]:
    return (
        f"Hier ist Haus {number}.",
        f"Here is house {number}.",
        f"hier ist haus {number} .",
        f"here is house {number} .",
    )


def letters(count: int) -> str:
    return " ".join("abcdefghijklmnop"[:count])


#: Training lines that are kept: German, English, and the tokens of both.
KEPT = [
    (
        "<title>Der Titel: ein Anfang</title>",
        "<title>The Title: a Start</title>",
        "der titel : ein anfang",
        "the title : a start",
    ),
    (
        " <description>TED Talk: Ärger &amp; Größe</description> ",
        "<description>TED Talk: Trouble &amp; Size</description>",
        "ted talk : ärger &amp; amp ; größe",
        "ted talk : trouble &amp; amp ; size",
    ),
    ("Eins zwei drei", "One two", "eins zwei drei", "one two"),  # 1.5
    (letters(8), letters(12), letters(8), letters(12)),  # 1.5
    ("Wort " * 175, "word " * 175, " ".join(["wort"] * 175), " ".join(["word"] * 175)),
    ("X" * 1000, "y", "x" * 1000, "y"),
    (
        "Er wohnt in den U.S.A.",
        "He lives in the U.S.",
        "er wohnt in den u.s.a .",
        "he lives in the u.s .",
    ),
    ("Der Wert ΣΑΣ", "The value ΣΑΣ", "der wert σασ", "the value σασ"),
    (
        "Ein\u00a0Haus\u2028hier \x07!",
        "A\u3000house\u0085here \x1f!",
        "ein haus hier !",
        "a house here !",
    ),
    (
        'Sie sagte: "Ja."',
        'She said: "Yes."',
        "sie sagte : &quot; ja . &quot;",
        "she said : &quot; yes . &quot;",
    ),
    ("[x] | 50%", "[x] | 50%", "&#91; x &#93; &#124; 50 %", "&#91; x &#93; &#124; 50 %"),
    ("Ein<title> Rest", "A</description> rest", "ein rest", "a rest"),
    ("Ende 'so.'", "End 'so.'", "ende &apos; so . &apos;", "end &apos; so . &apos;"),
    ("1,000.5 Meter ...", "1,000.5 metres....", "1,000.5 meter ...", "1,000.5 metres ...."),
    *map(house, range(15, 23)),
    ("Peter’s Haus", "Peter’s house", "peter ’ s haus", "peter ’ s house"),  # the 23rd
    *map(house, range(24, 49)),  # the 46th is in it
]
VALID = [KEPT[22], house(46)]
TRAIN = [*KEPT[:22], *map(house, range(24, 46)), house(47), house(48)]

#: Training lines that are not kept.
DROPPED = [
    ("", "Nothing."),
    ("Nichts.", " \u00a0\t"),
    ("Eins zwei drei vier", "One two"),
    (letters(9), letters(14)),  # 1.56
    ("Wort " * 176, "word " * 175),
    ("X" * 1001, "y"),
]
TAG_LINES = [
    "<url>http://www.ted.com/talks/lang/de/one.html</url>",
    "<keywords>talks, house, <b>",
    " <talkid>1</talkid>",
]

#: Segments of the evaluation sets: German, English, tokens of both, plain text of both.
TESTS = {
    "TED.dev2010": [
        ("Guten Tag!", "Good day!", "guten tag !", "good day !", "Guten Tag!", "Good day!"),
        (
            "Es war Peter’s Idee.",
            "It’s Peter’s idea.",
            "es war peter &apos; s idee .",
            "it &apos;s peter &apos;s idea .",
            "Es war Peter’s Idee.",
            "It’s Peter’s idea.",
        ),
    ],
    "TEDX.dev2012": [
        (
            "A &amp; B &lt;sehr&gt; gut",
            "A &quot;B&quot; it&apos;s good",
            "a &amp; amp ; b &amp; lt ; sehr &amp; gt ; gut",
            "a &amp; quot ; b &amp; quot ; it &amp; apos ; s good",
            "A & B <sehr> gut",
            'A "B" it\'s good',
        ),
    ],
    "TED.tst2010": [("", "", "", "", "", ""), ("Ja", " ", "ja", "", "Ja", "")],
    "TED.tst2011": [
        (
            "  Sie sagte 'ja.' ",
            "She said 'yes.'",
            "sie sagte &apos; ja . &apos;",
            "she said &apos; yes . &apos; ",  # The space is Moses'.
            "Sie sagte 'ja.'",
            "She said 'yes.'",
        ),
    ],
    "TED.tst2012": [
        ("Das ist z.B.", "This is e.g.", "das ist z.b .", "this is e.g .")
        + ("Das ist z.B.", "This is e.g."),
        # Abbreviations are known before case is lost.
        ("Siehe Nr. 5 hier.", "See No. 5 here.", "siehe nr. 5 hier .", "see no. 5 here .")
        + ("Siehe Nr. 5 hier.", "See No. 5 here."),
    ],
}
#: Numbers (from 0) of the test segments whose entities make tokens and plain text differ.
ENTITIES = [2]


def train_file(side: int) -> str:
    """The training file of the language on that side, dropped lines among the others."""
    lines = list(TAG_LINES)
    for number, row in enumerate(KEPT):
        if number and number % 7 == 0 and number // 7 <= len(DROPPED):
            lines += [*TAG_LINES, DROPPED[number // 7 - 1][side]]
        lines.append(row[side])
    return "\n".join(lines) + "\n"


def xml_file(name: str, side: int) -> str:
    """An evaluation set."""
    segments = "".join(
        f'<seg id="{number}">{"" if side else " "}{segment[side]} </seg>\n'
        for number, segment in enumerate(TESTS[name], start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n'
        f'<srcset setid="{name}" srclang="german">\n<doc docid="535" genre="lectures">\n'
        "<url>http://www.ted.com/one</url>\n<title>Not used</title>\n"
        f"{segments}</doc>\n</srcset>\n</mteval>\n"
    )


def campaign_files(pair: str = "de-en", year: int = 14) -> dict[str, bytes]:
    """Name -> content of everything in the campaign's folder."""
    files = {"README": "not used\n", f"IWSLT{year}.TED.tst2019.{pair}.de.xml": "not used\n"}
    for side, lang in enumerate(LANGS):
        files[f"train.tags.{pair}.{lang}"] = train_file(side)
        for name in SETS:
            files[f"IWSLT{year}.{name}.{pair}.{lang}.xml"] = xml_file(name, side)
    return {name: text.encode() for name, text in files.items()}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: Mapping[str, bytes], folder: str = "de-en/") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
