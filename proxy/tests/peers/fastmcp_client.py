"""A client on FastMCP that holds a conversation (py_conversation.py):

    python fastmcp_client.py URL streamable|sse …

Which revision it opens with is FastMCP's own choice.
"""

import sys
from contextlib import asynccontextmanager

import mcp_types as types
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport
from mcp import MCPError
from py_conversation import answered, filled, hold, refused


async def sample(messages, params, context):
    return "sampled"


async def agree(message, response_type, params, context):
    return filled(params.requested_schema)


class Connected:
    def __init__(self, client: Client):
        self.client = client
        self.protocol = client.protocol_version
        self.server = client.server_info and client.server_info.name

    async def list_tools(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call_tool(self, name, arguments, on_progress):
        try:
            result = await self.client.call_tool_mcp(name, arguments, progress_handler=on_progress)
        except MCPError as error:
            return refused(error.code, error.message)
        return answered(result.is_error, result.content)


@asynccontextmanager
async def connect(args, headers):
    transport = SSETransport if args.mode == "sse" else StreamableHttpTransport
    identity = types.Implementation(name="fastmcp-peer", version="1.0.0")
    callbacks = {"sampling_handler": sample, "elicitation_handler": agree}
    async with Client(transport(args.url, headers=headers), client_info=identity, **callbacks) as client:
        yield Connected(client)


if __name__ == "__main__":
    sys.exit(hold(connect, ["streamable", "sse"]))
