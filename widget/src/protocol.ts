/**
 * What the service sends: the chunks of a turn's stream (the AI SDK's UI message stream v1 and our
 * `data-…` parts) and the transcript. Anything unknown decodes to `null` and is passed over, so that
 * a page with an old widget survives a newer service.
 */
import type { Cursor } from './cursor';
import { asArray, asCount, asObject, asString, parseObject, type JsonObject } from './json';

/** What a visitor leaves, as the service takes it. */
export interface Details {
  readonly name: string;
  readonly email: string;
  readonly company: string;
  readonly message: string;
}

export interface Source {
  readonly id: string;
  readonly url: string;
  readonly title: string | null;
}

export type Chunk =
  | { readonly type: 'start'; readonly messageId: string | null }
  | { readonly type: 'text-start'; readonly id: string }
  | { readonly type: 'text-delta'; readonly id: string; readonly delta: string }
  | { readonly type: 'source-url'; readonly source: Source }
  | { readonly type: 'finish' }
  | { readonly type: 'abort'; readonly takenOver: boolean }
  | { readonly type: 'error'; readonly errorText: string }
  | { readonly type: 'data-session'; readonly turn: number | null }
  | { readonly type: 'data-reset'; readonly attempt: number | null }
  | { readonly type: 'data-limit'; readonly text: string; readonly closes: boolean }
  | { readonly type: 'data-stage'; readonly stage: number }
  | { readonly type: 'data-notice'; readonly kind: NoticeKind; readonly text: string }
  | { readonly type: 'data-contact-form'; readonly form: ContactOffer }
  | { readonly type: 'data-handoff'; readonly handoff: Handoff }
  | { readonly type: 'data-agent'; readonly name: string; readonly status: AgentStatus };

export type NoticeKind = 'privacy' | 'ai';

/** The contact form is offered: what stands above it, when the answer does not say it. */
export interface ContactOffer {
  readonly text: string | null;
}

export interface Handoff {
  /** Nobody could be told of it. */
  readonly failed: boolean;
  /** When the visitor can expect a reply, in words. */
  readonly promise: string | null;
}

/** A person of the company takes part, types, or has left. */
export type AgentStatus = 'joined' | 'typing' | 'left';

export type Rating = 'up' | 'down';

/** One frame of a stream; the id is `null` on frames that are not durable. */
export interface Frame {
  readonly cursor: Cursor | null;
  readonly chunk: Chunk;
}

/** What ends a stream on purpose. */
export const DONE = '[DONE]';

export function decodeChunk(data: string): Chunk | null {
  const json = parseObject(data);
  if (!json) return null;
  const id = asString(json.id);
  switch (json.type) {
    case 'start':
      return { type: 'start', messageId: asString(json.messageId) };
    case 'text-start':
      return id === null ? null : { type: 'text-start', id };
    case 'text-delta': {
      const delta = asString(json.delta);
      return id === null || delta === null ? null : { type: 'text-delta', id, delta };
    }
    case 'source-url': {
      const source = decodeSource(json);
      return source && { type: 'source-url', source };
    }
    case 'finish':
      return { type: 'finish' };
    case 'abort':
      return { type: 'abort', takenOver: json.reason === 'taken_over' };
    case 'error':
      return { type: 'error', errorText: asString(json.errorText) ?? '' };
    case 'data-session':
      return { type: 'data-session', turn: asCount(asObject(json.data)?.turn) };
    case 'data-reset':
      return { type: 'data-reset', attempt: asCount(asObject(json.data)?.attempt) };
    case 'data-limit': {
      const data = asObject(json.data);
      const text = asString(data?.text);
      return text === null ? null : { type: 'data-limit', text, closes: data?.scope === 'session' };
    }
    case 'data-stage': {
      const stage = asCount(asObject(json.data)?.stage);
      return stage === null ? null : { type: 'data-stage', stage };
    }
    case 'data-notice': {
      const data = asObject(json.data);
      const text = asString(data?.text);
      return text === null ? null : { type: 'data-notice', kind: data?.kind === 'ai' ? 'ai' : 'privacy', text };
    }
    case 'data-contact-form':
      return { type: 'data-contact-form', form: { text: asString(asObject(json.data)?.text) } };
    case 'data-handoff': {
      const handoff = decodeHandoff(json.data);
      return handoff && { type: 'data-handoff', handoff };
    }
    case 'data-agent': {
      const data = asObject(json.data);
      const status = data?.status;
      const known = status === 'joined' || status === 'typing' || status === 'left';
      return known ? { type: 'data-agent', name: asString(data?.name) ?? '', status } : null;
    }
    default:
      return null;
  }
}

/** `null` when the value is no handoff. */
export function decodeHandoff(value: unknown): Handoff | null {
  const json = asObject(value);
  const status = asString(json?.status);
  return status === null ? null : { failed: status === 'dead', promise: asString(asObject(json?.promise)?.text) };
}

export interface TranscriptMessage {
  readonly id: string;
  readonly role: 'user' | 'assistant';
  readonly turn: number;
  /** The person who wrote it; `null` for the visitor and the assistant. */
  readonly author: string | null;
  readonly text: string;
  readonly sources: readonly Source[];
  readonly stopped: boolean;
  /** A person answers it, not the assistant. */
  readonly relayed: boolean;
  readonly rating: Rating | null;
}

export interface Transcript {
  readonly closed: boolean;
  /** It is closed because its limit was reached. */
  readonly limited: boolean;
  readonly stage: number | null;
  readonly handoff: Handoff | null;
  /** The person who speaks. */
  readonly agent: string | null;
  /** The oldest turn that is queued or running. */
  readonly activeTurn: number | null;
  readonly messages: readonly TranscriptMessage[];
}

/** `null` when the body is no transcript. */
export function decodeTranscript(body: unknown): Transcript | null {
  const json = asObject(body);
  const session = asObject(json?.session);
  if (!json || !session) return null;
  const messages = asArray(json.messages).map(decodeMessage);
  return {
    closed: session.status === 'closed',
    limited: session.termination_type === 'token_limit',
    stage: asCount(session.stage),
    agent: asString(session.agent),
    handoff: decodeHandoff({ status: session.handoff, promise: session.promise }),
    activeTurn: asCount(json.active_turn),
    messages: messages.filter((message) => message !== null),
  };
}

function decodeMessage(value: unknown): TranscriptMessage | null {
  const json = asObject(value);
  const metadata = asObject(json?.metadata);
  const id = asString(json?.id);
  const turn = asCount(metadata?.turn);
  const role = json?.role;
  if (!json || id === null || turn === null || (role !== 'user' && role !== 'assistant')) return null;
  const parts = asArray(json.parts).map(asObject);
  const author = asString(metadata?.author);
  return {
    id,
    role,
    turn,
    author: author === 'visitor' || author === 'assistant' ? null : author,
    text: parts.map((part) => (part?.type === 'text' ? (asString(part.text) ?? '') : '')).join(''),
    sources: parts.flatMap((part) => (part?.type === 'source-url' ? (decodeSource(part) ?? []) : [])),
    stopped: metadata?.status === 'cancelled',
    relayed: metadata?.status === 'relayed',
    rating: metadata?.rating === 'up' || metadata?.rating === 'down' ? metadata.rating : null,
  };
}

function decodeSource(json: JsonObject): Source | null {
  const id = asString(json.sourceId);
  const url = asString(json.url);
  return id === null || url === null ? null : { id, url, title: asString(json.title) };
}
