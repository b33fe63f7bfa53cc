/**
 * The conversation on the screen, as a pure function of what happened. Frames may come twice, from
 * an attempt that was overtaken, or after a transcript that already tells the end: whatever the
 * order, each turn ends in exactly one coherent answer.
 *
 * ```text
 * visitor's message:  sending ──► accepted
 *                        ▲ └────► refused
 *                        └──retry───┘
 * answer:  (none) ──frame──► streaming ──finish──► done
 *                             │  ▲  ├────abort───► stopped (done without a word: a person took over)
 *                             └──┘  └────error───► failed
 *                           data-reset
 * ```
 */
import { compareCursors, type Cursor } from './cursor';
import type { Chunk, ContactOffer, Frame, Handoff, NoticeKind, Rating, Source, Transcript, TranscriptMessage } from './protocol';

export interface TextPart {
  readonly id: string;
  readonly text: string;
}

export interface VisitorMessage {
  readonly role: 'user';
  readonly key: string;
  readonly id: string;
  readonly text: string;
  /** `null` until the service has named it. */
  readonly turn: number | null;
  readonly delivery: 'sending' | 'accepted' | 'refused';
  /** The service takes nothing at all from this page. */
  readonly barred?: boolean;
}

export interface Answer {
  readonly role: 'assistant';
  /** Stays the same when the transcript's version takes over from the streamed one. */
  readonly key: string;
  /** The transcript's id; `null` before the stream has named it. */
  readonly id: string | null;
  readonly turn: number;
  readonly author: string | null;
  readonly parts: readonly TextPart[];
  readonly sources: readonly Source[];
  readonly status: 'streaming' | 'done' | 'stopped' | 'failed';
  readonly errorText: string | null;
  /** What the visitor thinks of it. */
  readonly rating: Rating | null;
  readonly attempt: number;
  /** The newest durable frame in it. */
  readonly cursor: Cursor | null;
}

export type Message = VisitorMessage | Answer;

export interface Conversation {
  /** Messages of conversations that were closed while this page was open. */
  readonly previous: readonly Message[];
  readonly messages: readonly Message[];
  /** Turns that were accepted and whose answers are not on the screen in full, oldest first. */
  readonly awaiting: readonly number[];
  readonly closed: boolean;
  /** A limit that was reached, in words for the visitor. */
  readonly limit: string | null;
  /** The conversation's own limit was reached: it goes on in a new one only. */
  readonly limited: boolean;
  /** Where the conversation is, 1 to 4; `null` before the service said so. */
  readonly stage: number | null;
  /** What the service wants the visitor to be told. */
  readonly notices: Readonly<Partial<Record<NoticeKind, string>>>;
  /** The contact form is offered. */
  readonly contactOffer: ContactOffer | null;
  /** A person is to get in touch. */
  readonly handoff: Handoff | null;
  /** The person who speaks instead of the assistant. */
  readonly agent: Agent | null;
  /** Who spoke last and has left since. */
  readonly left: string | null;
}

export interface Agent {
  readonly name: string;
  readonly types: boolean;
}

/** What a reload of the page would lose, because no transcript has it. */
export type Keepsake = Pick<Conversation, 'notices' | 'contactOffer'>;

export type Action =
  | { readonly type: 'submit'; readonly id: string; readonly text: string }
  | { readonly type: 'accepted'; readonly id: string; readonly turn: number | null }
  /** `barred`: whatever the message said, it would have been refused. */
  | { readonly type: 'refused'; readonly id: string; readonly barred?: boolean }
  | { readonly type: 'retry'; readonly id: string }
  /** The visitor wants a failed answer again. */
  | { readonly type: 'again'; readonly id: string; readonly turn: number }
  /** `turn` is the stream's, for frames that name none themselves. */
  | { readonly type: 'frame'; readonly turn: number | null; readonly frame: Frame }
  /** The stream of a turn can't be had any more and the transcript has no answer. */
  | { readonly type: 'lost'; readonly turn: number }
  | { readonly type: 'transcript'; readonly transcript: Transcript }
  /** What was kept over a reload. */
  | { readonly type: 'kept'; readonly keepsake: Keepsake }
  | { readonly type: 'rated'; readonly turn: number; readonly rating: Rating | null }
  /** The visitor left contact details, or (`null`) does not want to. */
  | { readonly type: 'contacted'; readonly handoff: Handoff | null }
  /** The stream that told whether somebody types is over. */
  | { readonly type: 'quiet' }
  /** The session is over; `carry` takes what it did not accept along and leaves the rest in sight. */
  | { readonly type: 'restart'; readonly carry: boolean };

