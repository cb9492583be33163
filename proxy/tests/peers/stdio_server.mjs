// A server over stdio on the official TypeScript SDK 2.x (2026-07-28 and before), with the tools of ts_server.mjs and some
// that misbehave:
//
//   node stdio_server.mjs
//
// add, echo, fail, slow; hang (never answers), hang_visibly (makes a file, and never answers), crash (exits with status 139), abort (kills itself by SIGSEGV).

import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const text = (words) => ({ content: [{ type: 'text', text: words }] });

function tools() {
    const server = new McpServer({ name: 'stdio-peer', version: '1.0.0' });
    server.registerTool('add', { inputSchema: z.object({ a: z.number(), b: z.number() }) }, ({ a, b }) => text(`${a + b}`));
    server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, (args) => text(args.text));
    server.registerTool('fail', {}, () => ({ ...text('this tool always fails'), isError: true }));
    server.registerTool('slow', { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, ctx) => {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        for (let progress = 1; progress <= steps; progress++) {
            await pause(20);
            if (progressToken === undefined) continue;
            await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
        }
        return text(`done after ${steps} steps`);
    });
    server.registerTool('hang', {}, () => pause(1 << 30, text('never')));
    server.registerTool('hang_visibly', { inputSchema: z.object({ file: z.string() }) }, ({ file }) => {
        writeFileSync(file, '');
        return pause(1 << 30, text('never'));
    });
    server.registerTool('crash', {}, () => process.exit(139));
    server.registerTool('abort', {}, () => process.kill(process.pid, 'SIGSEGV') && pause(1 << 30));
    return server;
}

serveStdio(tools);
