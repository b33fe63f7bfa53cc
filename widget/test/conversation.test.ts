import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answerOf, EMPTY, isBusy, openTurn, reduce, textOf, type Action, type Conversation } from '../src/conversation';
import { compareCursors, parseCursor } from '../src/cursor';
import type { Chunk, Frame, Transcript, TranscriptMessage } from '../src/protocol';

function frames(turn: number, attempt: number, chunks: Chunk[]): Action[] {
  return chunks.map((chunk, index) => ({ type: 'frame', turn, frame: { cursor: { turn, attempt, seq: index + 1 }, chunk } }));
}

function answer(id: string, ...deltas: string[]): Chunk[] {
  return [{ type: 'start', messageId: id }, { type: 'text-start', id: 't' }, ...deltas.map((delta): Chunk => ({ type: 'text-delta', id: 't', delta }))];
}

const FINISH: Chunk = { type: 'finish' };

function play(...actions: Action[]): Conversation {
  return actions.reduce(reduce, EMPTY);
}

const asked: Action[] = [
  { type: 'submit', id: 'q1', text: 'Why?' },
  { type: 'accepted', id: 'q1', turn: 1 },
];

function told(messages: Partial<TranscriptMessage>[], activeTurn: number | null = null): Action {
  const transcript: Transcript = {
    closed: false,
    limited: false,
    stage: null,
    handoff: null,
    agent: null,
    activeTurn,
    messages: messages.map((message) => ({ id: 'x', role: 'user', turn: 1, author: null, text: '', sources: [], stopped: false, relayed: false, rating: null, ...message })),
  };
  return { type: 'transcript', transcript };
}

function outline(state: Conversation): string[] {
  return state.messages.map((message) =>
    message.role === 'user' ? `${message.id} ${message.delivery}` : `${message.turn} ${message.status}: ${textOf(message)}`,
  );
}

describe('cursors', () => {
  it('are compared as numbers', () => {
    const order = ['1-1-2', '1-1-10', '1-2-1', '2-1-1', '10-1-1'];
    const cursors = order.map((text) => parseCursor(text)!);
    expect([...cursors].reverse().sort(compareCursors)).toEqual(cursors);
  });

  it('are three numbers and nothing else', () => {
    for (const text of ['', '1', '1-1', '1-1-1-1', '0-1-1', 'a-1-1', '1-1-', '-1-1-1', '1-1-1e3']) expect(parseCursor(text)).toBeNull();
  });
});

describe('a streamed answer', () => {
  it('grows by its deltas and ends with its sources', () => {
    const source = { id: 's', url: 'https://a.example/', title: null };
    const state = play(...asked, ...frames(1, 1, [...answer('a1', 'Be', 'cause'), { type: 'source-url', source }, FINISH]));
    expect(outline(state)).toEqual(['q1 accepted', '1 done: Because']);
    expect(answerOf(state, 1)).toMatchObject({ id: 'a1', sources: [source] });
    expect(isBusy(state)).toBe(false);
  });

  it('is the same however often and in whatever overlaps its frames come', () => {
    const all = frames(1, 1, [...answer('a1', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'), FINISH]);
    fc.assert(
      fc.property(fc.array(fc.nat(all.length), { maxLength: 12 }), (restarts) => {
        // Each connection begins anywhere behind what is known, or before it, and ends later.
        const state = [...asked, ...restarts.sort((a, b) => a - b).flatMap((end) => all.slice(0, end)), ...all].reduce(reduce, EMPTY);
        expect(outline(state)).toEqual(['q1 accepted', '1 done: abcdefghij']);
      }),
    );
  });

  it('is dropped and begun again by a reset', () => {
    const state = play(...asked, ...frames(1, 1, answer('a1', 'half of')), ...frames(1, 2, [{ type: 'data-reset', attempt: 2 }, ...answer('a1', 'whole'), FINISH]));
    expect(outline(state)).toEqual(['q1 accepted', '1 done: whole']);
  });

  it('is begun again by frames of a later attempt when the reset was not seen', () => {
    const state = play(...asked, ...frames(1, 1, answer('a1', 'half of')), ...frames(1, 2, [...answer('a1', 'whole'), FINISH]));
    expect(outline(state)).toEqual(['q1 accepted', '1 done: whole']);
  });

  it('ignores late frames of an attempt that was overtaken', () => {
    const first = frames(1, 1, answer('a1', 'half', ' of'));
    const state = play(...asked, ...first, ...frames(1, 2, [{ type: 'data-reset', attempt: 2 }, ...answer('a1', 'whole')]), ...first);
    expect(outline(state)).toEqual(['q1 accepted', '1 streaming: whole']);
  });

  it('ends in exactly one coherent answer whatever the crashes and cuts', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(6), fc.nat(8), fc.boolean()), { maxLength: 6 }), (crashes) => {
        const actions = crashes.flatMap(([length, replay, reset], index) => {
          const chunks: Chunk[] = reset && index > 0 ? [{ type: 'data-reset', attempt: index + 1 }] : [];
          const sent = frames(1, index + 1, [...chunks, ...answer('a1', ...Array(length).fill(`old${index} `))]);
          return [...sent, ...sent.slice(replay)];
        });
        const state = play(...asked, ...actions, ...frames(1, crashes.length + 1, [...answer('a1', 'the ', 'answer'), FINISH]));
        expect(outline(state)).toEqual(['q1 accepted', '1 done: the answer']);
      }),
    );
  });

  it('obeys a reset without an id once', () => {
    const reset: Frame = { cursor: null, chunk: { type: 'data-reset', attempt: 2 } };
    const state = play(...asked, ...frames(1, 2, answer('a1', 'whole')), { type: 'frame', turn: 1, frame: reset });
    expect(outline(state)).toEqual(['q1 accepted', '1 streaming: whole']);
  });

  it('keeps its partial text when it is stopped', () => {
    const state = play(...asked, ...frames(1, 1, [...answer('a1', 'half'), { type: 'abort', takenOver: false }]));
    expect(outline(state)).toEqual(['q1 accepted', '1 stopped: half']);
    expect(openTurn(state)).toBeNull();
  });

  it('shows the words of an error', () => {
    const state = play(...asked, ...frames(1, 1, [{ type: 'error', errorText: 'Sorry.' }]));
    expect(answerOf(state, 1)).toMatchObject({ status: 'failed', errorText: 'Sorry.' });
  });

  it('stands under its own question when two are asked', () => {
    const second: Action[] = [
      { type: 'submit', id: 'q2', text: 'And?' },
      { type: 'accepted', id: 'q2', turn: 2 },
    ];
    const state = play(...asked, ...second, ...frames(1, 1, [...answer('a1', 'one'), FINISH]));
    expect(outline(state)).toEqual(['q1 accepted', '1 done: one', 'q2 accepted']);
    expect(openTurn(state)).toBe(2);
  });

  it('changes nothing once it is finished', () => {
    const state = play(...asked, ...frames(1, 1, [...answer('a1', 'one'), FINISH]));
    for (const action of frames(1, 9, [...answer('a1', 'two'), FINISH])) expect(reduce(state, action)).toBe(state);
  });
});

