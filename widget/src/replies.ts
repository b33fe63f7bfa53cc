/** What the visitor answers besides messages: contact details, and what they think of an answer. */
import { ApiError, type Api } from './api';
import { answerOf, type Action, type Conversation } from './conversation';
import type { Credentials } from './credentials';
import type { Keepsakes } from './keepsakes';
import type { Persistence } from './persistence';
import type { Details, Rating } from './protocol';

/** What became of the contact details: `invalid` ones are to be corrected, `failed` ones sent again. */
export type Delivery = 'idle' | 'sending' | 'invalid' | 'failed';

export interface RepliesOptions {
  readonly api: Api;
  readonly keepsakes: Keepsakes;
  readonly persistence: Persistence;
  /** The session that is on the screen; the signal ends with it. */
  readonly session: () => { readonly credentials: Credentials; readonly signal: AbortSignal };
  readonly state: () => Conversation;
  readonly dispatch: (action: Action) => void;
  readonly changed: () => void;
  readonly announce: () => void;
}

export class Replies {
  readonly #options: RepliesOptions;
  #contact: Delivery = 'idle';
  /** Ratings go one after the other, so that the newest one stands. */
  #ratings: Promise<unknown> = Promise.resolve();

  constructor(options: RepliesOptions) {
    this.#options = options;
  }

  get contact(): Delivery {
    return this.#contact;
  }

  async leaveContact(details: Details): Promise<void> {
    if (this.#contact === 'sending') return;
    const { api, persistence, keepsakes, session, dispatch, announce } = this.#options;
    const { credentials, signal } = session();
    this.#become('sending');
    try {
      const handoff = await persistence.insist(signal, () => api.contact(credentials, details, signal));
      if (signal.aborted) return;
      this.#contact = 'idle';
      keepsakes.writeDraft({});
      dispatch({ type: 'contacted', handoff });
      announce();
    } catch (error) {
      if (signal.aborted) return;
      const invalid = error instanceof ApiError && (error.status === 422 || error.status === 400);
      this.#become(invalid ? 'invalid' : 'failed');
    }
  }

  declineContact(): void {
    this.#contact = 'idle';
    this.#options.dispatch({ type: 'contacted', handoff: null });
  }

  /** A rating that could not be sent is taken back. */
  async rate(turn: number, rating: Rating, comment: string): Promise<boolean> {
    const { api, persistence, session, state, dispatch } = this.#options;
    const { credentials, signal } = session();
    const before = answerOf(state(), turn)?.rating ?? null;
    dispatch({ type: 'rated', turn, rating });
    const sent = this.#ratings.then(() => persistence.insist(signal, () => api.rate(credentials, turn, rating, comment, signal)));
    this.#ratings = sent.catch(() => undefined);
    try {
      await sent;
      return true;
    } catch {
      if (!signal.aborted) dispatch({ type: 'rated', turn, rating: before });
      return false;
    }
  }

  /** Another session begins. */
  forget(): void {
    this.#contact = 'idle';
  }

  #become(delivery: Delivery): void {
    this.#contact = delivery;
    this.#options.changed();
  }
}
