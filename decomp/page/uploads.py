"""The one gate between what a visitor sends and the file system. Every event and every action of the API passes it.

A photo arrives as a dict that names a file. Gradio checks the path only where the dict says of itself that it is a file
(`meta._type`), and would fetch a URL. So `Gate` checks every value before Gradio does: a photo must name a regular file
inside the upload folder. Any other path gets the same answer, whether it exists or not.
"""

import contextlib
import html
import os
import stat
import unicodedata
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

import gradio as gr
from gradio.utils import get_upload_folder

LARGEST_FILE = 25 * 2**20  # bytes
LONGEST_NAME = 80  # characters of a file's name that are kept
LONGEST_TEXT = 2000  # characters of any other text
# POSIX; on Windows there is neither a FIFO to wait for nor such a flag
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
NO_UPLOAD = "there is no such upload here; accepted: a photo that was uploaded to this page, within the last hour"


class Upload(NamedTuple):
    """A photo as it was sent."""

    data: bytes
    name: str


class Gate(gr.Blocks):
    """A page whose events get checked values only: numbers, short text, lists of these, and uploaded photos."""

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        if len(inputs) != len(block_fn.inputs):
            refuse(f"{len(inputs)} values are given; accepted: {len(block_fn.inputs)}")
        try:
            inputs = [_checked(block, value) for block, value in zip(block_fn.inputs, inputs, strict=True)]
        except ValueError as error:
            refuse(str(error))
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def refuse(reason: str) -> NoReturn:
    """End an event with one sentence to the visitor, and without a traceback in the server's log."""
    raise gr.Error(html.escape(reason, quote=False), print_exception=False)


def _checked(block, value):
    if isinstance(block, gr.State):
        return value  # the server's own; nothing that a visitor sends arrives here
    if isinstance(block, gr.Image):
        return None if value is None else photo(value)
    if not _plain(value):
        raise ValueError(
            f"{getattr(block, 'label', None) or 'a value'}: is no number, no list and no text of at most "
            f"{LONGEST_TEXT} characters"
        )
    return value


def _plain(value, nested: bool = False) -> bool:
    if isinstance(value, list):
        return not nested and len(value) <= 100 and all(_plain(part, True) for part in value)
    return (
        value is None
        or isinstance(value, (bool, int, float))
        or (isinstance(value, str) and len(value) <= LONGEST_TEXT)
    )


def photo(value) -> dict:
    """What Gradio may take for a file: path and name of an upload, and nothing else of what was sent.

    Raises:
        ValueError: it names no regular file inside the upload folder, or one of more than `LARGEST_FILE` bytes.
    """
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str):
        raise ValueError(NO_UPLOAD)
    path = inside(path)
    file = _opened(path)
    try:
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    name = file_name(value.get("orig_name") or path.name)
    if size > LARGEST_FILE:
        raise ValueError(f"{name}: is larger than {LARGEST_FILE // 2**20} MB")
    return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def read(photo: dict) -> Upload:
    """Content and name of a photo that passed the gate; what is read is what was checked, however the path changes
    meanwhile.

    Raises:
        ValueError: as `photo`, if the file has gone or grown.
    """
    path = inside(photo["path"])
    with open(_opened(path), "rb") as file:
        data = file.read(LARGEST_FILE + 1)
    with contextlib.suppress(OSError):
        os.utime(path)  # the hour runs from the last use
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{photo['orig_name']}: is larger than {LARGEST_FILE // 2**20} MB")
    return Upload(data, photo["orig_name"])


def keep(photo: dict, path: Path) -> None:
    """Give a photo that passed the gate a second name, under which it stays when the upload goes."""
    upload = inside(photo["path"])
    try:
        os.link(upload, path, follow_symlinks=False)
    except OSError:  # a file system without links
        path.write_bytes(read(photo).data)


def exists(path: str) -> None:
    """Raises ValueError unless it is a regular file inside the upload folder."""
    os.close(_opened(inside(path)))


def inside(path: str) -> Path:
    """A path inside the upload folder; the file system is not asked about any other.

    Raises:
        ValueError: it is another, with the sentence of a file that does not exist.
    """
    folder = os.path.realpath(get_upload_folder())
    plain = os.path.normpath(path)
    if "\0" in path or os.path.commonpath([folder, os.path.join("/", plain)]) != folder or plain == folder:
        raise ValueError(NO_UPLOAD)
    if os.path.realpath(plain) != plain:  # a link on the way
        raise ValueError(NO_UPLOAD)
    return Path(plain)


def _opened(path: Path) -> int:
    """Descriptor of a regular file. A FIFO, a device, a folder and a link are none, and opening them never waits."""
    try:
        file = os.open(path, READ)
    except OSError:
        raise ValueError(NO_UPLOAD) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ValueError(NO_UPLOAD)
    return file


def file_name(name) -> str:
    """The last part of a name as a visitor gave it, printable and short, its suffix kept."""
    last = PurePosixPath(str(name).replace("\\", "/")).name
    printable = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip(" .") or "photo"
    stem, dot, suffix = printable.rpartition(".")
    if not dot or len(suffix) > 5:
        return printable[:LONGEST_NAME]
    return f"{stem[: LONGEST_NAME - 6]}.{suffix}"
