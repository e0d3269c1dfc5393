"""The files that a run is resumed from.

`state.pt` holds everything: on a CPU a resumed run is bit for bit the uninterrupted one. `compact/` holds the three
networks in half precision, a quarter of the size, to start another run from. `model.safetensors` and `config.json` are
the running average, the generator to use.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..files import atomic

NETWORKS = ("average", "generator", "discriminator")


def save_state(folder: Path, parts: dict, images: int, steps: int) -> None:
    """Write `state.pt`: state dicts of networks and optimizers, and how far the run is.

    Raises:
        OSError: the file cannot be written, such as on a full disk; the earlier state stays.
    """
    with _plainly(folder / "state.pt"), atomic(folder / "state.pt") as temporary:
        torch.save(
            {name: part.state_dict() for name, part in parts.items()} | {"images": images, "steps": steps}, temporary
        )


def load_state(folder: Path, parts: dict, device: str) -> tuple[int, int]:
    """Read `state.pt` into the parts; returns images and steps.

    Raises:
        ValueError: the file is damaged.
        ValueError: it belongs to a model of another configuration.
    """
    file = folder / "state.pt"
    try:
        state = torch.load(file, map_location=device, weights_only=True)
        images, steps = int(state["images"]), int(state["steps"])
    except Exception as error:  # torch, zipfile and pickle raise many kinds for damaged files
        accepted = f"accepted: the file as decomp wrote it; {folder / 'compact'} may still --start another run"
        raise ValueError(f"{file}: is damaged, cut short, or no state of a run; {accepted}") from error
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except Exception as error:
        raise ValueError(f"{file}: does not fit the model of this configuration: {_reason(error)}") from error
    return images, steps


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[-1].strip()


@contextlib.contextmanager
def _plainly(file: Path) -> Iterator[None]:
    """Turns every error of writing into an OSError that names the file."""
    try:
        yield
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _reason(error)
        raise OSError(f"{file}: cannot be written: {reason}") from error


def save_compact(folder: Path, parts: dict[str, nn.Module], images: int) -> None:
    """Write `compact/{average,generator,discriminator}.safetensors` in half precision."""
    for name in NETWORKS:
        tensors = {key: value.half().contiguous() for key, value in parts[name].state_dict().items()}
        file = folder / "compact" / f"{name}.safetensors"
        with _plainly(file), atomic(file) as temporary:
            save_file(tensors, temporary, metadata={"images": str(images)})


def load_compact(folder: Path, parts: dict[str, nn.Module]) -> int:
    """Read the networks of a `compact/` folder; returns the images they were trained for if everything fits, else 0.

    If the number of classes or the size of the photos differs, the layers that depend on it keep their random
    initialisation: each branch's styles, the critic's logits and last blocks. So does a gate that the start lacks; a
    turn begins as its branch. Turns that this run lacks are left out.

    Raises:
        ValueError: a file is missing or damaged.
        ValueError: it belongs to networks of another shape.
    """
    images, fits = 0, True
    for name in NETWORKS:
        file = folder / f"{name}.safetensors"
        if not file.is_file():
            raise ValueError(f"{file}: is missing; a compact checkpoint holds {', '.join(NETWORKS)} as .safetensors")
        try:
            with safe_open(file, "pt") as opened:
                images = int((opened.metadata() or {}).get("images", 0))
            stored = {key: value.float() for key, value in load_file(file).items()}
        except Exception as error:  # safetensors has errors of its own
            raise ValueError(f"{file}: is damaged, cut short, or no checkpoint: {_reason(error)}") from error
        own = parts[name].state_dict()
        other = {key for key in own.keys() | stored.keys() if _shape(own.get(key)) != _shape(stored.get(key))}
        new = ("head.", "blocks.", "gate.")
        renewed = {key for key in other if key.endswith("style.weight") or ".turn." in key or key.startswith(new)}
        fits = fits and not renewed
        kept = {key: value for key, value in stored.items() if key not in renewed}
        begun = {key: own[key] for key in renewed & own.keys()}
        for key in begun:
            twin = key.replace(".turn.", ".")
            if ".turn." in key and ".style." not in key and twin in stored:
                begun[key] = stored[twin]
        try:
            parts[name].load_state_dict(begun | kept)
        except RuntimeError as error:
            raise ValueError(f"{file}: does not fit the model of this configuration: {_reason(error)}") from error
    return images if fits else 0


def _shape(tensor: torch.Tensor | None) -> tuple | None:
    return None if tensor is None else tuple(tensor.shape)
