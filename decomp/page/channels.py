"""Tab: the layers of the photo."""

import gradio as gr

from ..decomposition import Picture, full_contrast, raised, to_bytes
from .pictures import figure, figures
from .values import choice
from .visit import Visit

VIEWS = [("at their own contrast", "raw"), ("contrast raised", "raised"), ("added to the picture", "added")]
EXPLAINED = """<div class="says"><p>What the photo is made of: a smooth base, the channels, and what the network
leaves unexplained add up to it.
In a channel mid-grey is nothing, brighter adds light, darker takes it away.</p></div>"""


def tab(page) -> None:
    gr.HTML(EXPLAINED)
    view = gr.Radio(VIEWS, value="raw", label="Show channels")
    cards = gr.HTML(elem_id="cards")

    page.on(view.input, channel_cards, [view], [cards], show_progress="hidden", concurrency_limit=None)
    page.after_decomposing([view, cards], lambda visit: {view: "raw", cards: channel_cards(visit, "raw")})


def channel_cards(visit: Visit, view: str) -> str:
    """Every layer as a captioned picture; ValueError for an unknown view."""
    choice(view, "what is shown", (key for _, key in VIEWS))
    d = visit.own
    largest = max(c.energy for c in d.info) or 1
    cards = []
    for c in d.info:
        picture = {"raised": d.raised, "added": d.added, "raw": d.layer}[view](c.index)
        note = f"energy {c.energy:.3f}" + ("" if c.active else ", silent")
        note += f", {times(d.layer(c.index))}" if view == "raised" else ""
        bar = f'<div class="energy" aria-hidden="true"><i style="width:{100 * c.energy / largest:.0f}%"></i></div>'
        cards.append(figure(to_bytes(picture), f"{c.index} {c.name}", note, bar, "" if c.active else "silent"))
    together = d.channels.sum(axis=0)
    every = f"{sum(c.active for c in d.info)} of {len(d.info)} active, {times(together)}"
    terms = [
        figure(visit.view, "x, the photo", d.stated or ""),
        figure(to_bytes(d.residual), "R, the smooth base", "over-smoothed"),
        figure(to_bytes(raised(together)), "all channels", every),
        figure(to_bytes(d.raised("unexplained")), "E, unexplained", f"x - f(x), {times(d.unexplained)}"),
    ]
    signs = ["<b>=</b>", "<b>+</b>", "<b>+</b>", ""]
    equation = "".join(term + sign for term, sign in zip(terms, signs))
    cards.append(figure(to_bytes(d.regenerated), "f(x), re-generated", "R and all channels, without E"))
    return f'<div class="figures sum">{equation}</div>' + figures(*cards)


def times(layer: Picture) -> str:
    """By how much the contrast of a layer is raised."""
    return f"raised {1 / full_contrast(layer):.1f} times"
