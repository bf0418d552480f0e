import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, retryDelay, worthRetrying } from "../src/backoff";
import { localProblem } from "../src/problem";
import { problem } from "./helpers";

test("backoff doubles from 0.5 s to 8 s and stays there", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 100].map((failures) => backoff(failures, 0.5)),
    [500, 1000, 2000, 4000, 8000, 8000, 8000],
  );
});

test("jitter spreads a delay by a fifth to both sides", () => {
  assert.equal(backoff(2, 0), 800);
  assert.equal(backoff(2, 1), 1200);
});

test("a Retry-After is never undercut and stretched by 2 s at most", () => {
  assert.equal(retryDelay(problem({ retryAfterMs: 3000 }), 1, 0), 3100);
  assert.equal(retryDelay(problem({ retryAfterMs: 3000 }), 9, 0.5), 5000);
});

test("while recovering our own part of the delay is capped", () => {
  assert.equal(retryDelay(problem(), 5, 0.5, 1000), 1000);
  assert.equal(retryDelay(problem({ retryAfterMs: 2000 }), 5, 0.5, 1000), 2250);
});

const verdicts: [string, number, boolean][] = [
  ["network", 0, true],
  ["stream-silent", 0, true],
  ["timeout", 0, true],
  ["autoplay-blocked", 0, false],
  ["webrtc-unavailable", 0, false],
  ["invalid-sdp", 400, false],
  ["unauthenticated", 401, false],
  ["forbidden", 403, false],
  ["camera-not-found", 404, false],
  ["http-408", 408, true],
  ["source-unreachable", 409, true],
  ["unsupported-media-type", 415, false],
  ["codec-not-offered", 422, false],
  ["too-many-requests", 429, true],
  ["http-500", 500, true],
  ["agent-unavailable", 503, true],
];
for (const [code, status, expected] of verdicts) {
  test(`${code} (${status}) is ${expected ? "" : "not "}worth retrying`, () => {
    assert.equal(worthRetrying(problem({ code, status })), expected);
    assert.equal(retryDelay(problem({ code, status }), 1, 0.5) !== null, expected);
  });
}

test("local problems have words", () => {
  assert.deepEqual(localProblem("timeout"), {
    code: "timeout",
    status: 0,
    title: "No answer in time",
    detail: "The server took too long to answer.",
  });
});
