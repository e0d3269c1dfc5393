"""Tab: one channel at several strengths."""

import gradio as gr
import numpy as np

from .. import export
from ..decomposition import OTHER_LAYERS
from .pictures import figure, figures, place
from .values import number, size_of, whole
from .visit import Visit

MOST_STEPS = 25
STRONGEST = 100  # strengths lie in [-100, 100]


def tab(page) -> None:
    gr.HTML(
        '<p class="says">Slide one channel from weak to strong and watch what it does. 1 is the photo as it is.</p>'
    )
    with gr.Row():
        layer = gr.Dropdown([], label="Channel", filterable=False, min_width=220)
        first = gr.Slider(-2, 4, -1, step=0.25, label="From", buttons=[])
        last = gr.Slider(-2, 4, 3, step=0.25, label="To", buttons=[])
        steps = gr.Slider(2, MOST_STEPS, 9, step=1, label="Steps", buttons=[])
    base = gr.Radio(
        [("the photo", "photo"), ("the re-generated picture", "regenerated")], value="photo", label="Sweep on"
    )
    go = gr.Button("Sweep", variant="primary", elem_id="sweep")
    with gr.Row():
        with gr.Column(scale=5, min_width=280):
            frames = gr.HTML()
        with gr.Column(scale=2, min_width=240, visible=False) as right:
            animation = gr.Image(label="Animation", interactive=False, buttons=["fullscreen"], elem_id="animation")
            strip_file = gr.DownloadButton("Download the strip (PNG)")
            animation_file = gr.DownloadButton("Download the animation (WebP)")

    def sweep(visit: Visit, layer: int | str, low: float, high: float, count: int, on: str) -> dict:
        low, high = number(low, "from", -STRONGEST, STRONGEST), number(high, "to", -STRONGEST, STRONGEST)
        shown, values, strip, moving = swept(visit, layer, low, high, whole(count, "steps", 2, MOST_STEPS), on)
        step = max(1, len(shown[0]) // 256)
        return {
            frames: figures(*(figure(p[::step, ::step], f"{v:g}") for p, v in zip(shown, values)), kind="frames"),
            right: gr.update(visible=True),
            animation: str(moving),
            strip_file: gr.update(value=str(strip), label=f"Download the strip (PNG, {size_of(strip)})"),
            animation_file: gr.update(value=str(moving), label=f"Download the animation (WebP, {size_of(moving)})"),
        }

    outputs = [frames, right, animation, strip_file, animation_file]
    page.on(go.click, sweep, [layer, first, last, steps, base], outputs, show_progress_on=go)

    def refresh(visit: Visit) -> dict:
        names = [(f"{c.index} {c.name}", c.index) for c in visit.own.info]
        choices = [*names, ("R, the smooth base", OTHER_LAYERS[0]), ("E, unexplained", OTHER_LAYERS[1])]
        strongest = max(visit.own.info, key=lambda c: c.energy).index
        return {layer: gr.update(choices=choices, value=strongest), frames: "", right: gr.update(visible=False)}

    page.after_decomposing([layer, frames, right], refresh)


def swept(visit: Visit, layer: int | str, first: float, last: float, steps: int, base: str):
    """One layer at several strengths: pictures (V, V, 3) uint8, the strengths, the paths of strip.png and
    animation.webp.

    Raises:
        ValueError: unknown layer or base.
        ValueError: a strength that is not finite.
    """
    values = [round(value, 3) for value in np.linspace(first, last, steps).tolist()]
    shown = [visit.show(visit.recompose({layer: value}, base), base) for value in values]
    strip, moving = place("strip.png"), place("animation.webp")
    pictures = np.stack(shown) / np.float32(127.5) - 1
    export.strip(pictures, values).save(strip)
    export.animation(pictures[:, ::2, ::2] if pictures.shape[1] > 300 else pictures, moving)
    return shown, values, strip, moving
