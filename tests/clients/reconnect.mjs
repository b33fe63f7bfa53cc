// The connection breaks in mid-answer; the client resumes and ends with one answer, the transcript's.
import { expect, expectAnswers, openChat, QUESTION, resumeUntilReady, succeed, textOf } from './client.mjs';

const CUT_AFTER_DELTAS = Number(process.env.CUT_AFTER_DELTAS ?? 2);

let posts = 0;
let cuts = 0;

/** A network that breaks in the first answer, behind some deltas. */
async function breaking(url, init) {
  const response = await fetch(url, init);
  if (init?.method === 'POST') posts++;
  if (init?.method !== 'POST' || !response.body) return response;
  let seen = '';
  const cutter = new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(chunk);
      seen += new TextDecoder().decode(chunk);
      if (seen.split('"text-delta"').length > CUT_AFTER_DELTAS) {
        cuts++;
        controller.error(new TypeError('network error'));
      }
    },
  });
  return new Response(response.body.pipeThrough(cutter), response);
}

const session = openChat({ fetch: breaking });
await session.chat.sendMessage({ text: QUESTION });
expect(cuts === 1, 'the connection was not cut: the answer is too short');
expect(session.chat.status === 'error', `after the cut the chat is ${session.chat.status}`);
const partial = textOf(session.chat.messages.at(-1));
const resumed = await resumeUntilReady(session);
const answer = await expectAnswers(session, 1);
expect(partial.length < answer.length, 'the cut came after the end of the answer');
expect(posts === 1, `the message was posted ${posts} times`);
succeed({ answer, partial: partial.length, resumed });
