"""A client on the official Python SDK that holds one conversation and prints one JSON object per step:

    python py_client.py URL streamable|sse|modern|auto [--conversation NAME|JSON] [--user-agent X] [--header 'K: V']...

streamable and sse open with initialize (Streamable HTTP, or the HTTP+SSE transport of 2024-11-05); modern is
2026-07-28 or nothing; auto probes and falls back. Conversations are in conversations.json; JSON is one of that
shape. Exit code 0 only if every answer is one the conversation allows; a last line {"step":"failed","message":…} if
there was no conversation or it broke off. Over Streamable HTTP the SDK turns an HTTP error without JSON-RPC in it
into the JSON-RPC error -32603, so that is what a call prints.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import Implementation

MODES = {"streamable": "legacy", "sse": "legacy", "modern": "2026-07-28", "auto": "auto"}


def say(**step):
    print(json.dumps(step, ensure_ascii=False), flush=True)


def load_conversation(name: str) -> dict:
    if name.startswith("{"):
        return json.loads(name)
    return json.loads(Path(__file__).with_name("conversations.json").read_text("utf-8"))[name]


def transport(args: argparse.Namespace):
    headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in args.header)}
    if args.user_agent:
        headers["User-Agent"] = args.user_agent
    if args.mode == "sse":
        return sse_client(args.url, headers=headers)
    return streamable_http_client(args.url, http_client=create_mcp_http_client(headers=headers))


async def call(client: Client, tool: str, arguments: dict, progress: int = 0, **_) -> dict:
    seen = []

    async def count(value, total, message):
        seen.append(value)

    step = {"step": "call", "tool": tool}
    try:
        result = await client.call_tool(tool, arguments, progress_callback=count if progress else None)
    except MCPError as error:
        step |= {"outcome": "rpc_error", "code": error.code, "message": error.message}
    else:
        text = "".join(getattr(part, "text", "") for part in result.content)
        step |= {"outcome": "tool_error" if result.is_error else "ok", "text": text}
    return step | {"progress": len(seen)}


def complaint(expected: dict, seen: dict) -> str | None:
    if seen["outcome"] not in expected["outcomes"]:
        return f"{seen['tool']}: {seen['outcome']}, not {' or '.join(expected['outcomes'])}"
    if "text" in seen and seen["text"] != expected.get("text", seen["text"]):
        return f"{seen['tool']}: text {seen['text']!r}"
    return None


async def converse(args: argparse.Namespace) -> list[str]:
    wanted = load_conversation(args.conversation)
    identity = Implementation(name="py-peer", version="1.0.0")
    complaints = []
    async with Client(transport(args), mode=MODES[args.mode], client_info=identity) as client:
        say(step="connect", protocol=client.protocol_version, server=client.server_info and client.server_info.name)
        listed = [tool.name for tool in (await client.list_tools()).tools]
        say(step="list", tools=listed)
        complaints += [f"tools/list has no {tool}" for tool in wanted["tools"] if tool not in listed]
        for expected in wanted["calls"]:
            seen = await call(client, **expected)
            say(**seen)
            complaints.append(complaint(expected, seen))
    say(step="close")
    return [words for words in complaints if words]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--conversation", default="fixture")
    parser.add_argument("--user-agent")
    parser.add_argument("--header", action="append", default=[])
    try:
        complaints = asyncio.run(converse(parser.parse_args()))
    except Exception as error:
        while group := getattr(error, "exceptions", None):  # anyio wraps whatever ends a connection in groups
            error = group[0]
        say(step="failed", message=str(error))
        return 1
    for words in complaints:
        print(words, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
