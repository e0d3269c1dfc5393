"""Fourth step of the walk: the channels of one photo, and everything that is a weighted sum of them.

Convention: pictures are float32 arrays (H, W, 3), RGB, around [-1, 1]; details (channels, unexplained) are signed
and add up: photo = residual + sum_k channels[k] + unexplained. Nothing here runs the network.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from .faces import Box, paste
from .metrics import ACTIVE
from .photos import Photo

Picture = np.ndarray  # float32 (H, W, 3), RGB
Base = Literal["photo", "regenerated"]
Strengths = Mapping[int | str, float] | Sequence[float]
OTHER_LAYERS = ("residual", "unexplained")  # the layers beside the channels; together they add up to the photo


class Channel(NamedTuple):
    """Facts about one channel."""

    index: int  # type: ignore[assignment]  # 1 .. M, as in the paper; hides tuple.index
    name: str  # its role, measured per weights
    energy: float  # root mean square in this photo, in units of [-1, 1]
    active: bool  # energy at least 10 % of the largest channel's


class Separation(NamedTuple):
    """Two textures and what belongs to neither; a + b + rest = photo."""

    a: Picture
    b: Picture
    rest: Picture


def to_bytes(picture: Picture) -> np.ndarray:
    """A picture in [-1, 1] as uint8, rounded and clipped."""
    return np.clip(np.rint((picture + 1) * 127.5), 0, 255).astype(np.uint8)


def raised(layer: Picture) -> Picture:
    """A signed layer with its contrast raised, zero at mid-grey: three times its rms becomes 1."""
    return np.clip(layer / full_contrast(layer), -1, 1)


def full_contrast(layer: Picture) -> float:
    """The value that becomes 1 when the contrast of a signed layer is raised."""
    return 3 * float(np.sqrt(np.square(layer).mean())) + 1e-12


def channel_index(names: Sequence[str], channel: int | str) -> int:
    """Position 0 .. M - 1 of a channel given by number (1 .. M, as in the paper, also as text) or name.

    Raises:
        ValueError: there is none; the message lists the channels.
    """
    if isinstance(channel, Integral) or (isinstance(channel, str) and channel.isdecimal()):
        if 1 <= int(channel) <= len(names):
            return int(channel) - 1
    elif channel in names:
        return names.index(channel)
    known = ", ".join(f"{k} {name!r}" for k, name in enumerate(names, start=1))
    raise ValueError(f"there is no channel {channel!r}; the channels are {known}")


def layer_key(names: Sequence[str], layer: int | str) -> int | str:
    """What identifies a layer: a channel's position 0 .. M - 1, or "residual" or "unexplained"; ValueError as above."""
    return layer if layer in OTHER_LAYERS else channel_index(names, layer)


