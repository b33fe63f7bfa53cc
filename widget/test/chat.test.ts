import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { json, MemoryStore, noContent, openChat, Page, pass, problem, Service, Stream, TIMEOUT_MS } from './service';

const accepted = (turn: number) => () => json({ turn }, 202);

function transcript(messages: object[], activeTurn: number | null = null, status = 'open') {
  return json({ session: { id: 's', status }, messages, active_turn: activeTurn });
}

function told(id: string, role: string, turn: number, text: string, status = 'complete') {
  return { id, role, parts: [{ type: 'text', text }], metadata: { turn, author: role === 'user' ? 'visitor' : 'assistant', status } };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('contact details', () => {
  const details = { name: 'Ada', email: 'ada@visitor.example', company: '', message: '' };

  it('are sent again while the service can not take them, and can be sent once more afterwards', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const { chat, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('x').send({ type: 'data-contact-form', data: { reason: 'handoff' } }).finish();
    await pass();
    service.then('network error', problem(503, 'unavailable'), 'network error', 'network error', 'network error');
    void chat.leaveContact(details);
    await pass();
    expect(snapshot().contact).toBe('sending');
    void chat.leaveContact(details);
    await pass(120_000);
    expect(snapshot().contact).toBe('failed');
    expect(service.paths.filter((path) => path.endsWith('/contact'))).toHaveLength(5);
    service.then(json({ handoff_id: 'h', status: 'pending', promise: null }, 202));
    void chat.leaveContact(details);
    await pass();
    expect(snapshot()).toMatchObject({ contact: 'idle', conversation: { contactOffer: null, handoff: { failed: false, promise: null } } });
  });

  it('that were on their way do not show up in a new conversation', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const { chat, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('x').finish();
    await pass();
    service.then('silence', json({ status: 'closed' }));
    void chat.leaveContact(details);
    await pass();
    chat.startOver();
    await pass();
    expect(snapshot()).toMatchObject({ contact: 'idle', conversation: { handoff: null } });
  });
});

describe('a conversation whose limit is reached', () => {
  it('is known after a reload and goes on in a new session', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const { chat, stores, page } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('Enough.').finish();
    await pass();
    chat.dispose();
    const closed = json({ session: { id: 's', status: 'closed', termination_type: 'token_limit', stage: 4, handoff: 'pending', promise: { text: 'By noon.', by: 'x' } }, messages: [], active_turn: null });
    const after = new Service().then(closed, json({ status: 'closed' }));
    const reloaded = openChat(after, stores, page);
    await reloaded.chat.refresh();
    expect(reloaded.snapshot().conversation).toMatchObject({ limited: true, stage: 4, handoff: { failed: false, promise: 'By noon.' } });
    const before = reloaded.credentials.read()!.sessionId;
    reloaded.chat.startOver();
    await pass();
    expect(reloaded.snapshot().conversation.limited).toBe(false);
    expect(reloaded.credentials.read()!.sessionId).not.toBe(before);
  });
});

