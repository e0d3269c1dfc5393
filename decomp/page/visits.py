"""Who is here: each visitor's photo and files, how long they are kept and how much room they may take.

A visitor is a session of the page. A photo and all that was made of it lie in one folder, which goes an hour after the
last use, when the room is needed, or with the server. The layers of the last few visitors are in memory, those of the
others on disk.
"""

import contextlib
import ctypes
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..decomposition import Decomposition
from .visit import Visit

HOUR = 3600  # seconds since the last use
MOST_VISITS = 200
IN_MEMORY = 8  # visits; 12 MB each at 256 x 256 pixels
MOST_OF_ONE = 200 * 2**20  # bytes of one visitor's files
MOST_EDITS = 4  # pictures of moved sliders; the page shows the last one
MOST_IN_ALL = 2 * 2**30  # bytes
PREFIX = "decomp-page-"
GONE = "Your photo is no longer here: it is kept for an hour after the last use. Please give it again."
CROWDED = "Your photo is no longer here: other visitors needed the room. Please give it again."
KEPT = "kept"  # folder in a visitor's own for what the visit itself needs
folder_in_use: ContextVar[Path | None] = ContextVar("folder_in_use", default=None)


class Gone(ValueError):
    """The visit is over; the message says why."""


@dataclass
class Entry:
    """One visitor."""

    visit: Visit | None  # None before the first photo; without its layers while they are on disk
    folder: Path
    used: float  # when, on the monotonic clock
    layers: Path | None = None  # where the layers are on disk, once they were put there
    parked: bool = False  # whether they are there alone

    def stored(self) -> int:
        return sum(size for _, size, _ in _files(self.folder))


class Visits:
    """All visitors of one server. Every method may be called from any thread."""

    def __init__(self, root: Path):
        self.root = root
        self.entries: OrderedDict[str, Entry] = OrderedDict()  # by session, the last used at the end
        self.sent_away: OrderedDict[str, str] = OrderedDict()  # why, for the last ones
        self.lock = threading.RLock()
        self.pages_own = {"visits", "answers", "examples", ".lock"}  # in the root; never swept
        for part in ("visits", "answers"):
            (root / part).mkdir(exist_ok=True)

    def built(self) -> None:
        """What lies in the root now belongs to the page itself, as the pictures on its buttons do."""
        self.pages_own |= {item.name for item in self.root.iterdir()}

    def folder(self, session: str) -> Path:
        """Of a visitor, also of one who has no photo yet."""
        with self.lock:
            if session not in self.entries:
                folder = self.root / "visits" / uuid.uuid4().hex
                folder.mkdir()
                self.entries[session] = Entry(None, folder, time.monotonic())
            return self.entries[session].folder

    def welcome(self, session: str, visit: Visit) -> None:
        """Keep a visit in the place of the visitor's last one."""
        with self.lock:
            folder = self.folder(session)
            self.entries[session] = Entry(visit, folder, time.monotonic())
            self.entries.move_to_end(session)
            self.sent_away.pop(session, None)
            needed = {Path(file).parent for file in (visit.source, visit.before, visit.sheet)}
            for item in (folder / KEPT).glob("*"):
                if item not in needed:
                    _remove(item)
            self._make_room()

    def present(self, session: str) -> Visit:
        """The visitor's photo, used now; its layers may be on disk.

        Raises:
            Gone: there is none.
        """
        with self.lock:
            entry = self.entries.get(session)
            if entry is None or entry.visit is None:
                raise Gone(self.sent_away.get(session, GONE))
            entry.used = time.monotonic()
            self.entries.move_to_end(session)
            return entry.visit

    @contextlib.contextmanager
    def serving(self, session: str) -> Iterator[Visit]:
        """The visitor's photo, used now; files that are made meanwhile go into the visitor's folder.

        Raises:
            Gone: there is none.
        """
        with self.lock:
            visit, entry = self.present(session), self.entries[session]
            if entry.parked:
                visit = entry.visit = _with_layers(visit, entry.layers)
                entry.parked = False
                self._park_all_but(IN_MEMORY)
        with self.writing(entry.folder):
            yield visit
        _trim(entry.folder)

    @contextlib.contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """Files of this block go into a folder."""
        token = folder_in_use.set(folder)
        try:
            yield
        finally:
            folder_in_use.reset(token)

    def sweep(self) -> None:
        """Send away whoever did nothing for an hour, and remove what nobody asked for within one."""
        with self.lock, contextlib.suppress(FileNotFoundError):  # the server ends and its folder has gone
            now = time.monotonic()
            for session in [s for s, entry in self.entries.items() if now - entry.used > HOUR]:
                self._send_away(session, GONE)
            for item in self._passing():
                if time.time() - _touched(item) > HOUR:
                    _remove(item)
            folders = {entry.folder for entry in self.entries.values()}
            for folder in (self.root / "visits").iterdir():  # written by an event whose visit ended meanwhile
                if folder not in folders:
                    _remove(folder)
            self._make_room()
        give_memory_back()

    def full(self) -> bool:
        """Whether there is no room for an upload, even after deleting all that may be deleted."""
        with self.lock, contextlib.suppress(FileNotFoundError):
            self._make_room()
            return self._stored() > MOST_IN_ALL
        return True

    def _make_room(self) -> None:
        while len(self.entries) > MOST_VISITS:
            oldest = list(self.entries)[:-1]
            idle = (
                s for s in oldest if self.entries[s].visit is None or self.entries[s].visit.shared
            )  # has only looked
            self._send_away(next(idle, oldest[0]), CROWDED)
        too_much = self._stored() - MOST_IN_ALL
        for item in sorted(self._passing(), key=_touched):
            if too_much <= 0:
                break
            too_much -= _size(item)
            _remove(item)
        for session in list(self.entries)[:-1]:
            if too_much <= 0:
                break
            too_much -= self.entries[session].stored()
            self._send_away(session, CROWDED)
        self._park_all_but(IN_MEMORY)

    def _park_all_but(self, most: int) -> None:
        parked = False
        for entry in list(self.entries.values())[:-most]:
            if entry.visit is not None and not entry.parked and not entry.visit.shared:
                if entry.layers is None:
                    entry.layers = entry.folder / KEPT / f"layers {uuid.uuid4().hex}"
                    _write_layers(entry.visit, entry.layers)
                entry.visit, entry.parked = _without_layers(entry.visit), True
                parked = True
        if parked:
            give_memory_back()

    def _send_away(self, session: str, why: str) -> None:
        _remove(self.entries.pop(session).folder)
        self.sent_away[session] = why
        while len(self.sent_away) > 10 * MOST_VISITS:
            self.sent_away.popitem(last=False)

    def _passing(self) -> list[Path]:
        """Uploads and answers of the API, which belong to no visit."""
        uploads = [item for item in self.root.iterdir() if item.name not in self.pages_own]
        return uploads + list((self.root / "answers").iterdir())

    def _stored(self) -> int:
        return sum(size for _, size, _ in _files(self.root))


