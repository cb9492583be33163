"""A server on FastMCP with the four tools of the conversation "fixture":

    python fastmcp_server.py [--port N] [--transport streamable|sse]

streamable: path /mcp; sse: path /sse. Prints {"port":N} when it listens, ends when its stdin closes.
"""

import argparse
import asyncio

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from four_tools import register
from py_serving import serve

server = FastMCP("fastmcp-peer", version="1.0.0")
register(lambda tool: server.tool(output_schema=None)(tool), Context, ToolError)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transport", choices=["streamable", "sse"], default="streamable")
    args = parser.parse_args()
    asyncio.run(serve(server.http_app(transport={"sse": "sse"}.get(args.transport, "http")), args.port))
