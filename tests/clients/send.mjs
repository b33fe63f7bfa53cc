// A message is sent and answered by one message, streamed in several pieces.
import { expect, expectAnswers, openChat, QUESTION, succeed } from './client.mjs';

const session = openChat();
let writes = 0;
session.state.onWrite = () => writes++;
await session.chat.sendMessage({ text: QUESTION });
const answer = await expectAnswers(session, 1);
expect(writes > 1, `the answer came in ${writes} writes: it was not streamed`);
succeed({ answer, writes });