describe('a message', () => {
  it('is not sent twice', () => {
    const state = play(...asked);
    expect(reduce(state, { type: 'submit', id: 'q1', text: 'Why?' })).toBe(state);
    expect(reduce(state, { type: 'refused', id: 'q1' })).toBe(state);
  });

  it('that was refused can be tried again', () => {
    const refused = play({ type: 'submit', id: 'q1', text: 'Why?' }, { type: 'refused', id: 'q1' });
    expect(isBusy(refused)).toBe(false);
    expect(outline(reduce(refused, { type: 'retry', id: 'q1' }))).toEqual(['q1 sending']);
  });

  it('whose answer failed can be answered again under another turn', () => {
    const failed = play(...asked, ...frames(1, 1, [{ type: 'error', errorText: 'Sorry.' }]));
    const again = reduce(failed, { type: 'again', id: 'q1', turn: 1 });
    expect(outline(again)).toEqual(['q1 sending']);
    const actions: Action[] = [{ type: 'accepted', id: 'q1', turn: 2 }, ...frames(2, 1, [...answer('a2', 'now'), FINISH])];
    expect(outline(actions.reduce(reduce, again))).toEqual(['q1 accepted', '2 done: now']);
  });
});

describe('the transcript', () => {
  const question = { id: 'q1', role: 'user', turn: 1, text: 'Why?' } as const;

  it('fills an empty screen', () => {
    const state = play(told([question, { id: 'a1', role: 'assistant', text: 'Because', stopped: true }]));
    expect(outline(state)).toEqual(['q1 accepted', '1 stopped: Because']);
  });

  it('names the turn that is still open', () => {
    const state = play(told([question], 1));
    expect(openTurn(state)).toBe(1);
    expect(outline(state)).toEqual(['q1 accepted']);
  });

  it('leaves the running answer alone', () => {
    const running = play(...asked, ...frames(1, 1, answer('a1', 'half')));
    const state = reduce(running, told([question], 1));
    expect(outline(state)).toEqual(['q1 accepted', '1 streaming: half']);
    expect(answerOf(state, 1)?.cursor).toEqual({ turn: 1, attempt: 1, seq: 3 });
  });

  it('replaces partial text by the finished answer and keeps its place on the screen', () => {
    const running = play(...asked, ...frames(1, 1, answer('a1', 'half')));
    const state = reduce(running, told([question, { id: 'a1', role: 'assistant', text: 'whole' }]));
    expect(outline(state)).toEqual(['q1 accepted', '1 done: whole']);
    expect(answerOf(state, 1)?.key).toBe(answerOf(running, 1)?.key);
    expect(openTurn(state)).toBeNull();
  });

  it('that was read too early takes nothing away', () => {
    const later = play(...asked, ...frames(1, 1, [...answer('a1', 'whole'), FINISH]), { type: 'submit', id: 'q2', text: 'And?' });
    expect(outline(reduce(later, told([question], 1)))).toEqual(outline(later));
    expect(outline(reduce(later, told([])))).toEqual(outline(later));
    expect(openTurn(reduce(later, told([question], 1)))).toBeNull();
  });

  it('tells a turn that failed while nobody listened', () => {
    const running = play(...asked, ...frames(1, 1, answer('a1', 'half')));
    const state = reduce(running, told([question]));
    expect(outline(state)).toEqual(['q1 accepted', '1 failed: half']);
    expect(isBusy(state)).toBe(false);
  });

  it('leaves a turn stopped that was stopped before its first word', () => {
    const stopped = play(...asked, ...frames(1, 1, [{ type: 'start', messageId: 'a1' }, { type: 'abort', takenOver: false }]));
    expect(outline(reduce(stopped, told([question])))).toEqual(['q1 accepted', '1 stopped: ']);
  });

  it('does not call a question failed that another turn answered or answers', () => {
    const answered = play(told([question, { id: 'a2', role: 'assistant', turn: 2, text: 'again' }]));
    expect(outline(answered)).toEqual(['q1 accepted', '2 done: again']);
    expect(isBusy(answered)).toBe(false);
    const running = play(told([question], 2));
    expect(outline(running)).toEqual(['q1 accepted']);
    expect(openTurn(running)).toBe(2);
  });

  it('is idempotent', () => {
    const action = told([question, { id: 'a1', role: 'assistant', text: 'Because' }, { id: 'q2', turn: 2 }], 2);
    const once = play(action);
    expect(reduce(once, action)).toEqual(once);
  });
});

