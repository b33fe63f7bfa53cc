/** What the widget itself says, in the languages that it speaks. */

const ENGLISH = {
  heading: 'Ask us anything',
  subheading: 'An AI assistant that cites its sources',
  proactive: 'Have a question about AI engineering?',
  open: 'Open the chat',
  close: 'Close the chat',
  dismiss: 'Dismiss',
  log: 'Conversation',
  input: 'Your message',
  placeholder: 'Write a message…',
  send: 'Send',
  stop: 'Stop the answer',
  stopping: 'Stopping…',
  you: 'You',
  assistant: 'Assistant',
  sources: 'Sources',
  stopped: 'Stopped',
  thinking: 'Answering…',
  answered: 'The answer is complete.',
  failed: 'Sorry, this answer could not be finished.',
  refused: 'This message was not sent.',
  sending: 'Sending…',
  retry: 'Try again',
  reconnecting: 'Connection lost. Trying again…',
  slow: 'This takes longer than usual.',
  fallback: 'Contact us instead',
  newChat: 'Start a new conversation',
  ended: 'That conversation has ended. This is a new one.',
  unconfigured: 'The chat is not available here.',
  contactTitle: 'Leave your contact details',
  name: 'Name',
  email: 'E-mail (required)',
  company: 'Company',
  message: 'Message',
  consent: 'I agree to be contacted about my request. My details are used for nothing else.',
  contactText: 'Leave your contact details, and we will get back to you.',
  contactSend: 'Send details',
  contactDecline: 'Not now',
  contactInvalid: 'Please check your e-mail address.',
  contactFailed: 'Your details could not be sent. Please try again.',
  handedOff: 'Thank you. A colleague will get back to you.',
  notHandedOff: 'We could not pass your request on.',
  limited: 'This conversation has reached its limit.',
  helpful: 'This answer was helpful',
  unhelpful: 'This answer was not helpful',
  why: 'What could be better? (optional)',
  rated: 'Thank you for the feedback.',
  notRated: 'Your feedback could not be sent.',
  left: (count: number) => `${count} characters left`,
  tooLong: (count: number) => `${count} characters too many`,
};

export type Words = typeof ENGLISH;

const GERMAN: Words = {
  heading: 'Fragen Sie uns',
  subheading: 'Ein KI-Assistent, der seine Quellen nennt',
  proactive: 'Fragen zu KI-Entwicklung?',
  open: 'Chat öffnen',
  close: 'Chat schließen',
  dismiss: 'Ausblenden',
  log: 'Gespräch',
  input: 'Ihre Nachricht',
  placeholder: 'Nachricht schreiben…',
  send: 'Senden',
  stop: 'Antwort anhalten',
  stopping: 'Wird angehalten…',
  you: 'Sie',
  assistant: 'Assistent',
  sources: 'Quellen',
  stopped: 'Angehalten',
  thinking: 'Antwortet…',
  answered: 'Die Antwort ist vollständig.',
  failed: 'Diese Antwort konnte leider nicht abgeschlossen werden.',
  refused: 'Diese Nachricht wurde nicht gesendet.',
  sending: 'Wird gesendet…',
  retry: 'Noch einmal versuchen',
  reconnecting: 'Verbindung unterbrochen. Neuer Versuch…',
  slow: 'Das dauert länger als sonst.',
  fallback: 'Lieber direkt Kontakt aufnehmen',
  newChat: 'Neues Gespräch beginnen',
  ended: 'Jenes Gespräch ist beendet. Hier beginnt ein neues.',
  unconfigured: 'Der Chat ist hier nicht verfügbar.',
  contactTitle: 'Kontaktdaten hinterlassen',
  name: 'Name',
  email: 'E-Mail (erforderlich)',
  company: 'Unternehmen',
  message: 'Nachricht',
  consent: 'Ich bin damit einverstanden, zu meiner Anfrage kontaktiert zu werden. Meine Angaben werden für nichts anderes verwendet.',
  contactText: 'Hinterlassen Sie Ihre Kontaktdaten, dann melden wir uns.',
  contactSend: 'Absenden',
  contactDecline: 'Nicht jetzt',
  contactInvalid: 'Bitte prüfen Sie Ihre E-Mail-Adresse.',
  contactFailed: 'Ihre Angaben konnten nicht gesendet werden. Bitte versuchen Sie es noch einmal.',
  handedOff: 'Vielen Dank. Jemand aus unserem Team meldet sich bei Ihnen.',
  notHandedOff: 'Wir konnten Ihre Anfrage nicht weitergeben.',
  limited: 'Dieses Gespräch hat seine Grenze erreicht.',
  helpful: 'Diese Antwort war hilfreich',
  unhelpful: 'Diese Antwort war nicht hilfreich',
  why: 'Was könnte besser sein? (freiwillig)',
  rated: 'Danke für die Rückmeldung.',
  notRated: 'Ihre Rückmeldung konnte nicht gesendet werden.',
  left: (count) => `Noch ${count} Zeichen`,
  tooLong: (count) => `${count} Zeichen zu viel`,
};

