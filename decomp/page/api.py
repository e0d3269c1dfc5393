"""The actions as named endpoints for `gradio_client` and `curl`."""

import functools
import inspect

import gradio as gr

from . import takeaway, uploads
from .actions import AUTO, COMMON, Actions

PHOTO = "    photo: a file: JPEG, PNG, WebP, TIFF, BMP or GIF."


def endpoints(page) -> None:
    """Build them; they are invisible on the page itself."""
    actions, names = Actions(page.models), list(page.models)
    with gr.Column(visible=False):
        photo = gr.Image(label="photo")
        common = [
            gr.Dropdown([AUTO, *names], value=AUTO, label="model"),
            gr.Textbox(AUTO, label="domain"),
            gr.Number(0, precision=0, label="size"),
            gr.Textbox("", label="box"),
        ]
        base = gr.Dropdown(["photo", "regenerated"], value="photo", label="base")
        strengths, target, crop = (
            gr.Textbox("", label="strengths"),
            gr.Textbox("", label="target"),
            gr.Checkbox(False, label="crop"),
        )
        channel, first, last = gr.Textbox(label="channel"), gr.Number(-1, label="first"), gr.Number(3, label="last")
        steps = gr.Number(9, precision=0, label="steps")
        a, b = gr.Textbox(label="a"), gr.Textbox(label="b")
        kind = gr.Dropdown(list(takeaway.NOTES), value=takeaway.LAYERS, label="kind")
        file, facts, files = (
            gr.File(label="file"),
            gr.JSON(label="result"),
            gr.File(label="files", file_count="multiple"),
        )
        picture, second = gr.Image(label="picture", format="png"), gr.File(label="animation")

        def offer(action, inputs: list, outputs, name: str | None = None) -> None:
            gr.Button(action.__name__).click(
                page.plainly(action),
                inputs,
                outputs,
                api_name=name or action.__name__,
                preprocess=False,
                concurrency_id="model",
                concurrency_limit=1,
            )

        offer(_of_an_upload(actions.decompose), [photo, *common], [picture, facts])
        offer(_of_an_upload(actions.recompose), [photo, strengths, base, target, crop, *common], file)
        offer(
            _of_an_upload(actions.sweep_channel), [photo, channel, first, last, steps, base, *common], [picture, second]
        )
        offer(_of_an_upload(actions.separate), [photo, a, b, *common], files)
        offer(_of_an_upload(actions.eyes), [photo, *common], [picture, file, facts])
        giver = gr.Image(label="giver")
        layers, amount, keep = (
            gr.Textbox("residual", label="layers"),
            gr.Number(1, label="amount"),
            gr.Number(0, label="keep"),
        )
        offer(_of_an_upload(actions.swap), [photo, giver, layers, amount, keep, *common], [file, facts])
        light, depth = gr.Textbox("", label="channels"), gr.Number(1, label="depth")
        offer(_of_an_upload(actions.relief), [photo, light, depth, *common], [file, second])
        offer(_of_an_upload(actions.take_away), [photo, kind, *common], file)
        offer(actions.list_models, [], facts, "models")


def _of_an_upload(action):
    """The action with its photos as the API sends them, and the text that becomes the API's page."""
    photos = [i for i, p in enumerate(inspect.signature(action).parameters.values()) if p.annotation is uploads.Upload]

    @functools.wraps(action)
    def called(*args):
        result = action(*(_read(arg) if i in photos else arg for i, arg in enumerate(args)))
        if not isinstance(result, (tuple, list)):
            return str(result)
        return type(result)(str(part) if isinstance(part, uploads.Path) else part for part in result)

    called.__doc__ = documented(action, PHOTO)
    return called


def _read(photo: dict | None) -> uploads.Upload:
    if photo is None:
        raise ValueError("no photo is given; accepted: a file with a photo")
    return uploads.read(photo)


def documented(action, photo: str) -> str:
    """The docstring of an action with the arguments that all actions share."""
    text, returns = inspect.getdoc(action).split("Returns:")
    summary, _, own = text.partition("Args:\n")
    return "\n".join(
        [summary.rstrip(), "", "Args:", photo, *([own.rstrip()] if own else []), COMMON, "Returns:" + returns]
    )
