import pytest

from fairseq_cgc.mt.prepare.iwslt_files import (
    TEST_SETS_2014,
    Campaign,
    find_files,
    plain_segment,
    read_parallel,
    segment_text,
)
from fairseq_cgc.support.errors import UserError

GERMAN = Campaign("de", "en")
NAMES = [
    f"train.tags.de-en.{lang}" if name is None else f"IWSLT14.{name}.de-en.{lang}.xml"
    for name in (None, *TEST_SETS_2014)
    for lang in ("de", "en")
]


def later(*test_sets):
    return Campaign("en", "fr", 2016, test_sets)


def test_training_text_of_2014():
    lines = [
        "<url>x</url>", "a <talkid> b", "<keywords>", "<speaker>A</speaker>", "<doc>",
        " <title>T</title> ", "x<description>y</description>z<b>", "",
    ]  # fmt: skip
    expected = ["<speaker>A</speaker>", "<doc>", "T", "xyz<b>", ""]
    assert list(GERMAN.train_text(lines)) == expected


def test_training_text_of_later_years():
    lines = [
        '<doc docid="1">', "<speaker>A</speaker>", '<reviewer href="x">B</reviewer>', "<url>",
        '<translator href="x">C</translator>', "<title>T</title>", "text", "</doc>",
    ]  # fmt: skip
    assert list(later().train_text(lines)) == ["T", "text"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('<seg id="1"> Ein Haus. </seg>', ["Ein Haus."]),
        ('  <seg id="12">\u00a0A &amp; ’B’</seg>\r', ["A &amp; ’B’"]),
        ('<seg id="3"></seg>', [""]),
        ('<seg id="4">a </seg> <seg id="5"> b</seg>', ["ab"]),  # as the script would
        ('<seg id="x">a</seg>', ['<seg id="x">a']),
        ("<title>seg</title>", []),
    ],
)
def test_segments_are_found_in_a_line(line, text):
    assert list(segment_text([line])) == text


def test_plain_segment_undoes_entities_once():
    assert plain_segment("&lt;b&gt; &amp;lt; &quot;&apos; ’ &#39; ") == "<b> &lt; \"' ’ &#39;"


@pytest.mark.parametrize("folder", ["", "de-en/", "a/b/"])
def test_files_are_found_in_one_folder(folder):
    paths = [*(folder + name for name in NAMES), "other/README", f"{folder}README"]
    files = find_files(paths, GERMAN, "x.tgz")
    assert files.train == {lang: f"{folder}train.tags.de-en.{lang}" for lang in ("de", "en")}
    assert tuple(files.tests) == TEST_SETS_2014
    assert files.tests["TEDX.dev2012"]["en"] == f"{folder}IWSLT14.TEDX.dev2012.de-en.en.xml"
    assert sorted(files.all()) == sorted(folder + name for name in NAMES)


@pytest.mark.parametrize("pair", ["de-en", "en-de"])
@pytest.mark.parametrize("campaign", [GERMAN, Campaign("en", "de")])
def test_either_order_of_the_pair(pair, campaign):
    files = find_files([name.replace("de-en", pair) for name in NAMES], campaign, "x.tgz")
    assert files.train["de"] == f"train.tags.{pair}.de"
    assert list(files.train) == list(campaign.langs)


def test_test_sets_keep_their_order_and_may_be_short():
    chosen = Campaign("de", "en", 2014, ("tst2012", "TED.tst2010", "dev2012"))
    files = find_files(NAMES, chosen, "x.tgz")
    assert list(files.tests) == ["TED.tst2012", "TED.tst2010", "TEDX.dev2012"]


LATER = [
    f"train.tags.en-fr.{lang}" if name is None else f"IWSLT16.{name}.en-fr.{lang}.xml"
    for name in (None, "TED.tst2013", "QED.tst2016", "TED.tst2016")
    for lang in ("en", "fr")
]


def test_other_years():
    files = find_files(LATER, later("tst2013"), "x.tgz")
    assert files.tests == {
        "TED.tst2013": {lang: f"IWSLT16.TED.tst2013.en-fr.{lang}.xml" for lang in ("en", "fr")}
    }


