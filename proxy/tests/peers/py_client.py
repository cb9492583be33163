"""A client on the official Python SDK 2.x that holds a conversation (py_conversation.py):

    python py_client.py URL streamable|sse|modern|auto …

A JSON array instead of the URL is a command: the client runs it and speaks stdio to it.
streamable and sse open with initialize (Streamable HTTP, or the HTTP+SSE transport of 2024-11-05); modern is 2026-07-28 or
nothing; auto probes and falls back. Over Streamable HTTP the SDK turns an HTTP error without JSON-RPC in it into the
JSON-RPC error -32603, so that is what a call prints.
"""

import json
import sys
from contextlib import asynccontextmanager

import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from py_conversation import answered, filled, hold, refused

MODES = {"streamable": "legacy", "sse": "legacy", "modern": "2026-07-28", "auto": "auto"}


async def sample(context, params):
    content = types.TextContent(type="text", text="sampled")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def agree(context, params):
    return types.ElicitResult(action="accept", content=filled(params.requested_schema))


def dumped(said):
    return said.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Connected:
    def __init__(self, client: Client):
        self.client = client
        self.protocol = client.protocol_version
        self.server = client.server_info and client.server_info.name

    async def list_tools(self):
        listed = await self.client.list_tools()
        self.said = dumped(listed)
        return [tool.name for tool in listed.tools]

    async def call_tool(self, name, arguments, on_progress):
        try:
            result = await self.client.call_tool(name, arguments, progress_callback=on_progress)
        except MCPError as error:
            return refused(error.code, error.message)
        self.said = dumped(result)
        return answered(result.is_error, result.content)


@asynccontextmanager
async def connect(args, headers):
    if args.url.startswith("["):
        command, *words = json.loads(args.url)
        transport = stdio_client(StdioServerParameters(command=command, args=words))
    elif args.mode == "sse":
        transport = sse_client(args.url, headers=headers)
    else:
        transport = streamable_http_client(args.url, http_client=create_mcp_http_client(headers=headers))
    identity = types.Implementation(name="py-peer", version="1.0.0")
    callbacks = {"sampling_callback": sample, "elicitation_callback": agree}
    async with Client(transport, mode=MODES[args.mode], client_info=identity, **callbacks) as client:
        yield Connected(client)


if __name__ == "__main__":
    sys.exit(hold(connect, MODES))