ARRAYS = ("picture", "residual", "channels")


def _with_layers(visit: Visit, folder: Path) -> Visit:
    """With the layers mapped from their files: of these only what is used is read, and nothing need be written back."""

    def read(d: Decomposition, prefix: str) -> Decomposition:
        files = {name: folder / f"{prefix}{name}.npy" for name in ARRAYS}
        return replace(d, **{name: np.asarray(np.load(file, mmap_mode="c")) for name, file in files.items()})

    own = read(visit.own, "")
    turned = read(visit.turned, "turned_") if (folder / "turned_channels.npy").exists() else own
    return replace(
        visit, own=own, turned=turned, view=np.load(folder / "view.npy"), scene=np.load(folder / "scene.npy")
    )


def _write_layers(visit: Visit, folder: Path) -> None:
    folder.mkdir(parents=True)
    layers = {name: getattr(visit.own, name) for name in ARRAYS} | {"view": visit.view, "scene": visit.scene}
    if visit.turned is not visit.own:
        layers |= {f"turned_{name}": getattr(visit.turned, name) for name in ARRAYS}
    for name, array in layers.items():
        np.save(folder / f"{name}.npy", array)


def _without_layers(visit: Visit) -> Visit:
    """The visit without its arrays, which take most of its memory."""
    own, turned = (replace(d, **dict.fromkeys(ARRAYS)) for d in (visit.own, visit.turned))
    return replace(visit, own=own, turned=turned, view=None, scene=None)


def _trim(folder: Path) -> None:
    """Remove a visitor's oldest pictures of moved sliders, and the oldest of all files beyond `MOST_OF_ONE`."""
    kept = (folder, folder / KEPT)
    made = sorted(
        (f for f in _files(folder) if f[0].parent not in kept and f[0].parent.parent not in kept[1:]),
        key=lambda f: f[2],
    )
    edits = [path for path, _, _ in made if path.name == "edited.png"][:-MOST_EDITS]
    too_much = sum(size for path, size, _ in made if path not in edits) - MOST_OF_ONE
    for path in edits:
        _remove(path.parent)
    for path, size, _ in made[:-1]:
        if too_much > 0 and path not in edits:
            too_much -= size
            _remove(path.parent)


def _files(folder: Path) -> list[tuple[Path, int, float]]:
    """Path, bytes and time of writing of every file below a folder that is there at this moment."""
    files = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path := Path(parent, name))
                files.append((path, status.st_size, status.st_mtime))
    return files


def _size(item: Path) -> int:
    return sum(size for _, size, _ in _files(item)) if item.is_dir() else item.lstat().st_size


def _touched(item: Path) -> float:
    """When an upload or anything in its folder was last written or read, seconds since the epoch."""
    with contextlib.suppress(FileNotFoundError):
        return max([item.lstat().st_mtime, *(time for _, _, time in _files(item))])
    return 0.0


def _remove(item: Path) -> None:
    if item.is_dir() and not item.is_symlink():
        shutil.rmtree(item, ignore_errors=True)
    else:
        item.unlink(missing_ok=True)


def open_root() -> Path:
    """A folder for this server, which holds a lock as long as the process lives; those of dead servers are removed.

    The process that ends, in whatever way, gives its lock back, so that what a crash left is found at the next start.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            with FileLock(old / ".lock", timeout=0):
                pass
            shutil.rmtree(old, ignore_errors=True)
    root = Path(os.path.realpath(tempfile.mkdtemp(prefix=PREFIX)))
    _locks.append(FileLock(root / ".lock", timeout=0))
    _locks[-1].acquire()
    return root


_locks: list[FileLock] = []


def give_memory_back() -> None:
    """Ask the allocator for what is free; without it glibc keeps the pages of every visit that has gone."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
