"""The numbers that define one branched model, stored as `config.json` beside its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Literal

FACES = ("cat", "human", "centre")
RANGES = {
    "size": (8, 2048),
    "branches": (1, 64),
    "base": (1, 256),
    "cap": (1, 2048),
    "patch": (1, 2),
    "downs": (0, 6),
    "style": (1, 1024),
    "turns": (0, 16),
    "sigma": (0.1, 100.0),
    "dt": (0.001, 100.0),
}
MOST_DOMAINS, LONGEST_NAME = 1000, 80  # classes; characters of a class's or a channel's name
LARGEST_MAP = 2**28  # numbers in one layer's output of one branch at the trained size: 1 GiB


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a `BranchedGenerator`; the defaults are a 128-pixel animals model."""

    domains: tuple[str, ...] = ("cat", "dog", "wild")  # class names, in the order of the class index
    size: int = 128  # side of the training crops in pixels; any other size works too
    branches: int = 9  # M, the number of channels
    base: int = 8  # width of a branch's first layer
    cap: int = 64  # largest width of a branch
    patch: int = 1  # 2: everything runs at half the resolution, on pixels unshuffled by 2; less than half the cost
    downs: int = 3  # times a branch halves the resolution
    style: int = 64  # length of a branch's class embedding
    turns: int = 0  # blocks of a branch that only photos pass that are turned into another class
    split: Literal["learnt", "gaussian"] = "learnt"  # what feeds the branches: phi_k, or x itself
    anchor: bool = True  # start p at heat flow, p(u) = u - G_s u + CNN(u); off: p = CNN alone
    sigma: float = 2.0  # s, the Gaussian's standard deviation in pixels
    dt: float = 1.0  # time step of the diffusion
    codes: tuple[str, ...] = ()  # per class, which branches serve it, as "111000000"; see codes.py. () is all of them
    gated: bool = False  # a gate closes whole branches, photo by photo; see gates.py
    face: tuple[str, ...] = ()  # per class, how its face is found: "cat", "human" or "centre"; () is all "centre"

    def __post_init__(self):
        """Check everything: a config may come from a hub."""
        if not isinstance(self.domains, (list, tuple)):
            raise ValueError(f"domains is {self.domains!r}; a list is needed")
        object.__setattr__(self, "domains", tuple(self.domains))
        if not self.domains or not all(isinstance(d, str) and d for d in self.domains):
            raise ValueError(f"domains is {self.domains}; at least one class name is needed")
        if len(self.domains) > MOST_DOMAINS or any(len(d) > LONGEST_NAME for d in self.domains):
            raise ValueError(f"accepted: at most {MOST_DOMAINS} domains, named in at most {LONGEST_NAME} characters")
        object.__setattr__(self, "face", tuple(self.face) or ("centre",) * len(self.domains))
        if len(self.face) != len(self.domains) or not set(self.face) <= set(FACES):
            raise ValueError(f"face is {self.face}; accepted: one of {', '.join(FACES)} for each class")
        object.__setattr__(self, "codes", tuple(self.codes))
        if self.codes and (
            len(self.codes) != len(self.domains)
            or any(len(word) != self.branches or set(word) - {"0", "1"} for word in self.codes)
            or len({word.count("1") for word in self.codes}) > 1
            or "1" not in self.codes[0]
        ):
            raise ValueError(
                f"codes is {self.codes}; accepted: for each class a word of {self.branches} digits 0 and 1, with "
                "equally many ones, at least one"
            )
        if self.split not in ("learnt", "gaussian"):
            raise ValueError(f"split is {self.split!r}; accepted: 'learnt', 'gaussian'")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            whole = isinstance(getattr(type(self), name), int)
            if not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
                raise ValueError(
                    f"{name} is {value!r}; accepted: {'a whole number' if whole else 'a number'} {low} to {high}"
                )

        if (largest := self.base * (self.size // self.patch) ** 2) > LARGEST_MAP:
            raise ValueError(
                f"base {self.base} at size {self.size} makes maps of {largest / 1e6:.0f} million numbers; "
                f"accepted: at most {LARGEST_MAP / 1e6:.0f} million"
            )

    @property
    def stride(self) -> int:
        """Height and width are padded to a multiple of this: what p or the branches unshuffle and halve by."""
        return self.patch * max(2, 2**self.downs)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Build from `to_dict()`'s output; unknown keys raise a ValueError that names them.

        Models saved before 2026-11-21 hold what is now in `channels.json` as well; it is left out.
        """
        values = {key: value for key, value in values.items() if key not in ("roles", "eyes")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model settings {sorted(unknown)}; accepted: {[f.name for f in fields(cls)]}")
        return cls(**values)
