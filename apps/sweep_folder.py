"""A sweep for every photo: `python apps/sweep_folder.py FOLDER -c 3 -o OUT --jobs N`; as `decomp sweep`."""

import typer

from decomp.cli.pictures import sweep

if __name__ == "__main__":
    typer.run(sweep)
