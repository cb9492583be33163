// A reverse proxy that loses one request header, to show that its loss is noticed:
//
//   node lossy_relay.mjs SERVER-PORT HEADER
//
// Prints {"port":N} when it listens, ends when its stdin closes. Loopback only.

import { createServer, request } from 'node:http';
import './stdin_lifeline.mjs';

const [port, lost] = process.argv.slice(2);
const relay = createServer((req, res) => {
    const headers = { ...req.headers };
    delete headers[lost.toLowerCase()];
    const upstream = request({ host: '127.0.0.1', port, path: req.url, method: req.method, headers }, (answer) => {
        res.writeHead(answer.statusCode, answer.headers);
        answer.pipe(res);
    });
    upstream.on('error', () => res.destroy());
    res.on('close', () => upstream.destroy());
    req.pipe(upstream);
});
relay.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: relay.address().port })));
