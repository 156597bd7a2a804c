"""``--user-dir`` in a process that has imported this package before.

fairseq imports the ``models`` of a user folder only when it imports the folder itself. After
``import fairseq_cgc.core``, say, it would find ``fairseq_cgc`` among the imported modules and
register nothing. Its function is therefore wrapped as soon as fairseq is imported: where
``--user-dir`` is this folder, the wrapper imports :mod:`fairseq_cgc.models`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_FOLDER = Path(__file__).resolve().parent
_WATCHED = "fairseq.utils"


def install() -> None:
    """Wrap fairseq's function now, or as soon as fairseq is imported."""
    if _WATCHED in sys.modules:
        _wrap(sys.modules[_WATCHED])
    else:
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _wrap(utils: ModuleType) -> None:
    import_user_module = utils.import_user_module

    @functools.wraps(import_user_module)
    def import_all(args: Any) -> None:
        folder = getattr(args, "user_dir", None)
        if folder is not None and Path(folder).resolve() == _FOLDER:
            importlib.import_module("fairseq_cgc.models")
        else:
            import_user_module(args)

    utils.import_user_module = import_all  # type: ignore[attr-defined]
