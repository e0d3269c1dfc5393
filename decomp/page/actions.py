"""Every action of the page as a plain function of a photo, for the API and for MCP. One function an action.

Each call stands alone: it takes the photo and gives the result, and nothing is kept between two calls. A result is a
file, a dict, or several of these.
"""

import json
from pathlib import Path

from .. import photos, presets
from ..choice import choose
from ..decomposer import Decomposer
from ..decomposition import OTHER_LAYERS
from ..export import contact_sheet, describe
from ..kinds import layers_of
from . import eyes as tab_eyes
from . import relief as tab_relief
from . import swap as tab_swap
from . import sweep, takeaway, textures
from .pictures import place, stored
from .strengths import pasted
from .uploads import Upload
from .values import listed, number, pairs, text, whole
from .visit import Visit, receive, turn

AUTO = "auto"
LARGEST_SIZE = 512  # pixels, side of the decomposed square
COMMON = """    model: which weights; auto: those made for what is found in the photo. models() lists them.
    domain: class of the photo, or auto.
    size: side of the decomposed square in pixels, or 0 for the size that the model was trained at.
    box: where the face is, as LEFT,TOP,SIDE in pixels; empty: found."""


class Actions:
    """The actions for some models, by name."""

    def __init__(self, models: dict[str, Decomposer]):
        self.models = models

    def decompose(
        self, photo: Upload, model: str = AUTO, domain: str = AUTO, size: int = 0, box: str = ""
    ) -> tuple[Path, dict]:
        """Decompose a photo of a face into its channels.

        Returns:
            a contact sheet of all layers (PNG)
            model, class, confidence, box, and number, name, energy and activity of each channel (JSON)
        """
        visit = self._visit(photo, model, domain, size, box)
        path = place("sheet.png")
        contact_sheet(visit.own).save(path)
        d = visit.own
        sure = self.models[visit.model].guess(d.confidence)[1] if d.confidence and d.stated else None
        return path, {"model": visit.model, "confidence": sure} | describe(d)

    def recompose(
        self,
        photo: Upload,
        strengths: str = "",
        base: str = "photo",
        target: str = "",
        crop: bool = False,
        model: str = AUTO,
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ) -> Path:
        """Recompose the photo with the given strengths of its layers.

        Args:
            strengths: LAYER=NUMBER, commas between: 3=2,residual=0.5. A layer: a channel, residual, unexplained.
            base: photo (keeps the unexplained rest) or regenerated.
            target: a class for all channels, or CHANNEL=CLASS, commas between: 4=dog,5=wild. Empty: its own.
            crop: give the decomposed square only, not the whole photo.
        Returns:
            the edited photo, in its own format and with its EXIF; a square as PNG
        """
        wanted = pairs(target, "target")
        values = {
            layer: number(value, f"strength of {layer!r}", -sweep.STRONGEST, sweep.STRONGEST)
            for layer, value in pairs(strengths, "strengths").items()
        }
        if "" in values:
            raise ValueError(
                f"{strengths!r} names no layer; accepted: LAYER=NUMBER with commas between them, as 3=2,residual=0.5"
            )
        visit = self._visit(photo, model, domain, size, box)
        if wanted:
            decomposer = self.models[visit.model]
            indices = decomposer.target_indices(wanted[""] if list(wanted) == [""] else wanted, visit.own.domain)
            visit = turn(visit, decomposer, [decomposer.config.domains[i] for i in indices])
        edited = visit.recompose(values, base)
        return stored(visit.show(edited, base), "edited.png") if crop else pasted(visit, edited, None)[0]

    def sweep_channel(
        self,
        photo: Upload,
        channel: str,
        first: float = -1,
        last: float = 3,
        steps: int = 9,
        base: str = "photo",
        model: str = AUTO,
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ) -> tuple[Path, Path]:
        """Show one channel at several strengths.

        Args:
            channel: number or name of a channel, or residual or unexplained.
            first: first strength; 1 is the photo.
            last: last strength.
            steps: number of strengths, 2 to 25.
            base: photo (keeps the unexplained rest) or regenerated.
        Returns:
            all strengths side by side (PNG)
            an animation (WebP)
        """
        first, last = (
            number(first, "first", -sweep.STRONGEST, sweep.STRONGEST),
            number(last, "last", -sweep.STRONGEST, sweep.STRONGEST),
        )
        steps = whole(steps, "steps", 2, sweep.MOST_STEPS)
        visit = self._visit(photo, model, domain, size, box)
        _, _, strip, moving = sweep.swept(visit, text(channel, "channel"), first, last, steps, base)
        return strip, moving

    def separate(
        self, photo: Upload, a: str, b: str, model: str = AUTO, domain: str = AUTO, size: int = 0, box: str = ""
    ) -> list[Path]:
        """Separate two textures, each the sum of a group of channels.

        Args:
            a: channels of the first texture, by number or name, commas between them: 1,4.
            b: channels of the second texture.
        Returns:
            first texture, second texture, their sum (contrast raised); the photo without the first, the second, both
        """
        groups = [listed(group, "a and b") for group in (a, b)]
        pictures = textures.separated(self._visit(photo, model, domain, size, box), *groups)
        return [stored(picture, f"{name}.png") for name, picture in pictures.items()]

    def eyes(
        self, photo: Upload, model: str = AUTO, domain: str = AUTO, size: int = 0, box: str = ""
    ) -> tuple[Path, Path | None, dict]:
        """Segment a cat's two eyes from the channels alone. Without a clear pair nothing is returned.

        Returns:
            the face with the two contours, or without if no pair was found (PNG)
            left.png, right.png and eyes.json, or nothing (ZIP)
            found or the reason why not, confidence, and each eye's centre, area and axes in pixels of the photo (JSON)
        """
        visit = self._visit(photo, model, domain, size, box)
        eyes = tab_eyes.found_in(self.models[visit.model], visit)
        marked = stored(tab_eyes.contour(visit, eyes), "eyes.png")
        return marked, tab_eyes.written(visit, eyes) if eyes.found else None, tab_eyes.facts(eyes)

    def swap(
        self,
        photo: Upload,
        giver: Upload,
        layers: str = "residual",
        amount: float = 1,
        keep: float = 0,
        model: str = AUTO,
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ) -> tuple[Path, dict]:
        """Replace layers (light, hue or coat) by those of another photo. The faces are aligned by the eyes.

        Args:
            giver: the photo whose layers are taken, a file as above.
            layers: what is taken, commas between them: numbers or names of channels, residual (the colours of coat and
                skin), or kinds of channels: light, hue, fine, contour, eyes, mouth.
            amount: strength of the giver's layers, 0 to 2.
            keep: strength of the photo's own, 0 to 2.
        Returns:
            the edited photo, in its own format and with its EXIF
            the layers that were taken, and a note for each face whose eyes were not found (JSON)
        """
        visit = self._visit(photo, model, domain, size, box)
        decomposer = self.models[visit.model]
        taken = layers_of(decomposer, listed(layers, "layers"))
        amount, keep = (number(value, "strength", 0, tab_swap.STRONGEST) for value in (amount, keep))
        pair = tab_swap.aligned(decomposer, visit, giver)
        edited = pair.swap(taken, amount, keep)
        return pasted(visit, edited, None)[0], {"layers": taken, "notes": list(pair.notes)}

    def relief(
        self,
        photo: Upload,
        channels: str = "",
        depth: float = 1,
        model: str = AUTO,
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ) -> tuple[Path, Path]:
        """The relief of the face, from the channels that carry light: a plausible bas-relief, not a measurement.

        Args:
            channels: numbers or names of the channels that carry light, commas between them; empty: those known to.
            depth: scale of the height, which one photo does not fix.
        Returns:
            the relief as a 3-D model with the photo as its texture (glTF)
            height map, normal map, model and pictures (ZIP)
        """
        visit = self._visit(photo, model, domain, size, box)
        decomposer = self.models[visit.model]
        carrying = layers_of(decomposer, listed(channels, "channels") or ["light"])
        if any(isinstance(layer, str) for layer in carrying):
            raise ValueError("a relief is computed from channels; residual and unexplained are not channels")
        r, _ = tab_relief.made(decomposer, visit, carrying, depth)
        folder = tab_relief.written(visit, r)
        return folder / "relief.glb", folder / "relief.zip"

    def take_away(
        self,
        photo: Upload,
        kind: str = takeaway.LAYERS,
        model: str = AUTO,
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ) -> Path:
        """All layers as one file.

        Args:
            kind: ora (layers for Krita and GIMP), zip (pictures and numbers), tif (float pages) or npz (arrays).
        Returns:
            the file
        """
        return takeaway.write(self._visit(photo, model, domain, size, box), text(kind, "kind"))

    def list_models(self) -> dict:
        """The models of this page: their classes, trained size, channels with what was measured of them, and presets.

        Returns:
            one entry for each model (JSON)
        """
        known = {
            name: {
                "classes": m.config.domains,
                "size": m.config.size,
                "channels": list(m.facts.roles) or [{"name": name} for name in m.names],
                "other layers": OTHER_LAYERS,
                "presets": presets.strengths(m),
                "textures": presets.textures(m),
            }
            for name, m in self.models.items()
        }
        return json.loads(json.dumps(known))  # channel numbers become text

    def _visit(self, photo: Upload, model: str, domain: str, size: int, box: str) -> Visit:
        model, domain = text(model, "model") or AUTO, text(domain, "domain") or AUTO
        decoded = None
        if model == AUTO:
            decoded = photos.load(photo.data, name=photo.name)
            model = self._suited(decoded, domain)
        if model not in self.models:
            raise ValueError(f"there is no model {model!r} here; accepted: {AUTO}, {', '.join(self.models)}")
        decomposer = self.models[model]
        lowest = 2 * decomposer.config.stride
        size = whole(size or decomposer.config.size, "size", lowest, LARGEST_SIZE)
        sides = listed(box, "box")
        if sides and not (len(sides) == 3 and all(part.isdecimal() and len(part) < 9 for part in sides)):
            raise ValueError(f"{box!r} is not LEFT,TOP,SIDE in pixels")
        return receive(
            decomposer,
            model,
            photo.data,
            photo.name,
            domain,
            size,
            tuple(map(int, sides)) or None,
            decoded,
        )

    def _suited(self, photo: photos.Photo, domain: str) -> str:
        """The model that knows the class, else the one that `choice.choose` picks, else the first."""
        knowing = [name for name, model in self.models.items() if domain in model.config.domains]
        return next(iter(knowing), None) or choose(photo, self.models).model or next(iter(self.models))
