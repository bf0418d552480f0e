import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRetryAfter, problemOf, problemOfError, ProblemError } from "../src/problem";
import { signInWords } from "../src/signin";
import { problem, problemResponse } from "./helpers";

const NOW = Date.parse("2026-01-01T00:00:00Z");

test("a problem body is taken over, with reason and Retry-After", async () => {
  const response = problemResponse(
    409,
    {
      type: "https://sightline.dev/problems/source-authentication-failed",
      title: "Credentials refused",
      detail: "The camera refused its credentials.",
      code: "source-authentication-failed",
      reason: "AuthenticationFailed",
    },
    { "Retry-After": "7" },
  );
  assert.deepEqual(await problemOf(response, NOW), {
    code: "source-authentication-failed",
    status: 409,
    title: "Credentials refused",
    detail: "The camera refused its credentials.",
    reason: "AuthenticationFailed",
    retryAfterMs: 7000,
  });
});

test("retryAfterSeconds of the body counts where the header is missing", async () => {
  assert.equal((await problemOf(problemResponse(503, { retryAfterSeconds: 2 }), NOW)).retryAfterMs, 2000);
  const both = problemResponse(503, { retryAfterSeconds: 2 }, { "Retry-After": "5" });
  assert.equal((await problemOf(both, NOW)).retryAfterMs, 5000);
});

const odd: [string, Response, string][] = [
  ["an HTML page", new Response("<h1>Bad Gateway</h1>", { status: 502, headers: { "Content-Type": "text/html" } }), "http-502"],
  ["broken JSON", new Response("{", { status: 500, headers: { "Content-Type": "application/json" } }), "http-500"],
  ["a JSON list", new Response("[]", { status: 404, headers: { "Content-Type": "application/json" } }), "http-404"],
  ["wrong types", problemResponse(403, { title: 7, code: null, reason: {}, retryAfterSeconds: "soon" }), "http-403"],
  ["nothing", new Response(null, { status: 401 }), "http-401"],
];
for (const [name, response, code] of odd) {
  test(`${name} becomes a problem with words`, async () => {
    const found = await problemOf(response, NOW);
    assert.equal(found.code, code);
    assert.notEqual(found.title, "");
    assert.match(found.detail, /status \d{3}/);
    assert.equal(found.reason, undefined);
    assert.equal(found.retryAfterMs, undefined);
  });
}

test("Retry-After as seconds, as a date, in the past, and senseless", () => {
  assert.equal(parseRetryAfter(" 12 ", NOW), 12_000);
  assert.equal(parseRetryAfter("Thu, 01 Jan 2026 00:00:30 GMT", NOW), 30_000);
  assert.equal(parseRetryAfter("Wed, 31 Dec 2025 00:00:00 GMT", NOW), 0);
  assert.equal(parseRetryAfter("soon", NOW), undefined);
  assert.equal(parseRetryAfter(null, NOW), undefined);
});

test("thrown things are put into problems", () => {
  const known = problem();
  assert.equal(problemOfError(new ProblemError(known)), known);
  assert.equal(problemOfError(new TypeError("Failed to fetch")).code, "network");
  assert.equal(problemOfError(new DOMException("late", "TimeoutError")).code, "timeout");
  assert.equal(problemOfError("odd", "bad-answer").code, "bad-answer");
});

test("who signs in with a wrong token is told so, and nothing about headers", () => {
  const refused = new ProblemError({
    code: "unauthenticated",
    status: 401,
    title: "Sign in to continue",
    detail: "Send a valid token: Authorization: Bearer <token>.",
  });
  assert.equal(signInWords(refused), "This token was not accepted. It may have expired, or be meant for another server.");
});
