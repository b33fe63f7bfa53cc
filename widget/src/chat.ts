/**
 * The chat behind the panel. Two loops work side by side: one brings the visitor's messages to the
 * service, one follows the streams of open turns, and each goes on until its work is done, whatever
 * the network does. A third one watches, when there is nothing else to do, for what people of the
 * company say. All are safe to repeat: a message is named by its id, a frame by its cursor.
 */
import { ApiError, type Api, type Outgoing } from './api';
import * as conversation from './conversation';
import type { Action, Conversation, VisitorMessage } from './conversation';
import { randomId, type Credentials, type CredentialStore } from './credentials';
import { startOf } from './cursor';
import type { Keepsakes } from './keepsakes';
import type { Outbox } from './outbox';
import { Persistence, type Obstacle, type Task } from './persistence';
import type { Details, Frame, Rating } from './protocol';
import { Replies, type Delivery } from './replies';
import { readStream, SILENCE_LIMIT_MS } from './stream';
import type { Surroundings } from './surroundings';

/** What the panel shows. */
export interface Snapshot {
  readonly conversation: Conversation;
  /** The visitor waits for a message to arrive or an answer to end. */
  readonly busy: boolean;
  readonly stopping: boolean;
  /** Why the last request had no good answer and is being repeated. */
  readonly obstacle: Obstacle | null;
  /** The service asked to send what is to be sent later. */
  readonly held: boolean;
  /** Nothing has come for longer than the visitor should wait without another way to ask. */
  readonly stalled: boolean;
  readonly contact: Delivery;
}

/** For so long people are watched for without a sign of anybody, in milliseconds. */
const WATCH_LIMIT_MS = 30 * 60_000;

export interface ChatOptions {
  readonly api: Api;
  readonly credentials: CredentialStore;
  readonly outbox: Outbox;
  readonly keepsakes: Keepsakes;
  readonly surroundings: Surroundings;
  /** Without progress for so long, the fallback is offered; milliseconds. */
  readonly streamTimeoutMs: number;
  readonly onChange: (snapshot: Snapshot) => void;
  /** Tells the site's other tabs that the conversation went on. */
  readonly announce: () => void;
}

export class Chat {
  readonly #options: ChatOptions;
  /** Ends with the session: what an old session's requests bring is not shown in a new one. */
  #life = new AbortController();
  /** `null` until the visitor writes: a page that is only looked at stores nothing. */
  #session: Credentials | null;
  #state = conversation.EMPTY;
  #delivering = false;
  #following = false;
  readonly #persistence: Persistence;
  #stopping = false;
  readonly #replies: Replies;
  #stalled = false;
  #stallTimer: ReturnType<typeof setTimeout> | undefined;
  /** The message for which the session was replaced last. */
  #restartedFor: string | null = null;
  #loading: Promise<void> = Promise.resolve();
  /** Counts the frames that changed something. */
  #gains = 0;
  /** Watching; aborted when something else is to be done. */
  #watching: AbortController | null = null;
  /** The service has not said that nobody is expected. */
  #expecting = true;
  /** When the visitor or a person last gave a sign. */
  #lastSign = Date.now();
  readonly #unsubscribe: () => void;
  #again = new Map<string, { answerId: string | null; turn: number }>();
  /** Messages of this page that the service can't have taken: each attempt was answered with a refusal. */
  readonly #untaken = new Set<string>();
  #disposed = false;

  constructor(options: ChatOptions) {
    this.#options = options;
    this.#session = options.credentials.read();
    this.#persistence = new Persistence(options.surroundings, () => this.#changed());
    this.#unsubscribe = options.surroundings.onWake(() => this.#expect());
    this.#replies = new Replies({
      api: options.api,
      keepsakes: options.keepsakes,
      persistence: this.#persistence,
      session: () => ({ credentials: this.#own(), signal: this.#life.signal }),
      state: () => this.#state,
      dispatch: (action) => this.#dispatch(action),
      changed: () => this.#changed(),
      announce: options.announce,
    });
    const keepsake = this.#session && options.keepsakes.read(this.#session.sessionId);
    if (keepsake) this.#dispatch({ type: 'kept', keepsake });
    for (const { id, text } of options.outbox.read()) this.#dispatch({ type: 'submit', id, text });
  }

