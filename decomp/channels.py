"""What is known of a model's channels, stored as `channels.json` beside `config.json`.

None of it is architecture: the network runs without. Each part is checked where it is used, as it may come from a hub.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .config import LONGEST_NAME
from .files import atomic

FILE = "channels.json"
FACTS = ("roles", "eyes", "asked_for")


@dataclass(frozen=True)
class ChannelFacts:
    """Facts about the channels of one set of weights."""

    roles: tuple[dict, ...] = ()  # per channel: its name and the figures it was named by, see evaluation/roles.py
    eyes: dict = field(default_factory=dict)  # which layers find a cat's eyes, see eyes/parts.py; empty: not calibrated
    asked_for: tuple[str, ...] = ()  # what each was told to carry, see training/asked.py; empty: it chose by itself

    @classmethod
    def read(cls, folder: Path) -> "ChannelFacts":
        """The facts in a model's folder; models saved before 2026-11-21 have them in `config.json`.

        Raises:
            ValueError: the file is damaged.
        """
        for file in (folder / FILE, folder / "config.json"):
            if file.is_file():
                return cls.from_json(file)
        return cls()

    @classmethod
    def from_json(cls, file: Path) -> "ChannelFacts":
        """The facts in one file; other entries are kept."""
        values = json.loads(file.read_text())
        if not isinstance(values, dict):
            raise ValueError(f"{file.name} is no JSON object")
        roles, eyes = values.get("roles", []), values.get("eyes", {})
        if not isinstance(roles, list) or not all(isinstance(role, dict) for role in roles):
            raise ValueError(f"{file.name}: roles is {roles!r}; a list of objects is needed")
        asked_for = values.get("asked_for", [])
        if not isinstance(asked_for, list) or not all(isinstance(text, str) for text in asked_for):
            raise ValueError(f"{file.name}: asked_for is {asked_for!r}; a list of texts is needed")
        return cls(tuple(roles), eyes, tuple(asked_for))

    def write(self, folder: Path) -> None:
        """Write `folder/channels.json`, whole or not at all."""
        with atomic(folder / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def names(self, branches: int) -> tuple[str, ...]:
        """Role of each channel, or "channel k" where none was measured.

        Raises:
            ValueError: the roles do not name each of the `branches` channels, by text that is no number.
        """
        if not self.roles:
            return tuple(f"channel {k}" for k in range(1, branches + 1))
        names = tuple(role.get("name", "") for role in self.roles)
        if len(names) != branches or len({"residual", "unexplained", *names}) != branches + 2:
            raise ValueError(f"roles are named {names}; {branches} different names are needed, one for each branch")
        if any(not isinstance(name, str) or name.isdecimal() for name in names):
            raise ValueError(f"roles are named {names}; a name is text and not a number")
        if any(len(name) > LONGEST_NAME or not name.isprintable() for name in names):
            raise ValueError(f"a role's name is longer than {LONGEST_NAME} characters, or not printable")
        return names
