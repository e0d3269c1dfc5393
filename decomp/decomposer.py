"""Third step of the walk: a photo in, its `Decomposition` out; the network runs once."""

import contextlib
import functools
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn
from torch.overrides import TorchFunctionMode

from . import photos
from .channels import FILE, ChannelFacts
from .classifier import CERTAIN, DomainClassifier, Recognition
from .classifier import FILE as CLASSES
from .config import ModelConfig
from .decomposition import Decomposition, channel_index
from .faces import SMALLEST, Box, crop, find_face, given_box
from .generator import HUB, Branch, BranchedGenerator
from .photos import Photo
from .runtime import Runtime, choose
from .weights import WEIGHTS, bundled

MAX_PARAMETERS = 400_000_000  # nine full StarGAN-v2 generators have 305 million
# When the centre square is taken in place of a detector's box: a face is more probable there by MARGIN; or its
# probability in the box is below UNLIKELY, and the square is less than ROOM times as large. In photos of cats and
# people with marked eyes, whole and closely cropped, 13 of 1,881 boxes cut an eye. 3 of these are still taken (9 with
# a margin of 0.3 alone), and 56 good ones are not: the square is at most 1.3 times as large as these, but for 2.
MARGIN, UNLIKELY, ROOM = 0.1, 0.2, 2.2


def load(name: str | Path = "animals", runtime: str | None = None, rough: bool = False) -> "Decomposer":
    """A bundled model by name (offline), a folder with `config.json` and `model.safetensors`, or a hub id "owner/name".

    Args:
        runtime: "torch", "openvino", or "auto": OpenVINO if it is installed, else torch. None: the environment variable
            DECOMP_RUNTIME, else "auto".
        rough: with OpenVINO, run the branches in bfloat16 where the processor has it: nearly twice as fast, channels
            differ by up to 0.05. For finding eyes, not for pictures.
    Raises:
        ValueError: no such model; the message lists the bundled ones.
        ValueError: no such runtime.
    """
    model = _find(name)
    model.runtime = choose(model.generator, runtime, rough)
    return model


def _find(name: str | Path) -> "Decomposer":
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


@functools.lru_cache(maxsize=4)
def cached(name: str, rough: bool = False) -> "Decomposer":
    """`load`, once a process."""
    return load(name, rough=rough)


def _read(source: Path | str) -> "Decomposer":
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the hub client announces every local folder
            return Decomposer.from_pretrained(source, strict=True)
    except Exception as error:  # damaged or foreign files, or the hub out of reach
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(f"{source} could not be loaded as a decomp model: {reason}") from error


