"""Tab: two textures, each the sum of a group of channels."""

import html

import gradio as gr
import numpy as np

from .. import presets
from ..decomposition import full_contrast, to_bytes
from .pictures import figure, figures
from .values import choice
from .visit import Visit


def tab(page) -> None:
    gr.HTML(
        '<p class="says">Sort the channels into two groups. Each group\'s sum is a texture; '
        "what belongs to neither stays in the photo.</p>"
    )
    preset = gr.Radio([], label="Presets", info="Groups by the measured properties of this model's channels.")
    with gr.Row():
        a = gr.CheckboxGroup([], label="First texture", elem_id="texture-a")
        b = gr.CheckboxGroup([], label="Second texture", elem_id="texture-b")
    pictures = gr.HTML(elem_id="textures")

    quick = {"show_progress": "hidden", "concurrency_limit": None}
    page.on([a.input, b.input], cards, [a, b], [pictures], trigger_mode="always_last", **quick)

    def choose(visit: Visit, name: str) -> dict:
        pairs = presets.textures(page.models[visit.model])
        first, second = pairs[choice(name, "the preset", pairs)]
        return {a: first, b: second, pictures: cards(visit, first, second)}

    page.on(preset.input, choose, [preset], [a, b, pictures], **quick)

    def refresh(visit: Visit) -> dict:
        names = [(f"{c.index} {c.name}", c.index) for c in visit.own.info]
        pairs = presets.textures(page.models[visit.model])
        name = next(iter(pairs), None)
        first, second = pairs.get(name, ([1], [2]))
        return {
            preset: gr.update(choices=list(pairs), value=name),
            a: gr.update(choices=names, value=first),
            b: gr.update(choices=names, value=second),
            pictures: cards(visit, first, second),
        }

    page.after_decomposing([preset, a, b, pictures], refresh)


def separated(visit: Visit, a: list[int | str], b: list[int | str]) -> dict[str, np.ndarray]:
    """Pictures (S, S, 3) uint8 by name: the two textures and their sum with one raised contrast, the photo without
    each.

    Raises:
        ValueError: a group is empty.
        ValueError: unknown channel, or one in both groups.
    """
    s = visit.own.separate(a, b)
    together = s.a + s.b
    contrast = full_contrast(together)
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
    if not isinstance(a, list) or not isinstance(b, list):
        raise ValueError("a group of channels is no list")
    try:
        shown = separated(visit, a, b)
    except ValueError as error:
        return f'<p class="says">{html.escape(str(error))}</p>'
    listed = lambda group: "channel " + ", ".join(map(str, sorted(group))) + ", contrast raised"
    notes = [listed(a), listed(b), "contrast raised"] + [""] * 3
    return figures(*(figure(p, name.capitalize(), note) for (name, p), note in zip(shown.items(), notes)), kind="large")