describe('sending', () => {
  it('posts the message with the secret in a header only, and streams the answer', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const { chat, outline, credentials } = openChat(service);
    chat.send('Why?');
    await pass();
    const [post] = service.asked;
    const { sessionId, secret } = credentials.read()!;
    expect(post!.method).toBe('POST');
    expect(post!.path).toBe('/chat?reset=event');
    expect(post!.headers.get('Authorization')).toBe(`Bearer ${secret}`);
    expect(post!.headers.get('X-Widget-Token')).toBe('site');
    expect(post!.body).toEqual({
      session_id: sessionId,
      message: 'Why?',
      message_id: expect.stringMatching(/^[A-Za-z0-9_-]{32}$/),
      page_url: 'https://www.example/',
      locale: 'en',
      on_busy: 'enqueue',
    });
    expect(secret).toMatch(/^[A-Za-z0-9_-]{32}$/);
    expect(JSON.stringify(post!.body) + post!.path).not.toContain(secret);

    stream.begin().say('Be').say('cause').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(service.asked).toHaveLength(1);
  });

  it('repeats a post whose answer was lost under the same id until it is taken', async () => {
    const stream = new Stream(1);
    const service = new Service().then('network error', problem(503, 'unavailable'), problem(500, 'internal'), () => stream.response);
    const { chat, outline, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    expect(snapshot().obstacle?.cause).toBe('connection');
    await pass(5_000);
    stream.begin().say('Because').finish();
    await pass();
    expect(service.paths).toEqual(Array(4).fill('POST /chat'));
    expect(new Set(service.asked.map((asked) => asked.body?.message_id)).size).toBe(1);
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(snapshot().obstacle).toBeNull();
  });

  it('gives up a post without an answer and repeats it', async () => {
    const service = new Service().then('silence');
    const { chat } = openChat(service);
    chat.send('Why?');
    await pass(14_000);
    expect(service.asked).toHaveLength(1);
    await pass(2_000);
    expect(service.asked.length).toBeGreaterThan(1);
    expect(service.asked[0]!.signal?.aborted).toBe(true);
  });

  it('waits as long as the service asks', async () => {
    const service = new Service().then(problem(429, 'rate_limit', { 'Retry-After': '7' }));
    const { chat } = openChat(service);
    chat.send('Why?');
    await pass(6_900);
    expect(service.asked).toHaveLength(1);
    await pass(200);
    expect(service.asked).toHaveLength(2);
  });

  it('says when a message is refused for good, and tries again when told to', async () => {
    const stream = new Stream(1);
    const service = new Service().then(problem(403, 'widget_token'), stream.response);
    const { chat, outline, snapshot } = openChat(service);
    chat.send('Why?');
    await pass(60_000);
    expect(outline()).toEqual(['Why? (refused)']);
    expect(snapshot().busy).toBe(false);
    const message = snapshot().conversation.messages[0]!;
    chat.resend(message.id!);
    await pass();
    stream.begin().say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(service.asked[1]!.body?.message_id).toBe(service.asked[0]!.body?.message_id);
  });

  it('goes into a new session when the old one is closed', async () => {
    const [first, second] = [new Stream(1), new Stream(1)];
    const service = new Service().then(first.response, problem(409, 'session_closed'), second.response);
    const { chat, outline, snapshot, credentials } = openChat(service);
    chat.send('One');
    await pass();
    const old = credentials.read()!;
    first.begin().say('1').finish();
    await pass();
    chat.send('Two');
    await pass();
    second.begin().say('2').finish();
    await pass();
    expect(outline()).toEqual(['Two (accepted)', 'done: 2']);
    expect(snapshot().conversation.previous).toHaveLength(2);
    expect(credentials.read()!.sessionId).not.toBe(old.sessionId);
    expect(credentials.read()!.secret).not.toBe(old.secret);
    expect(service.asked[2]!.headers.get('Authorization')).not.toBe(service.asked[0]!.headers.get('Authorization'));
  });

  it('does not change sessions for ever when none is to be had', async () => {
    const service = new Service().then(problem(404, 'session_not_found'), problem(404, 'session_not_found'));
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass(60_000);
    expect(service.asked).toHaveLength(2);
    expect(outline()).toEqual(['Why? (refused)']);
  });

  it('queues a second message while the first is answered, and follows both in order', async () => {
    const [first, second] = [new Stream(1), new Stream(2)];
    const service = new Service().then(first.response, accepted(2), second.response);
    const { chat, outline } = openChat(service);
    chat.send('One');
    await pass();
    first.begin().say('1');
    chat.send('Two');
    await pass();
    expect(service.asked[1]!.headers.get('Accept')).toBe('application/json');
    expect(outline()).toEqual(['One (accepted)', 'streaming: 1', 'Two (accepted)']);
    first.finish();
    await pass();
    expect(service.asked[2]!.headers.get('Last-Event-ID')).toBe('2-0-0');
    second.begin().say('2').finish();
    await pass();
    expect(outline()).toEqual(['One (accepted)', 'done: 1', 'Two (accepted)', 'done: 2']);
  });

  it('survives a reload of the page before it was taken', async () => {
    const page = new Page();
    const { chat, stores } = openChat(new Service(), undefined, page);
    chat.send('Why?');
    await pass();
    chat.dispose();
    expect(page.listeners).toBe(0);

    const stream = new Stream(1);
    const service = new Service().then(problem(404, 'session_not_found'), stream.response);
    const reloaded = openChat(service, stores);
    void reloaded.chat.refresh();
    await pass();
    stream.begin().say('Because').finish();
    await pass();
    expect(reloaded.outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(stores.tab.map.size).toBe(0);
  });

  it('stores nothing before the visitor writes', async () => {
    const service = new Service();
    const { chat, stores } = openChat(service);
    await chat.refresh();
    expect(stores.site.map.size + stores.tab.map.size + service.asked.length).toBe(0);
  });
});

describe('following', () => {
  it('resumes behind the last frame when the connection breaks', async () => {
    const [first, second] = [new Stream(1), new Stream(1, 1, 4)];
    const service = new Service().then(first.response, 'network error', second.response);
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass();
    first.begin().say('Be');
    await pass();
    first.cut();
    await pass(1_000);
    expect(service.asked[2]!.headers.get('Last-Event-ID')).toBe('1-1-4');
    expect(service.asked[2]!.path).toContain('/stream?reset=event');
    second.say('cause').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('takes a body that ends without [DONE] for a cut', async () => {
    const second = new Stream(1, 1, 4);
    const body = 'id: 1-1-1\ndata: {"type":"start","messageId":"a1"}\n\nid: 1-1-4\ndata: {"type":"text-delta","id":"t","delta":"Be"}\n\n';
    const service = new Service().then(new Response(body), second.response);
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass(1_000);
    second.say('cause').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('learns the turn by posting again when the stream broke before its first frame', async () => {
    const [first, second] = [new Stream(1), new Stream(1)];
    const service = new Service().then(first.response, accepted(1), second.response);
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass();
    first.cut();
    await pass(1_000);
    expect(service.asked[1]!.body?.message_id).toBe(service.asked[0]!.body?.message_id);
    expect(service.asked[2]!.headers.get('Last-Event-ID')).toBe('1-0-0');
    second.begin().say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('drops the partial text on data-reset', async () => {
    const stream = new Stream(1);
    const { chat, outline } = openChat(new Service().then(stream.response));
    chat.send('Why?');
    await pass();
    stream.begin().say('half of').raw('id: 1-2-1\ndata: {"type":"data-reset","data":{"attempt":2},"transient":true}\n\n');
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'streaming: ']);
    stream.raw('id: 1-2-2\ndata: {"type":"text-delta","id":"t2","delta":"whole"}\n\nid: 1-2-3\ndata: {"type":"finish"}\n\ndata: [DONE]\n\n');
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: whole']);
  });

  it('reads the transcript when nothing is left to stream', async () => {
    const first = new Stream(1);
    const service = new Service().then(first.response, noContent(), () =>
      transcript([told(service.asked[0]!.body!.message_id as string, 'user', 1, 'Why?'), told('a1', 'assistant', 1, 'Because')]),
    );
    const { chat, outline, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    first.begin().say('Be');
    await pass();
    first.cut();
    await pass(1_000);
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(snapshot().busy).toBe(false);
  });

  it('asks ever more seldom while the service is away, at once when the network is back, and never in a hidden tab', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const page = new Page();
    const { chat } = openChat(service, undefined, page);
    chat.send('Why?');
    await pass();
    stream.begin().cut();
    await pass(60_000);
    const soFar = service.asked.length;
    // 125 ms doubling to 7.5 s: some ten attempts in a minute, not hundreds and not none.
    expect(soFar).toBeGreaterThan(8);
    expect(soFar).toBeLessThan(20);
    page.wake();
    await pass();
    expect(service.asked.length).toBe(soFar + 1);
    page.isVisible = false;
    await pass(600_000);
    expect(service.asked.length).toBe(soFar + 1);
    page.isVisible = true;
    page.wake();
    await pass();
    expect(service.asked.length).toBe(soFar + 2);
  });

  it('does not ask in a hurry when the streams are empty', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    for (let times = 0; times < 200; times++) service.then(() => noContent(), () => transcript([], 1));
    const { chat } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().cut();
    await pass(60_000);
    expect(service.asked.length).toBeLessThan(40);
  });

  it('gives up a body that has gone silent', async () => {
    const [first, second] = [new Stream(1), new Stream(1, 1, 3)];
    const service = new Service().then(first.response, second.response);
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass();
    first.begin();
    await pass(44_000);
    expect(service.asked).toHaveLength(1);
    await pass(2_000);
    expect(first.cancelled).toBe(true);
    second.say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('continues a running answer after a reload', async () => {
    const stream = new Stream(3);
    const site = new MemoryStore();
    site.setItem('growth-chat https://api.example/chat', JSON.stringify({ sessionId: 'known', secret: 'x'.repeat(32) }));
    const service = new Service().then(transcript([told('q1', 'user', 1, 'One'), told('a1', 'assistant', 1, '1'), told('q3', 'user', 3, 'Three')], 3), stream.response);
    const { chat, outline } = openChat(service, { site, tab: new MemoryStore() });
    void chat.refresh();
    await pass();
    expect(service.paths).toEqual(['GET /chat/known', 'GET /chat/known/stream']);
    expect(service.asked[1]!.headers.get('Last-Event-ID')).toBe('3-0-0');
    stream.begin().say('3').finish();
    await pass();
    expect(outline()).toEqual(['One (accepted)', 'done: 1', 'Three (accepted)', 'done: 3']);
  });

  it('calls the answer lost when the session is gone', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response, problem(404, 'session_not_found'));
    const { chat, outline, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('Be');
    await pass();
    stream.cut();
    await pass(60_000);
    expect(outline()).toEqual(['Why? (accepted)', 'failed: Be']);
    expect(service.asked).toHaveLength(2);
    expect(snapshot().busy).toBe(false);
  });
});

describe('stopping', () => {
  it('cancels the turn and keeps the partial text', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response, json({ status: 'cancelling' }, 202));
    const { chat, outline, snapshot, credentials } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('Be');
    await pass();
    void chat.stop();
    expect(snapshot().stopping).toBe(true);
    await pass();
    expect(service.paths[1]).toBe(`POST /chat/${credentials.read()!.sessionId}/turns/1/cancel`);
    stream.send({ type: 'text-end', id: 't' }, { type: 'abort', reason: 'cancelled' }).raw('data: [DONE]\n\n');
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'stopped: Be']);
    expect(snapshot()).toMatchObject({ stopping: false, busy: false });
  });

  it('asks for the turn first when no frame has named it', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response, accepted(1), json({}, 202));
    const { chat } = openChat(service);
    chat.send('Why?');
    await pass();
    void chat.stop();
    await pass();
    expect(service.paths.slice(1)).toEqual(['POST /chat', expect.stringContaining('/turns/1/cancel')]);
  });
});