/** Who speaks, and that they are gone: also where the rest is in English. */
export interface PresenceWords {
  readonly here: (name: string) => string;
  readonly left: (name: string) => string;
  readonly types: (name: string) => string;
}

const PRESENCE: Readonly<Record<string, PresenceWords>> = {
  en: {
    here: (name) => `You are talking to ${name}.`,
    left: (name) => `${name} has left. The assistant answers again.`,
    types: (name) => `${name} is typing…`,
  },
  de: {
    here: (name) => `Sie sprechen mit ${name}.`,
    left: (name) => `${name} hat das Gespräch verlassen. Der Assistent antwortet wieder.`,
    types: (name) => `${name} schreibt…`,
  },
  es: {
    here: (name) => `Está hablando con ${name}.`,
    left: (name) => `${name} ha salido. El asistente vuelve a responder.`,
    types: (name) => `${name} está escribiendo…`,
  },
  fr: {
    here: (name) => `Vous parlez avec ${name}.`,
    left: (name) => `${name} a quitté la conversation. L’assistant répond de nouveau.`,
    types: (name) => `${name} écrit…`,
  },
};

/** That something waits, and for how long: also where the rest is in English. `#` stands for the time. */
export interface WaitWords {
  /** The service takes no more for the moment. */
  readonly crowd: string;
  /** The service can't answer for the moment. */
  readonly outage: string;
  /** Too many of the visitor's messages have no answer yet. */
  readonly queue: string;
  /** What becomes of the message. */
  readonly sends: string;
  /** What becomes of anything else. */
  readonly continues: string;
  readonly moments: string;
  readonly seconds: (count: number) => string;
  /** For a long time, or an unknown one. */
  readonly soon: string;
}

const WAITS: Readonly<Record<string, WaitWords>> = {
  en: {
    crowd: 'There are a lot of messages at the moment.',
    outage: 'The chat is briefly unavailable.',
    queue: 'Your earlier messages are being answered first. This one will be sent automatically after that.',
    sends: 'Your message will be sent automatically #.',
    continues: 'We will try again automatically #.',
    moments: 'in a few seconds',
    seconds: (count) => `in about ${count} seconds`,
    soon: 'as soon as possible',
  },
  de: {
    crowd: 'Zurzeit gehen sehr viele Nachrichten ein.',
    outage: 'Der Chat ist kurzzeitig nicht erreichbar.',
    queue: 'Ihre bisherigen Nachrichten werden zuerst beantwortet. Diese wird danach automatisch gesendet.',
    sends: 'Ihre Nachricht wird # automatisch gesendet.',
    continues: 'Wir versuchen es # automatisch noch einmal.',
    moments: 'in wenigen Sekunden',
    seconds: (count) => `in etwa ${count} Sekunden`,
    soon: 'so bald wie möglich',
  },
  es: {
    crowd: 'En este momento recibimos muchos mensajes.',
    outage: 'El chat no está disponible por un momento.',
    queue: 'Primero se responden sus mensajes anteriores. Este se enviará automáticamente después.',
    sends: 'Su mensaje se enviará automáticamente #.',
    continues: 'Volveremos a intentarlo automáticamente #.',
    moments: 'en unos segundos',
    seconds: (count) => `en unos ${count} segundos`,
    soon: 'lo antes posible',
  },
  fr: {
    crowd: 'Nous recevons beaucoup de messages en ce moment.',
    outage: 'Le chat est momentanément indisponible.',
    queue: 'Vos messages précédents reçoivent d’abord leur réponse. Celui-ci sera envoyé automatiquement ensuite.',
    sends: 'Votre message sera envoyé automatiquement #.',
    continues: 'Un nouvel essai aura lieu automatiquement #.',
    moments: 'dans quelques secondes',
    seconds: (count) => `dans environ ${count} secondes`,
    soon: 'dès que possible',
  },
};

export function presenceWordsFor(locale: string): PresenceWords {
  return inLanguage(PRESENCE, locale);
}

export function waitWordsFor(locale: string): WaitWords {
  return inLanguage(WAITS, locale);
}

function inLanguage<T>(languages: Readonly<Record<string, T>>, locale: string): T {
  return languages[locale.slice(0, 2).toLowerCase()] ?? (languages.en as T);
}

export function wordsFor(locale: string): Words {
  return /^de\b/i.test(locale) ? GERMAN : ENGLISH;
}
