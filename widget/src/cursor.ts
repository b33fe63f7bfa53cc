/**
 * A place in a turn's event log, `<turn>-<attempt>-<seq>`: the SSE id of every durable frame.
 * Compared as numbers, because `1-1-10` comes after `1-1-9`.
 */
export interface Cursor {
  readonly turn: number;
  readonly attempt: number;
  readonly seq: number;
}

const FORM = /^(\d{1,10})-(\d{1,10})-(\d{1,10})$/;

/** `null` when the text is no cursor. */
export function parseCursor(text: string): Cursor | null {
  const match = FORM.exec(text.trim());
  if (!match) return null;
  const [turn, attempt, seq] = match.slice(1).map(Number) as [number, number, number];
  return turn >= 1 ? { turn, attempt, seq } : null;
}

export function formatCursor(cursor: Cursor): string {
  return `${cursor.turn}-${cursor.attempt}-${cursor.seq}`;
}

/** Before every frame of a turn. */
export function startOf(turn: number): Cursor {
  return { turn, attempt: 0, seq: 0 };
}

/** Negative, zero or positive, as `Array.sort` wants it. */
export function compareCursors(a: Cursor, b: Cursor): number {
  return a.turn - b.turn || a.attempt - b.attempt || a.seq - b.seq;
}
