"""What all clients in Python have in common: they hold one conversation and print one JSON object per step.

    python CLIENT.py URL MODE [--conversation NAME|JSON] [--user-agent X] [--header 'K: V']... [--whole]

Conversations are in conversations.json; JSON is one of that shape. Exit code 0 only if every answer is one the
conversation allows; a last line {"step":"failed","message":…} if there was no conversation or it broke off. When a server
asks, a client samples "sampled", and agrees to every form. --whole prints everything that the server has said, with clients
that keep it.

A client gives `hold` a function that connects: it takes the arguments and the headers, and is an asynchronous context
manager for an object with `protocol`, `server`, `list_tools()` (the names), and `call_tool(name, arguments, on_progress)`
(what `answered` or `refused` make). In `said` it may keep the last answer, whole.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

LONG = 1000


def say(**step):
    print(json.dumps(step, ensure_ascii=False), flush=True)


def load_conversation(name: str) -> dict:
    if name.startswith("{"):
        return json.loads(name)
    return json.loads(Path(__file__).with_name("conversations.json").read_text("utf-8"))[name]


def answered(is_error: bool, content) -> dict:
    text = "".join(getattr(part, "text", "") for part in content)
    spelt = f"{len(text)} characters" if len(text) > LONG else text
    return {"outcome": "tool_error" if is_error else "ok", "text": spelt}


def refused(code: int, message: str) -> dict:
    return {"outcome": "rpc_error", "code": code, "message": message}


def filled(schema: dict) -> dict:
    """What a user who agrees to everything writes into a form."""
    of_type = {"string": "text", "number": 5, "integer": 5, "boolean": True}
    return {name: of_type[field["type"]] for name, field in schema["properties"].items()}


async def call(client, tool: str, arguments: dict, progress: int = 0, characters: int = 0, parallel: int = 0, **_) -> dict:
    if parallel:
        return await call_in_parallel(client, tool, parallel)
    seen = []

    async def count(*_):
        seen.append(None)

    text = {"text": "x" * characters} if characters else {}
    outcome = await client.call_tool(tool, arguments | text, count if progress else None)
    return {"step": "call", "tool": tool} | outcome | {"progress": len(seen)}


async def call_in_parallel(client, tool: str, times: int) -> dict:
    """All at once; one step, for what they have in common."""
    calls = [client.call_tool(tool, {"text": f"number {at}"}, None) for at in range(times)]
    outcomes = await asyncio.gather(*calls)
    own = all(outcome.get("text") == f"number {at}" for at, outcome in enumerate(outcomes))
    outcome = outcomes[0]["outcome"] if own else "mixed_up"
    return {"step": "parallel", "tool": tool, "outcome": outcome, "progress": 0, "calls": times}


def complaint(expected: dict, seen: dict) -> str | None:
    if seen["outcome"] not in expected["outcomes"]:
        return f"{seen['tool']}: {seen['outcome']}, not {' or '.join(expected['outcomes'])}"
    if "text" in seen and seen["text"] != expected.get("text", seen["text"]):
        return f"{seen['tool']}: text {seen['text']!r}"
    return None


async def converse(args: argparse.Namespace, connect) -> list[str]:
    wanted = load_conversation(args.conversation)
    headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in args.header)}
    if args.user_agent:
        headers["User-Agent"] = args.user_agent
    complaints = []

    def whole():
        return {"whole": client.said} if args.whole else {}

    async with connect(args, headers) as client:
        say(step="connect", protocol=client.protocol, server=client.server)
        listed = await client.list_tools()
        say(step="list", tools=listed, **whole())
        complaints += [f"tools/list has no {tool}" for tool in wanted["tools"] if tool not in listed]
        for expected in wanted["calls"]:
            seen = await call(client, **expected)
            say(**seen, **whole())
            complaints.append(complaint(expected, seen))
    say(step="close")
    return [words for words in complaints if words]


def hold(connect, modes) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--conversation", default="fixture")
    parser.add_argument("--user-agent")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--whole", action="store_true")
    try:
        complaints = asyncio.run(converse(parser.parse_args(), connect))
    except Exception as error:
        while group := getattr(error, "exceptions", None):  # anyio wraps whatever ends a connection in groups
            error = group[0]
        say(step="failed", message=str(error))
        return 1
    for words in complaints:
        print(words, file=sys.stderr)
    return 1 if complaints else 0
