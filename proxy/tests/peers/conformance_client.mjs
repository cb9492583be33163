// A client on the official TypeScript SDKs for the conformance suite, which starts it with a URL behind its arguments:
//
//   MCP_CONFORMANCE_SCENARIO=NAME MCP_CONFORMANCE_PROTOCOL_VERSION=REVISION node conformance_client.mjs URL
//
// SDK 1.x up to 2025-11-25, SDK 2.x for 2026-07-28. Whatever the scenario, it uses all that the server offers, once, and
// authorizes itself where that is asked for. With MCPMETER=PROGRAM it does so through that proxy.

import { dialThroughProxy } from './dial_through_proxy.mjs';

const { MCP_CONFORMANCE_PROTOCOL_VERSION: revision, MCP_CONFORMANCE_CONTEXT, MCPMETER } = process.env;
const context = JSON.parse(MCP_CONFORMANCE_CONTEXT ?? '{}');
const url = new URL(process.argv[2]);
const isModern = revision === '2026-07-28';
const MOST_AUTHORIZATIONS = 3;

const sdk = isModern
    ? await import('@modelcontextprotocol/client')
    : {
          ...(await import('@modelcontextprotocol/sdk/client/index.js')),
          ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
          ...(await import('@modelcontextprotocol/sdk/client/auth.js')),
          ...(await import('@modelcontextprotocol/sdk/client/auth-extensions.js')),
          ...(await import('@modelcontextprotocol/sdk/types.js')),
      };

/** A user who always agrees, and whose browser is `fetch`. Remembers everything, in memory. */
class Agreeable {
    #kept = {};
    redirectUrl = 'http://localhost:3000/callback';
    clientMetadataUrl = 'https://conformance-test.local/client-metadata.json';
    clientMetadata = {
        client_name: 'ts-conformance-client',
        redirect_uris: [this.redirectUrl],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
    };
    clientInformation = () => this.#kept.client ?? preRegistered();
    saveClientInformation = (client) => void (this.#kept.client = client);
    tokens = () => this.#kept.tokens;
    saveTokens = (tokens) => void (this.#kept.tokens = tokens);
    codeVerifier = () => this.#kept.verifier;
    saveCodeVerifier = (verifier) => void (this.#kept.verifier = verifier);
    saveDiscoveryState = (state) => void (this.#kept.discovery = state);
    discoveryState = () => this.#kept.discovery;

    async redirectToAuthorization(to) {
        const { headers } = await fetch(to, { redirect: 'manual' });
        this.callback = new URL(headers.get('location')).searchParams;
    }

    invalidateCredentials(scope) {
        if (scope === 'all') this.#kept = {};
        else delete this.#kept[scope];
    }
}

function preRegistered() {
    const { client_id, client_secret } = context;
    return client_id && { client_id, client_secret };
}

function authorizer() {
    if (context.private_key_pem) {
        const { client_id: clientId, private_key_pem: privateKey, signing_algorithm: algorithm } = context;
        return new sdk.PrivateKeyJwtProvider({ clientId, privateKey, algorithm });
    }
    if (context.name === 'auth/client-credentials-basic') {
        return new sdk.ClientCredentialsProvider({ clientId: context.client_id, clientSecret: context.client_secret });
    }
    return new Agreeable();
}

const provider = authorizer();
const newTransport = () => new sdk.StreamableHTTPClientTransport(url, { authProvider: provider });
let transport;

/** Does it again once the user has agreed to what the server wanted for it. */
async function authorized(what) {
    for (let tries = 0; ; tries++) {
        try {
            return await what();
        } catch (error) {
            if (!(error instanceof sdk.UnauthorizedError) || !provider.callback || tries === MOST_AUTHORIZATIONS) throw error;
            await transport.finishAuth(isModern ? provider.callback : provider.callback.get('code'));
        }
    }
}

function newClient() {
    const identity = { name: 'ts-conformance-client', version: '1.0.0' };
    const capabilities = { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} };
    const client = new sdk.Client(identity, isModern ? { capabilities, versionNegotiation: { mode: { pin: revision } } } : { capabilities });
    const filled = ({ params }) => ({ action: 'accept', content: example(params.requestedSchema, true) });
    const sampled = () => ({ model: 'none', role: 'assistant', content: { type: 'text', text: 'sampled' } });
    client.setRequestHandler(isModern ? 'elicitation/create' : sdk.ElicitRequestSchema, filled);
    client.setRequestHandler(isModern ? 'sampling/createMessage' : sdk.CreateMessageRequestSchema, sampled);
    client.setRequestHandler(isModern ? 'roots/list' : sdk.ListRootsRequestSchema, () => ({ roots: [] }));
    return client;
}

/** Something that the schema allows; only what it requires, where the rest has defaults. */
function example(schema, sparing = false) {
    const ofType = { string: 'text', number: 5, integer: 3, boolean: true, array: [], object: {}, null: null };
    const properties = Object.entries(schema?.properties ?? {});
    const used = properties.filter(([name]) => !sparing || schema.required?.includes(name));
    return Object.fromEntries(used.map(([name, { type, enum: choices }]) => [name, choices?.[0] ?? ofType[type] ?? 'text']));
}

/** One after the other; a refusal is for the suite to judge, and no reason to stop. */
async function useAll(client) {
    const attempt = (what) => authorized(what).catch((error) => console.error(`${error}`));
    const offers = client.getServerCapabilities() ?? {};
    if (offers.tools) {
        const { tools } = await authorized(() => client.listTools());
        const calls = context.toolCalls ?? tools.map(({ name, inputSchema }) => ({ name, arguments: example(inputSchema) }));
        for (const call of calls) await attempt(() => client.callTool(call));
    }
    if (offers.resources) {
        const { resources } = await authorized(() => client.listResources());
        for (const { uri } of resources) await attempt(() => client.readResource({ uri }));
    }
    if (offers.prompts) {
        const { prompts } = await authorized(() => client.listPrompts());
        for (const { name } of prompts) await attempt(() => client.getPrompt({ name }));
    }
}

const end = MCPMETER ? await dialThroughProxy(MCPMETER, Number(url.port)) : async () => {};
try {
    const client = await authorized(async () => {
        const fresh = newClient();
        await fresh.connect((transport = newTransport()));
        return fresh;
    });
    await useAll(client);
    await client.close();
} catch (error) {
    console.error(error);
    process.exitCode = 1;
} finally {
    await end();
}
process.exit();
