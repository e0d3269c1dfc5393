"""What the READMEs say is there: files behind their links, commands and options in their examples."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from decomp.cli import app

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("decomp/**/README.md")), ROOT / "apps" / "gallery" / "README.md"]
of_file = pytest.mark.parametrize("file", READMES, ids=lambda file: str(file.relative_to(ROOT)))


def commands(text: str) -> list[list[str]]:
    """The words of every `decomp ...` in the shell examples, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    words = [shlex.split(line, comments=True) for line in lines]
    return [
        w[i + 1 :] for w in words for i in range(len(w)) if w[i].rpartition("/")[2] == "decomp" and "clone" not in w
    ]


@of_file
def test_links_lead_to_files(file):
    text = file.read_text()
    targets = re.findall(r"\]\(([^)]*(?:\([^)]*\)[^)]*)?)\)", text) + re.findall(
        r"^\[[^]]+\]: (\S+)$", text, re.MULTILINE
    )
    missing = [t for t in targets if "://" not in t and not (file.parent / t.split("#")[0]).exists()]
    assert not missing


@of_file
def test_commands_and_their_options_exist(file):
    for words in commands(file.read_text()):
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"decomp has no command {words[0]}"
            command, words = command.commands[words[0]], words[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, words


def test_the_first_page_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 130 and max(map(len, lines)) <= 140
