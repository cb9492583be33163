// A server on the official TypeScript SDK 2.x with the four tools of the conversation "fixture":
//
//   node ts_server.mjs [--port N] [--stdio] [--modern-only] [--json]
//
// Speaks 2026-07-28 and, statelessly, the revisions before it (not with --modern-only). Prints {"port":N} when it
// listens, ends when its stdin closes. Path /mcp, loopback only. With --stdio there is no port: it is a program that speaks
// MCP over its pipes, in the revision with which it is spoken to first.

import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { localhostHostValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const STEP_MS = 20;
const { values } = parseArgs({
    options: {
        port: { type: 'string', default: '0' },
        stdio: { type: 'boolean' },
        'modern-only': { type: 'boolean' },
        json: { type: 'boolean' },
    },
});

const text = (words) => ({ content: [{ type: 'text', text: words }] });

function fourTools() {
    const server = new McpServer({ name: 'ts-peer', version: '1.0.0' });
    server.registerTool('add', { inputSchema: z.object({ a: z.number(), b: z.number() }) }, ({ a, b }) => text(`${a + b}`));
    server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, (args) => text(args.text));
    server.registerTool('fail', {}, () => ({ ...text('this tool always fails'), isError: true }));
    server.registerTool('slow', { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, ctx) => {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        for (let progress = 1; progress <= steps; progress++) {
            await pause(STEP_MS);
            if (progressToken === undefined) continue;
            await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
        }
        return text(`done after ${steps} steps`);
    });
    return server;
}

async function serveHttp() {
    await import('./stdin_lifeline.mjs');
    const handler = createMcpHandler(fourTools, {
        legacy: values['modern-only'] ? 'reject' : 'stateless',
        responseMode: values.json ? 'json' : 'auto',
    });
    const answer = toNodeHandler(handler);
    const validateHost = localhostHostValidation();
    const http = createServer((req, res) => validateHost(req, res) && answer(req, res));
    http.listen(Number(values.port), '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port })));
}

if (values.stdio) serveStdio(fourTools, { legacy: values['modern-only'] ? 'reject' : 'serve' });
else await serveHttp();
