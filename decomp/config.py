"""The numbers that define one branched model, stored as `config.json` beside its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a `BranchedGenerator`; the defaults are a 128-pixel animals model."""

    domains: tuple[str, ...] = ("cat", "dog", "wild")  # class names, in the order of the class index
    size: int = 128  # side of the training crops in pixels; any other size works too
    branches: int = 9  # M, the number of channels
    base: int = 8  # width of a branch's first layer
    cap: int = 64  # largest width of a branch
    downs: int = 3  # times a branch halves the resolution
    style: int = 64  # length of a branch's class embedding
    split: Literal["learnt", "gaussian"] = "learnt"  # what feeds the branches: phi_k, or x itself
    anchor: bool = True  # start p at heat flow, p(u) = u - G_s u + CNN(u); off: p = CNN alone
    sigma: float = 2.0  # s, the Gaussian's standard deviation in pixels
    dt: float = 1.0  # time step of the diffusion
    face: tuple[str, ...] = ()  # per class, how its face is found: "cat", "human" or "centre"; () is all "centre"
    roles: tuple[dict, ...] = ()  # per channel: its name and the figures it was named by, see roles.py

    def __post_init__(self):
        object.__setattr__(self, "domains", tuple(self.domains))
        object.__setattr__(self, "roles", tuple(self.roles))
        if self.split not in ("learnt", "gaussian"):
            raise ValueError(f"split is {self.split!r}; accepted: 'learnt', 'gaussian'")
        if not self.domains:
            raise ValueError("domains is empty; at least one class name is needed")
        object.__setattr__(self, "face", tuple(self.face) or ("centre",) * len(self.domains))
        if len(self.face) != len(self.domains):
            raise ValueError(f"{len(self.face)} ways to find a face for {len(self.domains)} classes; one each is needed")

    @property
    def stride(self) -> int:
        """Height and width are padded to a multiple of this: the branches' halvings, at least p's own 2."""
        return max(2, 2**self.downs)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Build from `to_dict()`'s output; unknown keys raise a ValueError that names them."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model settings {sorted(unknown)}; accepted: {[f.name for f in fields(cls)]}")
        return cls(**values)
