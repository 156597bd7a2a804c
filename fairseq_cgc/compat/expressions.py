"""Options that fairseq evaluates as Python, including those in a checkpoint."""

from __future__ import annotations

import ast
import operator
import sys
from collections.abc import Callable
from typing import Any

from fairseq_cgc.support.errors import UserError

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def replace_eval() -> None:
    """Read options as values, not as Python code, including those in a checkpoint.

    fairseq calls ``eval``. A checkpoint of plain values could run code: the architecture ``fconv``,
    for example, evaluates its layers, which could be a call of ``os.system``.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("fairseq."):
            vars(module).setdefault("eval", evaluate)


def evaluate(expression: str) -> Any:
    """The value of a Python expression of constants, brackets and ``+ - * /``; nothing is called.

    Raises:
        UserError: if it is anything else.
    """
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except Exception:  # there are many ways in which it can be wrong
        raise UserError(
            f"an option is {expression[:60]!r}, but must be a value such as 2, '0.9, 0.98' or "
            "[1, 2]"
        ) from None


def _value(node: ast.AST | None) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=parts):
            return tuple(map(_value, parts))
        case ast.List(elts=parts):
            return list(map(_value, parts))
        case ast.Dict(keys=keys, values=values):
            return {_value(k): _value(v) for k, v in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError(node)
