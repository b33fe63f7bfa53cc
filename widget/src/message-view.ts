/** One message on the screen. */
import { textOf, type Answer, type Message, type VisitorMessage } from './conversation';
import { h, icon, ICONS, set, setText } from './dom';
import { link, MarkdownView, safeUrl } from './markdown';
import type { Rating, Source } from './protocol';
import type { Words } from './words';

/** What the service takes, in characters (HTTP API, feedback). */
const LONGEST_COMMENT = '1000';

export interface MessageActions {
  readonly words: Words;
  readonly fallbackUrl: string | null;
  readonly resend: (id: string) => void;
  readonly answerAgain: (turn: number) => void;
  /** Resolves to whether the rating was taken. */
  readonly rate: (turn: number, rating: Rating, comment: string) => Promise<boolean>;
}

export interface MessageView {
  readonly element: HTMLElement;
  /** `held`: what is being sent has to wait. */
  update(message: Message, current: boolean, held: boolean): void;
}

export function messageView(message: Message, actions: MessageActions): MessageView {
  return message.role === 'user' ? new QuestionView(actions) : new AnswerView(actions);
}

class QuestionView implements MessageView {
  readonly #text = h('p');
  readonly #note = h('div', { class: 'note' });
  readonly #actions: MessageActions;
  readonly element: HTMLElement;
  #shown: VisitorMessage | null = null;
  #wasHeld = false;

