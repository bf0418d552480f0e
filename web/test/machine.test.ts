import assert from "node:assert/strict";
import { test } from "node:test";
import { IDLE, RECOVERY_MS, STEADY_MS, step, type Effect, type Event, type State } from "../src/machine";
import { problem } from "./helpers";

const temporary = problem();
const permanent = problem({ code: "forbidden", status: 403 });
const patient = problem({ code: "source-unreachable", status: 409, retryAfterMs: 3000 });

const fresh = { failures: 0, brokeAt: null };
const connecting: State = { name: "connecting", ...fresh };
const connectingAgain: State = { name: "connecting", failures: 2, brokeAt: null };
const playing: State = { name: "playing", since: 1000, ...fresh };
const failed: State = { name: "failed", problem: temporary, retryAt: 2000, failures: 3, brokeAt: null };
const stuck: State = { name: "failed", problem: permanent, retryAt: null, failures: 1, brokeAt: null };

const play: Event = { type: "play", at: 1500 };
const stop: Event = { type: "stop" };
const frame: Event = { type: "frame", at: 1500 };
const due: Event = { type: "due", at: 1500 };
const lost = (at: number, what = temporary): Event => ({ type: "lost", at, problem: what, random: 0.5 });

const OPEN: Effect = { type: "open" };
const CLOSE: Effect = { type: "close" };
const wait = (ms: number): Effect => ({ type: "wait", ms });

/** `null` as the expected state: the event is ignored, the very same state comes back. */
const table: [string, State, Event, State | null, Effect[]][] = [
  ["idle, play", IDLE, play, connecting, [OPEN]],
  ["idle, stop", IDLE, stop, null, []],
  ["idle, frame", IDLE, frame, null, []],
  ["idle, lost", IDLE, lost(1500), null, []],
  ["idle, due", IDLE, due, null, []],

  ["connecting, play", connecting, play, null, []],
  ["connecting, stop", connecting, stop, IDLE, [CLOSE]],
  ["connecting, frame", connectingAgain, frame, { name: "playing", since: 1500, failures: 2, brokeAt: null }, []],
  ["connecting, due", connecting, due, null, []],
  [
    "connecting, lost for the first time",
    connecting,
    lost(1500),
    { name: "failed", problem: temporary, retryAt: 2000, failures: 1, brokeAt: null },
    [CLOSE, wait(500)],
  ],
  [
    "connecting, lost for the third time",
    connectingAgain,
    lost(1500),
    { name: "failed", problem: temporary, retryAt: 3500, failures: 3, brokeAt: null },
    [CLOSE, wait(2000)],
  ],
  [
    "connecting, lost with Retry-After",
    connecting,
    lost(1500, patient),
    { name: "failed", problem: patient, retryAt: 4625, failures: 1, brokeAt: null },
    [CLOSE, wait(3125)],
  ],
  [
    "connecting, refused",
    connecting,
    lost(1500, permanent),
    { name: "failed", problem: permanent, retryAt: null, failures: 1, brokeAt: null },
    [CLOSE],
  ],
  [
    "connecting, lost while recovering: short steps",
    { name: "connecting", failures: 4, brokeAt: 1000 },
    lost(1500),
    { name: "failed", problem: temporary, retryAt: 2500, failures: 5, brokeAt: 1000 },
    [CLOSE, wait(1000)],
  ],
  [
    "connecting, lost when recovering took too long: backoff again",
    { name: "connecting", failures: 4, brokeAt: 1000 },
    lost(1000 + RECOVERY_MS),
    { name: "failed", problem: temporary, retryAt: 1000 + RECOVERY_MS + 8000, failures: 5, brokeAt: 1000 },
    [CLOSE, wait(8000)],
  ],

  ["playing, play", playing, play, null, []],
  ["playing, stop", playing, stop, IDLE, [CLOSE]],
  ["playing, frame", playing, frame, null, []],
  ["playing, due", playing, due, null, []],
  ["playing, lost: at once", playing, lost(1500), { name: "connecting", failures: 0, brokeAt: 1500 }, [CLOSE, OPEN]],
  [
    "playing after failures, lost: at once, failures kept",
    { name: "playing", since: 1000, failures: 3, brokeAt: null },
    lost(1500),
    { name: "connecting", failures: 3, brokeAt: 1500 },
    [CLOSE, OPEN],
  ],
  [
    "playing, lost again before it was steady: waits",
    { name: "playing", since: 1000, failures: 0, brokeAt: 500 },
    lost(1000 + STEADY_MS - 1),
    { name: "failed", problem: temporary, retryAt: 1499 + STEADY_MS, failures: 1, brokeAt: 500 },
    [CLOSE, wait(500)],
  ],
  [
    "playing steadily, lost: all is forgotten",
    { name: "playing", since: 1000, failures: 4, brokeAt: 500 },
    lost(1000 + STEADY_MS),
    { name: "connecting", failures: 0, brokeAt: 1000 + STEADY_MS },
    [CLOSE, OPEN],
  ],
  [
    "playing, refused",
    playing,
    lost(1500, permanent),
    { name: "failed", problem: permanent, retryAt: null, failures: 1, brokeAt: null },
    [CLOSE],
  ],

  ["failed, play", failed, play, connecting, [OPEN]],
  ["failed, stop", failed, stop, IDLE, [CLOSE]],
  ["failed, frame", failed, frame, null, []],
  ["failed, lost", failed, lost(1500), null, []],
  ["failed, due", failed, due, { name: "connecting", failures: 3, brokeAt: null }, [OPEN]],
  ["failed for good, due", stuck, due, null, []],
  ["failed for good, play", stuck, play, connecting, [OPEN]],
];

for (const [name, state, event, expected, effects] of table) {
  test(name, () => {
    const result = step(state, event);
    if (expected === null) assert.equal(result.state, state);
    else assert.deepEqual(result.state, expected);
    assert.deepEqual(result.effects, effects);
  });
}

test("the table holds each state with each event", () => {
  const pairs = new Set(table.map(([, state, event]) => `${state.name}, ${event.type}`));
  assert.equal(pairs.size, 4 * 5);
});
