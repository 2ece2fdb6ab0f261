"""Fit the polynomials of `src/coefficients.h` and print that file.

    python -m zoo.kernels.native.fit_coefficients > zoo/kernels/native/src/coefficients.h && make format

Chebyshev interpolation in 60 digits (needs mpmath): within a small factor of the best polynomial of its degree.
"""

from collections.abc import Callable
from typing import Any

import mpmath as mp

LAYOUT: dict[str, dict[str, Any]] = {
    # limit: e^limit and e^-limit are normal numbers; ln 2 is cut so that n * high is exact for every n that occurs
    "float": {"limit": 87.0, "mantissa": 23, "bias": 127, "terms": 5, "erfc": 13, "cut": 14},
    "double": {"limit": 708.0, "mantissa": 52, "bias": 1023, "terms": 10, "erfc": 26, "cut": 40},
}


def fit(function: Callable[[Any], Any], low: Any, high: Any, terms: int) -> list[Any]:
    """Coefficients, constant first, of the polynomial through `function` at the Chebyshev points of [low, high]."""
    angles = [mp.pi * (2 * i + 1) / (2 * terms) for i in range(terms)]
    points = [(high + low) / 2 + (high - low) / 2 * mp.cos(angle) for angle in angles]
    rows = mp.matrix([[x**j for j in range(terms)] for x in points])
    return list(mp.lu_solve(rows, mp.matrix([function(x) for x in points])))


def rest_of_exponential(r: Any) -> Any:
    """(e^r - 1 - r) / r^2."""
    if abs(r) < mp.mpf(10) ** -20:
        return mp.mpf(1) / 2 + r / 6
    return (mp.exp(r) - 1 - r) / r**2


def scaled_erfc(t: Any) -> Any:
    """e^(x^2) erfc(x) (1 + 2 x) at x = 3.75 (1 + t) / (1 - t)."""
    x = mp.mpf("3.75") * (1 + t) / (1 - t)
    return mp.exp(x * x) * mp.erfc(x) * (1 + 2 * x)


def row(type_name: str) -> list[str]:
    """The lines of one type's struct."""
    layout, digits = LAYOUT[type_name], 9 if type_name == "float" else 17
    suffix = "f" if type_name == "float" else ""

    def number(value: Any) -> str:
        text: str = mp.nstr(value, digits, strip_zeros=False)
        return (text if "." in text or "e" in text else text + ".0") + suffix

    half = mp.log(2) / 2 * mp.mpf("1.0001")
    q = fit(rest_of_exponential, -half, half, layout["terms"])
    erfc = fit(scaled_erfc, mp.mpf(-1), mp.mpf("0.9999"), layout["erfc"])
    high = mp.floor(mp.log(2) * mp.mpf(2) ** layout["cut"]) / mp.mpf(2) ** layout["cut"]
    mantissa, integer = layout["mantissa"], "int32_t" if type_name == "float" else "int64_t"
    shift = mp.mpf(3) * mp.mpf(2) ** (mantissa - 1)
    shift_bits = ((layout["bias"] + mantissa) << mantissa) + (1 << (mantissa - 1))
    return [
        "template <>",
        f"struct Exponential<{type_name}> {{",
        f"  static constexpr {type_name} kLimit = {number(mp.mpf(layout['limit']))};",
        f"  static constexpr {type_name} kLog2E = {number(1 / mp.log(2))};",
        f"  static constexpr {type_name} kLn2High = {number(high)};",
        f"  static constexpr {type_name} kLn2Low = {number(mp.log(2) - high)};",
        f"  static constexpr {type_name} kShift = {number(shift)};",
        f"  static constexpr {integer} kShiftBits = {hex(shift_bits)};",
        f"  static constexpr {integer} kBias = {layout['bias']};",
        f"  static constexpr int kMantissa = {mantissa};",
        f"  static constexpr int kTerms = {layout['terms']};",
        f"  static constexpr {type_name} kQ[kTerms] = {{{', '.join(map(number, q))}}};",
        f"  static constexpr int kErfcTerms = {layout['erfc']};",
        f"  static constexpr {type_name} kErfc[kErfcTerms] = {{{', '.join(map(number, erfc))}}};",
        "};",
    ]


def main() -> None:
    """Print the header."""
    mp.mp.dps = 60
    print("// Written by fit_coefficients.py; included by simd.h alone.")
    print("\n".join([*row("float"), "", *row("double")]))


if __name__ == "__main__":
    main()
