// A server on the official TypeScript SDK 2.x with all that the conformance suite asks for:
//
//   node conformance_ts2.mjs [--port N]
//
// Speaks 2026-07-28 and nothing else: without sessions it could not ask a client of an older revision anything. Prints
// {"port":N} when it listens, ends when its stdin closes. Path /mcp, loopback only.

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { localhostHostValidation, toNodeHandler } from '@modelcontextprotocol/node';
import {
    createMcpHandler,
    createRequestStateCodec,
    MissingRequiredClientCapabilityError,
    ProtocolError,
    Server,
} from '@modelcontextprotocol/server';
import * as surface from './conformance_surface.mjs';
import './stdin_lifeline.mjs';

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities';
const codec = createRequestStateCodec({ key: 'a key that only the tests know, and nobody needs' });
const failure = {
    protocol: (code, message, data) => new ProtocolError(code, message, data),
    capability: (requiredCapabilities) => new MissingRequiredClientCapabilityError({ requiredCapabilities }),
};

function asPeer({ mcpReq }) {
    return {
        capabilities: mcpReq.envelope?.[CAPABILITIES],
        inputs: mcpReq.inputResponses,
        state: mcpReq.requestState(),
        failure,
        seal: (state) => codec.mint(state),
        log: (level, data) => mcpReq.log(level, data),
        progress: async (progress, total) => {
            const progressToken = mcpReq._meta?.progressToken;
            if (progressToken === undefined) return;
            await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total } });
        },
        changed: (what) => handler.notify[`${what}Changed`](),
    };
}

function makeServer() {
    const listChanged = true;
    const server = new Server(surface.identity, {
        capabilities: { tools: { listChanged }, prompts: { listChanged }, resources: { subscribe: true }, completions: {} },
        requestState: { verify: codec.verify },
    });
    const on = (method, answer) => server.setRequestHandler(method, ({ params }, ctx) => answer(params, asPeer(ctx)));
    on('tools/list', () => ({ tools: surface.tools }));
    on('prompts/list', () => ({ prompts: surface.prompts }));
    on('resources/list', () => ({ resources: surface.resources }));
    on('resources/templates/list', () => ({ resourceTemplates: surface.templates }));
    on('tools/call', surface.callTool);
    on('prompts/get', surface.getPrompt);
    on('resources/read', surface.readResource);
    on('completion/complete', () => ({ completion: { values: [], total: 0, hasMore: false } }));
    return server;
}

const handler = createMcpHandler(makeServer, { legacy: 'reject' });
const answer = toNodeHandler(handler);
const validateHost = localhostHostValidation();
const http = createServer((req, res) => validateHost(req, res) && answer(req, res));
http.listen(Number(values.port), '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })));
