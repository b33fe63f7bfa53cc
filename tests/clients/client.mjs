// What the scripts share: the chat class of npm's `ai` with a state in memory, an unmodified
// DefaultChatTransport, and the transcript to compare with. `AI_MAJOR` chooses the package: 6 or 7.
import { randomBytes } from 'node:crypto';

export const base = required('BASE_URL').replace(/\/$/, '');
export const widgetToken = required('WIDGET_TOKEN');
export const major = process.env.AI_MAJOR ?? '6';
if (major !== '6' && major !== '7') fail(`AI_MAJOR must be 6 or 7, not ${major}`);

const { AbstractChat, DefaultChatTransport } = await import(major === '6' ? 'ai6' : 'ai7');
export const QUESTION = process.env.QUESTION ?? 'What services do you offer?';

/** The whole script must be over by then, in milliseconds. */
const LIMIT_MS = Number(process.env.LIMIT_MS ?? 60_000);
setTimeout(() => fail(`not finished after ${LIMIT_MS} ms`), LIMIT_MS).unref();

/** The state that a user interface would keep. */
class MemoryState {
  status = 'ready';
  error = undefined;
  messages = [];
  pushMessage = (message) => void (this.messages = [...this.messages, message]);
  popMessage = () => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, this.snapshot(message));
    this.onWrite?.();
  };
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {}

/** `fetch` replaces the network of the transport, for scripts that cut it. */
export function openChat({ fetch: network = fetch } = {}) {
  const id = mint();
  const headers = { Authorization: `Bearer ${mint()}`, 'X-Widget-Token': widgetToken };
  const state = new MemoryState();
  const errors = [];
  const transport = new DefaultChatTransport({ api: `${base}/chat`, headers, fetch: network });
  const chat = new Chat({ id, state, transport, generateId: mint, onError: (error) => errors.push(error) });
  return { id, headers, state, chat, errors };
}

/** Posts on with the SDK's own means until the chat is ready: what a site does with `resume: true`. */
export async function resumeUntilReady({ chat, errors }, { attempts = 120, waitMs = 250 } = {}) {
  let resumed = 0;
  for (; chat.status !== 'ready'; resumed++) {
    if (resumed === attempts) fail(`still ${chat.status} after ${attempts} attempts to resume`, { error: String(errors.at(-1)) });
    if (resumed > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    await chat.resumeStream();
  }
  return resumed;
}

export async function transcript({ id, headers }) {
  const response = await fetch(`${base}/chat/${id}`, { headers });
  if (!response.ok) fail(`the transcript answered ${response.status}`);
  return response.json();
}

export function textOf(message) {
  return message.parts.filter((part) => part.type === 'text').map((part) => part.text).join('');
}

/** The list of messages is the questions with one answer each, the same as the transcript's. */
export async function expectAnswers(session, questions) {
  const { chat } = session;
  expect(chat.status === 'ready', `the chat is ${chat.status}, not ready`, { error: String(chat.error) });
  const roles = chat.messages.map((message) => message.role).join(' ');
  expect(roles === Array(questions).fill('user assistant').join(' '), `the messages are "${roles}"`);
  const told = await transcript(session);
  expect(told.active_turn === null, `turn ${told.active_turn} is still active`);
  expect(told.messages.length === chat.messages.length, `the transcript has ${told.messages.length} messages, the client ${chat.messages.length}`);
  for (const [index, message] of chat.messages.entries()) {
    const other = told.messages[index];
    expect(message.id === other.id, `message ${index} is ${message.id} here and ${other.id} in the transcript`);
    const [here, there] = [textOf(message), textOf(other)];
    expect(here === there && here !== '', `message ${index} differs from the transcript`, { here, there });
    const parts = message.parts.filter((part) => part.type === 'text').length;
    expect(parts === 1, `message ${index} has ${parts} text parts`);
    const count = (list) => list.filter((part) => part.type === 'source-url').length;
    expect(count(message.parts) === count(other.parts), `message ${index} has other sources than the transcript`);
  }
  return textOf(chat.messages.at(-1));
}

export function expect(condition, sentence, details) {
  if (!condition) fail(sentence, details);
}

export function fail(sentence, details = {}) {
  console.error(sentence, Object.keys(details).length > 0 ? JSON.stringify(details) : '');
  process.exit(1);
}

/** The one line by which the caller knows that the script came to its end. */
export function succeed(result) {
  console.log(JSON.stringify({ ok: true, ai: Number(major), node: process.versions.node, ...result }));
  process.exit(0);
}

function mint() {
  return randomBytes(24).toString('base64url');
}

function required(name) {
  return process.env[name] || fail(`${name} is not set`);
}
