"""Work that can be stopped at any time: the state of a training, and what was measured, are kept in files."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import atomic


def train(file: Path, settings: dict, parts: Mapping[str, Any], epochs: int, one_epoch: Callable[[int], None]) -> float:
    """Call `one_epoch(e)` for each epoch that FILE does not hold yet; returns the seconds of all epochs.

    Args:
        settings: JSON that decides what is trained; a file with other settings is refused.
        parts: everything with a `state_dict` that an epoch changes: networks, optimizer, schedule of its rate. They are
            restored before the first call, and saved after each.
    Raises:
        ValueError: FILE was written with other settings.
    """
    done, seconds = 0, []
    if file.is_file():
        state = torch.load(file, weights_only=True)
        if state["settings"] != settings:
            raise ValueError(f"{file} was trained with {state['settings']}, not {settings}; give another --out")
        done, seconds = state["epoch"], state["seconds"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(done, epochs):
        began = time.monotonic()
        one_epoch(epoch)
        seconds.append(time.monotonic() - began)
        state = {"settings": settings, "epoch": epoch + 1, "seconds": seconds}
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as temporary:
            torch.save(state | {name: part.state_dict() for name, part in parts.items()}, temporary)
    return statistics.median(seconds) * epochs if seconds else 0.0  # the median, so that a pause does not count


def measured(network: Path, settings: dict, measure: Callable[[], dict]) -> dict:
    """The result of `measure` for the trained network in a file, as JSON; kept beside the file and computed once.

    Args:
        settings: JSON that decides what is measured.
    """
    file = network.with_suffix(".json")
    key = settings | {"trained": network.stat().st_mtime_ns}
    if file.is_file() and (stored := json.loads(file.read_text()))["settings"] == key:
        return stored["numbers"]
    text = json.dumps({"settings": key, "numbers": measure()}, default=lambda number: number.item())  # NumPy's
    with atomic(file) as temporary:
        temporary.write_text(text)
    return json.loads(text)["numbers"]
