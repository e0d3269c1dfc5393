"""Channels by what they carry ("light", "hue", ...), as measured; their numbers differ between training runs.

A role (`ChannelFacts.roles`) may say its kind; otherwise the kind follows from the figures of `evaluation/roles.py`.
"""

from collections.abc import Mapping, Sequence

from .decomposition import layer_key

SOFT = 0.14  # of the square's side: the shortest wavelength of light
FINE = 0.07  # of the square's side: the longest wavelength of fine detail
GREY, COLOURED = 0.75, 0.5  # share of a channel's energy along grey: above, below
DIRECTED = 0.4  # coherence of the strokes: above, a channel draws lines of one direction
PART = 2.0  # energy in a zone of the face against the whole square, at least, for a channel of that zone

KINDS = {
    "light": "soft shading without a hue",
    "hue": "colour more than brightness",
    "fine": "fine detail: single hairs, skin",
    "contour": "strokes, outlines and markings",
    "eyes": "what lies at the eyes",
    "mouth": "what lies at the mouth",
}


def kinds_of(role: Mapping, size: int) -> set[str]:
    """The kinds of one channel.

    Args:
        role: its figures, or its "kind" (a word or a list of words).
        size: side in pixels of the square that the figures were measured at.
    """
    if "kind" in role:
        stated = role["kind"]
        return {stated} if isinstance(stated, str) else set(stated)
    if not role.get("active", False) or "wavelength" not in role:
        return set()
    period, where = role["wavelength"] / size, role.get("where", {})
    lightness, coherence = role.get("lightness", 0), role.get("coherence", 1)
    kinds = {
        "light": period > SOFT and lightness > GREY and coherence < DIRECTED,
        "hue": lightness < COLOURED,
        "fine": period < FINE and lightness >= COLOURED,
        "contour": coherence > DIRECTED and FINE <= period <= SOFT,
        "eyes": where.get("eyes", 0) > PART,
        "mouth": where.get("mouth", 0) > PART,
    }
    return {kind for kind, is_so in kinds.items() if is_so}


def channels_of(roles: Sequence[Mapping], size: int, kind: str) -> list[int]:
    """Numbers (1 .. M) of the channels of a kind; empty where none is."""
    return [k for k, role in enumerate(roles, start=1) if kind in kinds_of(role, size)]


def layers_of(model, wanted: Sequence[int | str]) -> list[int | str]:
    """Layers from numbers, names and kinds: channels' numbers (1 .. M), "residual" or "unexplained", each once.

    Args:
        model: a `Decomposer`.
        wanted: each a channel's number or name, "residual", "unexplained", or a word of `KINDS`.
    Raises:
        ValueError: no channel of the model is of a wanted kind.
        ValueError: there is no such layer.
    """
    layers: dict[int | str, None] = {}
    for word in wanted:
        if word in KINDS and word not in model.names:
            numbers = channels_of(model.facts.roles, model.config.size, word)
            if not numbers:
                raise ValueError(f"no channel of this model carries {word} ({KINDS[word]}); {listed(model)}")
            layers |= dict.fromkeys(numbers)
        else:
            try:
                key = layer_key(model.names, word)
            except ValueError as error:
                raise ValueError(f"{error}, 'residual', 'unexplained', and by kind {', '.join(KINDS)}") from None
            layers[key if isinstance(key, str) else key + 1] = None
    return list(layers)


def listed(model) -> str:
    return "its channels are " + ", ".join(f"{k} {name!r}" for k, name in enumerate(model.names, start=1))
