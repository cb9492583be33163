"""A client on the official Python SDK 1.x that holds a conversation (py_conversation.py):

    python py1_client.py URL streamable|sse …

Both open with initialize: Streamable HTTP, or the HTTP+SSE transport of 2024-11-05.
"""

import sys
from contextlib import asynccontextmanager

from mcp import ClientSession, McpError, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client
from py_conversation import answered, filled, hold, refused


async def sample(context, params):
    content = types.TextContent(type="text", text="sampled")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def agree(context, params):
    return types.ElicitResult(action="accept", content=filled(params.requestedSchema))


class Connected:
    def __init__(self, session: ClientSession, opened: types.InitializeResult):
        self.session = session
        self.protocol = opened.protocolVersion
        self.server = opened.serverInfo.name

    async def list_tools(self):
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def call_tool(self, name, arguments, on_progress):
        try:
            result = await self.session.call_tool(name, arguments, progress_callback=on_progress)
        except McpError as error:
            return refused(error.error.code, error.error.message)
        return answered(result.isError, result.content)


@asynccontextmanager
async def connect(args, headers):
    transport = sse_client if args.mode == "sse" else streamablehttp_client
    identity = types.Implementation(name="py1-peer", version="1.0.0")
    async with transport(args.url, headers=headers) as (reading, writing, *_):
        session = ClientSession(
            reading, writing, sampling_callback=sample, elicitation_callback=agree, client_info=identity
        )
        async with session:
            yield Connected(session, await session.initialize())


if __name__ == "__main__":
    sys.exit(hold(connect, ["streamable", "sse"]))
