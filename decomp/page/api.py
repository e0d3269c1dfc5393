"""Every action of the page as a named endpoint for `gradio_client` and, with --mcp, as a tool.

Each call stands alone: it takes the photo and gives the result, and nothing is kept between two calls.
"""

import inspect
import json
from pathlib import Path

import gradio as gr

from .. import presets
from ..decomposition import OTHER_LAYERS
from ..export import contact_sheet, describe
from . import eyes as tab_eyes
from . import sweep, takeaway, textures
from .pictures import place, stored
from .strengths import pasted
from .visit import Visit, receive, turn

AUTO = "auto"
PHOTO = "    photo: a file: JPEG, PNG, WebP, TIFF, BMP or GIF."
COMMON = """    model: which weights; /models lists them.
    domain: class of the photo, or auto.
    size: side of the decomposed square in pixels, or 0 for the size that the model was trained at.
    box: where the face is, as LEFT,TOP,SIDE in pixels; empty: found."""


def endpoints(page) -> None:
    names = list(page.models)

    def visit_of(photo: dict | None, model: str, domain: str, size: int, box: str) -> Visit:
        if not photo or not photo.get("path"):
            raise ValueError("no photo is given; accepted: a file with a photo")
        if model not in page.models:
            raise ValueError(f"there is no model {model!r} here; accepted: {', '.join(names)}")
        decomposer = page.models[model]
        size = int(size or decomposer.config.size)
        if not 2 * decomposer.config.stride <= size <= 512:
            raise ValueError(
                f"size is {size}; accepted: {2 * decomposer.config.stride} to 512, or 0 for the model's own"
            )
        sides = [part.strip() for part in (box or "").split(",") if part.strip()]
        if sides and not (len(sides) == 3 and all(part.isdecimal() for part in sides)):
            raise ValueError(f"{box!r} is not LEFT,TOP,SIDE in pixels")
        path = Path(photo["path"])
        name = Path(photo.get("orig_name") or path.name).name
        return receive(decomposer, model, path.read_bytes(), name, domain or AUTO, size, tuple(map(int, sides)) or None)

    def decompose(photo: dict, model: str = names[0], domain: str = AUTO, size: int = 0, box: str = ""):
        """Take a photo of a face apart into its channels.

        Returns:
            a contact sheet of all layers (PNG)
            class, confidence, box, and number, name, energy and activity of each channel (JSON)
        """
        visit = visit_of(photo, model, domain, size, box)
        path = place("sheet.png")
        contact_sheet(visit.own).save(path)
        return str(path), describe(visit.own)

    def recompose(
        photo: dict,
        strengths: str,
        base: str = "photo",
        target: str = "",
        crop: bool = False,
        model: str = names[0],
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ):
        """Put the photo together again with each channel at the strength you give.

        Args:
            strengths: LAYER=NUMBER with commas between them: 3=2, residual=0.5. A layer is a channel's number or name, residual or unexplained; 1 is the photo.
            base: photo (keeps what the network can't explain) or regenerated.
            target: a class for all channels, or CHANNEL=CLASS pairs with commas between them: 4=dog,5=wild. Empty: the photo's own.
            crop: give the decomposed square only, not the whole photo.
        Returns:
            the edited photo, in its own format and with its EXIF; a square as PNG
        """
        wanted, strengths = _pairs(target), {layer: _number(value) for layer, value in _pairs(strengths).items()}
        visit = visit_of(photo, model, domain, size, box)
        if wanted:
            decomposer = page.models[model]
            wanted = wanted[""] if list(wanted) == [""] else wanted
            indices = decomposer.target_indices(wanted, visit.own.domain)
            visit = turn(visit, decomposer, [decomposer.config.domains[i] for i in indices])
        edited = visit.recompose(strengths, base)
        return stored(visit.show(edited, base), "edited.png") if crop else str(pasted(visit, edited, None)[0])

    def sweep_channel(
        photo: dict,
        channel: str,
        first: float = -1,
        last: float = 3,
        steps: int = 9,
        base: str = "photo",
        model: str = names[0],
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ):
        """Show one channel at a row of strengths.

        Args:
            channel: number or name of a channel, or residual or unexplained.
            first: first strength; 1 is the photo.
            last: last strength.
            steps: number of strengths, 2 to 25.
            base: photo (keeps what the network can't explain) or regenerated.
        Returns:
            all strengths side by side (PNG)
            an animation (WebP)
        """
        _, _, strip, moving = sweep.swept(visit_of(photo, model, domain, size, box), channel, first, last, steps, base)
        return str(strip), str(moving)

    def separate(photo: dict, a: str, b: str, model: str = names[0], domain: str = AUTO, size: int = 0, box: str = ""):
        """Separate two textures, each the sum of a group of channels.

        Args:
            a: channels of the first texture, by number or name, commas between them: 1,4.
            b: channels of the second texture.
        Returns:
            first texture, second texture, their sum (contrast raised), the photo without the first, without the second, without both (PNG)
        """
        groups = [[name.strip() for name in group.split(",") if name.strip()] for group in (a, b)]
        shown = textures.separated(visit_of(photo, model, domain, size, box), *groups)
        return [stored(picture, f"{name}.png") for name, picture in shown.items()]

    def eyes(photo: dict, model: str = names[0], domain: str = AUTO, size: int = 0, box: str = ""):
        """Find a cat's two eyes from the channels alone; never a guess.

        Returns:
            the face with the two contours, or without if no pair was found (PNG)
            left.png, right.png and eyes.json, or nothing (ZIP)
            found or the reason why not, confidence, and each eye's centre, area and axes in pixels of the photo (JSON)
        """
        visit = visit_of(photo, model, domain, size, box)
        found = tab_eyes.found_in(page.models[visit.model], visit)
        marked = stored(tab_eyes.contour(visit, found), "eyes.png")
        return marked, tab_eyes.written(visit, found) if found.found else None, tab_eyes.facts(found)

    def take_away(
        photo: dict,
        kind: str = takeaway.LAYERS,
        model: str = names[0],
        domain: str = AUTO,
        size: int = 0,
        box: str = "",
    ):
        """All layers as one file.

        Args:
            kind: ora (layers for Krita and GIMP), zip (pictures and numbers), tif (float pages) or npz (arrays).
        Returns:
            the file
        """
        return str(takeaway.write(visit_of(photo, model, domain, size, box), kind))

    def models():
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
            for name, m in page.models.items()
        }
        return json.loads(json.dumps(known))  # channel numbers become text

    with gr.Column(visible=False):
        photo = gr.Image(label="photo")
        common = [
            gr.Dropdown(names, value=names[0], label="model"),
            gr.Textbox(AUTO, label="domain"),
            gr.Number(0, precision=0, label="size"),
            gr.Textbox("", label="box"),
        ]
        base = gr.Dropdown(["photo", "regenerated"], value="photo", label="base")
        file, facts, files = (
            gr.File(label="file"),
            gr.JSON(label="result"),
            gr.File(label="files", file_count="multiple"),
        )
        picture, second = gr.Image(label="picture", format="png"), gr.File(label="animation")
        actions = [
            (decompose, [photo, *common], [picture, facts]),
            (
                recompose,
                [
                    photo,
                    gr.Textbox("", label="strengths"),
                    base,
                    gr.Textbox("", label="target"),
                    gr.Checkbox(False, label="crop"),
                    *common,
                ],
                file,
            ),
            (
                sweep_channel,
                [
                    photo,
                    gr.Textbox(label="channel"),
                    gr.Number(-1, label="first"),
                    gr.Number(3, label="last"),
                    gr.Number(9, precision=0, label="steps"),
                    base,
                    *common,
                ],
                [picture, second],
            ),
            (separate, [photo, gr.Textbox(label="a"), gr.Textbox(label="b"), *common], files),
            (eyes, [photo, *common], [picture, file, facts]),
            (take_away, [photo, gr.Dropdown(list(takeaway.NOTES), value=takeaway.LAYERS, label="kind"), *common], file),
            (models, [], facts),
        ]
        for action, inputs, outputs in actions:
            if photo in inputs:
                action.__doc__ = _documented(action)
            gr.Button(action.__name__).click(
                page.plainly(action),
                inputs,
                outputs,
                api_name=action.__name__,
                preprocess=False,
                concurrency_id="model",
                concurrency_limit=1,
            )


def _documented(action) -> str:
    """The docstring with the arguments that all actions share; it becomes the API page and the MCP tool."""
    text, returns = inspect.getdoc(action).split("Returns:")
    summary, _, own = text.partition("Args:\n")
    return "\n".join(
        [summary.rstrip(), "", "Args:", PHOTO, *([own.rstrip()] if own else []), COMMON, "Returns:" + returns]
    )


def _pairs(text: str) -> dict[str, str]:
    """KEY=VALUE with commas between them; a value alone has the key ""."""
    parts = [part.rpartition("=") for part in (text or "").split(",") if part.strip()]
    return {key.strip(): value.strip() for key, _, value in parts}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; accepted: LAYER=NUMBER with commas between them") from None
