# A stdio server without any SDK, which does wrong what it is asked to do wrong:
#
#   python3 odd_program.py [legacy|modern] [--banner] [--ignores-term] [--silent] [--exits N]
#
# The name of the tool that is called says what it does; see `call`. Every message it reads is also a line on stderr.

import json
import os
import signal
import subprocess
import sys
import threading

era = 'modern' if 'modern' in sys.argv else 'legacy'
lock = threading.Lock()
held = []
cancelled = []


def say(message):
    with lock:
        sys.stdout.write(json.dumps(message, separators=(',', ':')) + '\n')
        sys.stdout.flush()


def text(request, words):
    say({'jsonrpc': '2.0', 'id': request['id'], 'result': {'content': [{'type': 'text', 'text': words}]}})


def call(request):
    name, *arguments = request['params']['name'].split()
    if name == 'echo':
        text(request, ' '.join(arguments))
    elif name == 'pid':
        text(request, str(os.getpid()))
    elif name == 'env':
        text(request, json.dumps(dict(os.environ)))
    elif name == 'hold':  # answers when somebody releases it
        held.append(request)
    elif name == 'held':
        text(request, json.dumps([other['id'] for other in held]) if arguments else str(len(held)))
    elif name == 'cancelled':
        text(request, json.dumps(cancelled))
    elif name == 'release':
        for other in reversed(held):
            text(other, 'released')
        held.clear()
        text(request, 'done')
    elif name == 'progress':  # tells its progress, then waits to be released
        token = request['params']['_meta']['progressToken']
        say({'jsonrpc': '2.0', 'method': 'notifications/progress', 'params': {'progressToken': token, 'progress': 1}})
        held.append(request)
    elif name == 'crash':
        os.kill(os.getpid(), signal.SIGSEGV)
    elif name == 'exit':
        print('the last words', file=sys.stderr, flush=True)
        os._exit(int(arguments[0]))
    elif name == 'noise':
        with lock:
            sys.stdout.buffer.write(b'a banner\n\x00\x01\x02\n42\n')
            sys.stdout.flush()
        text(request, 'quiet again')
    elif name == 'flood':  # 10 MB on stderr
        for _ in range(100):
            sys.stderr.write('x' * 99_999 + '\n')
        text(request, 'dry again')
    elif name == 'huge':  # a line of that many MB
        with lock:
            sys.stdout.write('{"jsonrpc":"2.0","id":%s,"result":{"content":"' % json.dumps(request['id']))
            for _ in range(int(arguments[0])):
                sys.stdout.write('y' * 1_000_000)
            sys.stdout.write('"}}\n')
            sys.stdout.flush()
    elif name == 'family':  # a child and a grandchild that hold the pipes
        subprocess.Popen(['sh', '-c', 'sleep 600 & exec sleep 601'])
        text(request, 'started')
    elif name == 'never':
        pass
    elif name == 'deaf':  # stops reading
        signal.pause()
    else:
        say({'jsonrpc': '2.0', 'id': request['id'], 'error': {'code': -32602, 'message': 'no such tool'}})


def answer(request):
    method = request.get('method')
    if method == 'notifications/cancelled':
        cancelled.append(request['params']['requestId'])
    if 'id' not in request or method is None:
        return
    if method == 'initialize' and era == 'legacy':
        version = request['params']['protocolVersion']
        say({'jsonrpc': '2.0', 'id': request['id'], 'result': {
            'protocolVersion': version, 'capabilities': {'tools': {}}, 'serverInfo': {'name': 'odd', 'version': '1'}}})
    elif method == 'server/discover' and era == 'modern':
        say({'jsonrpc': '2.0', 'id': request['id'], 'result': {
            'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}},
            'serverInfo': {'name': 'odd', 'version': '1'}}})
    elif method == 'tools/list':
        say({'jsonrpc': '2.0', 'id': request['id'], 'result': {'tools': [
            {'name': 'echo', 'inputSchema': {'type': 'object'}}]}})
    elif method == 'tools/call':
        call(request)
    elif method == 'subscriptions/listen':
        meta = {'io.modelcontextprotocol/subscriptionId': request['id']}
        say({'jsonrpc': '2.0', 'method': 'notifications/subscriptions/acknowledged', 'params': {'_meta': meta}})
    else:
        say({'jsonrpc': '2.0', 'id': request['id'], 'error': {'code': -32601, 'message': 'no such method'}})


if '--ignores-term' in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if '--exits' in sys.argv:
    print('cannot begin', file=sys.stderr)
    sys.exit(int(sys.argv[sys.argv.index('--exits') + 1]))
if '--banner' in sys.argv:
    print('*** welcome ***', flush=True)
for line in sys.stdin:
    print(line, end='', file=sys.stderr, flush=True)
    if '--silent' not in sys.argv:
        parsed = json.loads(line)
        for one in parsed if isinstance(parsed, list) else [parsed]:
            answer(one)
if '--ignores-term' in sys.argv:
    while True:
        signal.pause()
