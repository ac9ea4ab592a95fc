"""Type a name, and watch a model of words read it and write it again.

``words.js`` and ``web_models.js`` run the model in the reader's browser;
``explorer.words`` puts the page into a notebook's output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from drawlib.bound import LatentModel
from drawlib.data.words import ALPHABET, LONGEST, SHAPE, SHORTEST, codes_of, images_of
from drawlib.models import kind_of
from drawlib.pages import web
from drawlib.pages.embedded import LivePage
from drawlib.pages.pad import packed

__all__ = ["page"]

SCRIPTS = (*web.SCRIPTS[:1], "explorer_parts.js", *web.SCRIPTS[1:], "words.js")
EXAMPLES = ("RICHARDSON", "GARCIA", "LEE", "XQZVKJW")


def page(
    models: Mapping[str, LatentModel],
    given: Sequence[str] = (),
    *,
    examples: Sequence[str] = EXAMPLES,
    what: str = "name",
) -> LivePage:
    """What ``explorer.words`` returns."""
    if not models or not examples:
        raise ValueError(
            f"{len(models)} models and {len(examples)} examples; allowed: one or more"
        )
    codes_of(examples, "example")
    x = torch.from_numpy(images_of(codes_of(given))).float()
    inside = []
    for label, model in models.items():
        config: Any = model.config
        if (kind := kind_of(config)) not in web.KINDS:
            allowed = ", ".join(web.KINDS)
            raise TypeError(f"{label} is of kind {kind!r}; allowed: {allowed}")
        web.check_runs_in_a_page(model, label)
        if not web.has_letters(model):
            shape = tuple(config.image_shape)
            raise ValueError(f"{label} draws images of {shape}; allowed: words")
        inside.append({"label": label, "json": packed(model, x, label, what)})
    data: dict[str, Any] = {
        "title": f"Write a {what}.",
        "introduction": "The model reads it, step by step, and writes it again: the "
        "likeliest letter at each place, its certainty as shade. A dot is the end.",
        "what": what,
        "alphabet": ALPHABET,
        "places": SHAPE[2],
        "letters": [SHORTEST, LONGEST],
        "models": inside,
        "examples": list(examples),
    }
    return LivePage("words", data, files=SCRIPTS)
