"""A client on the official Python SDK that starts its server itself and speaks stdio with it:

    python stdio_client.py SPEC

SPEC is the JSON of stdio_client.mjs; its era is "initialize", "modern" or "auto". Prints one JSON object: what was agreed
on, every tool as it is listed, and every answer as it was given.
"""

import asyncio
import json
import sys

import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

MODES = {"initialize": "legacy", "modern": "2026-07-28", "auto": "auto"}


async def sample(context, params):
    content = types.TextContent(type="text", text="sampled")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def ask(client, request, at):
    arguments = dict(request.get("arguments", {}))
    if request.get("parallel"):
        arguments["text"] = arguments["message"] = f"number {at}"
    try:
        return {"result": plain(await client.call_tool(request["name"], arguments))}
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message}}


async def main(spec):
    command, *args = spec["command"]
    server = StdioServerParameters(command=command, args=args, env=spec.get("env"))
    identity = types.Implementation(name="py-stdio", version="1.0.0")
    answers = []
    async with Client(
        stdio_client(server), mode=MODES[spec["era"]], client_info=identity, sampling_callback=sample
    ) as client:
        tools = [plain(tool) for tool in (await client.list_tools()).tools]
        for request in spec["calls"]:
            many = [ask(client, request, at) for at in range(request.get("parallel", 1))]
            answers.extend(await asyncio.gather(*many))
        seen = {"protocol": client.protocol_version, "server": client.server_info and client.server_info.name}
    print(json.dumps({**seen, "tools": tools, "answers": answers}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
