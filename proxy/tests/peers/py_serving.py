"""How every Python server here is served: on loopback, port printed as {"port":N}, until its stdin closes."""

import asyncio
import json
import socket
import sys
import threading

import uvicorn


async def serve(app, port: int = 0) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    # asyncio does it for sockets that it has made itself; without it, every answer takes 40 ms longer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Clients keep event streams open for ever; a graceful shutdown must not wait for them.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    http = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def stop_at_end_of_stdin():
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, http, "should_exit", True)

    threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    # The socket listens already: a client that connects now waits in the backlog until uvicorn accepts.
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await http.serve(sockets=[listener])
