"""Tab: the eyes, found from the channels alone."""

import html
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import gradio as gr
import numpy as np

from .. import faces
from ..decomposer import Decomposer
from ..decomposition import to_bytes
from ..eyes.finder import find_eyes, second_look
from ..eyes.parts import parts_of
from ..eyes.segment import Eyes, NoEyes, segment_eyes
from .pictures import address, figure, figures, place, png, stored
from .values import listed, number, size_of
from .visit import Visit

COLOURS = {"left eye": "#f59e0b", "right eye": "#22d3ee"}
OFTEN = np.array([[0.32, 0.45], [0.68, 0.45]])  # places of eyes in the square of a face
ASK = """<p class="says">The channels were trained without any mark: where the eyes are is read off them, and Chan-Vese
draws the outlines. For the face of a cat, seen from the front.</p>"""
MOVE = """<p class="says">Not quite? Drag a place to the eye, or move it with the arrow keys: the outlines are found
again from there.</p>"""


def tab(page) -> None:
    gr.HTML(ASK)
    find = gr.Button("Find the eyes", variant="primary", elem_id="find-eyes")
    says = gr.HTML(elem_id="eyes-say")
    with gr.Row(visible=False) as shown:
        with gr.Column(scale=3, min_width=280):
            marked = gr.HTML(elem_id="eyes-shown")
            gr.HTML(MOVE)
            places, put = (
                gr.Textbox(visible=False),
                gr.Button("Find again", elem_id="eyes-moved", elem_classes="unseen"),
            )
            download = gr.DownloadButton("Download the masks (.zip)", elem_id="masks")
        with gr.Column(scale=2, min_width=240):
            steps = gr.HTML(elem_id="eye-steps")

    def look(visit: Visit) -> dict:
        try:
            eyes = found_in(page.models[visit.model], visit)
        except ValueError as error:  # weights that were never calibrated
            return {says: f'<p class="says">{html.escape(str(error))}</p>', shown: gr.update(visible=False)}
        return answer(visit, eyes)

    def answer(visit: Visit, eyes: Eyes | NoEyes) -> dict:
        page.replace(replace(visit, eyes=eyes))
        path = written(visit, eyes) if eyes.found else None
        return {
            says: sentence(eyes),
            shown: gr.update(visible=True),
            marked: desk(visit, eyes),
            download: gr.update(
                value=str(path) if path else None,
                visible=eyes.found,
                label=f"Download the masks (.zip, {size_of(path)})" if path else "Download the masks",
            ),
            steps: seen(visit, eyes),
        }

    def move(visit: Visit, moved: str) -> dict:
        if visit.eyes is None:
            raise ValueError("the eyes of this photo were not looked for yet: press Find the eyes first")
        points = placed(moved, shown_box(visit, visit.eyes))
        model = page.models[visit.model]
        return answer(visit, second_look(model, visit.photo, points, calibrated(model), given=True))

    outputs = [says, shown, marked, download, steps]
    page.on(find.click, look, [], outputs, show_progress_on=find, concurrency_id="eyes")
    js = "() => decomp.eyes.places()"
    page.on(put.click, move, [places], outputs, js=js, show_progress_on=marked, concurrency_id="eyes")
    page.after_decomposing([says, shown], lambda visit: {says: "", shown: gr.update(visible=False)})


def placed(places: str, box: faces.Box) -> np.ndarray:
    """Both places (2, 2) in pixels of the photo, the left one first.

    Args:
        places: "x,y,x,y" as parts of the side of the square that is shown.
        box: that square.
    Raises:
        ValueError: these are not four numbers from 0 to 1, or both places are one.
    """
    parts = [number(part, "a place", 0, 1) for part in listed(places, "places")]
    if len(parts) != 4:
        raise ValueError(f"places has {len(parts)} numbers; accepted: x and y of two places, each from 0 to 1")
    points = np.array(parts).reshape(2, 2) * box.side + [box.left, box.top]
    if np.hypot(*(points[1] - points[0])) < 0.05 * box.side:
        raise ValueError("both places are at the same eye; drag one of them to the other eye")
    return points[np.argsort(points[:, 0])]


