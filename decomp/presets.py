"""Presets that mean something for any weights: rules over the measured roles of the channels, never their numbers.

Every training run orders and divides its channels anew. A rule says which measured properties a channel must have; a
preset that finds no such channel in a model is not offered.
"""

from .decomposer import Decomposer

COLOURED = 0.75  # share of the energy along grey below which a channel carries colour


class _Traits:
    """The active channels of a model by their measured properties; each method returns a list of numbers 1 .. M."""

    def __init__(self, model: Decomposer):
        self.roles = {k: role for k, role in enumerate(model.facts.roles, start=1) if role.get("active", True)}
        self.size = model.config.size

    def where(self, test) -> list[int]:
        return [k for k, role in self.roles.items() if test(role)]

    def period(self, role: dict) -> float:
        return role["wavelength"] / self.size

    def halves(self, key) -> tuple[list[int], list[int]]:
        """The active channels with the smaller and with the larger values of a figure."""
        ordered = sorted(self.roles, key=lambda k: key(self.roles[k]))
        middle = len(ordered) // 2
        return sorted(ordered[:middle]), sorted(ordered[middle:])

    def at(self, zone: str) -> list[int]:
        """The channels that concentrate most at a part of the face; at most two."""
        energy = lambda k: self.roles[k]["where"].get(zone, 0)
        return sorted(sorted((k for k in self.roles if energy(k) > 1.5), key=energy, reverse=True)[:2])


def strengths(model: Decomposer) -> dict[str, dict[int | str, float]]:
    """Presets for `Decomposition.recompose`, by name; layers that are not named stay at 1.

    Example:
        >>> import decomp
        >>> "Cartoon" in strengths(decomp.load("animals"))
        True
    """
    t = _Traits(model)
    if not t.roles:
        return {}
    human = "human" in model.config.face
    texture = "skin" if human else "fur"
    finest = min(map(t.period, t.roles.values()))
    fine = t.where(lambda r: t.period(r) < max(0.08, 1.1 * finest) and r["lightness"] >= 0.5)
    soft_light = t.where(lambda r: t.period(r) > 0.13 and r["lightness"] > COLOURED and r["skew"] > -0.5)
    dark = t.where(lambda r: r["skew"] < -0.6)
    bright = t.where(lambda r: r["skew"] > 0.6 and r["lightness"] > 0.5)
    colour = t.where(lambda r: r["lightness"] < COLOURED)
    eyes, mouth = t.at("eyes"), t.at("mouth")
    strokes = t.where(lambda r: r["coherence"] > 0.4)
    every = list(t.roles)
    rules: list[tuple[str, list[int], float, dict]] = [
        (f"Softer {texture}", fine, 0.2, {}),
        (f"Crisper {texture}" if human else "Stronger whiskers", fine, 2.0, {}),
        ("Deeper contours", dark, 2.0, {}),
        ("Relight", soft_light, 3.0, {}),
        ("Dim the light", bright, 0.2, {}),
        ("Cartoon", dark or strokes, 2.2, dict.fromkeys(fine, 0.0) | dict.fromkeys(colour, 2.5) | {"unexplained": 0.0}),
        ("More colour", colour, 2.5, {}),
        ("Less colour", colour, -0.5, {}),
        ("Clearer eyes", [k for k in eyes if k in bright] or eyes, 1.8, {}),
        ("Expressive mouth", mouth if human else [], 2.5, {}),
        ("Line drawing", dark + [k for k in strokes if k not in dark], 2.5, {"residual": 0.0, "unexplained": 0.0}),
        ("Relief", every, 1.5, {"residual": 0.0}),
        ("Under-painting", every, 0.0, {"unexplained": 0.0}),
    ]
    return {name: others | dict.fromkeys(channels, value) for name, channels, value, others in rules if channels}


def textures(model: Decomposer) -> dict[str, tuple[list[int], list[int]]]:
    """Pairs of groups for `Decomposition.separate`, by name ("first | second")."""
    t = _Traits(model)
    if len(t.roles) < 2:
        return {}
    pairs = {
        "Fine | soft": t.halves(t.period),
        "Dark | bright": t.halves(lambda r: r["skew"]),
        "Colour | grey": t.halves(lambda r: r["lightness"]),
    }
    eyes = t.at("eyes")
    rest = [k for k in t.roles if k not in eyes]
    if eyes and rest:
        pairs["Eyes | everything else"] = (eyes, rest)
    return pairs
