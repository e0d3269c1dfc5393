"""The web page: a photo goes in, its channels come out, with a slider for each. One file per tab.

`build` makes it, `launch` serves it. The models and the decomposed example photos are shared and never change; what a
visitor brings and makes is kept by visits.py. Nothing outside this machine is asked for.
"""

import atexit
import contextlib
import functools
import html
import inspect
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

from ..decomposer import Decomposer, load
from ..weights import bundled
from . import api, channels, eyes, guard, live, photo, relief, strengths, swap, sweep, takeaway, textures
from .pictures import stored, stored_sheet
from .uploads import LARGEST_FILE, Gate, refuse
from .values import asked_for
from .visit import Visit, receive
from .visits import MOST_VISITS, Gone, Visits, open_root

WAITING = 64  # visitors in the queue; more are told to come back later
SWEEP = 60  # seconds between two searches for visits that have expired
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
HEAD = """<div class="masthead"><h1>decomp</h1><p>A network of small branches decomposes a photo of a face into
channels. It learnt by itself what each one shows. Make them stronger or weaker.</p></div>"""
TABS = {
    "Strengths": strengths,
    "Channels": channels,
    "Sweep": sweep,
    "Textures": textures,
    "Eyes": eyes,
    "Swap": swap,
    "Relief": relief,
    "Live": live,
    "Export": takeaway,
}
Updates = dict  # component: what it shows now


class Page:
    """What the column and the tabs share."""

    def __init__(self, models: dict[str, Decomposer], visits: Visits):
        self.models, self.visits = models, visits
        self.most = max(model.config.branches for model in models.values())
        examples = sorted(photo.EXAMPLES.glob("*.png"), key=lambda path: path.stem == "astronaut")  # the cat first
        self.examples = {path.stem: self._example(path) for path in examples}
        self.photo_column: photo.Column | None = None  # set by photo.column
        self.mixer: strengths.Mixer | None = None  # set by strengths.tab
        self.frames = live.Frames(self)
        self._refreshed: list[tuple[list, Callable[[Visit], Updates]]] = []
        self._decompositions: list[tuple] = []

    def _example(self, path: Path) -> Visit:
        """Decomposed once, at the start, by the model that looks for that kind of face."""
        human = path.stem == "astronaut"
        name = next((n for n, m in self.models.items() if ("human" in m.config.face) == human), next(iter(self.models)))
        folder = self.visits.root / "examples" / path.stem
        folder.mkdir(parents=True)
        with self.visits.writing(folder):
            visit = receive(self.models[name], name, path, path.name, "auto", self.models[name].config.size)
            return self.framed(replace(visit, shared=True))

    def _example_for(self, search: str) -> Visit:
        """The example of the model that the page's address names; else the first one."""
        wanted = [visit for visit in self.examples.values() if visit.model == asked_for(search).get("model")]
        return (wanted or list(self.examples.values()))[0]

    def framed(self, visit: Visit) -> Visit:
        """With the picture that stands before every edit and the layers for the browser, written once."""
        tiles, scales = visit.parts()
        before = str(stored(visit.view, "photo.png", kept=True))
        return replace(visit, before=before, sheet=str(stored_sheet(tiles)), scales=scales)

    def after_decomposing(self, outputs: list, refresh: Callable[[Visit], Updates]) -> None:
        """What a tab shows of a new decomposition."""
        self._refreshed.append((outputs, refresh))

    def on(self, triggers, work: Callable, inputs: list, outputs: list, refused: Callable | None = None, **options):
        """An event: the outputs show what `work(visit, *inputs)` returns, or `refused(reason)` if that fails."""
        triggers = triggers if isinstance(triggers, list) else [triggers]
        options = {"api_visibility": "private", "preprocess": False} | options
        return gr.on(triggers, self.plainly(self.of_visit(work), refused), inputs, outputs, **options)

    def decomposing(self, triggers, make: Callable, inputs: list, known: bool = True, run: bool = True) -> None:
        """An event that ends in a new visit: `make(visit, *inputs)`, or `make(*inputs)` if it needs no visit before.

        Those that run the network wait in one queue.
        """
        self._decompositions.append((triggers if isinstance(triggers, list) else [triggers], make, inputs, known, run))

    def replace(self, visit: Visit) -> None:
        """Keep another state of the visitor's photo."""
        self.visits.welcome(_session(), visit)

    def wire(self, demo: gr.Blocks) -> None:
        """Connect what the column and the tabs have asked for."""
        column, mixer = self.photo_column, self.mixer
        outputs = [output for outputs, _ in self._refreshed for output in outputs]

        def shown(visit: Visit) -> Updates:
            return {part: update for _, refresh in self._refreshed for part, update in refresh(visit).items()}

        def welcomed(make: Callable) -> Callable:
            @functools.wraps(make)
            def work(*args, **kwargs):
                session = _session()
                with self.visits.writing(self.visits.folder(session)):
                    visit = make(*args, **kwargs)
                if visit is None:  # as from a camera that is only switched on, or an address that asks for nothing more
                    return {column.photo: gr.skip()}
                self.visits.welcome(session, visit)
                with self.visits.serving(session) as visit:
                    return shown(visit)

            return self.plainly(work, column.refused)

        for triggers, make, inputs, known, run in self._decompositions:
            queued = {"concurrency_id": "model", "concurrency_limit": 1} if run else {"queue": False}
            gr.on(
                triggers,
                welcomed(self.of_visit(make) if known else make),
                inputs,
                outputs,
                preprocess=False,
                api_visibility="private",
                show_progress_on=column.says,
                **queued,
            ).then(**mixer.keep_strengths)

        def first(search: str) -> Updates:
            def visit() -> Visit:
                with contextlib.suppress(Gone):  # the address asks for more, and that was quicker
                    return self.visits.present(_session())
                return self._example_for(search)

            updates = welcomed(visit)()
            updates[session] = f"<span>{html.escape(_session())}</span>"
            for part, value in mixer.from_address(search).items():
                updates[part] = {**updates[part], "value": value} if part in updates else value
            return updates

        search = gr.Textbox(visible=False)
        session = gr.HTML(elem_id="session", elem_classes="unseen")  # live.js names it to the server
        demo.load(
            self.plainly(first, column.refused),
            search,
            [*outputs, *mixer.sliders, mixer.base, session],
            js="() => [location.search]",
            preprocess=False,
            show_progress="hidden",
            queue=False,
            api_visibility="private",
        )
        demo.load(
            welcomed(lambda search: column.from_address(self._example_for(search), search)), search, outputs,
            js="() => [location.search]", preprocess=False, show_progress_on=column.says, api_visibility="private",
            concurrency_id="model", concurrency_limit=1,
        ).then(**mixer.keep_strengths)  # fmt: skip

    def of_visit(self, work: Callable) -> Callable:
        """`work(visit, ...)` as a function of the rest."""

        @functools.wraps(work)
        def of_the_rest(*args, **kwargs):
            with self.visits.serving(_session()) as visit:
                return work(visit, *args, **kwargs)

        signature = inspect.signature(work)
        of_the_rest.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        return of_the_rest

    @staticmethod
    def plainly(work: Callable, refused: Callable[[str], Updates] | None = None) -> Callable:
        """The same function, but a visitor's mistake ends in one sentence, which `refused` shows."""

        @functools.wraps(work)
        def in_one_sentence(*args, **kwargs):
            try:
                return work(*args, **kwargs)
            except ValueError as error:  # PhotoError and Gone are
                return (refused or refuse)(str(error))
            except MemoryError:
                return (refused or refuse)("This does not fit into the server's memory at this size.")

        return in_one_sentence


