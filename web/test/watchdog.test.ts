import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS, Watchdog, type Sample } from "../src/watchdog";

/** `heard`: all that came from the agent; media alone where it is left out. */
const sample = (bytes: number, frames: number, heard = bytes): Sample => ({
  ...{ bytes, frames, heard, width: 0, height: 0, fps: 0, codec: "" },
  reception: { freezes: 0, frozenSeconds: 0, framesDropped: 0, jitterBufferMs: 0, decoder: "" },
});
const before = { connected: true, playing: false, hidden: false };
const playing = { connected: true, playing: true, hidden: false };

test("no byte after the answer: the path is told from the silence by the connection", () => {
  const dog = new Watchdog(0);
  assert.equal(dog.check(LIMITS.firstByteMs - 1, null, { ...before, connected: false }), null);
  assert.equal(dog.check(LIMITS.firstByteMs, null, { ...before, connected: false }), "no-media-path");
  assert.equal(dog.check(LIMITS.firstByteMs, sample(0, 0), before), "no-media");
});

test("bytes without a picture get more time", () => {
  const dog = new Watchdog(0);
  for (let at = 0; at < LIMITS.firstFrameMs; at += 500) assert.equal(dog.check(at, sample(at + 1, 0), before), null);
  assert.equal(dog.check(LIMITS.firstFrameMs, sample(99_999, 0), before), "no-picture");
});

test("nobody misses the first picture of a page that is not seen", () => {
  const dog = new Watchdog(0);
  const unseen = { ...before, hidden: true };
  for (let at = 0; at < 5 * LIMITS.firstFrameMs; at += 500) assert.equal(dog.check(at, sample(at + 1, 0), unseen), null);
  const seen = 5 * LIMITS.firstFrameMs;
  assert.equal(dog.check(seen, sample(90_000, 0), before), null);
  assert.equal(dog.check(seen + LIMITS.firstFrameMs, sample(99_999, 0), before), "no-picture");
});

test("bytes that stop before the first picture", () => {
  const dog = new Watchdog(0);
  assert.equal(dog.check(500, sample(10, 0), before), null);
  assert.equal(dog.check(500 + LIMITS.firstByteMs, sample(10, 0), before), "stream-silent");
});

test("a playing stream is dead after 3 s of silence, not before", () => {
  const dog = new Watchdog(0);
  assert.equal(dog.check(1000, sample(10, 1), playing), null);
  assert.equal(dog.check(3999, sample(10, 1), playing), null);
  assert.equal(dog.check(4000, sample(10, 1), playing), "stream-silent");
});

test("a camera that is away for half a minute leaves the stream quiet, and it goes on when pictures come", () => {
  const dog = new Watchdog(0);
  let heard = 10;
  dog.check(1000, sample(10, 1, heard), playing);
  for (let at = 1500; at <= 31_000; at += 500) {
    if (at % 2500 === 0) heard += 1; // the answer to a check
    assert.equal(dog.check(at, sample(10, 1, heard), playing), null);
    assert.equal(dog.quiet, at >= 3500);
  }
  assert.equal(dog.check(31_500, sample(900, 1, heard + 890), playing), null);
  assert.equal(dog.quiet, false);
  assert.equal(dog.check(32_000, sample(1800, 16, heard + 1790), playing), null);
});

test("a camera that stays away is asked for anew after two minutes", () => {
  const dog = new Watchdog(0);
  dog.check(1000, sample(10, 1), playing);
  for (let at = 1500; at < 1000 + LIMITS.awayMs; at += 500) assert.equal(dog.check(at, sample(10, 1, at), playing), null);
  assert.equal(dog.check(1000 + LIMITS.awayMs, sample(10, 1, 1e6), playing), "stream-silent");
});

test("an agent that dies while its camera is away is noticed as well", () => {
  const dog = new Watchdog(0);
  dog.check(1000, sample(10, 1), playing);
  for (let at = 1500; at <= 10_000; at += 500) dog.check(at, sample(10, 1, at), playing);
  assert.equal(dog.check(12_999, sample(10, 1, 10_000), playing), null);
  assert.equal(dog.check(13_000, sample(10, 1, 10_000), playing), "stream-silent");
});

test("a throttled timer does not make a living stream look dead, and a sleeping laptop notices", () => {
  const dog = new Watchdog(0);
  dog.check(1000, sample(10, 1), playing);
  assert.equal(dog.check(61_000, sample(5000, 900), playing), null);
  assert.equal(dog.check(3_600_000, sample(5000, 900), playing), "stream-silent");
});

test("a picture that stands still is given up while it is seen", () => {
  const seen = new Watchdog(0);
  const unseen = new Watchdog(0);
  for (let at = 500; at < LIMITS.frozenMs; at += 500) {
    assert.equal(seen.check(at, sample(at, 0), playing), null);
    assert.equal(unseen.check(at, sample(at, 0), { ...playing, hidden: true }), null);
  }
  assert.equal(seen.check(LIMITS.frozenMs, sample(99_999, 0), playing), "no-picture");
  assert.equal(unseen.check(LIMITS.frozenMs, sample(99_999, 0), { ...playing, hidden: true }), null);
});
