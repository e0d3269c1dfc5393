"""The left column: the photo, where its face is, the model."""

from pathlib import Path

import gradio as gr

from . import uploads
from .pictures import outlined
from .visit import Visit, box_in_percent, centred_box, receive

EXAMPLES = Path(__file__).parents[1] / "examples"
AUTO = "auto"
FOUND = {
    "cat": "found by the cat detector",
    "human": "found by the face detector",
    "centre": "not searched for or not found, so the centre",
    "given": "where you put it",
}


def column(page) -> list:
    """Build it; returns the triggers of a decomposition, which are wired when all tabs stand."""
    photo = gr.Image(
        label="Your photo",
        sources=["upload", "webcam", "clipboard"],
        height=190,
        format="png",
        elem_id="photo",
        buttons=[],
        placeholder="Drop a photo of a face here\n- or -\nClick to choose one",
    )
    with gr.Row(elem_classes="examples"):
        examples = {
            p.stem: gr.Button(p.stem.capitalize(), size="sm", icon=str(p), min_width=100) for p in page.examples
        }
    scene = gr.Image(
        label="The photo and the square of the face",
        alt_text="The photo, with everything outside the square of the face dimmed",
        show_label=False,
        format="png",
        interactive=False,
        elem_id="scene",
        buttons=[],
    )
    page.progress_on = says = gr.HTML(elem_id="says")
    model = gr.Radio(
        [(f"{name}: {', '.join(m.config.domains)}", name) for name, m in page.models.items()],
        value=next(iter(page.models)),
        label="Model",
    )
    with gr.Accordion("Class, size, square", open=False):
        domain = gr.Dropdown([AUTO], value=AUTO, label="Class of the photo", filterable=False)
        size = gr.Radio([], label="Pixels of the decomposed square")
        across = gr.Slider(0, 100, 50, step=0.5, label="Centre across, % of the width", buttons=[])
        down = gr.Slider(0, 100, 50, step=0.5, label="Centre down, % of the height", buttons=[])
        part = gr.Slider(5, 100, 100, step=0.5, label="Side, % of the short side", buttons=[])
        with gr.Row():
            use = gr.Button("Use this square", size="sm", min_width=120)
            find = gr.Button("Find the face again", size="sm", min_width=120)
    square = [across, down, part]

    def sizes(name: str) -> list[int]:
        trained = page.models[name].config.size
        return sorted({trained, 128, 256})

    def upload(name: str, size: int, value: dict | None, progress=gr.Progress()):
        if value is None:
            return None
        progress(0, desc="Finding the face and running the network")
        return fresh(name, *uploads.read(value), AUTO, size)

    def fresh(name: str, data: bytes, title: str, domain: str, size: int, box=None) -> Visit:
        model = page.models[name]
        size = size if size in sizes(name) else model.config.size
        return page.framed(receive(model, name, data, title, domain, size, box))

    def again(visit: Visit, name: str, domain: str, size: int, box=None) -> Visit:
        domain = domain if domain in page.models[name].config.domains else AUTO
        return fresh(name, visit.data, visit.name, domain, size, box)

    keep = [page.visit, model, domain, size]
    page.decomposing(photo.input, upload, [model, size, photo], preprocess=False)
    for stem, button in examples.items():
        page.decomposing(button.click, lambda stem=stem: page.shown_examples[stem], [], run=False)
    page.decomposing(model.input, lambda visit, name: again(visit, name, AUTO, 0), [page.visit, model])
    page.decomposing(
        gr.on,
        lambda visit, name, domain, size: again(
            visit, name, domain, size, visit.own.box if visit.own.box.found == "given" else None
        ),
        keep,
        triggers=[domain.input, size.input],
    )
    page.decomposing(find.click, lambda visit, name, domain, size: again(visit, name, domain, size), keep)
    page.decomposing(
        gr.on,
        lambda visit, name, domain, size, *percent: again(visit, name, domain, size, centred_box(visit, *percent)),
        [*keep, *square],
        triggers=[use.click, *(s.release for s in square)],
    )

    def click(visit: Visit, name: str, domain: str, size: int, part: float, at: gr.SelectData):
        height, width = visit.scene.shape[:2]
        x, y = at.index[:2]
        return again(visit, name, domain, size, centred_box(visit, 100 * x / width, 100 * y / height, part))

    page.decomposing(scene.select, click, [*keep, part])

    def draw(visit: Visit, *percent):
        left, top, side = (value / visit.size[0] for value in centred_box(visit, *percent))
        return outlined(visit.scene, left, top, side)

    gr.on(
        [s.input for s in square],
        page.plainly(draw),
        [page.visit, *square],
        scene,
        show_progress="hidden",
        trigger_mode="always_last",
        queue=False,
        api_visibility="private",
    )

    def refresh(visit: Visit) -> list:
        d, config = visit.own, page.models[visit.model].config
        left, top, side = (value / visit.size[0] for value in (d.box.left, d.box.top, d.box.side))
        told = f" ({d.confidence[d.domain]:.0%} sure)" if d.confidence else ""
        summary = f"Taken for: <b>{d.domain}</b>{told}<br>Face: {FOUND[d.box.found]}, {d.box.side} of {visit.size[0]} x {visit.size[1]} pixels. Click the photo to move it."
        labels = [(f"{s}, as trained" if s == config.size else str(s), s) for s in sizes(visit.model)]
        return [
            None,
            outlined(visit.scene, left, top, side),
            f'<p class="says">{summary}</p>',
            visit.model,
            gr.update(choices=[AUTO, *config.domains], value=AUTO if d.confidence else d.domain),
            gr.update(choices=labels, value=len(d.picture)),
            *box_in_percent(visit),
        ]

    page.after_decomposing([photo, scene, says, model, domain, size, *square], refresh)
