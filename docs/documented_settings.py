"""An extension of griffe for the API page: it documents ``setting`` fields by their help text."""

from __future__ import annotations

from dataclasses import fields
from pydoc import locate
from typing import Any

from griffe import Attribute, Docstring, Extension


class DocumentedSettings(Extension):
    """Reads the default and the help text of ``name: type = setting(default, help, ...)``."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Show the default as the field's value, and the help text as its docstring."""
        if attr.parent is None or not str(attr.value).startswith("setting("):
            return
        of_class: Any = locate(attr.parent.path)
        [field] = [field for field in fields(of_class) if field.name == attr.name]
        attr.value = repr(field.default)
        text = field.metadata["help"]
        attr.docstring = Docstring(f"{text[0].upper()}{text[1:]}.", parent=attr)