@pytest.mark.parametrize(
    ("paths", "campaign", "message"),
    [
        (
            LATER, later(),
            "--test-sets must be given for 2016; x.tgz has QED.tst2016 TED.tst2013 TED.tst2016",
        ),
        (
            LATER, later("tst2016"),
            "--test-sets has tst2016, but x.tgz has QED.tst2016 and TED.tst2016",
        ),
        (LATER, later("tst2013", "TED.tst2013"), "--test-sets has TED.tst2013 twice"),
        (
            LATER, later("tst2012"),
            "x.tgz lacks IWSLT16.tst2012.en-fr.en.xml, IWSLT16.tst2012.en-fr.fr.xml; it holds "
            "IWSLT16.QED.tst2016.en-fr.en.xml, IWSLT16.QED.tst2016.en-fr.fr.xml, "
            "IWSLT16.TED.tst2013.en-fr.en.xml, IWSLT16.TED.tst2013.en-fr.fr.xml, "
            "IWSLT16.TED.tst2016.en-fr.en.xml, IWSLT16.TED.tst2016.en-fr.fr.xml, "
            "train.tags.en-fr.en, train.tags.en-fr.fr",
        ),
        (
            ["a/b", "c"], GERMAN,
            "x.tgz has no train.tags.de-en.de (or en-de); it holds b, c",
        ),
        ([], GERMAN, "x.tgz has no train.tags.de-en.de (or en-de); it holds nothing"),
        (
            [f"{number:02}" for number in range(20)], GERMAN,
            "x.tgz has no train.tags.de-en.de (or en-de); it holds 00, 01, 02, 03, 04, 05, 06, "
            "07, 08, 09, 10, 11 and 8 more",
        ),
        (
            [*NAMES, *(f"old/{name}" for name in NAMES)], GERMAN,
            "x.tgz has more than one corpus: ./train.tags.de-en, old/train.tags.de-en; give just "
            "one",
        ),
        (
            [name for name in NAMES if "tst2011.de-en.en" not in name and not name.endswith(".de")],
            GERMAN,
            "x.tgz lacks IWSLT14.TED.tst2011.de-en.en.xml, train.tags.de-en.de; it holds ",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_told(paths, campaign, message):
    with pytest.raises(UserError) as caught:
        find_files(paths, campaign, "x.tgz")
    assert str(caught.value).startswith(message)
    if not message.endswith(" "):
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("campaign", "message"),
    [
        (Campaign("de", "en", 14), "--year is 14, but must be a year such as 2014"),
        (Campaign("de", "en", 2014, ("../x",)), "--test-sets has '../x', but must have names"),
    ],
)
def test_wrong_campaigns(campaign, message):
    with pytest.raises(UserError, match=message):
        campaign.check()


def read(folder, german, english):
    (folder / "x.de").write_bytes(german)
    (folder / "x.en").write_bytes(english)
    return read_parallel(folder, {"de": "a/x.de", "en": "a/x.en"}, GERMAN.train_text, "x.tgz")


def test_parallel_text_is_read_without_tags(tmp_path):
    lines = read(tmp_path, b"<url>\n\xc3\xa4\r\n\nlast", b"<talkid>\n<keywords>\na\nb\n \n")
    assert lines == {"de": ["ä", "", "last"], "en": ["a", "b", ""]}


@pytest.mark.parametrize(
    ("german", "english", "message"),
    [
        (
            b"<url>\na\nb\n", b"<url>\na\n<url>\n",
            "x.tgz: a/x.de has 2, but a/x.en has 1 lines of text; parallel files need the same",
        ),
        (b"a\n", b"<url>\n\xff\n", "x.tgz: a/x.en, line 2: not UTF-8 (byte 0xff, number 1 of the"),
        (b"<url>\n", b"", "x.tgz: a/x.de has no text"),
    ],
)  # fmt: skip
def test_bad_text(tmp_path, german, english, message):
    with pytest.raises(UserError) as caught:
        read(tmp_path, german, english)
    assert str(caught.value).startswith(message)