def desk(visit: Visit, eyes: Eyes | NoEyes) -> str:
    """The face with its outlines, and a handle at each place; without places, where a cat's eyes often lie."""
    box = shown_box(visit, eyes)
    places = OFTEN if eyes.points is None else ((eyes.points - [box.left, box.top]) / box.side).clip(0, 1)
    handles = "".join(
        f'<button type="button" aria-label="{name}, moved by the arrow keys" data-x="{x:.4f}" data-y="{y:.4f}" '
        f'style="left: {x:.2%}; top: {y:.2%}; border-color: {colour}"></button>'
        for (name, colour), (x, y) in zip(COLOURS.items(), places)
    )
    picture = address(stored(contour(visit, eyes), "eyes.png"))
    return (
        f'<div class="places"><img src="{picture}" alt="The face, each eye outlined" draggable="false">{handles}</div>'
    )


def calibrated(model: Decomposer):
    return parts_of(model.facts.eyes, model.config.branches)


def found_in(model: Decomposer, visit: Visit) -> Eyes | NoEyes:
    """The eyes in the whole photo; in the square alone where the visitor marked it."""
    given = visit.own.box.found == "given"
    return segment_eyes(visit.whole(), calibrated(model)) if given else find_eyes(model, visit.photo)


def shown_box(visit: Visit, eyes: Eyes | NoEyes) -> faces.Box:
    return eyes.box or visit.own.box


def view(visit: Visit, eyes: Eyes | NoEyes) -> np.ndarray:
    """The square in which the eyes were looked for, as large as the face is shown, (V, V, 3) uint8."""
    return to_bytes(faces.crop(visit.photo, shown_box(visit, eyes), len(visit.view)))


def sentence(eyes: Eyes | NoEyes) -> str:
    """What was found, in words and numbers."""
    if not eyes.found:
        reason = f"{html.escape(eyes.reason)} (confidence {eyes.confidence:.0%})"
        return f'<p class="says"><b>No pair of eyes.</b> {reason}.</p>'
    rows = "<br>".join(
        f"{name.capitalize()}: centre ({e.x:.0f}, {e.y:.0f}), {e.axes[0]:.0f} x {e.axes[1]:.0f} pixels of the photo"
        for name, e in zip(COLOURS, eyes.eyes)
    )
    return f'<p class="says"><b>Two eyes, confidence {eyes.confidence:.0%}.</b><br>{rows}</p>'


def seen(visit: Visit, eyes: Eyes | NoEyes) -> str:
    """What the procedure looked at: the initial surface and the image it segmented."""
    if not eyes.found:
        return ""
    return figures(
        figure(_grey(eyes.surface), "Surface", "what Chan-Vese starts from: the mean eye, where the channels place it"),
        figure(_grey(eyes.image), "Image", "what it segments: what the channels say is inside an eye"),
    )


def contour(visit: Visit, eyes: Eyes | NoEyes) -> np.ndarray:
    """The face with the outline of each eye, (V, V, 3) uint8."""
    drawn, box = view(visit, eyes), shown_box(visit, eyes)
    at = lambda points: np.rint((points - [box.left, box.top]) * (len(drawn) / box.side)).astype(np.int32)
    width = max(1, len(drawn) // 200)
    for k, colour in enumerate(COLOURS.values()):
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        if eyes.found:
            cv2.polylines(drawn, [at(eyes.polygons[k])], True, rgb, width, cv2.LINE_AA)
    return drawn


def _grey(plane: np.ndarray) -> np.ndarray:
    """A plane with NaN outside its band as a picture; outside is mid-grey."""
    low, high = np.nanmin(plane), np.nanmax(plane)
    grey = np.nan_to_num((plane - low) / (high - low + 1e-9), nan=0.5)
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)


def facts(eyes: Eyes | NoEyes) -> dict:
    """The same as numbers, in pixels of the whole photo."""
    sides = {side: eye._asdict() for side, eye in zip(("left", "right"), eyes.eyes)} if eyes.found else {}
    return {"found": eyes.found, "confidence": eyes.confidence, "reason": None if eyes.found else eyes.reason} | sides


def written(visit: Visit, eyes: Eyes) -> Path:
    """left.png and right.png as large as the photo, white on black, and eyes.json, in one ZIP."""
    path = place(f"{Path(visit.name).stem or 'photo'}.eyes.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for side, mask in zip(("left", "right"), eyes.masks):
            file.writestr(f"{side}.png", png(mask.astype(np.uint8) * 255))
        file.writestr("eyes.json", json.dumps(facts(eyes), indent=2))
    return path
