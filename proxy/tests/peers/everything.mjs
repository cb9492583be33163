// Runs the official demo server, @modelcontextprotocol/server-everything, in this process:
//
//   node everything.mjs streamableHttp|sse [--port N]
//
// Prints {"port":N} when it accepts connections, ends when its stdin closes. The server itself would listen on
// every interface and one of its tools prints the environment, so listening is confined to loopback here.
// Never changes what the server says.

import { Server } from 'node:net';
import { parseArgs } from 'node:util';
import './stdin_lifeline.mjs';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { port: { type: 'string', default: '0' } } });
const [mode] = positionals;
if (mode !== 'streamableHttp' && mode !== 'sse') {
    console.error('usage: node everything.mjs streamableHttp|sse [--port N]');
    process.exit(2);
}

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
    this.once('listening', () => process.stdout.write(`${JSON.stringify({ port: this.address().port })}\n`));
    return listen.call(this, { port: Number(port), host: '127.0.0.1' }, ...rest);
};

console.log = console.error; // stdout belongs to the line above
process.env.PORT = values.port;
process.argv[2] = mode;
await import('@modelcontextprotocol/server-everything/dist/index.js');
