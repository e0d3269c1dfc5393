"""`python -m apps.ui` opens the web page, as `decomp ui` does."""

from decomp.cli import app

if __name__ == "__main__":
    app(["ui"])
