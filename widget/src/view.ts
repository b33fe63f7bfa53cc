/** The launcher and the panel. Shows a snapshot of the chat and passes on what the visitor does. */
import { Banner } from './banner';
import type { Snapshot } from './chat';
import type { Config } from './config';
import { ContactForm } from './contact-form';
import type { Conversation, Message } from './conversation';
import { h, icon, ICONS, set, setText } from './dom';
import type { Draft } from './keepsakes';
import { link } from './markdown';
import { messageView, type MessageActions, type MessageView } from './message-view';
import type { Details, Rating } from './protocol';
import { presenceWordsFor, waitWordsFor, wordsFor, type PresenceWords, type Words } from './words';

/** The longest message in characters (01-product, limits); counted as the service counts, in code points. */
export const MAX_CHARACTERS = 4000;

/** From here on the visitor is told how many are left. */
const COUNT_FROM = 3600;

/** Closer to the end than this, in pixels, the log follows what is added. */
const NEAR_END = 64;

export interface ViewActions {
  readonly open: () => void;
  readonly close: () => void;
  readonly dismissTeaser: () => void;
  readonly send: (text: string) => void;
  readonly stop: () => void;
  readonly startOver: () => void;
  readonly resend: (id: string) => void;
  readonly answerAgain: (turn: number) => void;
  readonly rate: (turn: number, rating: Rating, comment: string) => Promise<boolean>;
  readonly leaveContact: (details: Details) => void;
  readonly declineContact: () => void;
  readonly readDraft: () => Draft;
  readonly writeDraft: (draft: Draft) => void;
}

export class View {
  readonly element: HTMLElement;
  readonly #config: Config;
  readonly #words: Words;
  readonly #presenceWords: PresenceWords;
  readonly #actions: ViewActions;
  readonly #messageActions: MessageActions;
  readonly #launcher: HTMLButtonElement;
  readonly #teaser: HTMLElement;
  readonly #panel: HTMLElement;
  readonly #log: HTMLElement;
  readonly #messages = h('div', { class: 'messages' });
  readonly #divider: HTMLElement;
  readonly #typing: HTMLElement;
  readonly #notice = h('p', { class: 'gdpr' });
  readonly #aiNotice = h('p', { class: 'gdpr' });
  readonly #contact: ContactForm;
  readonly #handoff = h('p', { class: 'handoff', role: 'status', hidden: true });
  readonly #presence = h('p', { class: 'presence', role: 'status', hidden: true });
  readonly #suggestions: HTMLElement;
  readonly #status = h('div', { role: 'status', class: 'visually-hidden' });
  readonly #banner: Banner;
  readonly #composer: HTMLFormElement;
  readonly #over: HTMLElement;
  readonly #input: HTMLTextAreaElement;
  readonly #counter = h('div', { class: 'counter', id: 'counter', hidden: true });
  readonly #send: HTMLButtonElement;
  readonly #stop: HTMLButtonElement;
  readonly #renew: HTMLButtonElement;
  #views = new Map<string, MessageView>();
  #wasBusy = false;
  #frame = 0;

