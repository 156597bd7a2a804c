from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from outputs import noisy, sentences

from fairseq_cgc.mt.evaluate.comparison import compare
from fairseq_cgc.mt.evaluate.comparison_page import LONG_LINE, comparison_page

REFERENCES = sentences(40)
A, B = noisy(REFERENCES, 0.4, seed=1), noisy(REFERENCES, 0.3, seed=2)

VOID = {"meta", "link", "input", "line", "rect"}
HOSTILE = '</dd></article><script>alert(1)</script><img src=x onerror="alert(2)"> &lt; $style ${a}'


class Page(HTMLParser):
    """Checks the nesting and keeps what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        """Of every ``dd``."""
        self.words = ""
        """All that a reader sees."""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "dd":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        # html.parser reports <line/> as a start and an end.
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "dd" in self.open:
            self.texts[-1] += data
        if not {"script", "style"} & set(self.open):
            self.words += data

    def having(self, **attributes: str) -> list[dict[str, str | None]]:
        """Attributes of the tags that have all of these."""
        return [
            found
            for _, found in self.tags
            if all(found.get(key.strip("_")) == value for key, value in attributes.items())
        ]


def page(*texts: list[str], top: int = 50, target_lang: str = "", **options: object) -> str:
    comparison = compare(*texts, samples=20, **options)
    return comparison_page(comparison, top=top, target_lang=target_lang)


def test_it_holds_what_it_should() -> None:
    comparison = compare(REFERENCES, A, B, sources=A[::-1], names=("base", "ours"), samples=20)
    parsed = Page(comparison_page(comparison, top=7))
    assert parsed.tags[0][0] == "html" and parsed.having(charset="utf-8")
    for text in (
        comparison.verdict, *(test.signature for test in comparison.tests),
        "base against ours", "40 sentences", "The 7 sentences that differ most",
        f"{comparison.tests[0].system:.2f}", f"{comparison.lengths[1].ratio:.3f}",
    ):  # fmt: skip
        assert text in parsed.words

    shown = comparison.most_different(7)
    articles = parsed.having(class_="pair")
    assert [article["id"] for article in articles] == [f"line-{s.number}" for s in shown]
    assert [article["data-better"] for article in articles] == [
        "b" if s.score_b > s.score_a else "a" for s in shown
    ]
    assert parsed.texts == [text for s in shown for text in (s.source, s.reference, s.a, s.b)]
    for s in shown:
        assert f"base {s.score_a:.1f}" in parsed.words and f"ours {s.score_b:.1f}" in parsed.words


def test_source_is_shown_only_where_there_is_one() -> None:
    assert len(Page(page(REFERENCES, A, B, top=3)).texts) == 9
    assert ">Source<" not in page(REFERENCES, A, B, top=3)


def test_text_cannot_become_markup() -> None:
    lines = [HOSTILE, f"{HOSTILE} x", "nul\0 and \u2028 and \x1b"]
    others = ["x", HOSTILE, "\0"]
    text = page(
        lines, others, lines, sources=lines, names=("<script>a", 'b"&</title>'), target_lang='"><b>'
    )
    parsed = Page(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not {"img", "b", "i"} & {tag for tag, _ in parsed.tags}
    assert parsed.texts[:4] == [HOSTILE, HOSTILE, "x", HOSTILE]
    assert "\0" not in text and "nul\ufffd and \u2028 and \x1b" in parsed.texts
    assert '<script>a against b"&</title>' in parsed.words
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page([HOSTILE, "http://example.org/x"], ["x", "http://example.org/y"], ["z", "y"])
    parsed = Page(text)
    for tag, attributes in parsed.tags:
        for key in ("src", "srcset", "href", "action", "data", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,")), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    # The browser enforces it: no request, and no script but this one.
    (policy,) = (
        tag["content"] for tag in parsed.having(**{"http-equiv": "Content-Security-Policy"})
    )
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy is not None and script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert not any(word in script[1] for word in ("fetch", "XMLHttpRequest", "import", "http"))


def test_direction_and_language() -> None:
    arabic = ["مرحبا بالعالم"]
    parsed = Page(page(arabic, ["x"], arabic, sources=["hello"], target_lang="ar"))
    texts = [attributes for tag, attributes in parsed.tags if tag == "dd"]
    assert [text["dir"] for text in texts] == ["auto"] * 4
    assert [text.get("lang") for text in texts] == [None, "ar", "ar", "ar"]
    assert "مرحبا بالعالم" in parsed.texts


def test_words_are_marked() -> None:
    text = page(["a man plays guitar"], ["a man sings"], ["a boy plays guitar"])
    for mark in (
        'a <mark class="only-a">man</mark> <mark class="only-b">plays guitar</mark></dd>',
        'a <mark class="only-a">man</mark> <mark class="wrong">sings</mark></dd>',
        'a <mark class="wrong">boy</mark> <mark class="only-b">plays guitar</mark></dd>',
    ):
        assert mark in text
    assert '<mark class="none">red</mark>' in page(["a red car"], ["a car"], ["a bus"])


def test_every_sentence_is_in_the_histogram_or_equal() -> None:
    comparison = compare(REFERENCES, A, B, samples=5)
    text = comparison_page(comparison)
    bars = re.findall(
        r'height="([\d.]+)"><title>(\d+) sentences: ([AB]) better by (\d+) to (\d+)<', text
    )
    differences = [s.difference for s in comparison.sentences]
    gains = {"A": [-d for d in differences if d < 0], "B": [d for d in differences if d > 0]}
    tallest = max(int(bar[1]) for bar in bars)
    for height, count, side, low, high in bars:
        assert int(count) == sum(int(low) < gain <= int(high) for gain in gains[side])
        assert float(height) == pytest.approx(180 * int(count) / tallest, abs=0.06)
    for side, gain in gains.items():
        assert sum(int(bar[1]) for bar in bars if bar[2] == side) == len(gain) > 0
    assert f"A is better in {len(gains['A'])}, B in {len(gains['B'])}" in text
    # From A's greatest gain to B's.
    edges = [
        (-int(high), -int(low)) if s == "A" else (int(low), int(high)) for *_, s, low, high in bars
    ]
    assert all(one[1] == other[0] for one, other in zip(edges, edges[1:], strict=False))


def test_systems_that_are_the_same() -> None:
    parsed = Page(page(REFERENCES, A, A))
    assert "A and B have the same BLEU." in parsed.words
    assert "No sentence scores differently" in parsed.words
    assert not parsed.having(class_="pair") and not parsed.having(class_="only-a")


def test_empty_and_very_long_lines() -> None:
    references = ["the cat", "w " * (LONG_LINE // 2 + 1), "c " * (LONG_LINE // 2 - 10)]
    parsed = Page(page(references, ["", *references[1:]], ["the cat", "w", "c"]))
    assert "(empty)" in parsed.texts
    # The long reference and the translation that equals it scroll; the shorter line does not.
    assert len(parsed.having(class_="long", tabindex="0")) == 2


def test_notes_are_shown() -> None:
    parsed = Page(page(["The <b>"] * 3, ["the <b>"] * 3, ["The x"] * 3))
    assert len(parsed.having(class_="note")) == 1
    assert "A is all lower case and the references are not" in parsed.words


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_filter_and_search_in_a_browser(tmp_path: Path) -> None:
    references = ["red house", "green tree", "blue <sky>", "same"]
    a = ["red house", "grey tree", "blue <sky>", "same"]
    b = ["rod house", "green tree", "blue sea", "same"]
    text = page(references, a, b)

    def visible(action: str) -> tuple[list[str], str]:
        """Lines that are shown, and the counter, once ``action`` is done."""
        changed = re.sub(r"<meta http-equiv.*?>", "", text).replace(
            "</body>", f"<script>{action};tools.dispatchEvent(new Event('input'))</script></body>"
        )
        (tmp_path / "page.html").write_text(changed, encoding="utf-8")
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, check=True, timeout=100)
        dom = done.stdout.decode()
        counter = re.search(r"<output.*?>(.*?)</output>", dom)
        assert counter is not None and '<div class="tools" role="search">' in dom
        return re.findall(r'id="line-(\d+)" data-better="[ab]">', dom), counter[1]

    choose = "tools.querySelector('input[value={}]').checked = true"
    assert visible("0") == (["3", "2", "1"], "3 of 3 shown")
    assert visible(choose.format("a")) == (["3", "1"], "2 of 3 shown")
    assert visible(choose.format("b")) == (["2"], "1 of 3 shown")
    assert visible("search.value = ' <SKY> '") == (["3"], "1 of 3 shown")
    assert visible(f"{choose.format('b')}; search.value = 'sky'") == ([], "0 of 3 shown")
