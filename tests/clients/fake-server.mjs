// A stand-in for the API with the same routes and stream protocol, in memory, for working on the
// clients without a database: `node fake-server.mjs` prints its address. The tests of the suite run
// against the real API; `selftest.mjs` runs the clients against this one to prove that they can fail.
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const TOKEN = 'demo';
const WIDGET = new URL('../../widget/', import.meta.url);
const ANSWER = [
  'Fernweh Labs builds ', '**production AI systems** ', 'for companies that ', 'already have customers.\n\n',
  'Three ways to start:\n\n', '- a two-week ', '*feasibility sprint*\n', '- an **evaluation** of what you run today\n', '- a dedicated team, ',
  'from `discovery` ', 'to operations\n\n', 'Prices are fixed ', 'per milestone; see ', 'the [price list](https://fernweh-labs.example/pricing).',
];
const HOSTILE = [
  '<img src=x onerror="window.__pwned=1"> <script>window.__pwned=1</script> ',
  '[click](javascript:window.__pwned=1) [data](data:text/html,x) ', '**<svg onload=window.__pwned=1>** `</code><iframe>`',
];
const SOURCES = [
  { sourceId: 's1', url: 'https://fernweh-labs.example/services', title: 'Services · How we work' },
  { sourceId: 's2', url: 'pricing.md', title: 'Pricing' },
  { sourceId: 's3', url: 'javascript:window.__pwned=1', title: 'Not a link' },
];

