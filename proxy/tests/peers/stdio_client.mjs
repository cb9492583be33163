// A client on the official TypeScript SDKs that starts its server itself and speaks stdio with it:
//
//   node stdio_client.mjs SPEC
//
// SPEC is JSON: {"command": [WORDS], "env": {…}, "era": "initialize" (SDK 1.x) | "modern" | "auto" (SDK 2.x),
// "calls": [{"name", "arguments", "parallel"?}]}. Prints one JSON object: what was agreed on, every tool as it is listed,
// and every answer as it was given. When the server asks, it samples "sampled" and agrees to every form.

const { command: [command, ...args], env = {}, era, calls } = JSON.parse(process.argv[2]);
const identity = { name: 'ts-stdio', version: '1.0.0' };
const capabilities = { sampling: {}, elicitation: {}, roots: {} };
const sampled = () => ({ model: 'none', role: 'assistant', content: { type: 'text', text: 'sampled' } });
const agreed = () => ({ action: 'accept', content: {} });

async function connect() {
    if (era === 'initialize') {
        const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
        const { StdioClientTransport, getDefaultEnvironment } = await import('@modelcontextprotocol/sdk/client/stdio.js');
        const types = await import('@modelcontextprotocol/sdk/types.js');
        const client = new Client(identity, { capabilities });
        client.setRequestHandler(types.CreateMessageRequestSchema, sampled);
        client.setRequestHandler(types.ElicitRequestSchema, agreed);
        client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [] }));
        const transport = new StdioClientTransport({ command, args, env: { ...getDefaultEnvironment(), ...env }, stderr: 'inherit' });
        let protocol;
        transport.setProtocolVersion = (version) => (protocol = version);
        await client.connect(transport);
        return { client, protocol, call: (request, options) => client.callTool(request, undefined, options) };
    }
    const { Client } = await import('@modelcontextprotocol/client');
    const { StdioClientTransport, getDefaultEnvironment } = await import('@modelcontextprotocol/client/stdio');
    const client = new Client(identity, { capabilities, versionNegotiation: { mode: era === 'auto' ? 'auto' : { pin: '2026-07-28' } } });
    client.setRequestHandler('sampling/createMessage', sampled);
    client.setRequestHandler('elicitation/create', agreed);
    client.setRequestHandler('roots/list', () => ({ roots: [] }));
    await client.connect(new StdioClientTransport({ command, args, env: { ...getDefaultEnvironment(), ...env }, stderr: 'inherit' }));
    return { client, protocol: client.getNegotiatedProtocolVersion(), call: (request, options) => client.callTool(request, options) };
}

async function ask(call, { name, arguments: args = {}, progress }) {
    let seen = 0;
    try {
        const result = await call({ name, arguments: args }, progress ? { onprogress: () => seen++ } : {});
        return progress ? { result, progress: seen } : { result };
    } catch (error) {
        return { error: { code: error.code, message: error.message } };
    }
}

const { client, protocol, call } = await connect();
const { tools } = await client.listTools();
const answers = [];
for (const request of calls) {
    const all = Array.from({ length: request.parallel ?? 1 }, (_, at) =>
        ask(call, request.parallel ? { ...request, arguments: { ...request.arguments, text: `number ${at}`, message: `number ${at}` } } : request),
    );
    answers.push(...(await Promise.all(all)));
}
await client.close();
console.log(JSON.stringify({ protocol, server: client.getServerVersion()?.name, tools, answers }));
