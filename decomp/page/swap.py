"""Tab: another photo's light, hue or coat in this one."""

import html
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
import numpy as np

from .. import photos
from ..decomposer import Decomposer
from ..decomposition import OTHER_LAYERS, Picture, to_bytes
from ..kinds import channels_of
from ..studio.swap import Pair, align, swap
from . import uploads
from .pictures import figure, figures, place, stored
from .strengths import compare, pasted
from .uploads import Upload
from .values import number, size_of
from .visit import Visit

STRONGEST = 2.0
ASK = """<p class="says">Add a second photo. Its face is aligned to yours by the eyes. Then choose the layers
that your photo takes from it: the smooth base R has the colours of coat and skin, the channels have the details.</p>"""
AGAIN = "the second photo is no longer here; please add it again"
BASE_LABEL = "R, the smooth base: colours of coat and skin"


@dataclass(frozen=True)
class Giver:
    """The state of the second photo, for one decomposition of the first."""

    layers: Path  # its layers on A's eyes and the mask, as .npz in the visitor's folder
    notes: tuple[str, ...]


def tab(page) -> None:
    gr.HTML(ASK)
    kept = gr.State()
    with gr.Row(elem_classes="desk-and-picture"):
        with gr.Column(scale=5, min_width=220):
            result = gr.HTML(elem_classes="result", elem_id="swapped")
            with gr.Row(elem_classes="buttons", visible=False) as saving:
                save = gr.Button("Save the photo", variant="primary", size="sm", min_width=140, elem_id="save-swap")
            says = gr.HTML(elem_id="swap-says")
            download = gr.DownloadButton("Download", elem_id="download-swap", elem_classes="unseen")
        with gr.Column(scale=5, min_width=220):
            giver = gr.Image(
                label="Second photo",
                sources=["upload", "clipboard"],
                height=170,
                format="png",
                elem_id="giver",
                buttons=[],
                placeholder="Drop a second photo of a face here\n- or -\nClick to choose one",
            )
            layers = gr.CheckboxGroup([], label="What your photo takes from it", elem_id="swap-layers")
            amount = gr.Slider(0, STRONGEST, 1, step=0.05, label="Strength of the second photo's layers", buttons=[])
            keep = gr.Slider(0, STRONGEST, 0, step=0.05, label="Strength of your photo's own layers", buttons=[])

    settings = [layers, amount, keep]

    def mix(visit: Visit, kept: Giver | None, *wanted) -> dict:
        if kept is None:
            return {result: ""}
        edited = mixed(visit, kept, *wanted)
        return {result: compare(visit.before, stored(visit.show(edited, "photo"), "edited.png"))}

    def take(visit: Visit, photo: dict | None, *wanted) -> dict:
        if photo is None:
            return {kept: None, result: "", says: "", saving: gr.update(visible=False)}
        pair = aligned(page.models[visit.model], visit, uploads.read(photo))
        new = keep_pair(pair)
        return {
            kept: new,
            says: told(pair),
            saving: gr.update(visible=True),
            **mix(visit, new, *wanted),
        }

    def write(visit: Visit, kept: Giver | None, *wanted):
        if kept is None:
            raise ValueError(AGAIN)
        path, _ = pasted(visit, mixed(visit, kept, *wanted), None)
        return gr.update(value=str(path), label=f"Download {path.name} ({size_of(path)})")

    page.on(
        giver.input,
        take,
        [giver, *settings],
        [kept, result, says, saving],
        show_progress_on=giver,
        concurrency_id="model",
        concurrency_limit=1,
    )
    quick = {"show_progress": "hidden", "queue": False, "trigger_mode": "always_last"}
    page.on([layers.input, amount.input, keep.input], mix, [kept, *settings], [result], **quick)
    click = page.on(save.click, write, [kept, *settings], [download], show_progress_on=save)
    click.success(None, js="() => decomp.download('download-swap')")

    def refresh(visit: Visit) -> dict:
        choices = choices_of(visit)
        return {
            kept: None,
            giver: None,
            result: "",
            says: "",
            saving: gr.update(visible=False),
            layers: gr.update(choices=choices, value=offered(page.models[visit.model])),
        }

    page.after_decomposing([kept, giver, result, says, saving, layers], refresh)


def choices_of(visit: Visit) -> list[tuple[str, int | str]]:
    """Labels and values of the layers that may be taken."""
    return [(BASE_LABEL, OTHER_LAYERS[0]), *((f"{c.index} {c.name}", c.index) for c in visit.own.info)]


def offered(model: Decomposer) -> list[int | str]:
    """The initial choice: the channels of light, or of hue; else the smooth base."""
    for kind in ("light", "hue"):
        if channels := channels_of(model.facts.roles, model.config.size, kind):
            return list(channels)
    return [OTHER_LAYERS[0]]


def aligned(model: Decomposer, visit: Visit, giver: Upload) -> Pair:
    """The second photo aligned to the eyes of the first; PhotoError says in one sentence what is wrong with it."""
    return align(model, visit.whole(), photos.load(giver.data, name=giver.name))


def keep_pair(pair: Pair) -> Giver:
    """Write what moving a slider needs; it goes with the visitor's other files."""
    path = place("giver.npz")
    b = pair.b
    np.savez(path, picture=b.picture, residual=b.residual, channels=b.channels, mask=pair.mask)
    return Giver(path, pair.notes)


def mixed(visit: Visit, kept: Giver, layers, amount, keep) -> Picture:
    """The edited square.

    Raises:
        ValueError: the second photo's layers were deleted.
        ValueError: they were made for another square.
        ValueError: unknown layer or strength.
    """
    if not isinstance(layers, list):
        raise ValueError("the chosen layers are not a list")
    amount, keep = number(amount, "strength", 0, STRONGEST), number(keep, "strength", 0, STRONGEST)
    if not layers:
        return visit.own.picture
    try:
        with np.load(kept.layers) as file:
            other = replace(visit.own, **{name: file[name] for name in ("picture", "residual", "channels")})
            mask = file["mask"]
    except OSError:
        raise ValueError(AGAIN) from None
    return swap(visit.own, other, layers, amount, keep, mask)


def told(pair: Pair) -> str:
    """The second photo aligned to the first, and a note if no eyes were found."""
    notes = "".join(f'<p class="says">{html.escape(note)}.</p>' for note in pair.notes)
    return notes + figures(figure(to_bytes(pair.b.picture), "The second photo", "its eyes where yours are"))
