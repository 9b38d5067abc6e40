"""The C functions that an exported model may need, and what each needs itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# Activations: value of x; slope from `saved`, which is the output or the input; functions needed.
_SELU, _LIMIT = "(real)1.0507009873554805", "(real)1.7580993408473769"
_ROOT = "(real)0.7978845608028654"  # sqrt(2 / pi)
_INNER = f"{_ROOT} * (x + (real)0.044715 * x * x * x)"
ACTIVATIONS = {
    "relu": ("x > 0 ? x : 0", "x > 0", ""),
    "leaky_relu": ("x > 0 ? x : (real)alpha * x", "x > 0 ? 1 : (real)alpha", ""),
    "elu": ("x > 0 ? x : (real)alpha * FN(expm1)(x)", "x > 0 ? 1 : x + (real)alpha", ""),
    "selu": (f"x > 0 ? {_SELU} * x : {_LIMIT} * FN(expm1)(x)",
             f"x > 0 ? {_SELU} : x + {_LIMIT}", ""),
    "sigmoid": ("sigmoid(x)", "x * (1 - x)", "sigmoid"),
    "tanh": ("hyperbolic(x)", "1 - x * x", "hyperbolic"),
    "gelu": ("x / 2 * FN(erfc)(-x * (real)0.7071067811865475)",
             "FN(erfc)(-x * (real)0.7071067811865475) / 2 + "
             "x * (real)0.3989422804014327 * FN(exp)(-x * x / 2)", ""),
    "gelu_tanh": (f"x * sigmoid(2 * {_INNER})", "gelu_tanh_slope(x)", "gelu_tanh_slope"),
    "silu": ("x * sigmoid(x)", "sigmoid(x) * (1 + x * sigmoid(-x))", "sigmoid"),
    "softplus": ("(x > 0 ? x : 0) + FN(log1p)(FN(exp)(-(real)alpha * FN(fabs)(x))) / (real)alpha",
                 "-FN(expm1)(-(real)alpha * x)", ""),
    "mish": ("x * mish_factor(x)",
             "mish_factor(x) + x * (1 - mish_factor(x) * mish_factor(x)) * sigmoid(x)",
             "mish_factor sigmoid"),
}  # fmt: skip
_MORE = f"""\
/* gelu_tanh_slope: sigmoid */
static inline real gelu_tanh_slope(real x) {{
    const real s = sigmoid(2 * {_INNER});
    return s + 2 * x * s * (1 - s) * {_ROOT} * (1 + 3 * (real)0.044715 * x * x);
}}

/* mish_factor */
/* tanh(log(1 + e^x)) */
static inline real mish_factor(real x) {{
    const real e = FN(exp)(x < 20 ? x : 20);
    return x < 20 ? e * (e + 2) / (e * (e + 2) + 2) : 1;
}}
"""


def _activation(name: str, backward: bool) -> str:
    """The C function of an activation or of its gradient."""
    value, slope, _ = ACTIVATIONS[name]
    text = slope if backward else value
    alpha = ", double alpha" if "alpha" in text else ""
    if backward:
        return (
            f"static void {name}_backward(real *dx, const real *dy, const real *saved, "
            f"int n{alpha}) {{\n    int i;\n    for (i = 0; i < n; i++) {{\n"
            "        const real x = saved[i];\n"
            f"        dx[i] = dy[i] * (real)({text});\n    }}\n}}\n"
        )
    # in place, for what might overlap is not computed several elements at once
    return (
        f"static void {name}_forward(real *y, int n{alpha}) {{\n    int i;\n"
        f"    for (i = 0; i < n; i++) {{\n        const real x = y[i];\n"
        f"        y[i] = {text};\n    }}\n}}\n"
    )


# A comment with the function's name and those that it needs, and all up to the next such comment.
_PIECE = re.compile(
    r"^/\* (\w+)(?:: ([\w ]+))? \*/\n((?:.+\n|\n(?!/\* \w+(?:: [\w ]+)? \*/\n))+)", re.M
)


def _pieces() -> dict[str, tuple[list[str], str]]:
    """What each function needs, and its text, in an order in which they may stand."""
    text = Path(__file__).with_name("kernels.c").read_text(encoding="utf-8") + "\n" + _MORE
    found = {}
    for match in _PIECE.finditer(text):
        found[match[1]] = ((match[2] or "").split(), match[3].strip() + "\n")
    for name, (_, _, needs) in ACTIVATIONS.items():
        for backward in (False, True):
            piece = _activation(name, backward)
            own = needs.split() + (["sigmoid"] if "sigmoid(" in piece else [])
            used = [need for need in dict.fromkeys(own) if f"{need}(" in piece]
            found[f"{name}_{'backward' if backward else 'forward'}"] = used, piece
    return found


PIECES = _pieces()


# In double precision the functions of math.h take the place of those that are written here.
DOUBLE = {"exponential": "exp", "hyperbolic": "tanh"}


def functions(names: Iterable[str], single: bool) -> str:
    """Return the C functions of these names after all that they need, each once."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        needs, text = PIECES[name]
        for need in needs:
            add(need)
        done.setdefault(name, text)

    for name in names:
        add(name)
    if single:
        return "\n".join(done.values()).replace("@F@", "F")
    text = "\n".join(body for name, body in done.items() if name not in DOUBLE).replace("@F@", "")
    for ours, theirs in DOUBLE.items():
        text = re.sub(rf"\b{ours}\(", f"{theirs}(", text)
    return text