describe('an answer that failed', () => {
  async function fail(service: Service) {
    const stream = new Stream(1);
    service.then(stream.response);
    const opened = openChat(service);
    opened.chat.send('Why?');
    await pass();
    stream.begin().send({ type: 'error', errorText: 'Sorry.' }).raw('data: [DONE]\n\n');
    await pass();
    expect(opened.outline()).toEqual(['Why? (accepted)', 'failed: ']);
    return opened;
  }

  it('is asked for again in its own place', async () => {
    const service = new Service();
    const { chat, outline } = await fail(service);
    const stream = new Stream(2);
    service.then(stream.response);
    chat.answerAgain(1);
    await pass();
    expect(service.asked[1]!.body).toMatchObject({ trigger: 'regenerate-message', messageId: 'a1', messages: [{ id: service.asked[0]!.body!.message_id, role: 'user' }] });
    stream.begin().say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('is asked for at the end when the conversation went on', async () => {
    const service = new Service();
    const { chat, outline } = await fail(service);
    const stream = new Stream(3);
    service.then(problem(422, 'nothing_to_regenerate'), stream.response);
    chat.answerAgain(1);
    await pass();
    stream.begin().say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'failed: ', 'Why? (accepted)', 'done: Because']);
  });
});

describe('the fallback', () => {
  it('is offered when nothing comes for too long, and withdrawn when something does', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response);
    const { chat, snapshot } = openChat(service);
    chat.send('Why?');
    await pass(TIMEOUT_MS - 1);
    expect(snapshot().stalled).toBe(false);
    await pass(1);
    expect(snapshot().stalled).toBe(true);
    stream.begin().say('Be');
    await pass();
    expect(snapshot().stalled).toBe(false);
    stream.finish();
    await pass(TIMEOUT_MS * 2);
    expect(snapshot().stalled).toBe(false);
  });
});