  get snapshot(): Snapshot {
    return {
      conversation: this.#state,
      busy: conversation.isBusy(this.#state),
      stopping: this.#stopping,
      obstacle: this.#persistence.obstacle,
      held: this.#isHeld(),
      stalled: this.#stalled,
      contact: this.#replies.contact,
    };
  }

  /** Loads the transcript and continues what is open; also called when another tab went on. */
  async refresh(): Promise<void> {
    const shared = this.#options.credentials.read();
    if (shared && this.#session && shared.sessionId !== this.#session.sessionId) this.#begin(shared, false);
    this.#session = shared ?? this.#session;
    const life = this.#life;
    if (this.#session) {
      this.#loading = this.#persist('refresh', life, () => this.#readTranscript(life));
      await this.#loading;
    }
    void this.#deliver();
    void this.#follow(null);
    this.#expect();
  }

  /** Accepts the visitor's message for delivery. */
  send(text: string): void {
    const id = randomId();
    this.#untaken.add(id);
    this.#dispatch({ type: 'submit', id, text });
    void this.#deliver();
  }

  /** Tries a refused message again. */
  resend(id: string): void {
    this.#dispatch({ type: 'retry', id });
    void this.#deliver();
  }

  /** Asks for another answer in place of one that failed. */
  answerAgain(turn: number): void {
    const { messages } = this.#state;
    const failed = conversation.answerOf(this.#state, turn);
    const at = messages.findIndex((message) => message === failed);
    const question = messages.slice(0, Math.max(at, 0)).findLast((message) => message.role === 'user');
    if (failed?.status !== 'failed' || question?.role !== 'user') return;
    this.#again.set(question.id, { answerId: failed.id, turn });
    this.#dispatch({ type: 'again', id: question.id, turn });
    void this.#deliver();
  }

  /** Stops the running answer; what was streamed stays. What the service holds back is not sent. */
  async stop(): Promise<void> {
    if (this.#stopping || this.#withdraw()) return;
    this.#stopping = true;
    this.#changed();
    const life = this.#life;
    // Whatever came of it, the button can be pressed again.
    await this.#persistence.insist(life.signal, async () => {
      const turn = await this.#turnToStop(life);
      if (turn !== null) await this.#options.api.cancel(this.#own(), turn, life.signal);
    }).catch(() => undefined);
    this.#stopping = false;
    this.#changed();
  }

  /** Leaves contact details; what becomes of it is in the snapshot. */
  leaveContact(details: Details): Promise<void> {
    return this.#replies.leaveContact(details);
  }

  /** The visitor does not want to leave contact details now. */
  declineContact(): void {
    this.#replies.declineContact();
  }

  /** Rates an answer. Resolves to whether the rating was taken. */
  rate(turn: number, rating: Rating, comment: string): Promise<boolean> {
    return this.#replies.rate(turn, rating, comment);
  }

  /** Ends this conversation for good and begins another. */
  startOver(): void {
    const { api, credentials } = this.#options;
    // A session that is not told expires by itself.
    if (this.#session) {
      api.close(this.#session, new AbortController().signal).catch(() => undefined);
      this.#begin(credentials.replace(this.#session), false);
    }
    this.#options.announce();
  }

  dispose(): void {
    this.#disposed = true;
    this.#life.abort();
    this.#persistence.dispose();
    this.#unsubscribe();
    clearTimeout(this.#stallTimer);
  }

  async #deliver(): Promise<void> {
    if (this.#delivering) return;
    this.#delivering = true;
    this.#watching?.abort();
    try {
      // What is running already comes first, so that its stream is followed and not only the new turn's.
      await this.#loading;
      for (let next = this.#nextOutgoing(); next && !this.#disposed; next = this.#nextOutgoing()) {
        const message = next;
        const life = this.#life;
        await this.#persist('deliver', life, async () => {
          // Withdrawn while it waited.
          if (!this.#isSending(message.id)) return;
          try {
            await this.#post(message, life);
            this.#untaken.delete(message.id);
          } catch (error) {
            const isRefusal = error instanceof ApiError && (error.status === 429 || !error.transient);
            if (!isRefusal) this.#untaken.delete(message.id);
            if (!(error instanceof ApiError) || error.transient) throw error;
            this.#refused(message, error);
          }
        });
      }
    } finally {
      this.#delivering = false;
    }
    this.#expect();
  }

  /** The session's credentials, minted when the first message needs them. */
  #own(): Credentials {
    return (this.#session ??= this.#options.credentials.readOrMint());
  }

  #isSending(id: string): boolean {
    return this.#state.messages.some((message) => message.role === 'user' && message.id === id && message.delivery === 'sending');
  }

  /** Takes back what waits to be sent and was never taken. Returns whether that was all there was to stop. */
  #withdraw(): boolean {
    const obstacle = this.#persistence.obstacleOf('deliver');
    // An attempt that is on its way may succeed.
    if (!obstacle || obstacle.until <= Date.now() || conversation.openTurn(this.#state) !== null) return false;
    const unfinished = this.#state.messages.filter((message) => message.role === 'user' && message.turn === null && message.delivery !== 'refused');
    if (!unfinished.every(({ id }) => id !== null && this.#untaken.has(id))) return false;
    for (const { id } of unfinished) if (id !== null) this.#dispatch({ type: 'refused', id });
    return true;
  }

  /** A lost connection needs no patience: it may be back at any moment. */
  #isHeld(): boolean {
    const { cause = 'connection' } = this.#persistence.obstacleOf('deliver') ?? {};
    return cause !== 'connection';
  }

  #nextOutgoing(): VisitorMessage | null {
    for (const message of this.#state.messages) {
      if (message.role === 'user' && message.delivery === 'sending') return message;
    }
    return null;
  }

  async #post(message: VisitorMessage, life: AbortController): Promise<void> {
    const outgoing = this.#outgoing(message);
    // One stream at a time: browsers have few connections, and turns are answered in order.
    if (this.#following || conversation.openTurn(this.#state) !== null) {
      await this.#learnTurn(outgoing, life);
      void this.#follow(null);
    } else {
      const response = await this.#options.api.post(this.#own(), outgoing, life.signal);
      if (life.signal.aborted) return;
      this.#dispatch({ type: 'accepted', id: message.id, turn: null });
      if (this.#following) {
        // Another turn's stream was found meanwhile; this one comes after it.
        void response.body?.cancel().catch(() => undefined);
        await this.#learnTurn(outgoing, life);
      }
      void this.#follow({ response, message: outgoing });
    }
    this.#options.announce();
  }

  #outgoing({ id, text }: VisitorMessage): Outgoing {
    const again = this.#again.get(id);
    return again ? { id, text, again } : { id, text };
  }

  /** Posts a message, maybe once more, for its turn's number. */
  async #learnTurn(message: Outgoing, life: AbortController): Promise<void> {
    const turn = await this.#options.api.enqueue(this.#own(), message, life.signal);
    if (life.signal.aborted) return;
    this.#dispatch({ type: 'accepted', id: message.id, turn });
  }