def _session() -> str:
    """The visitor whose event is served in this thread."""
    request = LocalContext.request.get(None)
    session = getattr(request, "session_hash", None)
    if not session:
        raise Gone("This call names no session; the actions for programs are listed under Use via API.")
    return session


def build(page: Page) -> gr.Blocks:
    """The page for some models."""
    with Gate(title="decomp", analytics_enabled=False) as demo:
        gr.HTML(HEAD)
        with gr.Row(elem_classes="whole"):
            with gr.Column(scale=2, min_width=280, elem_classes="photo-column"):
                photo.column(page)
            with gr.Column(scale=7, min_width=320), gr.Tabs(overflow_behavior="wrap"):
                for title, module in TABS.items():
                    with gr.Tab(title, id=title):
                        module.tab(page)
        page.wire(demo)
        api.endpoints(page)
    return demo.queue(max_size=WAITING, default_concurrency_limit=2)


def _theme() -> gr.themes.Base:
    """The plain theme with the machine's own fonts, and with text and accent dark enough to read (WCAG AA)."""
    theme = gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="stone", font=FONT, font_mono=MONO)
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_title_text_color="*neutral_700",
        block_label_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        color_accent="*primary_700",
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
        ValueError: a model can't be loaded.
        OSError: the port is taken.
    """
    models = {Path(name).name: load(name) for name in names or bundled()}
    visits = Visits(_folder_that_goes_with_the_server())
    app = {"middleware": guard.middleware(["127.0.0.1", "localhost", host, *(known_as or [])], visits.full)}
    if mcp:
        from .mcp import mounted

        app |= mounted(models)
    page = Page(models, visits)
    app["routes"] = [*app.get("routes", []), page.frames.route()]
    demo = build(page)
    visits.built()
    _every(SWEEP, visits.sweep)
    here = Path(__file__).parent
    return demo.launch(
        server_name=host,
        server_port=port,
        mcp_server=False,  # mcp.py has its own
        share=False,
        _frontend=False,  # no request to itself, which on a busy machine or behind a proxy ends the server
        ssr_mode=False,
        run_history=False,
        max_file_size=LARGEST_FILE,
        state_session_capacity=MOST_VISITS,
        footer_links=["api", "settings"],
        theme=_theme(),
        css_paths=here / "page.css",
        head=f"<script>{''.join((here / name).read_text() for name in ('page.js', 'live.js', 'eyes.js'))}</script>",
        app_kwargs=app,
        **options,
    )


def _folder_that_goes_with_the_server() -> Path:
    """Holds uploads, results and Gradio's own files. It is deleted when the server ends, also by SIGTERM."""
    root = open_root()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    if threading.current_thread() is threading.main_thread():
        for ending in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, ending):
                signal.signal(getattr(signal, ending), signal.default_int_handler)
    return root


def _every(seconds: float, work: Callable[[], None]) -> None:
    def run():
        pause = threading.Event()
        while not pause.wait(seconds):
            work()

    threading.Thread(target=run, daemon=True, name="sweep").start()
