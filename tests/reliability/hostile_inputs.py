"""Strategies for input that somebody made to do harm, or that nobody thought of."""

from __future__ import annotations

import gzip
import io
import tarfile

from hypothesis import strategies as st

#: Characters that programs for text have stumbled over.
ODD = [
    *"abzAZ09 .,'\"`-:;!?()[]{}<>|&%#@/\\_$^*+=~\t",
    *(chr(code) for code in (0, 1, 7, 8, 11, 12, 13, 27, 28, 29, 30, 31, 127)),
    *"\u0085\u00a0\u00ad\u2028\u2029\u3000\u1680\u180e",  # line ends and spaces of Unicode
    *"\u200b\u200c\u200d\u2060\ufeff",  # of no width
    *"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2069",  # direction
    *"אבعربी",  # from right to left; marks
    *"ßİıΣςÅﬁ\u0301\u0327\u0e33",  # change their length in lower case, or combine
    *"中文字日本語한글。，「」٣१½²",
    *"😀👨‍👩‍👧🇩🇪\U0010ffff\ue000\ufffd\ufffe",
    *"‘’“”„«»…–—",
]
#: Words that mean something to one of the tools.
WORDS = [
    *("@@", "a@@", "@@ a", "</w>", "\u2581", "<unk>", "<s>", "</s>", "<pad>"),
    *("DOTMULTI", "DOTDOTMULTI.", "&apos;", "&#124;", "&amp;amp;", "madeupword0000"),
    *("#fairseq:overwrite", "#version: 0.2"),
    *("z.B.", "U.S.A.", "No. 5", "1,000.5", "...", '."', '".', ",\"", "l'homme", "''", "` `"),
    *("Der", "Hund", "sieht", "den", "Ball.", "http://a.b/c?d=e", "<seg id=\"1\">", "<title>"),
]  # fmt: skip

odd_text = st.lists(
    st.one_of(
        st.sampled_from(ODD),
        st.sampled_from(WORDS),
        st.characters(exclude_categories=("Cs",), exclude_characters="\n"),
    ),
    max_size=30,
).map("".join)


def _repeated(piece: str, length: int) -> str:
    return (piece * length)[:length]


#: One thing again and again: what takes quadratic time shows it.
long_text = st.builds(
    _repeated,
    st.one_of(st.sampled_from(ODD), st.sampled_from(WORDS), odd_text.filter(bool)),
    st.sampled_from([300, 1_001, 5_000]),
)
#: The same at the length that a user would complain about.
huge_text = st.builds(
    _repeated, st.one_of(st.sampled_from(ODD), st.sampled_from(WORDS)), st.just(100_000)
)


def mostly(usual: st.SearchStrategy, rare: st.SearchStrategy, one_in: int) -> st.SearchStrategy:
    """``rare`` once in ``one_in`` cases."""
    return st.integers(1, one_in).flatmap(lambda number: rare if number == one_in else usual)


#: A line without its newline.
lines = mostly(st.one_of(odd_text, odd_text, odd_text, long_text), huge_text, 60)
short_lines = st.one_of(odd_text, odd_text, long_text)
_NAMES = [
    *("plain", "with space", "größe", "文字", "עברית", "😀", "a:b", "a,b", "-dash", "--out"),
    *("a'b", 'a"b', "a%sb", "a{b}", "a*b", "a[b]", "$HOME", "~", "a\nb", "\u202eab"),
    *(" lead", "trail ", "a\\b", "a;b", "a|b", "a&b", "#a", "=a", ".hidden", "a.partial"),
    *("n" * 200, "n" * 255, "ü" * 127, "\udcff"),
]  # fmt: skip
#: What a file may be called.
names = st.one_of(
    st.sampled_from(_NAMES),
    st.text(st.sampled_from(ODD), min_size=1, max_size=12)
    .map(lambda name: name.replace("/", "").replace("\0", ""))
    .filter(lambda name: name not in ("", ".", "..")),
)
_NUMBERS = [
    *("0", "1", "2", "3", "-1", "+1", "1.5", "1e3", "1e308", "-1e308", "1e-320", "nan", "inf"),
    *("-inf", "", " ", "abc", "0x10", "1_000", "١٢", "１", "9" * 18, "9" * 30, "1,5", "None"),
]  # fmt: skip
#: What somebody may write where an option wants a number.
number_words = st.one_of(
    st.sampled_from(_NUMBERS), st.integers(-5, 70).map(str), st.floats(-3, 3).map(str)
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole``, cut short, with bytes changed, lost or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.sampled_from(["cut", "change", "insert", "delete", "repeat", "odd"]))
        if how == "cut":
            del content[at:]
        elif how == "change" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        elif how == "delete":
            del content[at : at + draw(st.integers(1, 40))]
        elif how == "repeat":
            content[at:at] = content[at : at + 64] * draw(st.integers(1, 20))
        elif how == "odd":
            content[at:at] = draw(odd_text).encode()
    return bytes(content)


#: The bytes of a text file.
files = st.one_of(
    st.lists(short_lines, max_size=12).map(lambda found: "\n".join(found).encode()),
    st.lists(short_lines, max_size=12).map(lambda found: "".join(s + "\n" for s in found).encode()),
    st.lists(short_lines, max_size=6).flatmap(lambda found: damaged("\r\n".join(found).encode())),
    st.binary(max_size=60),
)


@st.composite
def gzipped(draw: st.DrawFn) -> bytes:
    """A gzip file, whole or not."""
    return draw(damaged(gzip.compress(draw(files), mtime=0)))


_KINDS = [
    *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"V"),
]
_PATHS = ["a", "de-en/a", "./a", "a/../b", "../up", "/tmp/up", "..", ".", "", "a//b", "a\\..\\b"]


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive, honest or not."""
    info = tarfile.TarInfo(draw(st.one_of(st.sampled_from(_PATHS), names)))
    content = draw(st.one_of(st.just(b"text\n"), st.binary(max_size=700)))
    info.type = draw(st.sampled_from(_KINDS))
    info.size = len(content)
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(st.sampled_from(["/etc/passwd", "../../up", "a"]))
        info.size, content = 0, b""
    if draw(st.integers(1, 12)) == 1:
        info.pax_headers = draw(
            st.dictionaries(
                st.sampled_from(["path", "size", "GNU.sparse.major", "linkpath", "mtime"]),
                st.sampled_from(["../up", "/up", "9" * 25, "-1", "1", "a\0b", "x" * 300]),
                max_size=2,
            )
        )
    return info, content


def tar(found: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    """The archive of some members; one that tarfile cannot write is left out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info, content in found:
            try:
                archive.addfile(info, io.BytesIO(content))
            except (ValueError, OSError, UnicodeError):
                continue
    return stream.getvalue()


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An archive, packed or not, damaged before or after packing, or not at all."""
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    content = tar(draw(st.lists(members(), max_size=5)), form)
    # A size that nobody would write out: a bomb.
    if draw(st.integers(1, 8)) == 1:
        bomb = tarfile.TarInfo("bomb")
        bomb.size = draw(st.sampled_from([1 << 33, 1 << 62, 10**6]))
        content = bomb.tobuf(tarfile.GNU_FORMAT) + content
    content = draw(damaged(content))
    return draw(damaged(gzip.compress(content, 1, mtime=0))) if draw(st.booleans()) else content
