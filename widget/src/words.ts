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
  refused: 'This message could not be sent.',
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
  contactSending: 'Sending…',
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
  refused: 'Diese Nachricht konnte nicht gesendet werden.',
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
  contactSending: 'Wird gesendet…',
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

export function presenceWordsFor(locale: string): PresenceWords {
  const language = locale.slice(0, 2).toLowerCase();
  return PRESENCE[language] ?? (PRESENCE.en as PresenceWords);
}

export function wordsFor(locale: string): Words {
  return /^de\b/i.test(locale) ? GERMAN : ENGLISH;
}
