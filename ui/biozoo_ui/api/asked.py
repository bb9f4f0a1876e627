"""What checks, previews and jobs are asked with: a model, one or several images, the choices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from biozoo.errors import BiozooError

from ..jobs import JobImage, JobImages

if TYPE_CHECKING:
    from biozoo import ModelPackage

_OPTION = re.compile(r"(^|[\s(:])--\w")

Session = Callable[[Request], str]
"""The session that a request is of."""

FindImage = Callable[[str, str], JobImage]
"""The image of an id and a session; raises NotFoundError where the session has none of this id."""

FindModel = Callable[[str], "ModelPackage"]
"""The package of a model id; raises NotFoundError."""

OneChannel = int | str | list[int | str]


class OnImage(BaseModel):
    """A model on an image of this session.

    `image`: an image's id, or one per input tensor id for a model with several inputs. `channel`:
    number, name, "gray", or several of them; by tensor id for several inputs. `scale`: a factor,
    one per axis, or "auto".
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=1024)
    image: str | dict[str, str]
    channel: OneChannel | dict[str, OneChannel] | None = None
    scale: FiniteFloat | str | dict[str, FiniteFloat] | None = None


def images_of(asked: OnImage, find_image: FindImage, session: str) -> dict[str, JobImage]:
    """The images that were asked for, by input tensor id; "" for the only one.

    Raises
    ------
    NotFoundError
        The session has none of this id.
    """
    ids = asked.image if isinstance(asked.image, Mapping) else {"": asked.image}
    return {tensor: find_image(image_id, session) for tensor, image_id in ids.items()}


def page_words(text: str, images: JobImages | None = None) -> str:
    """A message of the library in words of the page.

    Sentences that name an option of the command line are left out, as here are boxes for these, and
    images are called what their user calls them, not where the server keeps them.

    >>> page_words("It has 3 channels. Choose one of them with --channel.")
    'It has 3 channels.'
    """
    for image in (images or {}).values():
        text = text.replace(str(image.path), f"'{image.name}'")
    kept, parts = "", re.split(r"((?<=[.!?])\s+)", text)
    for sentence, space in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if not _OPTION.search(sentence):
            kept += sentence + space
    return kept.strip()


def told_here(exc: BiozooError, images: JobImages | None = None) -> BiozooError:
    """The same error in words of the page."""
    exc.args = (said_here(exc.message, images),)
    return exc


def said_here(text: str, images: JobImages | None = None) -> str:
    """As `page_words`; where nothing would be left, the names of options without their dashes."""
    return page_words(text, images) or re.sub(r"--(?=\w)", "", text)
