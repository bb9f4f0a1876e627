"""Units of pixel sizes: the words of bioimageio.spec, and how image files spell them."""

from __future__ import annotations

import re

#: Every unit of length and time of bioimageio.spec, and its symbol in the OME schema.
SYMBOLS = {
    "yottameter": "Ym", "zettameter": "Zm", "exameter": "Em", "petameter": "Pm",
    "terameter": "Tm", "gigameter": "Gm", "megameter": "Mm", "kilometer": "km",
    "hectometer": "hm", "meter": "m", "decimeter": "dm", "centimeter": "cm",
    "millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "picometer": "pm",
    "femtometer": "fm", "attometer": "am", "zeptometer": "zm", "yoctometer": "ym",
    "angstrom": "Å", "parsec": "pc", "inch": "in", "foot": "ft", "yard": "yd", "mile": "mi",
    "yottasecond": "Ys", "zettasecond": "Zs", "exasecond": "Es", "petasecond": "Ps",
    "terasecond": "Ts", "gigasecond": "Gs", "megasecond": "Ms", "kilosecond": "ks",
    "hectosecond": "hs", "second": "s", "decisecond": "ds", "centisecond": "cs",
    "millisecond": "ms", "microsecond": "µs", "nanosecond": "ns", "picosecond": "ps",
    "femtosecond": "fs", "attosecond": "as", "zeptosecond": "zs", "yoctosecond": "ys",
    "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip

_PREFIXES = {
    "yotta": 24, "zetta": 21, "exa": 18, "peta": 15, "tera": 12, "giga": 9, "mega": 6, "kilo": 3,
    "hecto": 2, "": 0, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12,
    "femto": -15, "atto": -18, "zepto": -21, "yocto": -24,
}  # fmt: skip

#: Micrometres of each unit of length that pixels may be given in.
MICROMETERS = {f"{prefix}meter": float(f"1e{n + 6}") for prefix, n in _PREFIXES.items()} | {
    "angstrom": 1e-4, "inch": 25400.0, "foot": 304800.0, "yard": 914400.0,
}  # fmt: skip

# Spellings met in ImageJ metadata, beside the words and the symbols themselves. Symbols are
# compared with their case kept: "Mm" is not "mm".
_SPELLINGS = {symbol: word for word, symbol in SYMBOLS.items()} | {
    "um": "micrometer", "us": "microsecond", "micron": "micrometer", "microns": "micrometer",
    "sec": "second", "secs": "second", "seconds": "second", "msec": "millisecond",
    "minutes": "minute", "hours": "hour", "hr": "hour", "days": "day", "inches": "inch",
    "feet": "foot",
}  # fmt: skip


def unit_word(text: str | None) -> str | None:
    r"""The spec's word for a unit as a file spells it, None where it is no unit we know.

    >>> unit_word("µm"), unit_word("\\u00B5m"), unit_word("micron"), unit_word("pixel")
    ('micrometer', 'micrometer', 'micrometer', None)
    """
    if not text:
        return None
    # ImageJ escapes what is not ASCII; the Greek mu is the micro sign's twin.
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text.strip())
    text = text.replace("\u03bc", "\u00b5").replace("\u212b", "\u00c5")
    word = text.lower().replace("metre", "meter")
    for known in (word, word.removesuffix("s")):
        if known in SYMBOLS:
            return known
    return _SPELLINGS.get(text) or _SPELLINGS.get(word if len(word) > 2 else "")
