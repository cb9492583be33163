"""A server on the official Python SDK that wants the bearer token `recorded-example`:

    python guarded_server.py

Path /mcp, JSON answers, no sessions. Prints {"port":N} when it listens, ends when its stdin closes.
"""

import asyncio
import json
import socket
import sys
import threading

import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer

KEY = "recorded-example"


class OneKey:
    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="recorded", scopes=[]) if token == KEY else None


def app(port: int):
    origin = f"http://127.0.0.1:{port}"
    auth = AuthSettings(issuer_url="https://issuer.example", resource_server_url=f"{origin}/mcp", required_scopes=[])
    server = MCPServer("guarded-peer", version="1.0.0", auth=auth, token_verifier=OneKey())

    @server.tool(structured_output=False)
    def add(a: int, b: int) -> str:
        """The sum of two numbers"""
        return str(a + b)

    return server.streamable_http_app(json_response=True, stateless_http=True)


async def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    http = uvicorn.Server(uvicorn.Config(app(port), log_level="warning", timeout_graceful_shutdown=1))
    loop = asyncio.get_running_loop()

    def stop_at_end_of_stdin():
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, http, "should_exit", True)

    threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    print(json.dumps({"port": port}), flush=True)
    await http.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve())