describe('several tabs', () => {
  it('show what another tab began', async () => {
    const stores = { site: new MemoryStore(), tab: new MemoryStore() };
    const here = openChat(new Service().then(new Stream(1).response), stores);
    here.chat.send('Why?');
    await pass();
    expect(here.announce).toHaveBeenCalled();

    const stream = new Stream(1);
    const service = new Service().then(transcript([told('q1', 'user', 1, 'Why?')], 1), stream.response);
    const there = openChat(service, { site: stores.site, tab: new MemoryStore() });
    void there.chat.refresh();
    await pass();
    stream.begin().say('Because').finish();
    await pass();
    expect(there.outline()).toEqual(['Why? (accepted)', 'done: Because']);
    expect(there.credentials.read()).toEqual(here.credentials.read());
  });

  it('take over a session that another tab began anew', async () => {
    const stores = { site: new MemoryStore(), tab: new MemoryStore() };
    const service = new Service().then(new Stream(1).response);
    const here = openChat(service, stores);
    here.chat.send('One');
    await pass();
    here.credentials.replace(here.credentials.read()!);
    service.then(transcript([told('q9', 'user', 1, 'Nine'), told('a9', 'assistant', 1, '9')]));
    void here.chat.refresh();
    await pass();
    expect(here.outline()).toEqual(['Nine (accepted)', 'done: 9']);
  });
});
