// A client on the official TypeScript SDKs that holds one conversation and prints one JSON object per step:
//
//   node ts_client.mjs URL streamable|sse|remote|modern|auto [--conversation NAME|JSON] [--user-agent X] [--header 'K: V']... [--whole]
//
// A JSON array instead of the URL is a command: the client runs it and speaks stdio to it, with the SDK that the mode means.
// streamable, sse and remote use SDK 1.x (initialize; Streamable HTTP, the HTTP+SSE transport of 2024-11-05, or stdio to
// mcp-remote, which speaks HTTP to the URL);
// modern (2026-07-28 or nothing) and auto (probe, then fall back) use SDK 2.x. Conversations are in
// conversations.json; JSON is one of that shape. Exit code 0 only if every answer is one the conversation allows;
// a last line {"step":"failed","message":…} if there was no conversation or it broke off. When a
// server asks, it samples "sampled", and agrees to every form. --whole prints everything that the server has said.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        conversation: { type: 'string', default: 'fixture' },
        'user-agent': { type: 'string' },
        header: { type: 'string', multiple: true, default: [] },
        whole: { type: 'boolean', default: false },
    },
});
const [url, mode] = positionals;
if (!['streamable', 'sse', 'remote', 'modern', 'auto'].includes(mode)) {
    console.error('usage: node ts_client.mjs URL streamable|sse|remote|modern|auto [--conversation NAME|JSON] [--user-agent X] [--header K:V] [--whole]');
    process.exit(2);
}

const isV1 = !['modern', 'auto'].includes(mode);
const command = url.startsWith('[') ? JSON.parse(url) : undefined;
const say = (step) => console.log(JSON.stringify(step));

function conversation(name) {
    if (name.startsWith('{')) return JSON.parse(name);
    const all = JSON.parse(readFileSync(new URL('conversations.json', import.meta.url), 'utf8'));
    if (!all[name]) throw new Error(`conversations.json has no ${name}`);
    return all[name];
}

function headers() {
    const given = values.header.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]);
    if (values['user-agent']) given.push(['User-Agent', values['user-agent']]);
    return Object.fromEntries(given);
}

async function connect() {
    const identity = { name: 'ts-peer', version: '1.0.0' };
    const options = { requestInit: { headers: headers() } };
    const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };
    if (!isV1) {
        const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
        const versionNegotiation = { mode: mode === 'auto' ? 'auto' : { pin: '2026-07-28' } };
        const client = new Client(identity, { capabilities, versionNegotiation });
        talkBack((method, answer) => client.setRequestHandler(method, answer));
        const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
        await client.connect(command ? new StdioClientTransport(program()) : new StreamableHTTPClientTransport(new URL(url), options));
        return { client, protocol: client.getNegotiatedProtocolVersion() };
    }
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const schemas = await import('@modelcontextprotocol/sdk/types.js');
    const client = new Client(identity, { capabilities });
    const schema = { sampling: 'CreateMessageRequestSchema', elicitation: 'ElicitRequestSchema', roots: 'ListRootsRequestSchema' };
    talkBack((method, answer) => client.setRequestHandler(schemas[schema[method.split('/')[0]]], answer));
    const kind = command ? programTransport : { sse: sseTransport, streamable: streamableTransport, remote: remoteTransport }[mode];
    const transport = await kind(options);
    let protocol;
    const remember = transport.setProtocolVersion?.bind(transport);
    transport.setProtocolVersion = (version) => {
        protocol = version;
        remember?.(version);
    };
    await client.connect(transport);
    return { client, transport, protocol };
}

function talkBack(on) {
    on('sampling/createMessage', () => ({ model: 'none', role: 'assistant', content: { type: 'text', text: 'sampled' } }));
    on('elicitation/create', ({ params }) => ({ action: 'accept', content: filled(params.requestedSchema) }));
    on('roots/list', () => ({ roots: [] }));
}

/** What a user who agrees to everything writes into a form; a page that is to be visited has none. */
function filled(schema) {
    const ofType = { string: 'text', number: 5, integer: 5, boolean: true };
    const ofFormat = { email: 'a@example.com', uri: 'https://example.com', date: '2026-07-28' };
    const written = (field) => field.default ?? field.enum?.[0] ?? ofFormat[field.format] ?? ofType[field.type];
    return schema && Object.fromEntries(Object.entries(schema.properties).map(([name, field]) => [name, written(field)]));
}

function program() {
    return { command: command[0], args: command.slice(1), stderr: 'ignore' };
}

async function programTransport() {
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    return new StdioClientTransport(program());
}

async function streamableTransport(options) {
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    return new StreamableHTTPClientTransport(new URL(url), options);
}

async function sseTransport(options) {
    const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
    return new SSEClientTransport(new URL(url), options);
}

