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

__all__ = ["words"]

SCRIPTS = (*web.SCRIPTS[:1], "explorer_parts.js", *web.SCRIPTS[1:], "words.js")
EXAMPLES = ("RICHARDSON", "GARCIA", "LEE", "XQZVKJW")


def words(
    models: Mapping[str, LatentModel],
    given: Sequence[str] = (),
    *,
    examples: Sequence[str] = EXAMPLES,
    what: str = "name",
) -> LivePage:
    """Type a word, and watch models of words read it and write it again.

    ``models`` maps what the page calls them to DRAW or GLAS with the likelihood
    ``categorical`` over 27 channels, 1 × 13. After each step the page shows the
    likeliest letter at every place, its certainty as shade, the KL of the step and
    −ELBO if the writing stopped there, in nats. ``given``, a few hundred words, measure
    what rounding the weights costs and how a −ELBO compares; ``examples`` are offered
    to begin with. What has another letter than A to Z, or more than 13, the page
    refuses in one line.

    Raises:
        TypeError: for what is neither a DRAW nor a GLAS.
        ValueError: for no model, a model of pictures, or no example.
        DataError: for a word that the model cannot have.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> sizes = {"image_shape": (27, 1, 13), "likelihood": "categorical"}
        >>> words({"DRAW": DRAW(DRAWConfig.preset("tiny", **sizes))})
        <words explorer>
    """
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
