import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EMPTY, isBusy, reduce, textOf, type Action, type Conversation } from '../src/conversation';
import { decodeChunk, decodeTranscript } from '../src/protocol';
import { presenceWordsFor } from '../src/words';
import { json, noContent, openChat, pass, Service, Stream } from './service';

function agent(status: string, name: string) {
  return { type: 'data-agent', data: { name, status }, transient: true };
}

function frame(turn: number, attempt: number, seq: number, chunk: object): Action {
  const decoded = decodeChunk(JSON.stringify(chunk));
  if (!decoded) throw new Error('not a chunk');
  return { type: 'frame', turn, frame: { cursor: { turn, attempt, seq }, chunk: decoded } };
}

function play(...actions: Action[]): Conversation {
  return actions.reduce(reduce, EMPTY);
}

const asked: Action[] = [
  { type: 'submit', id: 'q1', text: 'Why?' },
  { type: 'accepted', id: 'q1', turn: 1 },
];

function told(id: string, role: string, turn: number, author: string, text: string, status = 'complete') {
  return { id, role, parts: [{ type: 'text', text }], metadata: { turn, author, status } };
}

function transcript(messages: object[], session: object = {}) {
  return { session: { id: 's', status: 'open', stage: 4, handoff: 'delivered', ...session }, messages, active_turn: null };
}

function shown(state: Conversation): string[] {
  return state.messages.flatMap((message) => {
    if (message.role === 'user') return [`visitor: ${message.text}`];
    const text = textOf(message);
    return text === '' && message.status === 'done' ? [] : [`${message.author ?? 'assistant'} (${message.status}): ${text}`];
  });
}

describe('the conversation with a person', () => {
  it('loses the words of the assistant when somebody takes over', () => {
    const state = play(
      ...asked,
      frame(1, 1, 1, { type: 'start', messageId: 'a1' }),
      frame(1, 1, 2, { type: 'text-delta', id: 't', delta: 'Half an ans' }),
      frame(1, 2, 1, { type: 'start', messageId: 'a1' }),
      frame(1, 2, 2, { type: 'data-reset', data: { attempt: 2 } }),
      frame(1, 2, 3, agent('joined', 'Ada')),
      frame(1, 2, 4, { type: 'abort', reason: 'taken_over' }),
    );
    expect(shown(state)).toEqual(['visitor: Why?']);
    expect(state.agent).toEqual({ name: 'Ada', types: false });
    expect(isBusy(state)).toBe(false);
  });

  it('has the name of whoever speaks on their words', () => {
    const state = play(
      frame(2, 1, 1, { type: 'start', messageId: 'p1' }),
      frame(2, 1, 2, agent('joined', 'Ada')),
      frame(2, 1, 3, { type: 'text-delta', id: 't1', delta: 'Hello' }),
      frame(2, 1, 4, { type: 'finish' }),
    );
    expect(shown(state)).toEqual(['Ada (done): Hello']);
    const reloaded = reduce(state, { type: 'transcript', transcript: decodeTranscript(transcript([told('p1', 'assistant', 2, 'Ada', 'Hello')], { agent: 'Ada' }))! });
    expect(shown(reloaded)).toEqual(['Ada (done): Hello']);
    expect(reloaded.messages[0]!.key).toBe(state.messages[0]!.key);
  });

  it('does not take a question for failed that a person answers', () => {
    const read = decodeTranscript(transcript([told('q1', 'user', 1, 'visitor', 'Why?', 'relayed')], { agent: 'Ada' }))!;
    const state = play({ type: 'transcript', transcript: read });
    expect(shown(state)).toEqual(['visitor: Why?']);
    expect(state.agent).toEqual({ name: 'Ada', types: false });
    const failed = decodeTranscript(transcript([told('q1', 'user', 1, 'visitor', 'Why?')]))!;
    expect(shown(play({ type: 'transcript', transcript: failed }))).toEqual(['visitor: Why?', 'assistant (failed): ']);
  });

  it('knows who has left', () => {
    const news = (chunk: object): Action => ({ type: 'frame', turn: null, frame: { cursor: null, chunk: decodeChunk(JSON.stringify(chunk))! } });
    const nobody = play(news(agent('left', '')));
    expect(nobody).toBe(EMPTY);
    const types = play(news(agent('joined', 'Ada')), news(agent('typing', 'Ada')));
    expect(types.agent).toEqual({ name: 'Ada', types: true });
    expect(reduce(types, { type: 'quiet' }).agent).toEqual({ name: 'Ada', types: false });
    expect(reduce(types, news(agent('left', 'Ada')))).toMatchObject({ agent: null, left: 'Ada' });
    expect(decodeChunk(JSON.stringify(agent('dancing', 'Ada')))).toBeNull();
  });

  it('is told of in the language of the visitor', () => {
    const lines = ['en', 'de-AT', 'es', 'fr', 'it'].map((locale) => presenceWordsFor(locale).left('Ada'));
    expect(new Set(lines).size).toBe(4);
    expect(lines[4]).toBe(lines[0]);
    expect(lines.every((line) => line.includes('Ada'))).toBe(true);
  });
});

