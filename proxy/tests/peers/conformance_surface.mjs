// What the official conformance suite wants of a server, for the two servers on the TypeScript SDKs. All that is fixed
// is in conformance_surface.json; here is what happens. Never knows which SDK serves it: `peer` is what a tool can do
// to its client, { capabilities, inputs, state, seal, log, progress, request, closeStream, changed, failure }.

import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const surface = JSON.parse(readFileSync(new URL('conformance_surface.json', import.meta.url), 'utf8'));
const STEP_MS = 50;
const INVALID_PARAMS = -32602;
const words = (text) => ({ content: [{ type: 'text', text }] });

export const identity = { name: 'ts-conformance', version: '1.0.0' };
export const tools = surface.tools.map(({ tool }) => tool);
export const prompts = surface.prompts.map(({ prompt }) => prompt);
export const resources = surface.resources.map(({ resource }) => resource);
export const templates = [surface.template];

/** Asks in rounds (SEP-2322) until there is an answer to everything; undefined then. */
async function wanted(name, peer) {
    const { rounds, state } = surface.rounds[name];
    const round = state ? (peer.state ?? 0) : 0;
    const answered = (key, { method }) => {
        const answer = peer.inputs?.[key];
        return method === 'elicitation/create' ? answer?.content !== undefined : answer !== undefined && typeof answer === 'object';
    };
    const isAnswered = Object.entries(rounds[round]).every(([key, request]) => answered(key, request));
    const next = isAnswered ? round + 1 : round;
    if (next === rounds.length) return undefined;
    return { resultType: 'input_required', inputRequests: rounds[next], ...(state ? { requestState: await peer.seal(next) } : {}) };
}

const dynamic = {
    async test_tool_with_logging(_, peer) {
        for (const text of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
            await peer.log('info', text);
            await pause(STEP_MS);
        }
        return words('logged three times');
    },
    async test_logging_tool(_, peer) {
        await peer.log('info', 'for those who want to know');
        return words('logged once');
    },
    async test_tool_with_progress(_, peer) {
        for (const progress of [0, 50, 100]) {
            await peer.progress(progress, 100);
            await pause(STEP_MS);
        }
        return words('progress was reported');
    },
    async test_sampling({ prompt }, peer) {
        const messages = [{ role: 'user', content: { type: 'text', text: prompt } }];
        const { content } = await peer.request('sampling/createMessage', { messages, maxTokens: 100 });
        return words(`LLM response: ${content.text}`);
    },
    async test_elicitation({ message }, peer) {
        const { action, content } = await peer.request('elicitation/create', { ...surface.forms.test_elicitation, message });
        return words(`User response: action=${action}, content=${JSON.stringify(content ?? {})}`);
    },
    async test_reconnection(_, peer) {
        peer.closeStream();
        await pause(2 * STEP_MS);
        return words('answered after the stream was closed');
    },
    test_missing_capability(_, peer) {
        if (!peer.capabilities?.sampling) throw peer.failure.capability({ sampling: {} });
        return words('the client samples');
    },
    test_trigger_tool_change(_, peer) {
        peer.changed('tools');
        return words('told');
    },
    test_trigger_prompt_change(_, peer) {
        peer.changed('prompts');
        return words('told');
    },
};

export async function callTool({ name, arguments: args = {} }, peer) {
    const fixed = surface.tools.find(({ tool }) => tool.name === name);
    if (!fixed) throw peer.failure.protocol(INVALID_PARAMS, `Unknown tool: ${name}`);
    if (fixed.result) return fixed.result;
    if (surface.rounds[name]) return (await wanted(name, peer)) ?? words(`state-ok: ${JSON.stringify(peer.inputs)}`);
    if (dynamic[name]) return dynamic[name](args, peer);
    const { action, content } = await peer.request('elicitation/create', surface.forms[name]);
    return words(`Elicitation completed: action=${action}, content=${JSON.stringify(content ?? {})}`);
}

export async function getPrompt({ name, arguments: args = {} }, peer) {
    const found = surface.prompts.find(({ prompt }) => prompt.name === name);
    if (!found) throw peer.failure.protocol(INVALID_PARAMS, `Unknown prompt: ${name}`);
    const input = surface.rounds[name] && (await wanted(name, peer));
    if (input) return input;
    const filled = JSON.stringify(found.messages).replace(/\{(arg1|arg2|resourceUri)\}/g, (_, key) => args[key]);
    return { messages: JSON.parse(filled) };
}

export function readResource({ uri }, peer) {
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
    if (id) {
        const text = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
        return { contents: [{ uri, mimeType: 'application/json', text }] };
    }
    const found = surface.resources.find(({ resource }) => resource.uri === uri);
    if (!found) throw peer.failure.protocol(INVALID_PARAMS, 'Resource not found', { uri });
    return { contents: [{ uri, mimeType: found.resource.mimeType, ...found.contents }] };
}
