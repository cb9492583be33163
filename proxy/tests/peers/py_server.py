"""A server on the official Python SDK with the four tools of the conversation "fixture":

    python py_server.py [--port N] [--transport streamable|sse] [--json] [--stateless]

streamable: path /mcp, every revision up to 2026-07-28; sse: path /sse, the transport of 2024-11-05. Prints
{"port":N} when it listens, ends when its stdin closes, so that a test that dies never leaves it behind.
"""

import argparse
import asyncio
import json
import socket
import sys
import threading

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

STEP_SECONDS = 0.02

server = MCPServer("py-peer", version="1.0.0")


@server.tool(structured_output=False)
def add(a: int, b: int) -> str:
    """The sum of two numbers"""
    return str(a + b)


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """The text it was given"""
    return text


@server.tool(structured_output=False)
def fail() -> str:
    """Always a tool error"""
    raise ToolError("this tool always fails")


@server.tool(structured_output=False)
async def slow(steps: int, ctx: Context) -> str:
    """Takes a while and reports progress"""
    for step in range(1, steps + 1):
        await asyncio.sleep(STEP_SECONDS)
        await ctx.report_progress(step, steps)
    return f"done after {steps} steps"


def app(args: argparse.Namespace):
    if args.transport == "sse":
        return server.sse_app()
    return server.streamable_http_app(json_response=args.json, stateless_http=args.stateless)


async def serve(args: argparse.Namespace) -> None:
    listener = socket.create_server(("127.0.0.1", args.port))
    # asyncio does it for sockets that it has made itself; without it, every answer takes 40 ms longer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Clients keep event streams open for ever; a graceful shutdown must not wait for them.
    config = uvicorn.Config(app(args), log_level="warning", timeout_graceful_shutdown=1)
    http = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def stop_at_end_of_stdin():
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, http, "should_exit", True)

    threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    # The socket listens already: a client that connects now waits in the backlog until uvicorn accepts.
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await http.serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transport", choices=["streamable", "sse"], default="streamable")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stateless", action="store_true")
    asyncio.run(serve(parser.parse_args()))
