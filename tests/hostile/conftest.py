"""One `decomp ui --mcp` for all tests that attack it."""

import pytest
from serving import Server, serve


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Server:
    pytest.importorskip("gradio")
    temp = tmp_path_factory.mktemp("page")
    with serve(temp, "--mcp") as running:
        yield running
    assert "Traceback" not in running.log.read_text(), running.log.read_text()
    assert not list(temp.glob("decomp-page-*"))  # ended by SIGTERM, it leaves nobody's photo
