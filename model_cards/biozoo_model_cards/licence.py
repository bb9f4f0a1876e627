"""A licence as its SPDX id: where its text is, and what Hugging Face calls it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["HUGGING_FACE", "Licence", "licence"]

#: SPDX ids, in lower case, that Hugging Face's `license:` takes as they are (their list, June 2026;
#: a test compares it with the one in bioimageio.spec). Others are `other` with a name and a link.
HUGGING_FACE = frozenset(
    ("apache-2.0", "mit", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd-2-clause", "bsd-3-clause",
     "bsd-3-clause-clear", "c-uda", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
     "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
     "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
     "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl",
     "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gpl-2.0",
     "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "osl-3.0",
     "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib")
)  # fmt: skip

#: The GNU licences: Hugging Face has no -only and -or-later.
_GNU = re.compile(r"^((?:a|l)?gpl-\d\.\d)(?:-only|-or-later|\+)?$")

#: Families whose members' ids follow a pattern, and single ids. An id that fits none of them may
#: still be SPDX's; a link is only made where it leads somewhere.
_SPDX = re.compile(
    r"""CC-BY(-NC)?(-SA|-ND)?-([1-4]\.0|2\.5) | CC0-1\.0 | CC-PDDC | MIT(-0)? | ISC | 0BSD
    | Apache-(1\.[01]|2\.0) | BSD-[234]-Clause | BSD-3-Clause-(Clear|LBNL|Attribution)
    | GPL-[123]\.0(-only|-or-later|\+)? | AGPL-(1|3)\.0(-only|-or-later)?
    | LGPL-(2\.[01]|3\.0)(-only|-or-later|\+)? | GFDL-1\.[1-3](-only|-or-later)?
    | MPL-(1\.[01]|2\.0) | EPL-[12]\.0 | EUPL-1\.[0-2] | CECILL-([A-C]|[12]\.[01])
    | OSL-(1\.[01]|2\.[01]|3\.0) | AFL-(1\.[12]|2\.[01]|3\.0) | Artistic-[12]\.0 | BSL-1\.0
    | BUSL-1\.1 | NCSA | PostgreSQL | PSF-2\.0 | Python-2\.0 | MS-(PL|RL) | OFL-1\.[01]
    | PDDL-1\.0 | ODbL-1\.0 | ODC-By-1\.0 | LPPL-1\.3[ac] | CDLA-(Permissive-[12]|Sharing-1)\.0
    | C-UDA-1\.0 | ECL-[12]\.0 | etalab-2\.0 | HPND | Intel | Unlicense | WTFPL | Zlib""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Licence:
    """What a description says one may do.

    Attributes
    ----------
    name
        As given, empty where the description names none.
    spdx
        The SPDX id, empty where `name` is none that is known here.
    url
        Where SPDX has its text, or "".
    hugging_face
        What Hugging Face's `license:` takes, "other" where it has no word for it.
    note
        What a reader should know at once: no commercial use, no changed copies.
    """

    name: str
    spdx: str = ""
    url: str = ""
    hugging_face: str = "other"
    note: str = ""


def licence(name: str) -> Licence:
    """The licence of a description by its text there."""
    if not _SPDX.fullmatch(name):
        return Licence(name)
    small = name.lower()
    if gnu := _GNU.match(small):
        small = gnu[1]
    notes = [
        text
        for part, text in (("-NC", "no commercial use"), ("-ND", "no changed versions"))
        if f"{part}-" in f"{name}-"
    ]
    return Licence(
        name,
        spdx=name,
        url=f"https://spdx.org/licenses/{name}.html",
        hugging_face=small if small in HUGGING_FACE else "other",
        note=" and ".join(notes),
    )