describe('watching for people', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A chat with an answered question and a handoff, which watches. */
  async function handedOff(follow: Stream) {
    const answer = new Stream(1);
    const service = new Service().then(answer.response, follow.response);
    const opened = openChat(service);
    opened.chat.send('Is anybody there?');
    await pass();
    answer.begin().say('A colleague will come.').send({ type: 'data-handoff', data: { status: 'pending' } }).finish();
    await pass();
    return { service, ...opened };
  }

  const query = (service: Service) => service.asked.map(({ path }) => path).filter((path) => path.includes('follow='));

  it('shows who comes, that they type, and what they say, and goes on watching behind it', async () => {
    const follow = new Stream(2);
    const { service, snapshot, outline } = await handedOff(follow);
    expect(query(service)).toEqual(['/chat/' + service.asked[1]!.path.split('/')[2] + '/stream?reset=event&follow=1']);
    follow.raw(`data: ${JSON.stringify(agent('joined', 'Ada'))}\n\n`);
    follow.raw(`data: ${JSON.stringify(agent('typing', 'Ada'))}\n\n`);
    await pass();
    expect(snapshot().conversation.agent).toEqual({ name: 'Ada', types: true });
    expect(snapshot().busy).toBe(false);
    const next = new Stream(3);
    service.then(next.response);
    follow.begin().send(agent('joined', 'Ada')).say('Here I am').finish();
    await pass();
    expect(outline().at(-1)).toBe('done: Here I am');
    expect(snapshot().conversation.agent).toEqual({ name: 'Ada', types: false });
    expect(query(service).at(-1)).toMatch(/follow=2$/);
  });

  it('makes way for what the visitor writes', async () => {
    const follow = new Stream(2);
    const { service, chat, outline, snapshot } = await handedOff(follow);
    const relayed = new Stream(2);
    service.then(relayed.response, new Stream(3).response);
    chat.send('Hello?');
    await pass();
    expect(follow.cancelled).toBe(true);
    relayed.send({ type: 'data-session', data: { turn: 2 } }, agent('joined', 'Ada'), { type: 'finish' });
    relayed.raw('data: [DONE]\n\n');
    await pass();
    expect(outline().filter((line) => line.includes('failed'))).toEqual([]);
    expect(snapshot()).toMatchObject({ busy: false, conversation: { agent: { name: 'Ada' } } });
    expect(query(service).at(-1)).toMatch(/follow=2$/);
  });

  it('ends when nobody is expected, and begins again with the next sign', async () => {
    const follow = new Stream(2);
    const { service, page } = await handedOff(follow);
    service.then(noContent());
    follow.raw('data: [DONE]\n\n');
    await pass();
    const before = query(service).length;
    await pass(3_600_000);
    expect(query(service)).toHaveLength(before);
    service.then(noContent());
    page.wake();
    await pass();
    expect(query(service)).toHaveLength(before + 1);
  });

  it('ends after half an hour without a sign, and in a page that nobody looks at', async () => {
    const follow = new Stream(2);
    const { service, page } = await handedOff(follow);
    await pass(31 * 60_000);
    const before = query(service).length;
    await pass(10 * 60_000);
    expect(query(service)).toHaveLength(before);
    page.isVisible = false;
    page.wake();
    await pass(60_000);
    expect(query(service)).toHaveLength(before);
  });

  it('is repeated when the stream is cut, behind what is on the screen', async () => {
    const follow = new Stream(2);
    const { service, outline } = await handedOff(follow);
    follow.begin().send(agent('joined', 'Ada')).say('Half a ');
    await pass();
    const rest = new Stream(2, 1, 5);
    service.then(rest.response, new Stream(3).response);
    follow.cut();
    await pass(2_000);
    rest.say('sentence').finish();
    await pass();
    expect(outline().at(-1)).toBe('done: Half a sentence');
  });

  it('is restored by the transcript', async () => {
    const stores = openChat(new Service()).stores;
    const first = openChat(new Service().then(new Stream(1).response), stores);
    first.chat.send('Hello');
    await pass();
    first.chat.dispose();
    const read = json(transcript([told('q', 'user', 1, 'visitor', 'Hello', 'relayed')], { agent: 'Ada' }));
    stores.tab.map.clear();
    const service = new Service().then(read, new Stream(2).response);
    const reloaded = openChat(service, stores);
    await reloaded.chat.refresh();
    await pass();
    expect(reloaded.snapshot().conversation.agent).toEqual({ name: 'Ada', types: false });
    expect(query(service).at(-1)).toMatch(/follow=1$/);
  });
});
