import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS, Watchdog, type Sample } from "../src/watchdog";

const sample = (bytes: number, frames: number): Sample => ({ bytes, frames, width: 0, height: 0, fps: 0, codec: "" });
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

test("bytes that stop before the first picture", () => {
  const dog = new Watchdog(0);
  assert.equal(dog.check(500, sample(10, 0), before), null);
  assert.equal(dog.check(500 + LIMITS.firstByteMs, sample(10, 0), before), "stream-silent");
});

test("a playing stream is dead after 2.5 s of silence, not before", () => {
  const dog = new Watchdog(0);
  assert.equal(dog.check(1000, sample(10, 1), playing), null);
  assert.equal(dog.check(3499, sample(10, 1), playing), null);
  assert.equal(dog.check(3500, sample(10, 1), playing), "stream-silent");
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
