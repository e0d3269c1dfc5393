"""Tab: two textures, each the sum of a group of channels."""

import html

import gradio as gr
import numpy as np

from .. import presets
from ..decomposition import to_bytes
from .pictures import figure, figures
from .visit import Visit


def tab(page) -> None:
    gr.HTML(
        '<p class="says">Sort the channels into two groups. Each group\'s sum is a texture; what belongs to neither stays in the photo.</p>'
    )
    preset = gr.Radio([], label="Presets", info="Split by what was measured of this model's channels.")
    with gr.Row():
        a = gr.CheckboxGroup([], label="First texture", elem_id="texture-a")
        b = gr.CheckboxGroup([], label="Second texture", elem_id="texture-b")
    pictures = gr.HTML(elem_id="textures")

    def chosen(visit: Visit, name: str):
        return presets.textures(page.models[visit.model]).get(name, ([], []))

    def choose(visit: Visit, name: str):
        a, b = chosen(visit, name)
        return a, b, cards(visit, a, b)

    gr.on(
        [a.input, b.input],
        page.plainly(cards),
        [page.visit, a, b],
        pictures,
        show_progress="hidden",
        trigger_mode="always_last",
        queue=False,
        api_visibility="private",
    )
    preset.input(
        page.plainly(choose),
        [page.visit, preset],
        [a, b, pictures],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )

    def refresh(visit: Visit) -> list:
        names = [(f"{c.index} {c.name}", c.index) for c in visit.own.info]
        pairs = presets.textures(page.models[visit.model])
        name = next(iter(pairs), None)
        a, b = pairs.get(name, ([1], [2]))
        return [
            gr.update(choices=list(pairs), value=name),
            gr.update(choices=names, value=a),
            gr.update(choices=names, value=b),
            cards(visit, a, b),
        ]

    page.after_decomposing([preset, a, b, pictures], refresh)


def separated(visit: Visit, a: list[int | str], b: list[int | str]) -> dict[str, np.ndarray]:
    """Pictures (S, S, 3) uint8 by name: the two textures and their sum with one raised contrast, the photo without each.

    Raises:
        ValueError: a group is empty, names no channel of the model, or shares one with the other.
    """
    s = visit.own.separate(a, b)
    together = s.a + s.b
    contrast = 3 * float(np.sqrt(np.square(together).mean())) + 1e-12
    return {
        "first texture": to_bytes(s.a / contrast),
        "second texture": to_bytes(s.b / contrast),
        "their sum": to_bytes(together / contrast),
        "photo without the first": visit.show(s.b + s.rest, "photo"),
        "photo without the second": visit.show(s.a + s.rest, "photo"),
        "photo without both": visit.show(s.rest, "photo"),
    }


def cards(visit: Visit, a: list[int], b: list[int]) -> str:
    """The pictures, or what is still to be chosen: half-made choices are no error."""
    try:
        shown = separated(visit, a, b)
    except ValueError as error:
        return f'<p class="says">{html.escape(str(error))}</p>'
    listed = lambda group: "channel " + ", ".join(map(str, sorted(group))) + ", contrast raised"
    notes = [listed(a), listed(b), "contrast raised"] + [""] * 3
    return figures(*(figure(p, name.capitalize(), note) for (name, p), note in zip(shown.items(), notes)), kind="large")
