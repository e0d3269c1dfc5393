"""The web page: a photo goes in, its channels come out, with a slider for each. One file per tab.

`build` makes it, `launch` serves it. Per visitor there is one `gr.State` with a `Visit` (see visit.py), dropped after an
hour; the models and the decomposed example photos are shared and never change. Nothing outside this machine is asked for.
"""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr

from ..decomposer import Decomposer, load
from ..weights import bundled
from . import api, channels, eyes, guard, photo, strengths, sweep, takeaway, textures
from .pictures import stored
from .uploads import LARGEST_FILE, Gate, refuse
from .visit import Visit, receive

HOUR = 3600  # seconds
WAITING = 64  # visitors in the queue; more are told to come back later
SESSIONS = 500  # visits held at most, the oldest are dropped first
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
HEAD = """<div class="masthead"><h1>decomp</h1><p>A photo of a face, taken apart into channels that a network of small branches
learnt to tell apart by itself. Change the strength of each.</p></div>"""
GONE = "Your photo is no longer here: it is kept for an hour. Please give it again."


class Page:
    """What the tabs share."""

    def __init__(self, models: dict[str, Decomposer]):
        self.models = models
        self.most = max(model.config.branches for model in models.values())
        self.examples = sorted(photo.EXAMPLES.glob("*.png"), key=lambda path: path.stem == "astronaut")  # the cat first
        self.shown_examples = {path.stem: self.framed(self._example(path)) for path in self.examples}
        self.visit = gr.State(None, time_to_live=HOUR)
        self.progress_on = None  # the one component that shows progress and errors of a decomposition
        self._refreshed: list[tuple[list, Callable]] = []
        self._decompositions: list[tuple] = []

    def _example(self, path: Path) -> Visit:
        """Decomposed once, at the start, by the model that looks for that kind of face; shared, as nothing changes it."""
        human = path.stem == "astronaut"
        name = next((n for n, m in self.models.items() if ("human" in m.config.face) == human), next(iter(self.models)))
        model = self.models[name]
        return receive(model, name, path.read_bytes(), path.name, "auto", model.config.size)

    def framed(self, visit: Visit) -> Visit:
        """With the picture that stands before every edit, written once."""
        return replace(visit, before=str(stored(visit.view, "photo.png")))

    def after_decomposing(self, outputs: list, refresh: Callable[[Visit], list]) -> None:
        """What a tab shows of a new decomposition."""
        self._refreshed.append((outputs, refresh))

    def decomposing(
        self, listen: Callable, make: Callable[..., Visit], inputs: list, run: bool = True, **options
    ) -> None:
        """An event that ends in a new visit. Those that run the network wait in one queue."""
        self._decompositions.append((listen, make, inputs, run, options))

    def wire(self, demo: gr.Blocks) -> None:
        """Connect what the column and the tabs have asked for."""
        outputs = [self.visit] + [output for outputs, _ in self._refreshed for output in outputs]

        def shown(visit: Visit) -> list:
            return [visit] + [update for _, refresh in self._refreshed for update in refresh(visit)]

        for listen, make, inputs, run, options in self._decompositions:
            work = _then(make, shown, len(outputs))
            queued = {"concurrency_id": "model", "concurrency_limit": 1} if run else {"queue": False}
            triggers = options.pop("triggers", None)
            arguments = {
                "fn": self.plainly(work),
                "inputs": inputs,
                "outputs": outputs,
                "api_visibility": "private",
                "show_progress_on": self.progress_on,
                **queued,
                **options,
            }
            listen(triggers, **arguments) if triggers else listen(**arguments)
        first = next(iter(self.shown_examples.values()))
        demo.load(lambda: shown(first), None, outputs, show_progress="hidden", queue=False, api_visibility="private")

    @staticmethod
    def plainly(work: Callable) -> Callable:
        """The same function, but whatever a visitor may do wrong ends in one sentence."""

        @functools.wraps(work)
        def said(*args, **kwargs):
            try:
                if args and args[0] is None:
                    raise ValueError(GONE)
                return work(*args, **kwargs)
            except ValueError as error:  # PhotoError is one
                refuse(str(error))
            except MemoryError:
                refuse("This does not fit into the server's memory at this size.")

        return said


def _then(make: Callable[..., Visit | None], shown: Callable[[Visit], list], outputs: int) -> Callable:
    """Make a visit and show it; None, as from a camera that is only switched on, leaves everything as it is."""

    @functools.wraps(make)
    def work(*args, **kwargs):
        visit = make(*args, **kwargs)
        return [gr.skip()] * outputs if visit is None else shown(visit)

    return work


def build(models: dict[str, Decomposer]) -> gr.Blocks:
    """The page for some models, by name."""
    with Gate(title="decomp", analytics_enabled=False, delete_cache=(HOUR // 6, HOUR)) as demo:
        page = Page(models)
        gr.HTML(HEAD)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                photo.column(page)
            with gr.Column(scale=7, min_width=320), gr.Tabs():
                for title, module in {
                    "Channels": channels,
                    "Strengths": strengths,
                    "Sweep": sweep,
                    "Textures": textures,
                    "Eyes": eyes,
                    "Export": takeaway,
                }.items():
                    with gr.Tab(title, id=title) as page.tab:
                        module.tab(page)
        page.wire(demo)
        api.endpoints(page)
    return demo.queue(max_size=WAITING, default_concurrency_limit=2)


def _theme() -> gr.themes.Base:
    """The plain theme with the machine's own fonts, and with text and accent dark enough to read (WCAG AA)."""
    theme = gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="stone", font=FONT, font_mono=MONO)
    return theme.set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_title_text_color="*neutral_700",
        block_label_text_color="*neutral_600",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        checkbox_label_background_fill="*neutral_100",
        checkbox_label_background_fill_hover="*neutral_200",
        checkbox_label_background_fill_dark="*neutral_700",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        block_radius="10px",
    )


def launch(
    names: list[str] | None = None,
    port: int | None = None,
    mcp: bool = False,
    host: str = "127.0.0.1",
    known_as: list[str] | None = None,
    **options,
):
    """Serve the page; returns what `gr.Blocks.launch` returns.

    Args:
        names: models as `decomp.load` takes them; default: all bundled ones.
        port: default: the first free one from 7860 on.
        mcp: offer the API's actions as MCP tools as well.
        host: address to serve at; the default is this machine only.
        known_as: names under which others reach the page, beside `host` and this machine's own two.
    Raises:
        ValueError: a model can't be loaded. OSError: the port is taken.
    """
    # uploads and results lie in a folder of their own, which goes with the server
    folder = tempfile.mkdtemp(prefix="decomp-page-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    models = {Path(name).name: load(name) for name in names or bundled()}
    app = {"middleware": guard.middleware(["127.0.0.1", "localhost", host, *(known_as or [])])}
    if mcp:
        from .mcp import mounted

        app |= mounted(models)
    return build(models).launch(
        server_name=host,
        server_port=port,
        mcp_server=False,  # mcp.py has its own
        share=False,
        ssr_mode=False,
        run_history=False,
        max_file_size=LARGEST_FILE,
        state_session_capacity=SESSIONS,
        footer_links=["api", "settings"],
        theme=_theme(),
        css_paths=Path(__file__).parent / "page.css",
        app_kwargs=app,
        **options,
    )
