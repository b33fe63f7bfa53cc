/** `<growth-chat>`: the custom element that a site puts on its pages. */
import { Api } from './api';
import { Chat } from './chat';
import { ATTRIBUTES, readConfig, type BuildEnv, type Config, type Page } from './config';
import { CredentialStore, forgivingStore } from './credentials';
import { Keepsakes } from './keepsakes';
import { Outbox } from './outbox';
import css from './style.css?inline';
import { browser } from './surroundings';
import { View } from './view';

/** What the element is given by the script that registers it. */
export interface Setup {
  readonly env: BuildEnv;
  /** The script's own address, empty when unknown; the service is where the script is from. */
  readonly scriptUrl: string;
}

/** Any element of the page with this attribute asks the question that it holds. */
const ASK = 'data-growth-chat-ask';

export function defineGrowthChat(setup: Setup): void {
  if (customElements.get('growth-chat')) return;
  customElements.define('growth-chat', class extends GrowthChat {
    protected override readonly setup = setup;
  });
}

abstract class GrowthChat extends HTMLElement {
  static readonly observedAttributes = ATTRIBUTES;

  protected abstract readonly setup: Setup;
  readonly #root = this.attachShadow({ mode: 'open' });
  readonly #tab = forgivingStore(() => sessionStorage);
  readonly #site = forgivingStore(() => localStorage);
  #view: View | null = null;
  #chat: Chat | null = null;
  #peers: BroadcastChannel | null = null;
  #config: Config | null = null;
  #keepsakes: Keepsakes | null = null;
  #restarting = false;

  connectedCallback(): void {
    document.addEventListener('click', this.#onClick);
    this.#start();
  }

  disconnectedCallback(): void {
    document.removeEventListener('click', this.#onClick);
    this.#end();
  }

  attributeChangedCallback(_name: string, before: string | null, after: string | null): void {
    if (!this.#view || before === after || this.#restarting) return;
    // Several attributes are often set together.
    this.#restarting = true;
    queueMicrotask(() => {
      this.#restarting = false;
      if (!this.isConnected) return;
      this.#end();
      this.#start();
    });
  }

  /** Opens the panel. */
  open(): void {
    this.#open(true);
  }

  /** Closes the panel; a running answer goes on. */
  close(): void {
    this.#view?.setOpen(false, true);
    this.#remember('open', null);
  }

  /** Opens the panel and sends `text` as the visitor's message. */
  ask(text: string): void {
    const question = text.trim();
    if (question === '' || this.#config?.apiUrl == null) return;
    this.#open(true);
    this.#chat?.send(question.slice(0, 2000));
  }

  #start(): void {
    const page: Page = {
      scriptUrl: this.setup.scriptUrl,
      baseUrl: document.baseURI,
      language: document.documentElement.lang || navigator.language || 'en',
    };
    const config = readConfig((name) => this.getAttribute(name), this.setup.env, page);
    this.#config = config;
    if (this.#root.adoptedStyleSheets.length === 0) {
      // A constructed sheet needs no `style-src 'unsafe-inline'` of the site's policy.
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
      this.#root.adoptedStyleSheets = [sheet];
    }
    const credentials = config.apiUrl === null ? null : new CredentialStore(this.#site, config.apiUrl);
    this.#keepsakes = credentials && new Keepsakes(this.#tab, credentials.key);
    const view = new View(config, {
      open: () => (this.#view?.isOpen ? this.close() : this.open()),
      close: () => this.close(),
      dismissTeaser: () => this.#hideTeaser(),
      send: (text) => this.#chat?.send(text),
      stop: () => void this.#chat?.stop(),
      startOver: () => this.#chat?.startOver(),
      resend: (id) => this.#chat?.resend(id),
      answerAgain: (turn) => this.#chat?.answerAgain(turn),
      rate: (turn, rating, comment) => this.#chat?.rate(turn, rating, comment) ?? Promise.resolve(false),
      leaveContact: (details) => void this.#chat?.leaveContact(details),
      declineContact: () => this.#chat?.declineContact(),
      readDraft: () => this.#keepsakes?.readDraft() ?? {},
      writeDraft: (draft) => this.#keepsakes?.writeDraft(draft),
    });
    this.#view = view;
    if (config.accent !== null && CSS.supports('color', config.accent)) view.element.style.setProperty('--accent', config.accent);
    this.#root.replaceChildren(view.element);
    view.showTeaser(!credentials?.read() && this.#recall('teaser') === null);
    // A reload goes on where the visitor was; what was sent is delivered even behind a closed panel.
    if (this.#recall('open') !== null) this.#open(false);
    else if (credentials && this.#outbox(credentials).read().length > 0) this.#connect();
  }

  #end(): void {
    this.#chat?.dispose();
    this.#chat = null;
    this.#peers?.close();
    this.#peers = null;
    this.#view = null;
    this.#root.replaceChildren();
  }

  #open(focus: boolean): void {
    this.#view?.setOpen(true, focus);
    this.#remember('open', 'yes');
    this.#hideTeaser();
    this.#connect();
  }

  /** The service is not spoken to, and nothing is stored, before the visitor opens the panel. */
  #connect(): void {
    const { apiUrl = null, widgetToken = '', locale = 'en', streamTimeoutMs = 0 } = this.#config ?? {};
    if (this.#chat || apiUrl === null || !this.#keepsakes) return;
    const credentials = new CredentialStore(this.#site, apiUrl);
    this.#peers = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(credentials.key);
    const chat = new Chat({
      api: new Api({
        url: apiUrl,
        widgetToken,
        locale,
        // Without query and fragment, which may hold what is nobody's business.
        pageUrl: () => location.origin + location.pathname,
        fetch: (input, init) => fetch(input, init),
      }),
      credentials,
      outbox: this.#outbox(credentials),
      keepsakes: this.#keepsakes,
      surroundings: browser,
      streamTimeoutMs,
      onChange: (snapshot) => this.#view?.show(snapshot),
      announce: () => this.#peers?.postMessage('changed'),
    });
    this.#chat = chat;
    this.#peers?.addEventListener('message', () => void chat.refresh());
    this.#view?.show(chat.snapshot);
    void chat.refresh();
  }

  #outbox(credentials: CredentialStore): Outbox {
    return new Outbox(this.#tab, `${credentials.key} outbox`);
  }

  #hideTeaser(): void {
    this.#view?.showTeaser(false);
    this.#remember('teaser', 'dismissed');
  }

  #remember(name: string, value: string | null): void {
    if (value === null) this.#tab.removeItem(`growth-chat ${name}`);
    else this.#tab.setItem(`growth-chat ${name}`, value);
  }

  #recall(name: string): string | null {
    return this.#tab.getItem(`growth-chat ${name}`);
  }

  readonly #onClick = (event: Event): void => {
    const asker = event.target instanceof Element ? event.target.closest(`[${ASK}]`) : null;
    if (!asker) return;
    event.preventDefault();
    this.ask(asker.getAttribute(ASK) || asker.textContent || '');
  };
}

export type { GrowthChat };
