"""A server on the official Python SDK 2.x with the four tools of the conversation "fixture":

    python py_server.py [--port N] [--transport streamable|sse|stdio] [--json] [--stateless]

streamable: path /mcp, every revision up to 2026-07-28; sse: path /sse, the transport of 2024-11-05. Prints
{"port":N} when it listens, ends when its stdin closes, so that a test that dies never leaves it behind. stdio: a program
that speaks MCP over its pipes, without a port.
"""

import argparse
import asyncio

from four_tools import register
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from py_serving import serve

MOST_BYTES = 16 * 1024 * 1024  # of a request; by default 4 MiB

server = MCPServer("py-peer", version="1.0.0")
register(lambda tool: server.tool(structured_output=False)(tool), Context, ToolError)


def app(args: argparse.Namespace):
    if args.transport == "sse":
        return server.sse_app()
    return server.streamable_http_app(
        json_response=args.json, stateless_http=args.stateless, max_request_body_size=MOST_BYTES
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transport", choices=["streamable", "sse", "stdio"], default="streamable")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stateless", action="store_true")
    args = parser.parse_args()
    if args.transport == "stdio":
        server.run("stdio")
    else:
        asyncio.run(serve(app(args), args.port))
