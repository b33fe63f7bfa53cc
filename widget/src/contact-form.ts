/** The contact form in the log: name, e-mail, company, a message and the consent. */
import { h, set, setText } from './dom';
import type { Draft } from './keepsakes';
import { link } from './markdown';
import type { Details } from './protocol';
import type { Delivery } from './replies';
import type { Words } from './words';

export interface ContactActions {
  readonly words: Words;
  readonly fallbackUrl: string | null;
  readonly submit: (details: Details) => void;
  readonly decline: () => void;
  readonly readDraft: () => Draft;
  readonly writeDraft: (draft: Draft) => void;
}

/** What the service takes, in characters (HTTP API, contact). */
const LONGEST_NAME = '200';
const LONGEST_EMAIL = '254';
const LONGEST_MESSAGE = '2000';

type Field = HTMLInputElement | HTMLTextAreaElement;

export class ContactForm {
  readonly element: HTMLFormElement;
  readonly #actions: ContactActions;
  readonly #text = h('p', { id: 'contact-text' });
  readonly #fields: Readonly<Record<keyof Details, Field>>;
  readonly #consent = h('input', { type: 'checkbox', required: true });
  readonly #submit: HTMLButtonElement;
  readonly #problem = h('p', { class: 'problem', role: 'alert', hidden: true });

  constructor(actions: ContactActions) {
    this.#actions = actions;
    const { words } = actions;
    this.#fields = {
      name: h('input', { type: 'text', autocomplete: 'name', maxlength: LONGEST_NAME }),
      email: h('input', { type: 'email', autocomplete: 'email', required: true, maxlength: LONGEST_EMAIL }),
      company: h('input', { type: 'text', autocomplete: 'organization', maxlength: LONGEST_NAME }),
      message: h('textarea', { rows: '3', maxlength: LONGEST_MESSAGE }),
    };
    this.#submit = h('button', { type: 'submit', class: 'primary' }, words.contactSend);
    const decline = h('button', { type: 'button', class: 'text-button' }, words.contactDecline);
    decline.addEventListener('click', actions.decline);
    this.element = h(
      'form',
      { class: 'contact', 'aria-label': words.contactTitle, 'aria-describedby': 'contact-text', hidden: true },
      this.#text,
      ...this.#labelled(),
      h('label', { class: 'consent' }, this.#consent, h('span', {}, words.consent)),
      this.#problem,
      h('div', { class: 'actions' }, this.#submit, decline),
    );
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      // The browser has checked what it knows to check; a blank name is none.
      actions.submit(this.#details());
    });
    this.element.addEventListener('input', () => actions.writeDraft({ ...this.#details() }));
    const draft = actions.readDraft();
    for (const [name, field] of Object.entries(this.#fields)) field.value = draft[name] ?? '';
  }

  /** `text` stands above the fields; `null` hides the form. */
  show(text: string | null, delivery: Delivery): void {
    const { words, fallbackUrl } = this.#actions;
    const wasHidden = this.element.hidden;
    this.element.hidden = text === null;
    if (text === null) {
      // What was sent or declined is not offered again.
      if (!wasHidden) this.element.reset();
      return;
    }
    setText(this.#text, text);
    const sending = delivery === 'sending';
    set(this.#submit, { disabled: sending });
    setText(this.#submit, sending ? words.sending : words.contactSend);
    const problem = delivery === 'invalid' ? words.contactInvalid : delivery === 'failed' ? words.contactFailed : '';
    if (this.#problem.dataset.shown === problem) return;
    this.#problem.dataset.shown = problem;
    this.#problem.hidden = problem === '';
    this.#problem.replaceChildren(problem);
    if (delivery === 'failed' && fallbackUrl !== null) this.#problem.append(' ', link(fallbackUrl, words.fallback));
    if (delivery === 'invalid') this.#fields.email.focus();
  }

  #labelled(): HTMLElement[] {
    const { words } = this.#actions;
    const { name, email, company, message } = this.#fields;
    const labels: [string, Field][] = [[words.name, name], [words.email, email], [words.company, company], [words.message, message]];
    return labels.map(([text, field]) => h('label', {}, h('span', {}, text), field));
  }

  #details(): Details {
    const { name, email, company, message } = this.#fields;
    return { name: name.value, email: email.value, company: company.value, message: message.value };
  }
}
