// Puts mcpmeter between this process and one server, without either noticing: the client goes on dialling the server's
// URL, and the connection ends at the proxy, as if the server's name led there. That is how a proxy with the public URL
// of its server looks. Never changes what is sent.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

// The object that Node's own fetch connects with, which an import would only copy.
const net = createRequire(import.meta.url)('node:net');

const config = (port) => `[proxy]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[[route]]
name = "harness"
host = "localhost"
upstream = "http://127.0.0.1:${port}"
preserve_host = true
`;

/** Starts `program serve` for the server on this port, and leads connections to it from now on. Gives what ends it. */
export async function dialThroughProxy(program, port) {
    const folder = mkdtempSync(join(tmpdir(), 'mcpmeter-conformance-'));
    writeFileSync(join(folder, 'mcpmeter.toml'), config(port));
    // What the person who runs this has set must not change anything.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(MCPMETER_|DATABASE_URL$|RUST_LOG$)/.test(name)));
    const options = { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] };
    const proxy = spawn(program, ['serve', '-c', 'mcpmeter.toml'], options);
    process.once('exit', () => proxy.kill('SIGKILL')); // should it not have come to the end below
    const address = await new Promise((resolve, reject) => {
        proxy.once('exit', (code) => reject(new Error(`mcpmeter ended with ${code}`)));
        createInterface({ input: proxy.stderr }).on('line', (line) => {
            const entry = JSON.parse(line);
            if (entry.message.includes('listening')) resolve(entry['proxy.address']);
        });
    });
    const [host, proxyPort] = address.split(':');
    const { connect } = net;
    net.connect = (options, ...rest) => {
        const isServer = options.host === 'localhost' && Number(options.port) === port;
        return connect(isServer ? { ...options, host, port: Number(proxyPort) } : options, ...rest);
    };
    return async () => {
        const ended = new Promise((resolve) => proxy.once('exit', resolve));
        proxy.kill('SIGTERM');
        await ended;
        rmSync(folder, { recursive: true });
    };
}
