"""Configurations of the experiments: bundled .toml files, or a user's own."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read(folder: Path, name: str, build: Callable[[dict], T], needed: str) -> T:
    """What `build` makes of the tables of FOLDER/NAME.toml, or of the TOML file at the path `name`.

    Args:
        build: raises KeyError, TypeError or AttributeError for tables that it cannot use.
        needed: the tables and keys, for the message.
    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    file = next((path for path in (folder / f"{name}.toml", Path(name)) if path.is_file()), None)
    if file is None:
        bundled = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
        raise ValueError(f"{name} is no configuration; accepted: {bundled} or the path of a TOML file")
    try:
        return build(tomllib.loads(file.read_text()))
    except (KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{name}: {error}; needed: {needed}") from None