  constructor(actions: MessageActions) {
    this.#actions = actions;
    this.element = h('article', { class: 'message question', 'aria-label': actions.words.you }, h('div', { class: 'bubble' }, this.#text), this.#note);
  }

  update(message: VisitorMessage, _current: boolean, held: boolean): void {
    if (message === this.#shown && held === this.#wasHeld) return;
    this.#shown = message;
    this.#wasHeld = held;
    const { words } = this.#actions;
    setText(this.#text, message.text);
    set(this.element, { 'data-delivery': message.delivery });
    if (message.delivery === 'refused') this.#showRefusal(message);
    else setText(this.#note, message.delivery === 'sending' && held ? words.sending : '');
  }

  #showRefusal({ id, barred }: VisitorMessage): void {
    const { words, fallbackUrl, resend } = this.#actions;
    const retry = h('button', { type: 'button', class: 'text-button' }, words.retry);
    retry.addEventListener('click', () => resend(id));
    this.#note.replaceChildren(barred ? words.unconfigured : words.refused, ' ', retry);
    if (fallbackUrl !== null) this.#note.append(' · ', link(fallbackUrl, words.fallback));
  }
}

class AnswerView implements MessageView {
  readonly #author = h('div', { class: 'author', hidden: true });
  readonly #text = new MarkdownView(h('div', { class: 'prose' }));
  readonly #sources = h('div', { class: 'sources', hidden: true });
  readonly #note = h('div', { class: 'note', hidden: true });
  readonly #rating: RatingView;
  readonly #actions: MessageActions;
  readonly element: HTMLElement;
  #shown: Answer | null = null;
  #wasCurrent = false;

  constructor(actions: MessageActions) {
    this.#actions = actions;
    this.#rating = new RatingView(actions);
    this.element = h(
      'article',
      { class: 'message answer', 'aria-label': actions.words.assistant },
      this.#author,
      h('div', { class: 'bubble' }, this.#text.element, this.#sources),
      this.#note,
      this.#rating.element,
    );
  }

  update(answer: Answer, current: boolean): void {
    if (answer === this.#shown && current === this.#wasCurrent) return;
    const before = this.#shown;
    this.#shown = answer;
    this.#wasCurrent = current;
    const text = textOf(answer);
    this.#text.update(text);
    set(this.element, { 'data-status': answer.status, 'aria-label': answer.author ?? this.#actions.words.assistant });
    // An answer without a word yet is shown by the typing indicator.
    this.element.hidden = text === '' && (answer.status === 'streaming' || answer.status === 'done');
    set(this.#author, { hidden: answer.author === null });
    this.#author.textContent = answer.author ?? '';
    if (before?.sources !== answer.sources || before?.status !== answer.status) this.#showSources(answer);
    this.#showNote(answer, current);
    this.#rating.update(answer, current && text !== '');
  }

  #showSources(answer: Answer): void {
    const sources = unique(answer.sources);
    this.#sources.replaceChildren();
    // Sources of half an answer would jump about.
    this.#sources.hidden = sources.length === 0 || answer.status === 'streaming';
    if (this.#sources.hidden) return;
    const list = h('ol', { 'aria-label': this.#actions.words.sources });
    for (const source of sources) list.append(h('li', {}, sourceLink(source)));
    this.#sources.append(h('div', { class: 'sources-title', 'aria-hidden': 'true' }, this.#actions.words.sources), list);
  }

  #showNote(answer: Answer, current: boolean): void {
    const { words, fallbackUrl, answerAgain } = this.#actions;
    this.#note.replaceChildren();
    this.#note.hidden = answer.status !== 'stopped' && answer.status !== 'failed';
    if (answer.status === 'stopped') this.#note.append(words.stopped);
    if (answer.status !== 'failed') return;
    this.#note.append(answer.errorText || words.failed);
    if (!current) return;
    const retry = h('button', { type: 'button', class: 'text-button' }, words.retry);
    retry.addEventListener('click', () => answerAgain(answer.turn));
    this.#note.append(' ', retry);
    if (fallbackUrl !== null) this.#note.append(' · ', link(fallbackUrl, words.fallback));
  }
}

/** Thumbs under a finished answer, and a comment for those who want to say why. */
class RatingView {
  readonly element = h('div', { class: 'rating', hidden: true });
  readonly #actions: MessageActions;
  readonly #thumbs: Readonly<Record<Rating, HTMLButtonElement>>;
  readonly #comment = h('input', { type: 'text', maxlength: LONGEST_COMMENT });
  readonly #form: HTMLFormElement;
  readonly #status = h('span', { class: 'rating-status', role: 'status' });
  #turn = 0;

  constructor(actions: MessageActions) {
    this.#actions = actions;
    const { words } = actions;
    const thumb = (rating: Rating, label: string) => {
      const button = h('button', { type: 'button', class: `thumb ${rating}`, 'aria-label': label, title: label }, icon(ICONS.thumb));
      button.addEventListener('click', () => void this.#rate(rating, ''));
      return button;
    };
    this.#thumbs = { up: thumb('up', words.helpful), down: thumb('down', words.unhelpful) };
    set(this.#comment, { 'aria-label': words.why, placeholder: words.why });
    const send = h('button', { type: 'submit', class: 'text-button' }, words.send);
    this.#form = h('form', { class: 'why', hidden: true }, this.#comment, send);
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const comment = this.#comment.value.trim();
      this.#form.hidden = true;
      if (comment !== '') void this.#rate('down', comment);
    });
    this.element.append(this.#thumbs.up, this.#thumbs.down, this.#status, this.#form);
  }

  update({ turn, status, author, rating }: Answer, ratable: boolean): void {
    this.#turn = turn;
    this.element.hidden = !ratable || status !== 'done' || author !== null;
    for (const [name, button] of Object.entries(this.#thumbs)) set(button, { 'aria-pressed': String(rating === name) });
  }

  async #rate(rating: Rating, comment: string): Promise<void> {
    const { words, rate } = this.#actions;
    const asks = rating === 'down' && comment === '';
    this.#form.hidden = !asks;
    if (asks) this.#comment.focus();
    const taken = await rate(this.#turn, rating, comment);
    // What was written is not lost with the connection.
    if (!taken && comment !== '') this.#form.hidden = false;
    else if (comment !== '') this.#comment.value = '';
    this.#status.textContent = taken ? words.rated : words.notRated;
  }
}

function unique(sources: readonly Source[]): Source[] {
  return sources.filter((source, index) => sources.findIndex((other) => other.url === source.url) === index);
}

function sourceLink({ url, title }: Source): HTMLElement {
  const element = link(url, title?.trim() || readable(url));
  if (safeUrl(url) === null || element.tagName !== 'A') return h('span', { title: url }, title?.trim() || url);
  element.title = url;
  return element;
}

function readable(url: string): string {
  const { host, pathname } = new URL(url);
  const path = host + (pathname === '/' ? '' : pathname);
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}