export const EMPTY: Conversation = {
  previous: [],
  messages: [],
  awaiting: [],
  closed: false,
  limit: null,
  limited: false,
  stage: null,
  notices: {},
  contactOffer: null,
  handoff: null,
  agent: null,
  left: null,
};

export function textOf(answer: Answer): string {
  return answer.parts.map((part) => part.text).join('\n\n');
}

export function answerOf(state: Conversation, turn: number): Answer | null {
  for (const message of state.messages) {
    if (message.role === 'assistant' && message.turn === turn) return message;
  }
  return null;
}

/** The newest turn on the screen; what people say comes behind it. */
export function newestTurn(state: Conversation): number {
  return Math.max(0, ...state.messages.map((message) => message.turn ?? 0));
}

/** The turn whose stream is to be followed, `null` when there is none. */
export function openTurn(state: Conversation): number | null {
  return state.awaiting[0] ?? null;
}

/** Whether the visitor waits for anything. */
export function isBusy(state: Conversation): boolean {
  return openTurn(state) !== null || state.messages.some((message) => message.role === 'user' && isOnItsWay(message));
}

function isOnItsWay(message: VisitorMessage): boolean {
  return message.delivery === 'sending' || (message.delivery === 'accepted' && message.turn === null);
}

/** The same object comes back when nothing changed. */
export function reduce(state: Conversation, action: Action): Conversation {
  switch (action.type) {
    case 'submit': {
      if (findVisitor(state, action.id)) return state;
      const { id, text } = action;
      const message: VisitorMessage = { role: 'user', key: id, id, text, turn: null, delivery: 'sending' };
      return { ...state, messages: [...state.messages, message] };
    }
    case 'accepted': {
      const message = findVisitor(state, action.id);
      if (!message) return state;
      const turn = action.turn ?? message.turn;
      if (message.delivery === 'accepted' && message.turn === turn) return state;
      const next = replace(state, message, { ...message, delivery: 'accepted', turn });
      return turn !== null && !answerOf(state, turn) ? { ...next, awaiting: withTurn(state.awaiting, turn) } : next;
    }
    case 'refused':
    case 'retry': {
      const message = findVisitor(state, action.id);
      const delivery = action.type === 'refused' ? 'refused' : 'sending';
      if (!message || message.turn !== null || message.delivery === delivery) return state;
      return replace(state, message, { ...message, delivery, barred: action.type === 'refused' && action.barred === true });
    }
    case 'again': {
      const message = findVisitor(state, action.id);
      const failed = answerOf(state, action.turn);
      if (message?.delivery !== 'accepted' || failed?.status !== 'failed') return state;
      const next = replace(state, message, { ...message, delivery: 'sending', turn: null });
      return { ...next, messages: next.messages.filter((other) => other !== failed) };
    }
    case 'frame':
      return applyFrame(state, action.turn, action.frame);
    case 'lost': {
      const answer = answerOf(state, action.turn) ?? newAnswer(action.turn);
      return answer.status === 'streaming' ? putAnswer(state, { ...answer, status: 'failed' }) : state;
    }
    case 'transcript':
      return mergeTranscript(state, action.transcript);
    case 'kept':
      return { ...state, ...action.keepsake };
    case 'rated': {
      const answer = answerOf(state, action.turn);
      return answer && answer.rating !== action.rating ? replace(state, answer, { ...answer, rating: action.rating }) : state;
    }
    case 'contacted':
      return { ...state, contactOffer: null, handoff: action.handoff ?? state.handoff };
    case 'quiet':
      return state.agent?.types ? { ...state, agent: { ...state.agent, types: false } } : state;
    case 'restart': {
      if (!action.carry) return EMPTY;
      const unsent = state.messages.filter((message) => message.role === 'user' && message.delivery !== 'accepted');
      const sent = state.messages.filter((message) => !unsent.includes(message));
      return { ...EMPTY, previous: [...state.previous, ...sent.map(settle)], messages: unsent };
    }
  }
}

