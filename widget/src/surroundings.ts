/** What the chat needs of the page around it, so that tests can be the page. */

export interface Surroundings {
  /** Whether the visitor looks at the page; nothing is retried for a tab that nobody sees. */
  visible(): boolean;
  /** Calls back when it is worth trying again at once: the page is looked at, the network is back. */
  onWake(callback: () => void): () => void;
  random(): number;
}

export const browser: Surroundings = {
  visible: () => document.visibilityState !== 'hidden',
  onWake(callback) {
    const visible = () => {
      if (document.visibilityState !== 'hidden') callback();
    };
    document.addEventListener('visibilitychange', visible);
    addEventListener('online', callback);
    addEventListener('pageshow', visible);
    return () => {
      document.removeEventListener('visibilitychange', visible);
      removeEventListener('online', callback);
      removeEventListener('pageshow', visible);
    };
  },
  random: Math.random,
};
