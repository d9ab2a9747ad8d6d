"""The app as a tool of a language model, called by a real MCP client."""

import ast
import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.server import ROOT, running_app

CAT = ROOT / "cifar_torch" / "webui" / "examples" / "cat.png"


async def call_tool(url: str, picture: str) -> tuple[list, dict]:
    """The tools that are offered, and the answer of the only one about a picture."""
    async with (
        streamable_http_client(f"{url}/gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        result = await session.call_tool(tools[0].name, {"image": picture})
        assert not result.isError, result.content
        return tools, ast.literal_eval(result.content[0].text)


def test_a_language_model_finds_the_tool_and_gets_an_answer(checkpoints):
    with running_app("--checkpoints", checkpoints, "--mcp") as app:
        picture = f"data:image/png;base64,{base64.b64encode(CAT.read_bytes()).decode()}"
        with ThreadPoolExecutor(1) as pool:  # a thread without Playwright's event loop
            tools, answer = pool.submit(asyncio.run, call_tool(app.url, picture)).result()
    assert [tool.name for tool in tools] == ["classify"]
    assert "which of ten classes a picture shows" in tools[0].description
    assert "airplane, automobile, bird" in tools[0].description
    assert "none of these" in tools[0].description
    assert "the picture, of any size" in tools[0].inputSchema["properties"]["image"]["description"]
    assert answer["label"] == "cat"
