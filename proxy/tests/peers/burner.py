# A server that burns CPU and takes memory as it is told, and says how much it was:
#
#   python3 burner.py stdio|http [--threads] [--name NAME]
#
# `http` prints {"port":N} and serves POST /mcp until its stdin ends. With --threads each call has a thread of its own, and
# burns where Python's lock does not hinder the others. The tool's name says what to do: "burn 100" (milliseconds),
# "take 50" (MiB, kept), "wait 100". The answer's text is the CPU time it took, in milliseconds.

import hashlib
import http.server
import json
import os
import sys
import threading
import time

threaded = '--threads' in sys.argv
lock = threading.Lock()
taken = []


def burn(ms):
    while (time.thread_time() - begun.at) * 1000 < ms:
        if threaded:
            hashlib.pbkdf2_hmac('sha256', b'x' * 64, b'salt', 300)
        else:
            sum(range(5000))


begun = threading.local()


def work(request):
    begun.at = time.thread_time()
    what, *number = request['params']['name'].split()
    if what == 'burn':
        burn(float(number[0]))
    elif what == 'take':
        taken.append(os.urandom(int(number[0]) << 20))
    elif what == 'wait':
        time.sleep(float(number[0]) / 1000)
    ms = (time.thread_time() - begun.at) * 1000
    return {'jsonrpc': '2.0', 'id': request['id'], 'result': {'content': [{'type': 'text', 'text': str(ms)}]}}


def answer(request):
    method = request.get('method')
    if method == 'initialize':
        result = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                  'serverInfo': {'name': 'burner', 'version': '1'}}
        return {'jsonrpc': '2.0', 'id': request['id'], 'result': result}
    if method == 'tools/call':
        return work(request)
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        said = json.dumps(answer(json.loads(body))).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(said)))
        if not threaded:  # the next connection waits for this one
            self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


def say(message):
    if message is not None:
        with lock:
            print(json.dumps(message), flush=True)


if sys.argv[1] == 'http':
    kind = http.server.ThreadingHTTPServer if threaded else http.server.HTTPServer
    server = kind(('127.0.0.1', 0), Handler)
    print(json.dumps({'port': server.server_port}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
else:
    for line in sys.stdin:
        request = json.loads(line)
        if threaded:
            threading.Thread(target=lambda request=request: say(answer(request))).start()
        else:
            say(answer(request))
