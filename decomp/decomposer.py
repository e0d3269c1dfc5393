"""Third step of the walk: a photo in, its `Decomposition` out; the network runs once."""

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from . import photos
from .channels import FILE, ChannelFacts
from .classifier import DomainClassifier
from .config import ModelConfig
from .decomposition import Decomposition, channel_index
from .faces import Box, crop, find_face, given_box
from .generator import HUB, BranchedGenerator
from .photos import Photo
from .runtime import Runtime, TorchRuntime
from .weights import WEIGHTS, bundled


def load(name: str | Path = "animals") -> "Decomposer":
    """A bundled model by name (offline), a folder with `config.json` and `model.safetensors`, or a hub id "owner/name".

    Raises:
        ValueError: no such model; the message lists what is bundled.
    """
    folder = WEIGHTS / str(name) if str(name) in bundled() else Path(name)
    if folder.is_dir():
        missing = [f for f in ("config.json", "model.safetensors") if not (folder / f).is_file()]
        if missing:
            raise ValueError(f"{folder} holds no {' and no '.join(missing)}; a model folder needs both")
        return _read(folder)
    if str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
        return _read(str(name))
    raise ValueError(
        f"there is no model {str(name)!r}; accepted: {', '.join(bundled())}, a folder, or a hub id owner/name"
    )


@functools.lru_cache(maxsize=1)
def cached(name: str) -> "Decomposer":
    """`load`, once a process."""
    return load(name)


def _read(source: Path | str) -> "Decomposer":
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the hub client announces every local folder
            return Decomposer.from_pretrained(source, strict=True)
    except Exception as error:  # damaged or foreign files, or the hub out of reach
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(f"{source} could not be loaded as a decomp model: {reason}") from error


class Decomposer(nn.Module, PyTorchModelHubMixin, **HUB):
    """A branched generator and the classifier behind `domain="auto"`.

    Example:
        >>> import decomp, skimage
        >>> layers = decomp.load("animals").decompose(skimage.data.cat())
        >>> bool(abs(layers.recompose() - layers.picture).max() == 0)
        True
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.generator = BranchedGenerator(config)
        self.runtime: Runtime = TorchRuntime(self.generator)
        self.facts = ChannelFacts()
        self.classifier = DomainClassifier(len(config.domains))
        self.to(memory_format=torch.channels_last).eval()  # 1.1 to 1.3 times as fast on a CPU

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options) -> "Decomposer":
        """Called by `from_pretrained`: the weights, and what was measured of their channels."""
        model = super()._from_pretrained(model_id=model_id, **options)
        folder = Path(model_id)
        if not folder.is_dir():
            keys = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            hub = {key: options[key] for key in keys if key in options}
            folder = Path(hf_hub_download(model_id, "config.json", **hub)).parent
            with contextlib.suppress(EntryNotFoundError):  # a model saved before 2026-11-21
                hf_hub_download(model_id, FILE, **hub)
        model.facts = ChannelFacts.read(folder)
        _ = model.names  # checked before anything is decomposed
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        """Called by `save_pretrained`."""
        super()._save_pretrained(save_directory)
        self.facts.write(save_directory)

    @classmethod
    def _load_as_pickle(cls, *args):
        raise ValueError("this model has no model.safetensors; pickled weights are not read")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def names(self) -> tuple[str, ...]:
        """Role of each channel, or "channel k" where none was measured."""
        return self.facts.names(self.config.branches)

    def domain_index(self, domain: str) -> int:
        """Class index of a name; ValueError names the classes."""
        if domain not in self.config.domains:
            raise ValueError(f"there is no class {domain!r} in this model; accepted: {', '.join(self.config.domains)}")
        return self.config.domains.index(domain)

    def target_indices(self, target, domain: str) -> list[int]:
        """Class index per branch from None (the photo's own), one name, M names, or a mapping channel -> name."""
        if target is None or isinstance(target, str):
            return [self.domain_index(target or domain)] * self.config.branches
        if isinstance(target, Mapping):
            chosen = [self.domain_index(domain)] * self.config.branches
            for channel, name in target.items():
                chosen[channel_index(self.names, channel)] = self.domain_index(name)
            return chosen
        if len(target) != self.config.branches:
            raise ValueError(f"{len(target)} target classes for {self.config.branches} branches")
        return [self.domain_index(name) for name in target]

    def find_faces(self, photo: Photo) -> dict[str, Box]:
        """Where the face may be, for every way in which this model's classes look for it (`ModelConfig.face`)."""
        return {kind: find_face(photo, kind) for kind in dict.fromkeys(self.config.face)}

    @torch.inference_mode()
    def classify(self, photo: Photo, boxes: Sequence[Box] | None = None) -> dict[str, float]:
        """Probability of each class, the mean over boxes (default: `find_faces`) and over their mirror images."""
        crops = np.stack([crop(photo, box, self.config.size) for box in boxes or self.find_faces(photo).values()])
        crops = np.concatenate([crops, crops[:, :, ::-1]])
        logits = self.classifier(torch.from_numpy(crops).permute(0, 3, 1, 2).to(self.device))
        return dict(zip(self.config.domains, logits.softmax(dim=1).mean(dim=0).tolist()))

    @torch.inference_mode()
    def decompose(
        self,
        image,
        domain: str = "auto",
        target: str | Sequence[str] | Mapping[int | str, str] | None = None,
        size: int | None = None,
        box: Box | tuple[int, int, int] | None = None,
        keep_phi: bool = False,
    ) -> Decomposition:
        """Find the face, cut it out, run the network once.

        Args:
            image: whatever `photos.load` accepts: a path, bytes, a PIL image, an array, or a `Photo`.
            domain: class of the photo, or "auto".
            target: class to turn it into: one name, M names, or a mapping from channel to name; None keeps it.
            size: side of the decomposed square in pixels; default: the size the model was trained at.
            box: where the face is, a `Box` or (left, top, side); default: found, else the centre square.
            keep_phi: also keep what each branch was fed.
        Raises:
            PhotoError: not a photo. ValueError: unknown class or channel, size too small, box outside the photo.
        """
        photo = image if isinstance(image, Photo) else photos.load(image)
        if box is not None:
            box = given_box(photo, *((box.left, box.top, box.side) if isinstance(box, Box) else box))
        if size is not None and size < 2 * self.config.stride:
            raise ValueError(f"size is {size}; at least {2 * self.config.stride} pixels are needed")
        confidence = None
        if domain == "auto":
            found = {} if box else self.find_faces(photo)
            confidence = self.classify(photo, [box] if box else list(found.values()))
            domain = max(confidence, key=confidence.get)
            box = box or found[self.config.face[self.domain_index(domain)]]
        targets = self.target_indices(target, domain)
        box = box or find_face(photo, self.config.face[self.domain_index(domain)])
        picture = crop(photo, box, self.config.size if size is None else size)  # (H, W, 3)
        x = torch.from_numpy(picture).permute(2, 0, 1)
        output = self.runtime(x[None], torch.tensor([targets]))
        as_pictures = lambda t: np.ascontiguousarray(t[0].movedim(-3, -1).cpu().numpy())
        return Decomposition(
            picture=picture,
            residual=as_pictures(output.residual),
            channels=as_pictures(output.channels),
            names=self.names,
            domain=domain,
            targets=tuple(self.config.domains[i] for i in targets),
            confidence=confidence,
            phi=as_pictures(output.phi) if keep_phi else None,
            photo=photo,
            box=box,
            eyes=self.facts.eyes,
        )
