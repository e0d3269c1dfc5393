"""The results of an experiment: its numbers, its figures, and the paper's claims beside what was measured."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "findings.json"


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, where it says so, what was measured here, and whether that agrees.

    `held` follows from the numbers by the rule; None says that this run is too small to tell.
    """

    text: str
    source: str  # "figure 2"
    measured: str
    held: bool | None
    paper: str = ""  # the paper's own number
    rule: str = ""  # what decides

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "no", None: "too small to tell"}[self.held]


@dataclass(frozen=True)
class Findings:
    """The results of one experiment; `figures` maps a PNG's name to its caption."""

    title: str
    command: str  # that repeats the experiment
    seconds: float  # of computing
    numbers: dict  # JSON
    claims: tuple[Claim, ...]
    figures: dict[str, str]


def write(
    folder: Path,
    title: str,
    command: str,
    seconds: float,
    numbers: dict,
    claims: list[Claim],
    figures: Mapping[str, tuple[str, "Figure"]],
) -> Findings:
    """Write NAME.png for each figure ({name: (caption, figure)}), then `findings.json`, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, figure) in figures.items():
        with atomic(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    captions = {f"{name}.png": caption for name, (caption, _) in figures.items()}
    findings = Findings(title, command, round(seconds, 1), numbers, tuple(claims), captions)
    with atomic(folder / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(findings), indent=2, default=lambda number: number.item()))  # NumPy's
    return findings


def read(folder: Path) -> Findings:
    """What `write` left in a folder.

    Raises:
        OSError: there is no such file.
        ValueError: it is not JSON.
    """
    values = json.loads((folder / FILE).read_text())
    return Findings(**values | {"claims": tuple(Claim(**c) for c in values["claims"])})
