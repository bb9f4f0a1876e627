"""What people write for a licence, as the SPDX id that bioimageio.spec asks for.

The list of ids is bioimageio.spec's own; here is only what people call the common ones.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import get_args

__all__ = ["Licence", "check_licence"]

#: What people write, letters and digits only -> ids, the likeliest first.
_SPOKEN: dict[str, tuple[str, ...]] = {
    "apache": ("Apache-2.0",),
    "apache2": ("Apache-2.0",),
    "asl2": ("Apache-2.0",),
    "apachesoftwarelicense": ("Apache-2.0",),
    "bsd": ("BSD-3-Clause", "BSD-2-Clause"),
    "bsd2": ("BSD-2-Clause",),
    "bsd3": ("BSD-3-Clause",),
    "newbsd": ("BSD-3-Clause",),
    "modifiedbsd": ("BSD-3-Clause",),
    "simplifiedbsd": ("BSD-2-Clause",),
    "mit": ("MIT",),
    "expat": ("MIT",),
    "gpl": ("GPL-3.0-or-later", "GPL-3.0-only", "GPL-2.0-or-later"),
    "gpl2": ("GPL-2.0-only", "GPL-2.0-or-later"),
    "gpl3": ("GPL-3.0-only", "GPL-3.0-or-later"),
    "lgpl": ("LGPL-3.0-or-later", "LGPL-3.0-only", "LGPL-2.1-or-later"),
    "lgpl21": ("LGPL-2.1-only", "LGPL-2.1-or-later"),
    "lgpl3": ("LGPL-3.0-only", "LGPL-3.0-or-later"),
    "agpl": ("AGPL-3.0-or-later", "AGPL-3.0-only"),
    "agpl3": ("AGPL-3.0-only", "AGPL-3.0-or-later"),
    "mpl": ("MPL-2.0",),
    "mpl2": ("MPL-2.0",),
    "cc0": ("CC0-1.0",),
    "creativecommonszero": ("CC0-1.0",),
    "publicdomain": ("CC0-1.0", "Unlicense"),
    "cc": ("CC-BY-4.0", "CC0-1.0"),
    "ccby": ("CC-BY-4.0",),
    "ccby4": ("CC-BY-4.0",),
    "ccby3": ("CC-BY-3.0",),
    "creativecommons": ("CC-BY-4.0", "CC0-1.0"),
    "creativecommonsattribution": ("CC-BY-4.0",),
    "ccbysa": ("CC-BY-SA-4.0",),
    "ccbysa4": ("CC-BY-SA-4.0",),
    "ccbync": ("CC-BY-NC-4.0",),
    "ccbync4": ("CC-BY-NC-4.0",),
    "ccbyncsa": ("CC-BY-NC-SA-4.0",),
    "ccbyncnd": ("CC-BY-NC-ND-4.0",),
    "eupl": ("EUPL-1.2",),
    "eupl12": ("EUPL-1.2",),
    "boost": ("BSL-1.0",),
    "unlicensed": ("Unlicense",),
}

#: Left out before a comparison: they tell no licence from another.
_FILLING = re.compile(r"\b(the|gnu|license|licence|licenses|version|ver|v|clause|public|general)\b")


@dataclass(frozen=True)
class Licence:
    """An SPDX id, or why there is none.

    Attributes
    ----------
    id
        As bioimageio.spec writes it, "" where the text is none.
    fault
        What is wrong with the text, and the closest ids.
    note
        What the author should know of an id that is valid.
    """

    id: str = ""
    fault: str = ""
    note: str = ""


@cache
def _ids() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The SPDX ids that are current, and the deprecated ones."""
    from bioimageio.spec._internal.license_id import DeprecatedLicenseIdLiteral, LicenseIdLiteral

    return get_args(LicenseIdLiteral), get_args(DeprecatedLicenseIdLiteral)


def check_licence(text: str) -> Licence:
    """The licence that `text` names.

    An id in other letter case is taken as it is meant; anything else that is no id is a fault that
    names the closest ones: a licence is never chosen for its author.

    Parameters
    ----------
    text
        An SPDX id, https://spdx.org/licenses/.
    """
    given = text.strip()
    current, deprecated = _ids()
    lower = {i.lower(): i for i in (*deprecated, *current)}
    found = lower.get(given.lower())
    if found in current:
        note = f"the licence '{given}' is written {found}" if found != given else ""
        return Licence(found or "", note=note)
    near = _closest(given, current)
    if found:
        instead = f"; write {' or '.join(near)} instead" if near else ""
        return Licence(found, note=f"the SPDX id {found} is deprecated{instead}")
    offer = f" Did you mean {' or '.join(near)}?" if near else ""
    return Licence(fault=f"'{given}' is no SPDX id.{offer} All ids: https://spdx.org/licenses/")


def _closest(text: str, current: tuple[str, ...]) -> tuple[str, ...]:
    """Up to three current ids that `text` may mean, the likeliest first."""
    plain = re.sub(r"v(?=\d)", " ", text.lower().replace("_", " "))
    plain = _FILLING.sub(" ", re.sub(r"[^a-z0-9.]+", " ", plain))
    key = re.sub(r"[^a-z0-9]", "", re.sub(r"\.0\b", "", plain)).removesuffix("plus")
    known = set(current)
    for spoken in (key, re.sub(r"(onlyoorlater|only|orlater)$", "", key)):
        if spoken in _SPOKEN:
            found = tuple(i for i in _SPOKEN[spoken] if i in known)
            later = "later" in text.lower() or "+" in text
            return tuple(sorted(found, key=lambda i: ("later" in i) != later)) if later else found
    by_lower = {i.lower(): i for i in current}
    near = difflib.get_close_matches(text.lower(), list(by_lower), n=3, cutoff=0.6)
    if not near:
        squeezed = {re.sub(r"[^a-z0-9]", "", i.lower()): i for i in current}
        return tuple(squeezed[n] for n in difflib.get_close_matches(key, list(squeezed), n=3))
    return tuple(by_lower[n] for n in near)
