"""The eyes of every cat below a folder: `python apps/segment_eyes.py FOLDER -o OUT --jobs N`; as `decomp eyes`."""

import typer

from decomp.cli.eyes import eyes

if __name__ == "__main__":
    typer.run(eyes)
