// Two clients on SDK 1.x that talk with the demo server at the same time, and print everything each of them was told:
//
//   node ts_talk.mjs URL|COMMAND streamable|sse
//
// A JSON array instead of the URL is a command, which each client runs for itself. Both use the same ids and tokens. Each
// answers with its own name, lists a root of its own, subscribes to a resource of its own, and cancels a call of its own. Prints
// one JSON object: what "a" and "b" were told and asked, in the order in which a kind of thing came. Exit code 0 if all came.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import * as schemas from '@modelcontextprotocol/sdk/types.js';

const [url, mode] = process.argv.slice(2);
const PATIENCE_MS = 20_000;

async function transport() {
    if (url.startsWith('[')) {
        const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
        const [command, ...args] = JSON.parse(url);
        return new StdioClientTransport({ command, args, stderr: 'ignore' });
    }
    if (mode === 'sse') {
        const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
        return new SSEClientTransport(new URL(url));
    }
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    return new StreamableHTTPClientTransport(new URL(url));
}

/** Waits until something has been told; what comes unasked has no promise to wait for. */
async function until(what, condition) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!condition()) {
        if (Date.now() > deadline) throw new Error(`never: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
}

function listenTo(client, name, told) {
    const on = (schema, kind, pick) => client.setNotificationHandler(schema, ({ params }) => void told[kind].push(pick(params)));
    on(schemas.LoggingMessageNotificationSchema, 'logged', ({ data }) => data);
    on(schemas.ResourceUpdatedNotificationSchema, 'updated', ({ uri }) => uri);
    const answer = (schema, kind, give) =>
        client.setRequestHandler(schema, ({ params }) => {
            told[kind].push(params?.messages?.[0]?.content?.text ?? params?.message ?? '');
            return give(params);
        });
    answer(schemas.CreateMessageRequestSchema, 'sampled', () => ({ model: name, role: 'assistant', content: { type: 'text', text: `sampled by ${name}` } }));
    answer(schemas.ElicitRequestSchema, 'elicited', () => ({ action: 'accept', content: { name, check: true } }));
    answer(schemas.ListRootsRequestSchema, 'rooted', () => ({ roots: [{ uri: `file:///of/${name}`, name }] }));
}

async function talk(name) {
    const told = { name, logged: [], updated: [], sampled: [], elicited: [], rooted: [], progress: [], answers: [] };
    const client = new Client({ name, version: '1' }, { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } });
    listenTo(client, name, told);
    const line = await transport();
    await client.connect(line);
    const call = async (tool, args, options) => {
        const result = await client.callTool({ name: tool, arguments: args }, undefined, options);
        told.answers.push(result.content.map((part) => part.text ?? '').join(''));
    };
    // Asked for by the server, of its own accord, while no call is open.
    await until('asked for roots', () => told.rooted.length > 0);
    await until('told of the roots', () => told.logged.length > 0);
    await client.setLoggingLevel('info');
    const uri = `demo://resource/dynamic/text/${name === 'a' ? 1 : 2}`;
    await client.subscribeResource({ uri });
    await call('toggle-subscriber-updates', {});
    await until('an update', () => told.updated.length > 0);
    await call('toggle-subscriber-updates', {});
    await client.unsubscribeResource({ uri });
    await call('trigger-sampling-request', { prompt: `for ${name}`, maxTokens: 3 });
    await call('trigger-elicitation-request', {});
    await call('get-roots-list', {});
    await call('trigger-long-running-operation', { duration: 0.3, steps: 3 }, { onprogress: ({ progress }) => told.progress.push(progress) });

    const abort = new AbortController();
    const steps = [];
    const long = call('trigger-long-running-operation', { duration: 60, steps: 600 }, { signal: abort.signal, onprogress: ({ progress }) => steps.push(progress) });
    await until('progress', () => steps.length > 0);
    abort.abort('not needed any more');
    await long.then(() => told.answers.push('not cancelled'), () => told.answers.push('cancelled'));
    await call('echo', { message: `still there, ${name}` });
    await line.terminateSession?.();
    await client.close();
    return told;
}

try {
    console.log(JSON.stringify(await Promise.all(['a', 'b'].map(talk))));
} catch (error) {
    console.log(JSON.stringify({ failed: `${error.message}` }));
    process.exit(1);
}
