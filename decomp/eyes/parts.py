"""What `calibrate.py` fitted to one set of weights: networks that find and outline eyes, and how far to trust them."""

import base64
import binascii
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import nn

from .marked import ARC, HALVES
from .outlines import OutlineNet
from .places import PairNet


@dataclass(frozen=True)
class EyeParts:
    """Stored as `eyes` in the model's `channels.json`.

    One half of the marked photos trained the first network of each kind, the other half the second. New photos are
    judged by the mean of both; a photo that trained one of them is judged by the other alone (`half`).
    """

    proposals: tuple[str, ...]  # a `PairNet` each, of the photo alone: base64 of its weights, float16
    places: tuple[str, ...]  # likewise, of R and the channels
    outlines: tuple[str, ...]  # an `OutlineNet` each
    lens: tuple[
        float, ...
    ]  # outline of the mean eye, (2 ARC - 2) points x, y in IOD from its middle, outer corner left
    certainty: tuple[float, float]  # confidence = 1 / (1 + exp(-(a logit + b)))
    least: float  # confidence below which eyes are not reported, unless asked otherwise

    @classmethod
    def from_dict(cls, values: Mapping, branches: int) -> "EyeParts":
        """Checked, as a model may come from a hub.

        Raises:
            ValueError: an entry is missing, unknown or of another form; the message names it.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or set(values) != names:
            needed = f"needed: {sorted(names)}, as `decomp calibrate-eyes` writes"
            raise ValueError(f"eyes holds {sorted(values) if isinstance(values, Mapping) else values!r}; {needed}")
        for name, length in {"lens": 2 * (2 * ARC - 2), "certainty": 2, "least": 0}.items():
            given = values[name] if length else [values[name]]
            good = isinstance(given, (list, tuple)) and len(given) == (length or 1)
            if not good or not all(type(n) in (int, float) and abs(n) < 1e6 for n in given):
                raise ValueError(f"eyes: {name} is not {length or 'a'} finite number{'s' if length else ''}")
        for name, kind in {"proposals": PairNet, "places": PairNet, "outlines": OutlineNet}.items():
            given = values[name]
            if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= HALVES:
                raise ValueError(f"eyes: {name} is not one or {HALVES} networks")
            for text in given:
                layers = 1 if name == "proposals" else branches + 1
                _network(kind, text if isinstance(text, str) else "", layers, f"eyes: {name}")
        return cls(**{k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()})

    def to_dict(self) -> dict:
        return asdict(self)

    def half(self, number: int) -> "EyeParts":
        """The networks trained on the other half of the photos; `number`: the photo's half, see `Marked.half`."""
        other = lambda nets: nets[1 - number : 2 - number] if len(nets) == HALVES else nets
        return replace(self, **{name: other(getattr(self, name)) for name in ("proposals", "places", "outlines")})

    def confidence(self, logit: float) -> float:
        """Estimated probability that both centres are right, from the logit of the second look."""
        a, b = self.certainty
        return float(1 / (1 + np.exp(-np.clip(a * logit + b, -50, 50))))

    def proposal_nets(self) -> list[PairNet]:
        return [_network(PairNet, text, 1, "eyes: proposals") for text in self.proposals]

    def pair_nets(self, branches: int) -> list[PairNet]:
        return [_network(PairNet, text, branches + 1, "eyes: places") for text in self.places]

    def outline_nets(self, branches: int) -> list[OutlineNet]:
        return [_network(OutlineNet, text, branches + 1, "eyes: outlines") for text in self.outlines]

    @functools.cached_property
    def lens_polygon(self) -> np.ndarray:
        """(2 ARC - 2, 2) in IOD."""
        return np.array(self.lens).reshape(-1, 2)


def parts_of(eyes: Mapping, branches: int) -> EyeParts:
    """The parts of a model.

    Raises:
        ValueError: it was never calibrated.
        ValueError: see `EyeParts.from_dict`.
    """
    if not eyes:
        raise ValueError("this model was not calibrated for eyes; run `decomp calibrate-eyes` on its weights")
    return EyeParts.from_dict(eyes, branches)


def packed(net: nn.Module) -> str:
    """Weights and running means of a network as base64 of float16."""
    planes = [v.detach().numpy().astype(np.float16).ravel() for v in net.state_dict().values() if v.is_floating_point()]
    return base64.b64encode(np.concatenate(planes).tobytes()).decode()


def unpacked(text: str, net: nn.Module, name: str = "network") -> nn.Module:
    """The network with the weights of `packed`.

    Raises:
        ValueError: the text does not hold the weights of such a network.
    """
    state = net.state_dict()
    sizes = {key: v.numel() for key, v in state.items() if v.is_floating_point()}
    try:
        flat = np.frombuffer(base64.b64decode(text, validate=True), np.float16).astype(np.float32)
    except (TypeError, ValueError, binascii.Error):
        flat = np.zeros(0, np.float32)
    if len(flat) != sum(sizes.values()) or not np.isfinite(flat).all():
        raise ValueError(f"{name} is not {sum(sizes.values())} finite numbers of 16 bits in base64")
    for (key, size), part in zip(sizes.items(), np.split(flat, np.cumsum(list(sizes.values()))[:-1])):
        assert size == part.size
        state[key] = torch.from_numpy(part.reshape(state[key].shape).copy())
    net.load_state_dict(state)
    return net.eval()


@functools.lru_cache(maxsize=12)  # a model's networks serve every photo
def _network(kind: type, text: str, layers: int, name: str) -> nn.Module:
    return unpacked(text, kind(3 * layers), name)
