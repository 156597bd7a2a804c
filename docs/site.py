"""Hooks of mkdocs that add files outside docs/ to the site.

Pages link to such files as ``../CONTRIBUTING.md`` or ``../benchmarks/results/...``, which works on
a code host. In the site, the files are at the root, beside the pages of docs/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_BENCHMARKS = ROOT / "benchmarks"
#: ``:class:`~package.Name` `` in a docstring, as it comes out of Markdown.
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):\s*<code>~?(?:\w+\.)*(\w+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add the measurements, CONTRIBUTING.md and CHANGELOG.md."""
    found = [path for path in sorted(_BENCHMARKS.rglob("*")) if path.suffix in (".md", ".png")]
    for path in [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *found]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Adapt links between docs/ and the rest of the repository to the site."""
    if "/" not in page.file.src_uri:
        return re.sub(r"\]\((?:\.\./|docs/)", "](", markdown)
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Remove Sphinx's roles from names in docstrings."""
    return _ROLE.sub(r"<code>\1</code>", html)
