"""Which channels play which part in finding a cat's eyes, as `calibrate.py` measures it for each model."""

import base64
import binascii
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import places
from .places import LAYOUT, SHIFT


@dataclass(frozen=True)
class EyeParts:
    """Which layers play which part; measured by `calibrate.py`, stored as `eyes` in the model's `channels.json`."""

    layout: str  # base64 of int8 (2 M, LAYOUT, LAYOUT / 2): left half of the symmetric layout around two eyes
    step: float  # what 1 in `layout` stands for
    shift: str  # base64 of int8 (2, 2 M, SHIFT, SHIFT): how far the image-left eye lies beside a place, from around it
    shift_step: float
    bias: float  # score = sum of layout times maps + bias
    surface: tuple[float, ...]  # weight of each map (2 M) in the initial surface
    flat: tuple[float, ...]  # sign (or 0) of R, v_1 .. v_M in the segmented image
    certainty: tuple[float, float]  # confidence = 1 / (1 + exp(-(a score + b)))
    least: float  # confidence below which eyes are not reported

    @classmethod
    def from_dict(cls, values: Mapping, branches: int) -> "EyeParts":
        """Checked, as a model may come from a hub. Raises: ValueError that names what is wrong."""
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or set(values) != names:
            raise ValueError(f"eyes holds {sorted(values)}; needed: {sorted(names)}, as `decomp calibrate-eyes` writes")
        numbers = dict.fromkeys(("step", "shift_step", "bias", "least"), 0)
        lengths = numbers | {"surface": 2 * branches, "flat": branches + 1, "certainty": 2}
        for name, length in lengths.items():
            given = values[name] if length else [values[name]]
            good = isinstance(given, (list, tuple)) and len(given) == (length or 1)
            if not good or not all(type(n) in (int, float) and abs(n) < 1e6 for n in given):
                raise ValueError(f"eyes: {name} is not {length or 'a'} finite number{'s' if length else ''}")
        shapes = {"layout": (2 * branches, LAYOUT, LAYOUT // 2), "shift": (2, 2 * branches, SHIFT, SHIFT)}
        for name, shape in shapes.items():
            try:
                size = len(base64.b64decode(values[name], validate=True))
            except (TypeError, ValueError, binascii.Error):
                size = 0
            if size != np.prod(shape):
                raise ValueError(f"eyes: {name} is not {' x '.join(map(str, shape))} bytes in base64")
        return cls(**{k: tuple(map(float, v)) if isinstance(v, (list, tuple)) else v for k, v in values.items()})

    @functools.cached_property
    def template(self) -> np.ndarray:
        """The layout in full, (2 M, LAYOUT, LAYOUT) float32."""
        half = np.frombuffer(base64.b64decode(self.layout), np.int8).reshape(-1, LAYOUT, LAYOUT // 2)
        return np.concatenate([half, half[:, :, ::-1]], axis=2).astype(np.float32) * np.float32(self.step)

    @property
    def spectra(self) -> np.ndarray:
        """`places.kernels` of the layout."""
        return _kernels(self)

    @functools.cached_property
    def shifts(self) -> np.ndarray:
        """What `places.shifted` takes, (2, 2 M * SHIFT * SHIFT) float32."""
        return np.frombuffer(base64.b64decode(self.shift), np.int8).reshape(2, -1) * np.float32(self.shift_step)

    def confidence(self, score: float) -> float:
        """Estimated probability that both centres are right, from the layout's response."""
        a, b = self.certainty
        return float(1 / (1 + np.exp(-np.clip(a * (score + self.bias) + b, -50, 50))))


@functools.lru_cache(maxsize=2)  # equal parts, read again for the next photo, share them
def _kernels(parts: EyeParts) -> np.ndarray:
    return places.kernels(parts.template)


def parts_of(eyes: Mapping, branches: int) -> EyeParts:
    """The parts of a model. Raises: ValueError where it was never calibrated."""
    if not eyes:
        raise ValueError("this model was not calibrated for eyes; run `decomp calibrate-eyes` on its weights")
    return EyeParts.from_dict(eyes, branches)
