"""Forms in ONNX of operations that torch writes there as exp(x) - 1 and log(1 + x).

What a sure head loses is far below the rounding of 1, and would be 0. Kahan's forms lose no digit:
https://www.johndcook.com/blog/2010/07/25/trick-for-computing-log1x/ has both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def exact_forms() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operation of torch -> its form, as `torch.onnx.export` takes them. Needs onnxscript."""
    from onnxscript import opset18

    op: Any = opset18  # whose annotations know no numbers

    def expm1(x: Any) -> Any:
        exp, one = op.Exp(x), op.CastLike(1.0, x)
        less = op.Sub(exp, one)
        ends = op.Or(op.Equal(less, op.Neg(one)), op.IsInf(less))
        inner = op.Div(op.Mul(less, x), op.Log(exp))
        return op.Where(op.Equal(exp, one), x, op.Where(ends, less, inner))

    def log1p(x: Any) -> Any:
        one = op.CastLike(1.0, x)
        more = op.Add(x, one)
        inner = op.Div(op.Mul(op.Log(more), x), op.Sub(more, one))
        return op.Where(op.Or(op.Equal(more, one), op.IsInf(more, detect_negative=0)), x, inner)

    return {torch.ops.aten.expm1.default: expm1, torch.ops.aten.log1p.default: log1p}
