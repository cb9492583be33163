"""A server on the official Python SDK 1.x with the four tools of the conversation "fixture":

    python py1_server.py [--port N] [--transport streamable|sse]

Revisions up to 2025-11-25. streamable: path /mcp; sse: path /sse. Prints {"port":N} when it listens, ends when its stdin
closes.
"""

import argparse
import asyncio

from four_tools import register
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from py_serving import serve

server = FastMCP("py1-peer", log_level="ERROR")
register(lambda tool: server.tool(structured_output=False)(tool), Context, ToolError)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transport", choices=["streamable", "sse"], default="streamable")
    args = parser.parse_args()
    app = server.sse_app() if args.transport == "sse" else server.streamable_http_app()
    asyncio.run(serve(app, args.port))