async function remoteTransport() {
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const remote = fileURLToPath(new URL('node_modules/mcp-remote/dist/proxy.js', import.meta.url));
    // What it would keep of authorizations goes into a folder of its own.
    const env = { ...process.env, MCP_REMOTE_CONFIG_DIR: mkdtempSync(join(tmpdir(), 'mcp-remote-')) };
    process.once('exit', () => rmSync(env.MCP_REMOTE_CONFIG_DIR, { recursive: true }));
    return new StdioClientTransport({ command: process.execPath, args: [remote, url], env, stderr: 'ignore' });
}

/** A long text instead of what the conversation would have to spell out; it is not printed either. */
const LONG = 1000;
const spelt = (text) => (text.length > LONG ? `${text.length} characters` : text);

/** All at once; one step, for what they have in common. */
async function callInParallel(client, { parallel, arguments: args, ...rest }) {
    const all = Array.from({ length: parallel }, (_, at) => call(client, { ...rest, arguments: { ...args, text: `number ${at}` } }));
    const seen = await Promise.all(all);
    const own = seen.every(({ text }, at) => text === `number ${at}`);
    return { ...seen[0], step: 'parallel', outcome: own ? seen[0].outcome : 'mixed_up', text: undefined, calls: parallel };
}

/** What the server has said, whole, where that is wanted. */
const whole = (said) => (values.whole ? { whole: said } : {});

/** As a task, which is asked for until it ends (2025-11-25). */
async function callAsTask(client, request) {
    const states = [];
    for await (const message of client.experimental.tasks.callToolStream(request)) {
        if (message.type === 'taskStatus') states.push(message.task.status);
        if (message.type === 'error') return { step: 'task', tool: request.name, states, ...failure(message.error) };
        if (message.type === 'result') return { step: 'task', tool: request.name, states: [...new Set(states)], outcome: 'ok', ...whole(message.result) };
    }
    return { step: 'task', tool: request.name, states, outcome: 'no_answer' };
}

async function call(client, { tool, arguments: args, progress, characters, parallel, task }) {
    if (parallel) return callInParallel(client, { tool, arguments: args, parallel });
    if (task) return callAsTask(client, { name: tool, arguments: args });
    if (characters) args = { ...args, text: 'x'.repeat(characters) };
    let seen = 0;
    const options = progress ? { onprogress: () => seen++ } : {};
    const request = { name: tool, arguments: args };
    try {
        // The second argument was the result's schema in 1.x and is gone in 2.x.
        const result = await (isV1 ? client.callTool(request, undefined, options) : client.callTool(request, options));
        // With SDK 1.x `seen` may be one short: it drops progress that arrives together with the answer.
        const text = result.content.map((part) => part.text ?? '').join('');
        return { step: 'call', tool, outcome: result.isError ? 'tool_error' : 'ok', text: spelt(text), progress: seen, ...whole(result) };
    } catch (error) {
        return { step: 'call', tool, ...failure(error), progress: seen };
    }
}

/** A JSON-RPC error, or an HTTP answer that held none. Anything else is not an answer and ends the conversation. */
function failure(error) {
    const http = { StreamableHTTPError: error.code, SdkHttpError: error.status }[error.constructor.name];
    if (http !== undefined) return { outcome: 'http_error', status: http, message: error.message };
    if (typeof error.code !== 'number') throw error;
    return { outcome: 'rpc_error', code: error.code, message: error.message };
}

function complaint(expected, seen) {
    if (!expected.outcomes.includes(seen.outcome)) return `${seen.tool}: ${seen.outcome}, not ${expected.outcomes.join(' or ')}`;
    if (expected.text !== undefined && seen.text !== undefined && expected.text !== seen.text) {
        return `${seen.tool}: text ${JSON.stringify(seen.text)}`;
    }
    return undefined;
}

async function converse() {
    const { tools, calls } = conversation(values.conversation);
    const { client, transport, protocol } = await connect();
    const introduced = [client.getServerVersion(), client.getServerCapabilities(), client.getInstructions()];
    say({ step: 'connect', protocol, server: introduced[0]?.name, ...whole(introduced) });
    const list = await client.listTools();
    const listed = list.tools.map((tool) => tool.name);
    say({ step: 'list', tools: listed, ...whole(list) });
    const complaints = tools.filter((tool) => !listed.includes(tool)).map((tool) => `tools/list has no ${tool}`);
    for (const expected of calls) {
        const seen = await call(client, expected);
        say(seen);
        complaints.push(complaint(expected, seen));
    }
    await transport?.terminateSession?.();
    await client.close();
    say({ step: 'close' });
    return complaints.filter(Boolean);
}

try {
    const complaints = await converse();
    for (const words of complaints) console.error(words);
    process.exitCode = complaints.length ? 1 : 0;
} catch (error) {
    say({ step: 'failed', message: `${error.message}` });
    process.exit(1);
}