  #refused(message: VisitorMessage, error: ApiError): void {
    const again = this.#again.get(message.id);
    if (error.code === 'session_closed' || error.code === 'session_not_found') {
      // Closed by time or in another tab, or lost with a restored database: the next one takes the message.
      if (this.#restartedFor !== message.id) {
        this.#restartedFor = message.id;
        this.#again.delete(message.id);
        this.#begin(this.#options.credentials.replace(this.#own()), true);
        return;
      }
    }
    if (error.code === 'nothing_to_regenerate' && again) {
      // The conversation went on meanwhile: ask again at its end.
      this.#again.delete(message.id);
      this.#dispatch({ type: 'accepted', id: message.id, turn: again.turn });
      this.#dispatch({ type: 'lost', turn: again.turn });
      this.#dispatch({ type: 'submit', id: randomId(), text: message.text });
      return;
    }
    this.#dispatch({ type: 'refused', id: message.id, barred: error.status === 401 || error.status === 403 });
  }

  /** Follows the open turns one after the other; `posted` is a stream that is open already. */
  async #follow(posted: { response: Response; message: Outgoing } | null): Promise<void> {
    if (this.#following || (!posted && conversation.openTurn(this.#state) === null)) return;
    this.#following = true;
    this.#watching?.abort();
    const life = this.#life;
    try {
      if (posted) {
        await this.#read(posted.response, posted.message, life);
        await this.#persist('follow', life, () => this.#ensureTurn(posted.message, life));
      }
      await this.#persist('follow', life, async () => {
        for (let turn = this.#openTurn(life); turn !== null; turn = this.#openTurn(life)) {
          if (!(await this.#resume(turn, life))) throw new ApiError(null);
        }
      });
    } finally {
      this.#following = false;
      this.#changed();
    }
    // A turn may have been opened in the very moment that this one ended.
    if (this.#disposed) return;
    void this.#follow(null);
    void this.#watch();
  }

  /** Somebody gave a sign: it is worth watching again. */
  #expect(): void {
    this.#expecting = true;
    this.#lastSign = Date.now();
    void this.#watch();
  }

  #isWorthWatching(): boolean {
    const { agent, handoff, closed } = this.#state;
    const somebody = agent !== null || (handoff !== null && !handoff.failed);
    const idle = !this.#delivering && !this.#following && conversation.openTurn(this.#state) === null;
    const soon = Date.now() - this.#lastSign < WATCH_LIMIT_MS;
    return somebody && idle && soon && this.#expecting && !closed && !this.#disposed && this.#session !== null && this.#options.surroundings.visible();
  }

  /** Waits for what people say, one stream after the other. */
  async #watch(): Promise<void> {
    if (this.#watching || !this.#isWorthWatching()) return;
    const watch = (this.#watching = new AbortController());
    const { signal } = this.#life;
    const stop = () => watch.abort();
    signal.addEventListener('abort', stop, { once: true });
    await this.#persistence.until('watch', watch.signal, () => this.#gains, async () => {
      while (!watch.signal.aborted && this.#isWorthWatching()) {
        const known = conversation.newestTurn(this.#state);
        const response = await this.#options.api.follow(this.#own(), known, watch.signal);
        if (!response) this.#expecting = false;
        else if ((await this.#read(response, null, watch)) === 'cut') throw new ApiError(null);
      }
    });
    signal.removeEventListener('abort', stop);
    this.#watching = null;
    if (signal.aborted || this.#disposed) return;
    this.#dispatch({ type: 'quiet' });
    // A turn that was cut half-way is brought to its end, and what was to be done instead may be done already.
    void this.#follow(null);
    if (watch.signal.aborted) void this.#watch();
  }

  #openTurn(life: AbortController): number | null {
    return life.signal.aborted ? null : conversation.openTurn(this.#state);
  }

  /** A stream that was cut before its first frame leaves the turn unknown. */
  async #ensureTurn(message: Outgoing, life: AbortController): Promise<void> {
    const shown = this.#state.messages.find((other) => other.id === message.id);
    if (shown?.role !== 'user' || shown.turn !== null) return;
    try {
      await this.#learnTurn(message, life);
    } catch (error) {
      if (!(error instanceof ApiError) || error.transient) throw error;
      await this.#readTranscript(life).catch(() => undefined);
      this.#dispatch({ type: 'refused', id: message.id });
    }
  }

  /** Joins the turn's stream behind what is shown. Resolves to whether anything was gained. */
  async #resume(turn: number, life: AbortController): Promise<boolean> {
    const gains = this.#gains;
    try {
      const cursor = conversation.answerOf(this.#state, turn)?.cursor ?? startOf(turn);
      const response = await this.#options.api.stream(this.#own(), cursor, life.signal);
      const end = response ? await this.#read(response, null, life) : 'done';
      // Nothing will be streamed any more, and still the answer has no end: the transcript knows it.
      if (end === 'done' && this.#openTurn(life) === turn) await this.#readTranscript(life);
    } catch (error) {
      if (!(error instanceof ApiError) || error.transient) throw error;
      if (error.code === 'invalid_cursor') await this.#readTranscript(life).catch(() => undefined);
      if (this.#openTurn(life) === turn) this.#dispatch({ type: 'lost', turn });
    }
    return this.#gains !== gains || this.#openTurn(life) !== turn;
  }

  async #read(response: Response, message: Outgoing | null, life: AbortController): Promise<'done' | 'cut'> {
    let waiting = message;
    const onFrame = (frame: Frame) => {
      if (life.signal.aborted) return;
      this.#persistence.succeeded('follow');
      const turn = frame.cursor?.turn ?? (frame.chunk.type === 'data-session' ? frame.chunk.turn : null);
      if (waiting && turn !== null) {
        this.#dispatch({ type: 'accepted', id: waiting.id, turn });
        waiting = null;
      }
      const before = this.#state;
      const { type } = frame.chunk;
      if (frame.cursor || type === 'data-handoff') this.#lastSign = Date.now();
      if (type === 'data-handoff' || type === 'data-agent') this.#expecting = true;
      this.#dispatch({ type: 'frame', turn: turn ?? conversation.openTurn(this.#state), frame });
      if (this.#state !== before) this.#gains++;
      this.#progress();
    };
    const onWake = (callback: () => void) => this.#options.surroundings.onWake(callback);
    return readStream(response, { onFrame, onWake, silenceLimitMs: SILENCE_LIMIT_MS, signal: life.signal });
  }

  async #readTranscript(life: AbortController): Promise<void> {
    const transcript = await this.#options.api.transcript(this.#own(), life.signal);
    if (life.signal.aborted) return;
    this.#dispatch({ type: 'transcript', transcript });
    this.#progress();
  }

  async #turnToStop(life: AbortController): Promise<number | null> {
    const known = conversation.openTurn(this.#state);
    if (known !== null) return known;
    const waiting = this.#state.messages.find(
      (message) => message.role === 'user' && message.turn === null && message.delivery !== 'refused',
    );
    if (waiting?.role !== 'user') return null;
    await this.#learnTurn(this.#outgoing(waiting), life);
    return conversation.openTurn(this.#state);
  }

  #persist(task: Task, life: AbortController, work: () => Promise<void>): Promise<void> {
    return this.#persistence.until(task, life.signal, () => this.#gains, work);
  }

  #begin(session: Credentials, carry: boolean): void {
    this.#life.abort();
    this.#life = new AbortController();
    this.#session = session;
    this.#replies.forget();
    this.#dispatch({ type: 'restart', carry });
  }

  #dispatch(action: Action): void {
    const next = conversation.reduce(this.#state, action);
    if (next === this.#state) return;
    this.#state = next;
    this.#options.outbox.write(next.messages);
    if (action.type === 'contacted' && action.handoff) queueMicrotask(() => this.#expect());
    if (this.#session) this.#options.keepsakes.write(this.#session.sessionId, next);
    this.#changed();
  }

  #changed(): void {
    if (!conversation.isBusy(this.#state)) this.#progress();
    else if (this.#stallTimer === undefined) this.#armStall();
    if (!this.#disposed) this.#options.onChange(this.snapshot);
  }

  #armStall(): void {
    this.#stallTimer = setTimeout(() => {
      this.#stalled = true;
      this.#options.onChange(this.snapshot);
    }, this.#options.streamTimeoutMs);
  }

  /** Something came: the wait for the fallback begins anew, if there still is one. */
  #progress(): void {
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    if (this.#stalled) {
      this.#stalled = false;
      if (!this.#disposed) this.#options.onChange(this.snapshot);
    }
    if (conversation.isBusy(this.#state) && !this.#disposed) this.#armStall();
  }
}