def channel_groups(names: Sequence[str], *groups: Sequence[int | str]) -> list[list[int]]:
    """Positions of each group's channels, sorted; ValueError if a group is empty or two share a channel."""
    positions = [sorted({channel_index(names, channel) for channel in group}) for group in groups]
    if not all(positions):
        raise ValueError("every group needs at least one channel")
    together = sorted(position for group in positions for position in group)
    for a, b in itertools.pairwise(together):
        if a == b:
            raise ValueError(f"channel {a + 1} {names[a]!r} is in both groups; each channel belongs to one")
    return positions


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """The layers of one photo; made by `Decomposer.decompose`, or read from `layers.npz` by `export.read_npz`."""

    picture: Picture  # x, the square of the photo that was decomposed
    residual: Picture  # R
    channels: np.ndarray  # v_1 .. v_M, (M, H, W, 3)
    names: tuple[str, ...]  # role of each channel
    domain: str  # class of the photo
    targets: tuple[str, ...]  # target class of each branch
    confidence: dict[str, float] | None = None  # probability of each class if domain was "auto"; the rest is of none
    stated: str | None = None  # a given class, one with a probability of at least 80 %, "person", or None
    phi: np.ndarray | None = None  # input of each branch, (M, H, W, 3), on request
    photo: Photo | None = None  # the whole photo ...
    box: Box | None = None  # ... and where in it `picture` lies

    def __repr__(self) -> str:
        h, w, _ = self.picture.shape
        return (
            f"<Decomposition of a {self.stated or 'photo'}, {w} x {h} pixels: "
            + "; ".join(f"{c.index} {c.name} {c.energy:.3f}" for c in self.info)
            + ">"
        )

    @cached_property
    def regenerated(self) -> Picture:
        """f(x) = R + sum_k v_k."""
        return self.residual + self.channels.sum(axis=0)

    @cached_property
    def unexplained(self) -> Picture:
        """E = x - f(x)."""
        return self.picture - self.regenerated

    @cached_property
    def info(self) -> tuple[Channel, ...]:
        """Name, energy, active or silent, for every channel."""
        energy = np.sqrt(np.square(self.channels).mean(axis=(1, 2, 3)))
        return tuple(
            Channel(k, name, float(e), bool(e >= ACTIVE * energy.max()))
            for k, (name, e) in enumerate(zip(self.names, energy), start=1)
        )

    def index(self, channel: int | str) -> int:
        """Position 0 .. M - 1 of a channel given by number (1 .. M) or name; ValueError if there is none."""
        return channel_index(self.names, channel)

    def layer(self, name: int | str) -> np.ndarray:
        """One layer by name or number: a channel, "residual" or "unexplained"."""
        key = layer_key(self.names, name)
        return getattr(self, key) if key in OTHER_LAYERS else self.channels[key]

    @property
    def turned(self) -> bool:
        """Whether the target of a branch is another class than the photo's own."""
        return any(target != self.domain for target in self.targets)

    @property
    def asked_for(self) -> tuple[str | None, ...]:
        """`targets` to show: in place of the photo's own class `stated`, which is None where no class is certain."""
        return tuple(self.stated if target == self.domain else target for target in self.targets)

    def recompose(self, strengths: Strengths = MappingProxyType({}), base: Base | None = None) -> Picture:
        """The picture with each layer at its strength: base + sum_j (strength_j - 1) layer_j.

        Args:
            strengths: either M numbers, one per channel, or a mapping from channel (number 1 .. M or name), "residual"
                or "unexplained" to a number. What is not named stays at 1.
            base: "photo" keeps the unexplained rest E, so that all strengths at 1 give the photo itself, bit for bit;
                "regenerated" leaves E out, as in the paper's figures. None is "photo", but "regenerated" for another
                target class: there E cancels the change, and "photo" would give the photo itself.
        Raises:
            ValueError: unknown layer.
            ValueError: wrong number of strengths.
            ValueError: a strength that is not finite.
        """
        base = base or ("regenerated" if self.turned else "photo")
        if base not in ("photo", "regenerated"):
            raise ValueError(f"base is {base!r}; accepted: 'photo', 'regenerated'")
        if not isinstance(strengths, Mapping):
            if len(strengths) != len(self.channels):
                raise ValueError(f"{len(strengths)} strengths for {len(self.channels)} channels")
            strengths = dict(enumerate(strengths, start=1))
        result = (self.picture if base == "photo" else self.regenerated).copy()
        given = set()
        for name, strength in strengths.items():
            key = layer_key(self.names, name)
            if key in given:
                raise ValueError(f"layer {name!r} is given twice, by number and by name")
            given.add(key)
            if not np.isfinite(strength):
                raise ValueError(f"strength of {name!r} is {strength}; a finite number is needed")
            if base == "regenerated" and name == "unexplained":
                raise ValueError("'unexplained' is not part of the re-generated picture; use base='photo'")
            if strength != 1:
                result += np.float32(strength - 1) * self.layer(name)
        return result

    def sweep(self, channel: int | str, values: Sequence[float], base: Base | None = None) -> np.ndarray:
        """One layer at several strengths (figures 13 and 14): (len(values), H, W, 3)."""
        return np.stack([self.recompose({channel: value}, base) for value in values])

    def separate(self, group_a: Sequence[int | str], group_b: Sequence[int | str]) -> Separation:
        """Two textures, each the sum of a group of channels (figure 15). A channel may be in one group only."""
        texture_a, texture_b = (
            self.channels[positions].sum(axis=0) for positions in channel_groups(self.names, group_a, group_b)
        )
        return Separation(texture_a, texture_b, self.picture - texture_a - texture_b)

    def raised(self, layer: int | str) -> Picture:
        """A signed layer with its contrast raised (figure 10); "residual" as it is."""
        v = self.layer(layer)
        return v if layer == "residual" else raised(v)

    def added(self, channel: int | str, base: Base = "regenerated") -> Picture:
        """The picture with a channel, not amplified, added once more (figure 11): strength 2."""
        return self.recompose({channel: 2}, base)

    def covariance(self) -> np.ndarray:
        """Covariance of the channels over pixels and colours, (M, M) float64; its diagonal is their variance."""
        return np.cov(self.channels.reshape(len(self.channels), -1).astype(np.float64), bias=True)

    def paste(self, edited: Picture) -> Photo:
        """The whole photo in its full resolution with an edit of `picture` put back; see `faces.paste`."""
        if self.photo is None or self.box is None:
            raise ValueError("this decomposition does not carry its photo, so there is nothing to paste into")
        return paste(self.photo, self.box, self.picture, edited)