function applyFrame(state: Conversation, streamTurn: number | null, { cursor, chunk }: Frame): Conversation {
  const turn = cursor?.turn ?? (chunk.type === 'data-session' ? chunk.turn : null) ?? streamTurn;
  // Who speaks is news whatever became of a turn.
  const isNews = chunk.type === 'data-session' || (chunk.type === 'data-agent' && !cursor);
  if (turn === null || isNews) return applyData(state, chunk);
  const known = answerOf(state, turn);
  if (known && known.status !== 'streaming') return state;
  if (known?.cursor && cursor && compareCursors(cursor, known.cursor) <= 0) return state;

  let answer = known ?? newAnswer(turn);
  if (cursor) {
    // A later attempt starts the answer again, whether or not its reset was seen.
    if (cursor.attempt > answer.attempt) answer = { ...cleared(answer), attempt: cursor.attempt };
    answer = { ...answer, cursor };
  }
  switch (chunk.type) {
    case 'start':
      return putAnswer(state, { ...answer, id: chunk.messageId });
    case 'text-start':
      return putAnswer(state, withPart(answer, chunk.id, ''));
    case 'text-delta':
      return putAnswer(state, withPart(answer, chunk.id, chunk.delta));
    case 'source-url': {
      const others = answer.sources.filter((source) => source.id !== chunk.source.id);
      return putAnswer(state, { ...answer, sources: [...others, chunk.source] });
    }
    case 'finish':
      return putAnswer(state, { ...answer, status: 'done' });
    case 'abort':
      return putAnswer(state, chunk.takenOver ? { ...cleared(answer), status: 'done' } : { ...answer, status: 'stopped' });
    case 'error':
      return putAnswer(state, { ...answer, status: 'failed', errorText: chunk.errorText });
    case 'data-limit':
    case 'data-stage':
    case 'data-notice':
    case 'data-contact-form':
    case 'data-handoff':
      return applyData(cursor ? putAnswer(state, answer) : state, chunk);
    case 'data-agent': {
      const author = chunk.status === 'joined' ? chunk.name : answer.author;
      return applyData(cursor ? putAnswer(state, { ...answer, author }) : state, chunk);
    }
    case 'data-reset': {
      // A reset without an id may be a repetition of one that was already obeyed.
      if (!cursor && chunk.attempt !== null && chunk.attempt <= answer.attempt) return state;
      return putAnswer(state, { ...cleared(answer), attempt: Math.max(answer.attempt, chunk.attempt ?? 0) });
    }
  }
}

/** What is said of the conversation, not of an answer. */
function applyData(state: Conversation, chunk: Chunk): Conversation {
  switch (chunk.type) {
    case 'data-limit':
      return { ...state, limit: chunk.text, limited: state.limited || chunk.closes };
    case 'data-stage':
      return { ...state, stage: chunk.stage };
    case 'data-notice':
      return { ...state, notices: { ...state.notices, [chunk.kind]: chunk.text } };
    case 'data-contact-form':
      return { ...state, contactOffer: chunk.form };
    case 'data-handoff':
      return { ...state, handoff: chunk.handoff };
    case 'data-agent': {
      const { name, status } = chunk;
      if (status === 'left') return state.agent ? { ...state, agent: null, left: state.agent.name } : state;
      const types = status === 'typing';
      const same = state.agent?.name === name && state.agent.types === types;
      return same ? state : { ...state, agent: { name, types }, left: null };
    }
    default:
      return state;
  }
}

function newAnswer(turn: number): Answer {
  return {
    role: 'assistant',
    key: `turn ${turn}`,
    id: null,
    turn,
    author: null,
    parts: [],
    sources: [],
    status: 'streaming',
    errorText: null,
    rating: null,
    attempt: 0,
    cursor: null,
  };
}

function cleared(answer: Answer): Answer {
  return { ...answer, parts: [], sources: [] };
}

function withPart(answer: Answer, id: string, delta: string): Answer {
  const known = answer.parts.some((part) => part.id === id);
  const parts = known
    ? answer.parts.map((part) => (part.id === id ? { id, text: part.text + delta } : part))
    : [...answer.parts, { id, text: delta }];
  return { ...answer, parts };
}

/** Puts an answer where it was, or behind everything of its own and earlier turns. */
function putAnswer(state: Conversation, answer: Answer): Conversation {
  const awaiting = answer.status === 'streaming'
    ? withTurn(state.awaiting, answer.turn)
    : state.awaiting.filter((turn) => turn !== answer.turn);
  const known = answerOf(state, answer.turn);
  if (known) return { ...replace(state, known, answer), awaiting };
  const messages = [...state.messages];
  const before = messages.findLastIndex((message) => message.turn !== null && message.turn <= answer.turn);
  messages.splice(before + 1, 0, answer);
  return { ...state, messages, awaiting };
}

function withTurn(turns: readonly number[], turn: number): readonly number[] {
  return turns.includes(turn) ? turns : [...turns, turn].sort((a, b) => a - b);
}

