// A server on the official TypeScript SDK 1.x with all that the conformance suite asks for:
//
//   node conformance_ts1.mjs [--port N]
//
// Revisions up to 2025-11-25, with sessions, event ids and resumption. Prints {"port":N} when it listens, ends when its
// stdin closes. Path /mcp, loopback only.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { localhostHostValidation } from '@modelcontextprotocol/node';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import * as schema from '@modelcontextprotocol/sdk/types.js';
import * as surface from './conformance_surface.mjs';
import './stdin_lifeline.mjs';

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const RETRY_MS = 100;
const results = { 'sampling/createMessage': schema.CreateMessageResultSchema, 'elicitation/create': schema.ElicitResultSchema };
const failure = {
    protocol: (code, message, data) => new schema.McpError(code, message, data),
    capability: () => new schema.McpError(-32600, 'the client lacks a capability'),
};

function asPeer(server, { _meta, sendNotification, sendRequest, closeSSEStream }) {
    const notify = (method, params) => sendNotification({ method: `notifications/${method}`, params });
    return {
        capabilities: server.getClientCapabilities(),
        failure,
        log: (level, data) => notify('message', { level, data }),
        progress: async (progress, total) => {
            const progressToken = _meta?.progressToken;
            if (progressToken !== undefined) await notify('progress', { progressToken, progress, total });
        },
        request: (method, params) => sendRequest({ method, params }, results[method]),
        seal: (state) => `${state}`,
        closeStream: () => closeSSEStream?.(),
        changed: () => {},
    };
}

function makeServer() {
    const capabilities = { tools: {}, prompts: {}, resources: { subscribe: true }, logging: {}, completions: {} };
    const server = new Server(surface.identity, { capabilities });
    const on = (name, answer) =>
        server.setRequestHandler(schema[`${name}RequestSchema`], ({ params }, extra) => answer(params, asPeer(server, extra)));
    on('ListTools', () => ({ tools: surface.tools }));
    on('ListPrompts', () => ({ prompts: surface.prompts }));
    on('ListResources', () => ({ resources: surface.resources }));
    on('ListResourceTemplates', () => ({ resourceTemplates: surface.templates }));
    on('CallTool', surface.callTool);
    on('GetPrompt', surface.getPrompt);
    on('ReadResource', surface.readResource);
    on('Subscribe', () => ({}));
    on('Unsubscribe', () => ({}));
    on('Complete', () => ({ completion: { values: [], total: 0, hasMore: false } }));
    return server;
}

/** Remembers events, so that a client can go on where its stream broke off. One per session. */
class Events {
    #events = [];

    async storeEvent(stream, message) {
        return `${this.#events.push({ stream, message }) - 1}`;
    }

    async getStreamIdForEventId(id) {
        return this.#events[Number(id)]?.stream;
    }

    async replayEventsAfter(id, { send }) {
        const { stream } = this.#events[Number(id)];
        for (const [at, event] of this.#events.entries()) {
            if (at > Number(id) && event.stream === stream && event.message.jsonrpc) await send(`${at}`, event.message);
        }
        return stream;
    }
}

const sessions = new Map();

async function startSession() {
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: RETRY_MS,
        onsessioninitialized: (id) => void sessions.set(id, transport),
        onsessionclosed: (id) => void sessions.delete(id),
    });
    await makeServer().connect(transport);
    return transport;
}

// SDK 1.x has this check only with the port, which is not the client's where a proxy is in between.
const validateHost = localhostHostValidation();
const http = createServer(async (req, res) => {
    if (!validateHost(req, res)) return;
    const id = req.headers['mcp-session-id'];
    const transport = id === undefined ? await startSession() : sessions.get(id);
    if (transport) return transport.handleRequest(req, res);
    res.writeHead(404, { 'Content-Type': 'application/json' });
    res.end(JSON.stringify({ jsonrpc: '2.0', error: { code: -32001, message: 'Session not found' }, id: null }));
});
http.listen(Number(values.port), '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })));
