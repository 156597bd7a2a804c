"""An extension of griffe for the API page: it documents ``setting`` fields by their help text."""

from __future__ import annotations

import ast
from typing import Any

from griffe import Attribute, Docstring, Extension


class DocumentedSettings(Extension):
    """Reads ``name: type = setting(default, help, ...)`` of a dataclass."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """The default is the field's value, the help text its docstring."""
        call = getattr(node, "value", None)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "setting":
            default, help_ = call.args[:2]
            attr.value = ast.unparse(default)
            text = ast.literal_eval(help_)
            attr.docstring = Docstring(f"{text[0].upper()}{text[1:]}.", parent=attr)