/**
 * The transcript is the truth about what is finished; the screen knows more about what is not: the
 * running answer's partial text, messages still on their way, and everything that happened after
 * the transcript was read.
 */
function mergeTranscript(state: Conversation, transcript: Transcript): Conversation {
  const { activeTurn } = transcript;
  const newest = Math.max(0, activeTurn ?? 0, ...transcript.messages.map((message) => message.turn));
  const isOver = (turn: number) => turn <= newest && (activeTurn === null || turn < activeTurn);

  const told = transcript.messages.map((message) => fromTranscript(state, message));
  const relayed = new Set(transcript.messages.flatMap((message) => (message.relayed ? [message.turn] : [])));
  const answered = new Set(told.flatMap((message) => (message.role === 'assistant' ? [message.turn] : [])));
  const kept = state.messages.filter((message) => {
    if (told.some((other) => other.id !== null && other.id === message.id)) return false;
    if (message.role === 'user') return message.turn === null || message.turn > newest;
    return !answered.has(message.turn) && !isOver(message.turn);
  });
  const messages = inOrder([...told, ...kept]);
  // A question that is neither answered nor going to be: its turn failed.
  const awaiting = new Set(state.awaiting.filter((turn) => turn > newest));
  if (activeTurn !== null) awaiting.add(activeTurn);
  for (let at = messages.length - 1; at >= 0; at--) {
    const message = messages[at];
    if (message?.role !== 'user' || message.turn === null || answered.has(message.turn)) continue;
    const next = messages[at + 1];
    if (next?.role === 'assistant') continue;
    if (relayed.has(message.turn)) continue;
    if (!isOver(message.turn)) awaiting.add(message.turn);
    // The newest question may be what the active turn answers again.
    else if (next || activeTurn === null) messages.splice(at + 1, 0, failedAnswer(state, message.turn));
  }
  for (const message of messages) {
    if (message.role !== 'assistant') continue;
    if (message.status === 'streaming') awaiting.add(message.turn);
    else awaiting.delete(message.turn);
  }
  const { closed, limited, stage, handoff, agent } = transcript;
  return {
    ...state,
    messages,
    awaiting: [...awaiting].sort((a, b) => a - b),
    closed,
    limited: limited || state.limited,
    stage: stage ?? state.stage,
    agent: agent === null ? null : { name: agent, types: state.agent?.types ?? false },
    left: agent !== null ? null : (state.agent?.name ?? state.left),
    // The transcript may have been read before the form was sent.
    handoff: handoff ? { ...handoff, promise: handoff.promise ?? state.handoff?.promise ?? null } : state.handoff,
  };
}

function failedAnswer(state: Conversation, turn: number): Answer {
  const shown = answerOf(state, turn) ?? newAnswer(turn);
  // A turn that was stopped before its first word leaves no message.
  return { ...shown, status: shown.status === 'stopped' ? 'stopped' : 'failed' };
}

/** By turn, the question first; what has no turn yet stays at the end. */
function inOrder(messages: readonly Message[]): Message[] {
  const rank = (message: Message) => (message.turn ?? Infinity) * 2 + (message.role === 'user' ? 0 : 1);
  return messages.toSorted((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

function fromTranscript(state: Conversation, told: TranscriptMessage): Message {
  const { id, turn, text, author, sources } = told;
  if (told.role === 'user') {
    const own = findVisitor(state, id);
    // Its post is being repeated or asks for another answer; the answer to the post says which.
    if (own?.delivery === 'sending') return own;
    return { role: 'user', key: id, id, text, turn, delivery: 'accepted' };
  }
  const shown = state.messages.find((message) => message.role === 'assistant' && message.id === id)
    ?? answerOf(state, turn);
  return {
    ...newAnswer(turn),
    key: shown?.key ?? id,
    id,
    author,
    parts: text === '' ? [] : [{ id: 'transcript', text }],
    sources,
    status: told.stopped ? 'stopped' : 'done',
    rating: told.rating ?? (shown?.role === 'assistant' ? shown.rating : null),
  };
}

/** An answer that nothing will be added to. */
function settle(message: Message): Message {
  return message.role === 'assistant' && message.status === 'streaming' ? { ...message, status: 'failed' } : message;
}

function findVisitor(state: Conversation, id: string): VisitorMessage | null {
  for (const message of state.messages) {
    if (message.role === 'user' && message.id === id) return message;
  }
  return null;
}

function replace(state: Conversation, old: Message, next: Message): Conversation {
  return { ...state, messages: state.messages.map((message) => (message === old ? next : message)) };
}
