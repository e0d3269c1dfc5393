"""Tab: the eyes, found from the channels alone."""

import html
import json
import zipfile
from pathlib import Path

import cv2
import gradio as gr
import numpy as np

from .. import faces
from ..decomposer import Decomposer
from ..decomposition import to_bytes
from ..eyes.finder import find_eyes
from ..eyes.segment import EyeSegmentation, resized, segment_eyes
from .pictures import figure, figures, place, png
from .values import size_of
from .visit import Visit

COLOURS = {"left eye": "#f59e0b", "right eye": "#22d3ee"}
ASK = """<p class="says">Nobody drew a mask for training: the eyes are found from the channels alone, by where they
are laid out as around a
cat's eyes and by Chan-Vese. For the face of a cat, seen from the front.</p>"""


def tab(page) -> None:
    gr.HTML(ASK)
    find = gr.Button("Find the eyes", variant="primary", elem_id="find-eyes")
    says = gr.HTML(elem_id="eyes-say")
    with gr.Row(visible=False) as shown:
        with gr.Column(scale=3, min_width=280):
            marked = gr.AnnotatedImage(label="The eyes", format="png", color_map=COLOURS, buttons=["fullscreen"])
            download = gr.DownloadButton("Download the masks (.zip)", elem_id="masks")
        with gr.Column(scale=2, min_width=240):
            steps = gr.HTML(elem_id="eye-steps")

    def look(visit: Visit) -> dict:
        try:
            eyes = found_in(page.models[visit.model], visit)
        except ValueError as error:  # weights that were never calibrated
            return {says: f'<p class="says">{html.escape(str(error))}</p>', shown: gr.update(visible=False)}
        path = written(visit, eyes) if eyes.found else None
        return {
            says: sentence(eyes),
            shown: gr.update(visible=True),
            marked: annotated(visit, eyes),
            download: gr.update(
                value=str(path) if path else None,
                visible=eyes.found,
                label=f"Download the masks (.zip, {size_of(path)})" if path else "Download the masks",
            ),
            steps: seen(visit, eyes),
        }

    page.on(find.click, look, [], [says, shown, marked, download, steps], show_progress_on=find, concurrency_id="eyes")
    page.after_decomposing([says, shown], lambda visit: {says: "", shown: gr.update(visible=False)})


def found_in(model: Decomposer, visit: Visit) -> EyeSegmentation:
    """The eyes in the whole photo; in the square alone where the visitor marked it."""
    return segment_eyes(visit.whole()) if visit.own.box.found == "given" else find_eyes(model, visit.photo)


def view(visit: Visit, eyes: EyeSegmentation) -> np.ndarray:
    """The square in which the eyes were looked for, as large as the face is shown, (V, V, 3) uint8."""
    return to_bytes(faces.crop(visit.photo, eyes.box, len(visit.view))) if eyes.box else visit.view


def annotated(visit: Visit, eyes: EyeSegmentation) -> tuple[np.ndarray, list]:
    """The face and its masks, as `gr.AnnotatedImage` takes them."""
    masks = [eyes.left, eyes.right] if eyes.found else []
    return view(visit, eyes), [(resized(mask, len(visit.view)), name) for mask, name in zip(masks, COLOURS)]


def sentence(eyes: EyeSegmentation) -> str:
    """What was found, in words and numbers."""
    if not eyes.found:
        reason = html.escape(eyes.reason)
        return f'<p class="says"><b>No pair of eyes.</b> {reason} (confidence {eyes.confidence:.0%}).</p>'
    rows = "<br>".join(
        f"{name.capitalize()}: centre ({e.x:.0f}, {e.y:.0f}), {e.axes[0]:.0f} x {e.axes[1]:.0f} pixels of the photo"
        for name, e in zip(COLOURS, eyes.photo_eyes())
    )
    return f'<p class="says"><b>Two eyes, confidence {eyes.confidence:.0%}.</b><br>{rows}</p>'


def seen(visit: Visit, eyes: EyeSegmentation) -> str:
    """What the procedure looked at: the initial surface, the image it segmented, the contour it ended with."""
    parts = []
    for plane, title, note in (
        (eyes.surface, "Surface", "what Chan-Vese starts from: bright at the eyes"),
        (eyes.flat, "Flat image", "layers that are even inside an eye"),
    ):
        if plane is not None:
            parts.append(figure(_grey(plane), title, note))
    if eyes.found:
        parts.append(figure(contour(visit, eyes), "Contour", "where it came to rest"))
    return figures(*parts)


def contour(visit: Visit, eyes: EyeSegmentation) -> np.ndarray:
    """The face with the outline of each eye, (V, V, 3) uint8."""
    drawn = view(visit, eyes)
    for mask, colour in zip((eyes.left, eyes.right) if eyes.found else (), COLOURS.values()):
        outline, _ = cv2.findContours(
            resized(mask, len(drawn)).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        cv2.drawContours(drawn, outline, -1, rgb, max(1, len(drawn) // 200))
    return drawn


def _grey(plane: np.ndarray) -> np.ndarray:
    """A plane with NaN outside its band as a picture; outside is mid-grey."""
    low, high = np.nanmin(plane), np.nanmax(plane)
    grey = np.nan_to_num((plane - low) / (high - low + 1e-9), nan=0.5)
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)


def facts(eyes: EyeSegmentation) -> dict:
    """The same as numbers, in pixels of the whole photo."""
    named = zip(("left", "right"), eyes.photo_eyes())
    return {"found": eyes.found, "confidence": eyes.confidence, "reason": eyes.reason} | {
        side: eye._asdict() for side, eye in named
    }


def written(visit: Visit, eyes: EyeSegmentation) -> Path:
    """left.png and right.png as large as the photo, white on black, and eyes.json, in one ZIP."""
    path = place(f"{Path(visit.name).stem or 'photo'}.eyes.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for side, mask in zip(("left", "right"), eyes.photo_masks()):
            file.writestr(f"{side}.png", png(mask.astype(np.uint8) * 255))
        file.writestr("eyes.json", json.dumps(facts(eyes), indent=2))
    return path