class _NothingDrawn(TorchFunctionMode):
    """Initial weights are not drawn: on the device "meta" that would import torch's compiler (1.3 s, 150 MB)."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.__name__ == "normal_":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _check_size(config: ModelConfig) -> None:
    """Raise ValueError before memory is taken for a model of more than 400 million numbers."""
    with torch.device("meta"), _NothingDrawn():
        parameters = config.branches * sum(p.numel() for p in Branch(config).parameters())
    if parameters > MAX_PARAMETERS:
        accepted = f"accepted: {MAX_PARAMETERS / 1e6:.0f} million"
        raise ValueError(f"its {parameters / 1e6:.0f} million parameters are too many; {accepted}")


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
        _check_size(config)
        self.config = config
        self.generator = BranchedGenerator(config)
        self.runtime = Runtime(self.generator)
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
            for name in (FILE, CLASSES):
                with contextlib.suppress(EntryNotFoundError):  # not measured, or a model saved before 2026-11-21
                    hf_hub_download(model_id, name, **hub)
        ModelConfig.from_dict(json.loads((folder / "config.json").read_text()))  # the hub client drops unknown settings
        model.facts = ChannelFacts.read(folder)
        model.classifier.recognition = Recognition.read(folder, len(model.config.domains))
        _ = model.names  # checked before anything is decomposed
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        """Called by `save_pretrained`."""
        super()._save_pretrained(save_directory)
        self.facts.write(save_directory)
        if self.classifier.recognition:
            self.classifier.recognition.write(save_directory)

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
        """The box of each face detector that this model's classes use (`ModelConfig.face`), by the detector's name."""
        return {kind: find_face(photo, kind) for kind in dict.fromkeys(self.config.face)}

    @torch.inference_mode()
    def probabilities(self, photo: Photo, boxes: Sequence[Box]) -> np.ndarray:
        """Of each class and, last, of none, (boxes, classes + 1); means over a box and its mirror image."""
        crops = np.stack([crop(photo, box, DomainClassifier.SIDE) for box in boxes])
        crops = np.concatenate([crops, crops[:, :, ::-1]])
        outcomes = self.classifier.probabilities(torch.from_numpy(crops).permute(0, 3, 1, 2).to(self.device))
        return outcomes.reshape(2, len(boxes), -1).mean(dim=0).cpu().numpy()

    def classify(self, photo: Photo, boxes: Sequence[Box] | None = None) -> dict[str, float]:
        """Probability of each class, in the box with the least probability of none; default: those of `find_faces`."""
        outcomes = self.probabilities(photo, boxes or list(self.find_faces(photo).values()))
        return self._confidence(outcomes[outcomes[:, :-1].sum(axis=1).argmax()])

    def _confidence(self, outcomes: np.ndarray) -> dict[str, float]:
        return dict(zip(self.config.domains, outcomes[:-1].tolist()))

    def spoken(self, domain: str) -> str:
        """The word for a class: its name, but "person" for people, whose class is only an input of the generator."""
        return "person" if self.config.face[self.domain_index(domain)] == "human" else domain

    def guess(self, confidence: Mapping[str, float]) -> tuple[str, float]:
        """The likeliest word for a photo and its probability."""
        words: dict[str, float] = {}
        for domain, probability in confidence.items():
            words[self.spoken(domain)] = words.get(self.spoken(domain), 0) + probability
        return max(words.items(), key=lambda word: word[1])

    def stated(self, confidence: Mapping[str, float]) -> str | None:
        """The class that is stated for these calibrated probabilities: the likeliest word if it has 80 %, else None."""
        word, probability = self.guess(confidence)
        return word if probability >= CERTAIN else None

    def find_box(self, photo: Photo, domain: str, found: Mapping[str, Box] | None = None) -> Box:
        """Where the face of this class is. A detector's box that cuts the face is not taken.

        The classifier compares it with the centre square; it was trained to reject pieces of a face. A box in which it
        sees no face is not taken either where the centre square is not much larger.

        Args:
            found: the result of `find_faces`, if it is known.
        """
        found, kind = found or {}, self.config.face[self.domain_index(domain)]
        box = found.get(kind) or find_face(photo, kind)
        if box.found == "centre" or self.classifier.recognition is None:
            return box
        centre = found.get("centre") or find_face(photo, "centre")
        of_kind = [k for k, other in enumerate(self.config.face) if other == kind]  # a woman's face may be a man's
        in_box, in_centre = self.probabilities(photo, [box, centre])[:, of_kind].sum(axis=1)
        no_face = in_box < UNLIKELY and centre.side < ROOM * box.side
        return centre if no_face or in_centre > in_box + MARGIN else box

    def transfer(self, d: Decomposition, target: str | Sequence[str] | Mapping[int | str, str] | None) -> Decomposition:
        """The same square with other classes; only the branches whose class changes run again.

        Args:
            d: from this model's `decompose`; with `keep_phi=True` the diffusion is not repeated either.
            target: as for `decompose`; None is the photo's own class.
        Raises:
            ValueError: unknown class or channel.
        """
        wanted = self.target_indices(target, d.domain)
        classes = self.config.domains
        changed = [k for k, index in enumerate(wanted) if classes[index] != d.targets[k]]
        source = torch.tensor([self.domain_index(d.domain)])
        as_batch = lambda pictures: torch.from_numpy(pictures).movedim(-1, -3)[None]
        if d.phi is None or any(side % self.config.stride for side in d.picture.shape[:2]):
            new = self.runtime(as_batch(d.picture), torch.tensor([wanted]), changed, source).channels
        else:
            new = self.runtime.channels(as_batch(d.phi), torch.tensor([wanted]), changed, source)
        channels = d.channels.copy()
        channels[changed] = new[0].movedim(-3, -1).cpu().numpy()
        return replace(d, channels=channels, targets=tuple(classes[index] for index in wanted))

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
            domain: class of the photo, or "auto": the likeliest one is then the generator's input, and
                `Decomposition.stated` is the class only if its probability is at least 80 %.
            target: class to turn it into: one name, M names, or a mapping from channel to name; None keeps it.
            size: side of the decomposed square in pixels; default: the size the model was trained at.
            box: where the face is, a `Box` or (left, top, side); default: found, else the centre square.
            keep_phi: also keep the inputs of the branches.
        Raises:
            PhotoError: not a photo, or smaller than 16 x 16 pixels.
            ValueError: unknown class or channel.
            ValueError: the size is too small.
            ValueError: the box is not inside the photo.
        """
        photo = image if isinstance(image, Photo) else photos.load(image)
        height, width = photo.pixels.shape[:2]
        if min(height, width) < SMALLEST:
            accepted = f"accepted: at least {SMALLEST} x {SMALLEST}"
            raise photos.PhotoError(f"{photo.name}: has {width} x {height} pixels, which is too few; {accepted}")
        if box is not None:
            box = given_box(photo, *((box.left, box.top, box.side) if isinstance(box, Box) else box))
        if size is not None and size < 2 * self.config.stride:
            raise ValueError(f"size is {size}; at least {2 * self.config.stride} pixels are needed")
        confidence: dict[str, float] | None = None
        found: dict[str, Box] | None = None
        if domain == "auto":
            found = None if box else self.find_faces(photo)
            confidence = self.classify(photo, [box] if box else list(found.values()))
            domain = max(confidence, key=confidence.get)
        stated = domain if confidence is None else self.stated(confidence)
        targets = self.target_indices(target, domain)
        box = box or self.find_box(photo, domain, found)
        picture = crop(photo, box, self.config.size if size is None else size)  # (H, W, 3)
        x = torch.from_numpy(picture).permute(2, 0, 1)
        output = self.runtime(x[None], torch.tensor([targets]), source=torch.tensor([self.domain_index(domain)]))
        as_pictures = lambda t: np.ascontiguousarray(t[0].movedim(-3, -1).cpu().numpy())
        return Decomposition(
            picture=picture,
            residual=as_pictures(output.residual),
            channels=as_pictures(output.channels),
            names=self.names,
            domain=domain,
            targets=tuple(self.config.domains[i] for i in targets),
            confidence=confidence,
            stated=stated,
            phi=as_pictures(output.phi) if keep_phi else None,
            photo=photo,
            box=box,
        )