/** `pace` is the wait between two deltas in milliseconds. */
export async function startFakeServer({ pace = 40, port = 0, faults = {} } = {}) {
  const sessions = new Map();
  const sockets = new Set();
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      if (!response.headersSent) problem(response, 500, 'internal');
      else response.destroy();
      console.error(error);
    });
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });

  async function handle(request, response) {
    const url = new URL(request.url, 'http://fake');
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-allow-headers', 'content-type, x-widget-token, authorization, last-event-id, idempotency-key');
    if (request.method === 'OPTIONS') return void response.writeHead(204).end();
    if (url.pathname === '/demo' || url.pathname === '/chat.js') return asset(url.pathname, response);
    if (request.headers['x-widget-token'] !== TOKEN) return problem(response, 403, 'widget_token');
    const [, , id, action, turn, verb] = url.pathname.split('/');
    const secret = request.headers.authorization ?? '';
    if (request.method === 'POST' && url.pathname === '/chat') return post(request, response, url, secret);
    const session = sessions.get(id);
    if (action === 'stream' && !session) return void response.writeHead(204).end();
    if (!session || session.secret !== secret) return problem(response, 404, 'session_not_found');
    if (!action) return json(response, 200, transcript(session));
    if (action === 'stream') {
      const cursor = (request.headers['last-event-id'] ?? url.searchParams.get('after'))?.split('-').map(Number);
      const target = cursor ? session.turns[cursor[0] - 1] : session.turns.find((candidate) => !candidate.finished);
      if (!target) return void response.writeHead(204).end();
      return stream(response, target, cursor ? cursor.slice(1) : [target.attempt, 0], url.searchParams.get('reset') ?? (cursor ? 'event' : 'cut'));
    }
    if (action === 'contact') {
      const { email, consent } = JSON.parse(await textOf(request));
      if (!/^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(email ?? '')) return problem(response, 422, 'invalid_email');
      if (consent !== true) return problem(response, 422, 'consent_required');
      session.handoff = 'pending';
      return json(response, 202, { handoff_id: session.id, status: session.handoff, promise: null });
    }
    if (action === 'feedback') {
      const { turn: rated, rating } = JSON.parse(await textOf(request));
      const target = session.turns[rated - 1];
      if (!target) return problem(response, 404, 'turn_not_found');
      if (!target.finished) return problem(response, 409, 'turn_unfinished');
      target.rating = rating;
      return void response.writeHead(204).end();
    }
    if (action === 'close') return (session.closed = true), json(response, 200, { status: 'closed' });
    if (verb === 'cancel') {
      const target = session.turns[turn - 1];
      if (!target) return problem(response, 404, 'turn_not_found');
      target.cancelled = true;
      return json(response, 202, { turn: target.number, status: 'cancelling' });
    }
    return problem(response, 404, 'not_found');
  }

  async function post(request, response, url, secret) {
    const body = JSON.parse(await textOf(request));
    const isSdk = Array.isArray(body.messages);
    const last = isSdk ? body.messages.findLast((message) => message.role === 'user') : null;
    const id = isSdk ? body.id : body.session_id;
    const messageId = isSdk ? last.id : body.message_id;
    const message = isSdk ? last.parts.map((part) => part.text ?? '').join('') : body.message;
    let session = sessions.get(id);
    if (!session) sessions.set(id, (session = { id, secret, turns: [], closed: false }));
    if (session.secret !== secret) return problem(response, 404, 'session_not_found');
    if (session.closed) return problem(response, 409, 'session_closed');
    let turn = session.turns.findLast((candidate) => candidate.messageId === messageId);
    if (!turn || (body.trigger === 'regenerate-message' && turn.finished)) {
      if (turn) turn.superseded = true;
      turn = { number: session.turns.length + 1, messageId, message, answerId: randomUUID(), attempt: 0, events: [], listeners: new Set(), finished: false, again: Boolean(turn) };
      session.turns.push(turn);
      void run(session, turn);
    }
    if (faults.losePost?.()) return request.socket.destroy();
    if (!(request.headers.accept ?? '*/*').includes('event-stream') && request.headers.accept === 'application/json') {
      return json(response, 202, { session_id: id, turn: turn.number, message_id: messageId });
    }
    return stream(response, turn, [turn.attempt, 0], url.searchParams.get('reset') ?? (isSdk ? 'cut' : 'event'));
  }

  async function run(session, turn) {
    while (session.turns.some((other) => other.number < turn.number && !other.finished)) await sleep(5);
    turn.attempt = 1;
    for (let attempt = 1; attempt <= 2 && !turn.finished; attempt++) {
      turn.attempt = attempt;
      const emit = (chunk) => {
        turn.events.push({ attempt, seq: turn.events.filter((event) => event.attempt === attempt).length + 1, chunk });
        for (const listener of [...turn.listeners]) listener();
      };
      if (attempt > 1) emit({ type: 'data-reset', data: { attempt }, transient: true });
      emit({ type: 'start', messageId: turn.answerId });
      emit({ type: 'data-session', data: { sessionId: session.id, turn: turn.number, stage: 1 }, transient: true });
      emit({ type: 'start-step' });
      const part = `t${attempt}`;
      emit({ type: 'text-start', id: part });
      const pieces = /hostile/i.test(turn.message) ? HOSTILE : ANSWER;
      const crashAfter = attempt === 1 && /takeover/i.test(turn.message) ? 4 : Infinity;
      let said = '';
      let crashed = false;
      for (const [index, delta] of pieces.entries()) {
        await sleep(pace);
        if (turn.cancelled) break;
        if (index === crashAfter) {
          crashed = true;
          break;
        }
        said += delta;
        emit({ type: 'text-delta', id: part, delta });
      }
      if (crashed) continue;
      emit({ type: 'text-end', id: part });
      turn.text = said;
      if (turn.cancelled) emit({ type: 'abort', reason: 'cancelled' });
      else if (/fail/i.test(turn.message) && !turn.again) emit({ type: 'error', errorText: 'The assistant is not available right now.' });
      else {
        for (const source of SOURCES) emit({ type: 'source-url', ...source });
        turn.sources = SOURCES;
        if (/person/i.test(turn.message)) emit({ type: 'data-contact-form', data: { reason: 'handoff', text: 'How can we reach you?' } });
        if (/limit/i.test(turn.message)) {
          session.closed = session.limited = true;
          emit({ type: 'data-limit', data: { scope: 'session', text: 'This was the last answer.' }, transient: true });
        }
        emit({ type: 'finish-step' });
        emit({ type: 'finish', finishReason: 'stop' });
      }
      turn.failed = turn.events.at(-1).chunk.type === 'error';
      turn.finished = true;
      for (const listener of [...turn.listeners]) listener();
    }
  }

  function stream(response, turn, [attempt, seq], reset) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-transform', 'x-vercel-ai-ui-message-stream': 'v1' });
    response.write(': ok\n\n');
    let sent = { attempt, seq };
    const flush = () => {
      for (const event of turn.events) {
        if (event.attempt < sent.attempt || (event.attempt === sent.attempt && event.seq <= sent.seq)) continue;
        if (reset === 'cut' && sent.attempt > 0 && event.attempt > sent.attempt) {
          turn.listeners.delete(flush);
          return void response.destroy();
        }
        sent = event;
        response.write(`id: ${turn.number}-${event.attempt}-${event.seq}\ndata: ${JSON.stringify(event.chunk)}\n\n`);
      }
      if (turn.finished) {
        turn.listeners.delete(flush);
        response.end('data: [DONE]\n\n');
      }
    };
    turn.listeners.add(flush);
    response.on('close', () => turn.listeners.delete(flush));
    flush();
  }

  function transcript(session) {
    const messages = session.turns.flatMap((turn) => {
      const meta = (author, status) => ({ turn: turn.number, author, created_at: '2026-01-01T00:00:00Z', status });
      const question = { id: turn.messageId, role: 'user', parts: [{ type: 'text', text: turn.message }], metadata: meta('visitor', 'complete') };
      const parts = [{ type: 'text', text: turn.text }, ...(turn.sources ?? []).map((source) => ({ type: 'source-url', ...source }))];
      const answer = { id: turn.answerId, role: 'assistant', parts, metadata: { ...meta('assistant', turn.cancelled ? 'cancelled' : 'complete'), ...(turn.rating && { rating: turn.rating }) } };
      return [...(turn.again ? [] : [question]), ...(turn.finished && !turn.failed && !turn.superseded ? [answer] : [])];
    });
    return {
      session: {
        id: session.id,
        stage: session.handoff ? 4 : 1,
        status: session.closed ? 'closed' : 'open',
        termination_type: session.closed ? (session.limited ? 'token_limit' : 'visitor_closed') : null,
        handoff: session.handoff ?? null,
        agent: null,
      },
      messages,
      active_turn: session.turns.find((turn) => !turn.finished)?.number ?? null,
    };
  }

  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    token: TOKEN,
    sessions,
    /** Cuts every connection, as a crash of the process would. */
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close: () => (sockets.forEach((socket) => socket.destroy()), server.close()),
  };
}

async function textOf(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

function asset(path, response) {
  const file = new URL(path === '/demo' ? 'demo.html' : 'dist/chat.js', WIDGET);
  if (!existsSync(file)) return problem(response, 404, 'not_found');
  response.writeHead(200, { 'content-type': path === '/demo' ? 'text/html; charset=utf-8' : 'text/javascript; charset=utf-8' });
  response.end(readFileSync(file, 'utf8').replaceAll('{{WIDGET_TOKEN}}', TOKEN));
}

function json(response, status, body, type = 'application/json') {
  response.writeHead(status, { 'content-type': type }).end(JSON.stringify(body));
}

function problem(response, status, code) {
  json(response, status, { type: `urn:growth-chat:problem:${code}`, title: code, status, code }, 'application/problem+json');
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { url } = await startFakeServer({ port: Number(process.env.PORT ?? 0), pace: Number(process.env.PACE ?? 120) });
  console.log(`BASE_URL=${url} WIDGET_TOKEN=${TOKEN}`);
}
