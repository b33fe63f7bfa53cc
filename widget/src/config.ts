/** Where the widget's settings come from: attributes, else the build's `VITE_*` (seed 000), else defaults. */

export interface Config {
  /** The address of `POST /chat`; `null` when nothing says where the service is. */
  readonly apiUrl: string | null;
  readonly widgetToken: string;
  /** Opened in a new tab when the service can't help. */
  readonly fallbackUrl: string | null;
  readonly gdprNotice: string | null;
  readonly proactiveMessage: string | null;
  readonly streamTimeoutMs: number;
  /** BCP 47, of the words and of what is sent with a message. */
  readonly locale: string;
  readonly heading: string | null;
  readonly accent: string | null;
  readonly suggestions: readonly string[];
}

/** What the build compiled in. */
export type BuildEnv = Readonly<Partial<Record<string, string>>>;

export const ATTRIBUTES = [
  'api-url',
  'widget-token',
  'fallback-url',
  'gdpr-notice',
  'proactive-message',
  'stream-timeout-ms',
  'locale',
  // Not `title`: browsers show that as a tooltip over the whole element.
  'heading',
  'accent',
  'suggestions',
] as const;

/** Seed 000, `VITE_STREAM_TIMEOUT_MS`. */
const DEFAULT_STREAM_TIMEOUT_MS = 10_000;

/** Longer waits than this overflow the browser's timers. */
const LONGEST_TIMEOUT_MS = 600_000;

export interface Page {
  /** The address of the script, empty when unknown. */
  readonly scriptUrl: string;
  readonly baseUrl: string;
  /** The page's language, else the browser's. */
  readonly language: string;
}

/** An attribute that is present but empty switches its setting off. */
export function readConfig(attribute: (name: string) => string | null, env: BuildEnv, page: Page): Config {
  const setting = (name: (typeof ATTRIBUTES)[number], variable: string | null): string | null => {
    const value = attribute(name) ?? (variable === null ? undefined : env[variable]);
    return value === undefined || value.trim() === '' ? null : value.trim();
  };
  const timeout = Number(setting('stream-timeout-ms', 'VITE_STREAM_TIMEOUT_MS') ?? NaN);
  const locale = setting('locale', null) ?? page.language;
  return {
    apiUrl: chatUrl(setting('api-url', 'VITE_API_URL') ?? originOf(page.scriptUrl), page.baseUrl),
    widgetToken: setting('widget-token', null) ?? '',
    fallbackUrl: webUrl(setting('fallback-url', 'VITE_FALLBACK_URL'), page.baseUrl),
    gdprNotice: setting('gdpr-notice', 'VITE_GDPR_NOTICE_TEXT'),
    // `null` from an absent setting becomes the default of the language; an empty attribute stays off.
    proactiveMessage: attribute('proactive-message')?.trim() ?? env.VITE_DEFAULT_PROACTIVE_MESSAGE ?? null,
    streamTimeoutMs: timeout >= 1 && timeout <= LONGEST_TIMEOUT_MS ? timeout : DEFAULT_STREAM_TIMEOUT_MS,
    locale: /^[A-Za-z0-9_-]{2,35}$/.test(locale) ? locale : 'en',
    heading: setting('heading', null),
    accent: setting('accent', null),
    suggestions: (setting('suggestions', null) ?? '').split('|').map((text) => text.trim()).filter(Boolean).slice(0, 4),
  };
}

/** `api-url` may name the service or its `/chat` route, as `VITE_API_URL` of seed 000 does. */
function chatUrl(url: string | null, baseUrl: string): string | null {
  const resolved = webUrl(url, baseUrl);
  if (resolved === null) return null;
  const { origin, pathname } = new URL(resolved);
  const path = pathname.replace(/\/+$/, '');
  return origin + (path.endsWith('/chat') ? path : `${path}/chat`);
}

function originOf(scriptUrl: string): string | null {
  const resolved = webUrl(scriptUrl, scriptUrl);
  return resolved === null ? null : new URL(resolved).origin;
}

function webUrl(url: string | null, baseUrl: string): string | null {
  if (url === null || url === '') return null;
  try {
    const parsed = new URL(url, baseUrl);
    return parsed.protocol === 'https:' || parsed.protocol === 'http:' ? parsed.href : null;
  } catch {
    return null;
  }
}
