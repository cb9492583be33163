"""A server on the official Python SDK with all that the conformance suite asks for:

    python conformance_py.py [--port N]

Path /mcp: 2026-07-28, and the revisions before it with sessions, event ids and resumption. All that is fixed is in
conformance_surface.json. Prints {"port":N} when it listens, ends when its stdin closes.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import re
import secrets
import warnings
from pathlib import Path

import mcp_types as types
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import PromptsListChanged, ToolsListChanged
from py_serving import serve

SURFACE = json.loads(Path(__file__).with_name("conformance_surface.json").read_text("utf-8"))
STEP_SECONDS = 0.05
RETRY_MS = 100
KEY = secrets.token_bytes(32)
BUS = InMemorySubscriptionBus()


def words(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


def seal(state: int) -> str:
    return f"{state}.{hmac.new(KEY, str(state).encode(), hashlib.sha256).hexdigest()}"


def unseal(sealed: str | None) -> int:
    if sealed is None:
        return 0
    state, _, _ = sealed.partition(".")
    if not state.isdigit() or not hmac.compare_digest(sealed, seal(int(state))):
        raise MCPError(types.INVALID_PARAMS, "requestState is not ours")
    return int(state)


def is_answered(answer, request: dict) -> bool:
    if isinstance(answer, types.ElicitResult) or request["method"] == "elicitation/create":
        return getattr(answer, "content", None) is not None
    return answer is not None


def wanted(params) -> types.InputRequiredResult | None:
    """Asks in rounds (SEP-2322) until there is an answer to everything; none then."""
    has_state = SURFACE["rounds"][params.name].get("state", False)
    rounds = SURFACE["rounds"][params.name]["rounds"]
    at = unseal(params.request_state) if has_state else 0
    answers = params.input_responses or {}
    if all(is_answered(answers.get(key), request) for key, request in rounds[at].items()):
        at += 1
    if at == len(rounds):
        return None
    asked = {"resultType": "input_required", "inputRequests": rounds[at]}
    return types.InputRequiredResult.model_validate(asked | ({"requestState": seal(at)} if has_state else {}))


async def log(ctx, text: str) -> None:
    await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)


async def with_logging(ctx, _):
    for text in ["Tool execution started", "Tool processing data", "Tool execution completed"]:
        await log(ctx, text)
        await asyncio.sleep(STEP_SECONDS)
    return words("logged three times")


async def logging_tool(ctx, _):
    await log(ctx, "for those who want to know")
    return words("logged once")


async def with_progress(ctx, _):
    for progress in [0, 50, 100]:
        await ctx.session.report_progress(progress, 100)
        await asyncio.sleep(STEP_SECONDS)
    return words("progress was reported")


async def sampling(ctx, args):
    content = types.TextContent(type="text", text=args["prompt"])
    answer = await ctx.session.create_message(
        [types.SamplingMessage(role="user", content=content)], max_tokens=100, related_request_id=ctx.request_id
    )
    return words(f"LLM response: {answer.content.text}")


async def elicit(ctx, form: dict, label: str):
    answer = await ctx.session.elicit_form(form["message"], form["requestedSchema"], ctx.request_id)
    return words(f"{label}: action={answer.action}, content={json.dumps(answer.content or {})}")


async def elicitation(ctx, args):
    return await elicit(ctx, SURFACE["forms"]["test_elicitation"] | {"message": args["message"]}, "User response")


async def reconnection(ctx, _):
    await ctx.close_sse_stream()
    await asyncio.sleep(2 * STEP_SECONDS)
    return words("answered after the stream was closed")


async def missing_capability(ctx, _):
    needed = types.ClientCapabilities(sampling=types.SamplingCapability())
    if not ctx.session.check_client_capability(needed):
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "the client does not sample", data)
    return words("the client samples")


def trigger(event):
    async def tell(ctx, _):
        await BUS.publish(event)
        return words("told")

    return tell


DYNAMIC = {
    "test_tool_with_logging": with_logging,
    "test_logging_tool": logging_tool,
    "test_tool_with_progress": with_progress,
    "test_sampling": sampling,
    "test_elicitation": elicitation,
    "test_reconnection": reconnection,
    "test_missing_capability": missing_capability,
    "test_trigger_tool_change": trigger(ToolsListChanged()),
    "test_trigger_prompt_change": trigger(PromptsListChanged()),
}


async def call_tool(ctx, params):
    found = next((one for one in SURFACE["tools"] if one["tool"]["name"] == params.name), None)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    if "result" in found:
        return types.CallToolResult.model_validate(found["result"])
    if params.name in SURFACE["rounds"]:
        return wanted(params) or words(f"state-ok: {params.input_responses}")
    if params.name in DYNAMIC:
        return await DYNAMIC[params.name](ctx, params.arguments or {})
    return await elicit(ctx, SURFACE["forms"][params.name], "Elicitation completed")


async def get_prompt(ctx, params):
    found = next((one for one in SURFACE["prompts"] if one["prompt"]["name"] == params.name), None)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    if params.name in SURFACE["rounds"] and (asked := wanted(params)):
        return asked
    arguments = params.arguments or {}
    messages = json.dumps(found["messages"])
    filled = re.sub(r"\{(arg1|arg2|resourceUri)\}", lambda match: arguments[match[1]], messages)
    return types.GetPromptResult.model_validate({"messages": json.loads(filled)})


async def read_resource(ctx, params):
    uri = str(params.uri)
    if match := re.fullmatch(r"test://template/([^/]+)/data", uri):
        text = json.dumps({"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"})
        contents = {"uri": uri, "mimeType": "application/json", "text": text}
    else:
        found = next((one for one in SURFACE["resources"] if one["resource"]["uri"] == uri), None)
        if found is None:
            raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
        contents = {"uri": uri, "mimeType": found["resource"]["mimeType"]} | found["contents"]
    return types.ReadResourceResult.model_validate({"contents": [contents]})


def always(kind, fixed: dict):
    async def answer(ctx, params):
        return kind.model_validate(fixed)

    return answer


class Events(EventStore):
    """Remembers events, so that a client can go on where its stream broke off."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events) - 1)

    async def replay_events_after(self, last_event_id, send_callback):
        stream = self.events[int(last_event_id)][0]
        for at, (of, message) in enumerate(self.events[int(last_event_id) + 1 :], int(last_event_id) + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(at)))
        return stream


def make_server() -> Server:
    of = lambda what: [one[what.removesuffix("s")] for one in SURFACE[what]]
    empty = always(types.EmptyResult, {})
    return Server(
        "py-conformance",
        version="1.0.0",
        on_list_tools=always(types.ListToolsResult, {"tools": of("tools")}),
        on_call_tool=call_tool,
        on_list_prompts=always(types.ListPromptsResult, {"prompts": of("prompts")}),
        on_get_prompt=get_prompt,
        on_list_resources=always(types.ListResourcesResult, {"resources": of("resources")}),
        on_list_resource_templates=always(
            types.ListResourceTemplatesResult, {"resourceTemplates": [SURFACE["template"]]}
        ),
        on_read_resource=read_resource,
        on_subscribe_resource=empty,
        on_unsubscribe_resource=empty,
        on_subscriptions_listen=ListenHandler(BUS),
        on_set_logging_level=empty,
        on_completion=always(types.CompleteResult, {"completion": {"values": [], "total": 0, "hasMore": False}}),
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # logging is deprecated, and asked for
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    app = make_server().streamable_http_app(event_store=Events(), retry_interval=RETRY_MS)
    asyncio.run(serve(app, parser.parse_args().port))