describe('what is said of the conversation', () => {
  it('is known once its frame came, whatever becomes of the answer', () => {
    const state = play(
      ...asked,
      ...frames(1, 1, [
        { type: 'start', messageId: 'a1' },
        { type: 'data-notice', kind: 'privacy', text: 'We store this.' },
        { type: 'data-notice', kind: 'ai', text: 'You talk to an AI.' },
        { type: 'data-limit', text: 'Enough.', closes: true },
        { type: 'data-stage', stage: 3 },
        { type: 'data-handoff', handoff: { failed: false, promise: 'By noon.' } },
        { type: 'data-contact-form', form: { text: 'Leave your details.' } },
        { type: 'error', errorText: 'Sorry' },
      ]),
    );
    expect(outline(state)).toEqual(['q1 accepted', '1 failed: ']);
    expect(state).toMatchObject({
      notices: { privacy: 'We store this.', ai: 'You talk to an AI.' },
      limit: 'Enough.',
      limited: true,
      stage: 3,
      handoff: { failed: false, promise: 'By noon.' },
      contactOffer: { text: 'Leave your details.' },
    });
    expect(answerOf(state, 1)?.cursor?.seq).toBe(8);
  });

  it('does not say that a conversation is over when the budget or the rate is', () => {
    const state = play(...asked, ...frames(1, 1, [{ type: 'data-limit', text: 'Later.', closes: false }]));
    expect([state.limit, state.limited]).toEqual(['Later.', false]);
  });

  it('offers the contact form until details are left or declined', () => {
    const offered = play(...asked, ...frames(1, 1, [{ type: 'data-contact-form', form: { text: null } }]));
    expect(offered.contactOffer).toEqual({ text: null });
    const left = reduce(offered, { type: 'contacted', handoff: { failed: false, promise: null } });
    expect([left.contactOffer, left.handoff]).toEqual([null, { failed: false, promise: null }]);
    const declined = reduce(offered, { type: 'contacted', handoff: null });
    expect([declined.contactOffer, declined.handoff]).toEqual([null, null]);
  });

  it('is kept by a transcript that was read too early', () => {
    const handoff = { failed: false, promise: 'By noon.' };
    const state = play(...asked, { type: 'contacted', handoff }, told([]));
    expect(state.handoff).toEqual(handoff);
  });
});

describe('a rating', () => {
  const finished = [...asked, ...frames(1, 1, [...answer('a1', 'Because'), FINISH])];

  it('stays on its answer, and a transcript brings those of other tabs', () => {
    const rated = play(...finished, { type: 'rated', turn: 1, rating: 'down' });
    expect(answerOf(rated, 1)?.rating).toBe('down');
    const question = { id: 'q1', text: 'Why?' };
    const of = (rating: 'up' | null) => told([question, { id: 'a1', role: 'assistant', text: 'Because', rating }]);
    expect(answerOf(reduce(rated, of(null)), 1)?.rating).toBe('down');
    expect(answerOf(reduce(rated, of('up')), 1)?.rating).toBe('up');
  });
});

describe('a session that is over', () => {
  it('hands what it did not take to the next one', () => {
    const before = play(...asked, ...frames(1, 1, [...answer('a1', 'one'), FINISH]), { type: 'submit', id: 'q2', text: 'And?' });
    const state = reduce(before, { type: 'restart', carry: true });
    expect(outline(state)).toEqual(['q2 sending']);
    expect(state.previous.map((message) => message.id)).toEqual(['q1', 'a1']);
    expect(reduce(before, { type: 'restart', carry: false })).toEqual(EMPTY);
  });
});
