"""A server that is a program and does what tests tell it to, with nothing but the standard library:

    python acting_program.py [--heard FILE] [--legacy-only] [--crlf]

It speaks every revision unless it is --legacy-only, and writes each line that it is told, byte by byte, to FILE. Its tools:

    NAME_of_any_kind     answers with its name and arguments
    hold                 says its progress, if that is wanted, and waits with the answer
    release              answers all that was held, last first, then tells every subscription of it, then answers itself
    shuffle              answers by eights, in an order of its own, each with progress before it
    crash                kills itself with SIGSEGV
    flood                10 MB on stderr, a banner and binary noise on stdout, then answers
    descend              starts a grandchild that holds its pipes and ignores SIGTERM
    environment          answers with its environment and its working directory
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
SHUFFLED = 8

parser = argparse.ArgumentParser()
parser.add_argument("--heard")
parser.add_argument("--legacy-only", action="store_true")
parser.add_argument("--crlf", action="store_true")
args = parser.parse_args()
heard = open(args.heard, "ab", buffering=0) if args.heard else None
held, subscriptions, mixed = [], [], []


def say(**message):
    line = json.dumps({"jsonrpc": "2.0"} | message)
    sys.stdout.buffer.write(line.encode() + (b"\r\n" if args.crlf else b"\n"))


def answer(request, text, **more):
    result = {"resultType": "complete", "content": [{"type": "text", "text": text}]} | more
    say(id=request["id"], result=result)


def tell_progress(request):
    token = request["params"].get("_meta", {}).get("progressToken")
    if token is not None:
        told = {"progressToken": token, "progress": 1, "message": request["params"]["name"]}
        say(method="notifications/progress", params=told)


def echo(request):
    answer(request, request["params"]["name"] + " " + json.dumps(request["params"].get("arguments", {}), sort_keys=True))


def hold(request):
    tell_progress(request)
    held.append(request)


def release(request):
    while held:
        echo(held.pop())
    for subscription in subscriptions:
        say(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: subscription}})
    echo(request)


def shuffle(request):
    mixed.append(request)


def settle():
    """Before it waits for more, and when there are eights: whoever is late must not wait for company that may never come."""
    random.shuffle(mixed)
    for request in mixed:
        tell_progress(request)
    random.shuffle(mixed)
    for request in mixed:
        echo(request)
    mixed.clear()


def crash(request):
    print("a last word", file=sys.stderr, flush=True)
    sys.stdout.buffer.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def flood(request):
    for number in range(10_000):
        sys.stderr.buffer.write(b"%d %s\n" % (number, b"x" * 1000))
    sys.stdout.buffer.write(b"Welcome to this server!\n\x00\xff\xfe\x80 binary\n\n")
    echo(request)


def descend(request):
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    grandchild = subprocess.Popen([sys.executable, "-S", "-c", script, args.heard or ""])
    answer(request, str(grandchild.pid))


def environment(request):
    pairs = Path("/proc/self/environ").read_bytes().decode().split("\0")
    answer(request, json.dumps({"environment": [pair for pair in pairs if pair], "cwd": os.getcwd()}))


TOOLS = [hold, release, shuffle, crash, flood, descend, environment]


def call(request):
    name = request["params"]["name"]
    {tool.__name__: tool for tool in TOOLS}.get(name, echo)(request)


def listen(request):
    subscriptions.append(request["id"])
    acknowledged = {"notifications": {"toolsListChanged": True}, "_meta": {SUBSCRIPTION: request["id"]}}
    say(method="notifications/subscriptions/acknowledged", params=acknowledged)


def discover(request):
    meta = {"io.modelcontextprotocol/serverInfo": {"name": "odd", "version": "1"}}
    said = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "_meta": meta}
    say(id=request["id"], result={"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} | said)


def initialize(request):
    wanted = request["params"]["protocolVersion"]
    version = wanted if wanted in LEGACY else LEGACY[-1]
    say(id=request["id"], result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "1"}})


def list_tools(request):
    tools = [{"name": tool.__name__, "inputSchema": {"type": "object"}} for tool in TOOLS]
    say(id=request["id"], result={"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": tools})


METHODS = {"initialize": initialize, "tools/list": list_tools, "tools/call": call}
if not args.legacy_only:
    METHODS |= {"server/discover": discover, "subscriptions/listen": listen}


def hear(line):
    if heard:
        heard.write(line)
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        return
    if message["method"] in METHODS:
        METHODS[message["method"]](message)
    else:
        say(id=message["id"], error={"code": -32601, "message": "Method not found"})


def lines():
    """Those that are at hand, each; before more is waited for, what is due is said."""
    rest = b""
    while more := os.read(0, 1 << 16):
        *whole, rest = (rest + more).split(b"\n")
        yield from (line + b"\n" for line in whole)
        settle()
        sys.stdout.buffer.flush()


for each in lines():
    hear(each)
    if len(mixed) >= SHUFFLED:
        settle()