  constructor(config: Config, actions: ViewActions) {
    const words = wordsFor(config.locale);
    this.#config = config;
    this.#words = words;
    this.#presenceWords = presenceWordsFor(config.locale);
    this.#actions = actions;
    this.#messageActions = { words, fallbackUrl: config.fallbackUrl, resend: actions.resend, answerAgain: actions.answerAgain, rate: actions.rate };
    this.#banner = new Banner({ words, waitWords: waitWordsFor(config.locale), fallbackUrl: config.fallbackUrl });
    this.#contact = new ContactForm({
      words,
      fallbackUrl: config.fallbackUrl,
      submit: actions.leaveContact,
      decline: actions.declineContact,
      readDraft: actions.readDraft,
      writeDraft: actions.writeDraft,
    });

    this.#launcher = this.#button('launcher', words.open, icon(ICONS.chat), actions.open);
    this.#launcher.append(icon(ICONS.down));
    set(this.#launcher, { 'aria-expanded': 'false', 'aria-controls': 'panel' });
    const teaserText = h('button', { type: 'button', class: 'teaser-text' });
    teaserText.addEventListener('click', actions.open);
    this.#teaser = h('div', { class: 'teaser', hidden: true }, teaserText, this.#button('icon', words.dismiss, icon(ICONS.close), actions.dismissTeaser));
    setText(teaserText, this.#proactive());

    this.#typing = h('div', { class: 'typing', hidden: true, 'aria-hidden': 'true' }, h('i'), h('i'), h('i'));
    this.#divider = h('div', { class: 'divider' }, words.ended);
    this.#suggestions = h('div', { class: 'suggestions' });
    for (const text of config.suggestions) {
      const button = h('button', { type: 'button', class: 'suggestion' }, text);
      button.addEventListener('click', () => actions.send(text));
      this.#suggestions.append(button);
    }
    this.#log = h('div', { class: 'log', role: 'log', 'aria-live': 'polite', 'aria-label': words.log, tabindex: '0' });
    this.#log.append(...this.#opening(), this.#messages, this.#typing, this.#contact.element, this.#handoff, this.#presence, this.#suggestions);

    this.#input = h('textarea', { id: 'input', rows: '1', placeholder: words.placeholder, 'aria-label': words.input, 'aria-describedby': 'counter', enterkeyhint: 'send', autocomplete: 'off' });
    this.#send = h('button', { type: 'submit', class: 'send', 'aria-label': words.send, title: words.send }, icon(ICONS.send));
    this.#stop = this.#button('send stop', words.stop, icon(ICONS.stop), actions.stop);
    this.#renew = this.#button('icon', words.newChat, icon(ICONS.renew), actions.startOver);
    this.#composer = h('form', { class: 'composer' }, h('div', { class: 'field' }, this.#input, this.#stop, this.#send), this.#counter);
    this.#composer.addEventListener('submit', (event) => this.#submit(event));
    const again = h('button', { type: 'button', class: 'primary' }, words.newChat);
    again.addEventListener('click', actions.startOver);
    this.#over = h('div', { class: 'composer', hidden: true }, again);
    this.#input.addEventListener('input', () => this.#edited());
    this.#input.addEventListener('keydown', (event) => {
      // While an input method composes a character, Enter chooses it.
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229) this.#submit(event);
    });

    this.#panel = h(
      'section',
      { class: 'panel', id: 'panel', role: 'dialog', 'aria-labelledby': 'heading', hidden: true },
      h(
        'header',
        {},
        h('div', { class: 'titles' }, h('h2', { id: 'heading' }, config.heading ?? words.heading), h('p', {}, words.subheading)),
        this.#renew,
        this.#button('icon', words.close, icon(ICONS.close), actions.close),
      ),
      this.#log,
      this.#status,
      this.#banner.element,
      this.#composer,
      this.#over,
    );
    this.element = h('div', { class: 'root' }, this.#panel, this.#teaser, this.#launcher);
    this.element.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.#panel.hidden) {
        event.stopPropagation();
        actions.close();
      }
    });
    this.#stop.hidden = this.#renew.hidden = true;
    this.#measure();
  }

  get isOpen(): boolean {
    return !this.#panel.hidden;
  }

  setOpen(open: boolean, focus: boolean): void {
    this.#panel.hidden = !open;
    set(this.#launcher, { 'aria-expanded': String(open), 'aria-label': open ? this.#words.close : this.#words.open });
    set(this.element, { 'data-open': open });
    if (open) {
      this.#edited();
      this.#log.scrollTop = this.#log.scrollHeight;
    }
    if (focus) (open ? this.#input : this.#launcher).focus();
  }

  showTeaser(shown: boolean): void {
    this.#teaser.hidden = !shown || this.#proactive() === '';
  }

  /** Shows the snapshot with the next picture: deltas may come faster than those. */
  show(snapshot: Snapshot): void {
    cancelAnimationFrame(this.#frame);
    // A hidden page draws no pictures; its conversation is up to date all the same.
    if (document.visibilityState === 'hidden') this.#render(snapshot);
    else this.#frame = requestAnimationFrame(() => this.#render(snapshot));
  }

  #render({ conversation, busy, stopping, obstacle, held, stalled, contact }: Snapshot): void {
    const nearEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_END;
    const answering = conversation.messages.some((message) => message.role === 'assistant' && message.status === 'streaming' && message.parts.some((part) => part.text !== ''));
    // While it is true, screen readers wait; then they read the answer in one piece.
    set(this.#log, { 'aria-busy': String(busy) });
    const added = this.#showMessages(conversation.previous, conversation.messages, held);
    // Nobody writes an answer to what is held back.
    const expected = busy && !answering && !(held && conversation.awaiting.length === 0);
    this.#typing.hidden = !expected && !conversation.agent?.types;
    const changed = this.#showPresence(conversation);
    const offered = this.#showContact(conversation, busy, contact);
    this.#showNotices(conversation.notices);
    set(this.#panel, { 'data-stage': conversation.stage === null ? null : String(conversation.stage) });
    const isEmpty = conversation.messages.length === 0 && conversation.previous.length === 0;
    this.#suggestions.hidden = !isEmpty;
    this.#renew.hidden = isEmpty;

    this.#stop.hidden = !busy;
    set(this.#stop, { disabled: stopping, title: stopping ? this.#words.stopping : this.#words.stop });
    if (busy !== this.#wasBusy) setText(this.#status, busy ? this.#words.thinking : this.#words.answered);
    this.#wasBusy = busy;
    // What is waiting for its answer is not cut off by the limit that a later frame tells.
    const over = conversation.limited && !busy;
    this.#composer.hidden = over;
    this.#over.hidden = !over;
    // What is repeated in the background is nobody's business.
    const waits = busy || contact === 'sending';
    this.#banner.show({ obstacle: waits ? obstacle : null, stalled, limit: conversation.limit ?? (over ? this.#words.limited : null) });
    this.#measure();
    if (nearEnd || added || offered || changed) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** The form and the handoff. Returns whether the form is new, which is worth showing wherever the log stands. */
  #showContact({ contactOffer, handoff }: Conversation, busy: boolean, contact: Snapshot['contact']): boolean {
    const wasHidden = this.#contact.element.hidden !== false;
    // In the middle of an answer it would jump about.
    const offered = contactOffer !== null && !busy;
    const hadFocus = this.#contact.element.matches(':focus-within');
    this.#contact.show(offered ? (contactOffer.text ?? this.#words.contactText) : null, contact);
    if (!offered && hadFocus) this.#input.focus();
    const { fallbackUrl } = this.#config;
    const text = handoff?.failed ? this.#words.notHandedOff : (handoff?.promise ?? this.#words.handedOff);
    this.#handoff.hidden = handoff === null;
    if (handoff === null || this.#handoff.dataset.shown === text) return offered && wasHidden;
    this.#handoff.dataset.shown = text;
    this.#handoff.replaceChildren(text);
    if (handoff.failed && fallbackUrl !== null) this.#handoff.append(' ', link(fallbackUrl, this.#words.fallback));
    return true;
  }

  /** Who speaks. Returns whether that is new, which is worth showing wherever the log stands. */
  #showPresence({ agent, left }: Conversation): boolean {
    const { here, left: gone, types } = this.#presenceWords;
    const text = agent ? (agent.types ? types : here)(agent.name) : left ? gone(left) : '';
    const before = this.#presence.dataset.agent;
    const now = agent?.name ?? '';
    this.#presence.hidden = text === '';
    setText(this.#presence, text);
    this.#presence.dataset.agent = now;
    return before !== undefined && before !== now;
  }

  /** What the service says wins over what the build says. */
  #showNotices({ privacy, ai }: Conversation['notices']): void {
    const text = privacy ?? this.#config.gdprNotice ?? '';
    setText(this.#notice, text);
    this.#notice.hidden = text === '';
    setText(this.#aiNotice, ai ?? '');
    this.#aiNotice.hidden = ai === undefined;
  }

  /** Returns whether the visitor's own message was added, which is worth showing wherever the log stands. */
  #showMessages(previous: readonly Message[], messages: readonly Message[], held: boolean): boolean {
    const wanted = [
      ...previous.map((message, index) => ({ key: `previous ${index}`, message, current: false })),
      ...messages.map((message) => ({ key: message.key, message, current: true })),
    ];
    const views = new Map<string, MessageView>();
    const elements: HTMLElement[] = [];
    let added = false;
    for (const { key, message, current } of wanted) {
      let view = this.#views.get(key);
      if (!view) {
        view = messageView(message, this.#messageActions);
        added ||= message.role === 'user';
      }
      view.update(message, current, held);
      views.set(key, view);
      if (current && previous.length > 0 && !elements.includes(this.#divider)) elements.push(this.#divider);
      elements.push(view.element);
    }
    this.#views = views;
    // Moves nothing that is in its place: a moved element is read out again and loses its selection.
    const kept = new Set(elements);
    for (const child of [...this.#messages.children]) if (!kept.has(child as HTMLElement)) child.remove();
    elements.forEach((element, index) => {
      const there = this.#messages.children[index] ?? null;
      if (there !== element) this.#messages.insertBefore(element, there);
    });
    return added;
  }

  #opening(): HTMLElement[] {
    const greeting = this.#proactive();
    const elements = greeting === '' ? [] : [h('p', { class: 'greeting' }, greeting)];
    this.#showNotices({});
    elements.push(this.#notice, this.#aiNotice);
    if (this.#config.apiUrl === null) elements.push(h('p', { class: 'gdpr' }, this.#words.unconfigured));
    return elements;
  }

  #proactive(): string {
    return this.#config.proactiveMessage ?? this.#words.proactive;
  }

  #submit(event: Event): void {
    event.preventDefault();
    const text = wellFormed(this.#input.value).trim();
    if (text === '' || codePoints(text) > MAX_CHARACTERS || this.#config.apiUrl === null) return;
    this.#input.value = '';
    this.#edited();
    this.#actions.send(text);
  }

  /** Fits the field to its text. */
  #edited(): void {
    this.#measure();
    if (this.#panel.hidden) return;
    this.#input.style.height = 'auto';
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }

  /** Counts, and enables what can be done. */
  #measure(): void {
    const text = this.#input.value.trim();
    const count = codePoints(text);
    set(this.#input, { 'aria-invalid': count > MAX_CHARACTERS ? 'true' : null });
    this.#counter.hidden = count < COUNT_FROM;
    const left = MAX_CHARACTERS - count;
    setText(this.#counter, this.#counter.hidden ? '' : left < 0 ? this.#words.tooLong(-left) : this.#words.left(left));
    set(this.#counter, { 'data-over': left < 0 });
    set(this.#send, { disabled: count === 0 || left < 0 || this.#config.apiUrl === null });
    // With nothing written there is nothing to send: the stop button has the place to itself.
    this.#send.hidden = !this.#stop.hidden && count === 0;
  }

  #button(className: string, label: string, content: Node, onClick: () => void): HTMLButtonElement {
    const button = h('button', { type: 'button', class: className, 'aria-label': label, title: label }, content);
    button.addEventListener('click', onClick);
    return button;
  }
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Text that Postgres can keep: half a surrogate pair and NUL are typing accidents, refused by the service. */
function wellFormed(text: string): string {
  return text.replaceAll('\0', '').replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD');
}
