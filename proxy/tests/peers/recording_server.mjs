// An HTTP server with Node's own parser: the second opinion on what the proxy lets through. It prints its port, then a line
// for each request that it has understood.
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  let bytes = 0;
  request.on('data', (data) => {
    bytes += data.length;
  });
  request.on('end', () => {
    const { method, url, headers } = request;
    console.log(JSON.stringify({ method, url, headers, bytes }));
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  request.on('error', () => response.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.stdin.on('end', () => process.exit(0)).resume();
