"""Every layer of every photo: `python apps/decompose_folder.py FOLDER -o OUT --jobs N`; as `decomp decompose`."""

import typer

from decomp.cli.pictures import decompose

if __name__ == "__main__":
    typer.run(decompose)
