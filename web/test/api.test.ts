import assert from "node:assert/strict";
import { test } from "node:test";
import { Api, request, whepPath } from "../src/api";
import { ProblemError } from "../src/problem";
import { problemResponse } from "./helpers";

function apiThat(answer: (url: URL, init: RequestInit) => Response | Promise<Response>) {
  const calls: { url: URL; headers: Headers }[] = [];
  const api = new Api({
    base: "https://cameras.example/base/",
    token: () => "secret",
    fetch: async (input, init = {}) => {
      const url = new URL(input);
      calls.push({ url, headers: new Headers(init.headers) });
      return answer(url, init);
    },
  });
  return { api, calls };
}

test("calls go below the base and carry the token", async () => {
  const { api, calls } = apiThat(() => Response.json({ user: "alice", groups: [], issuer: "dev" }));
  assert.equal((await api.me()).user, "alice");
  assert.equal(calls[0]?.url.href, "https://cameras.example/base/v1/me");
  assert.equal(calls[0]?.headers.get("Authorization"), "Bearer secret");
});

test("all pages of cameras are read, with the filter", async () => {
  const { api, calls } = apiThat((url) =>
    url.searchParams.has("continue")
      ? Response.json({ items: [{ name: "b" }], continue: null })
      : Response.json({ items: [{ name: "a" }], continue: "next" }),
  );
  const list = await api.cameras({ q: "door", live: true });
  assert.deepEqual(list.items.map(({ name }) => name), ["a", "b"]);
  assert.equal(list.complete, true);
  assert.deepEqual(calls.map(({ url }) => url.search), ["?limit=200&q=door&live=true", "?limit=200&q=door&live=true&continue=next"]);
});

test("an endless list is cut and said to be incomplete", async () => {
  const { api, calls } = apiThat(() => Response.json({ items: [{}], continue: "more" }));
  const list = await api.cameras();
  assert.equal(list.complete, false);
  assert.equal(calls.length, 5);
});

test("one camera is found among its like, or null", async () => {
  const { api } = apiThat(() => Response.json({ items: [{ namespace: "a", name: "door-2" }, { namespace: "a", name: "door" }] }));
  assert.equal((await api.camera({ namespace: "a", name: "door" }))?.name, "door");
  assert.equal(await api.camera({ namespace: "b", name: "door" }), null);
});

test("one camera is found on a later page, too", async () => {
  const like = Array.from({ length: 200 }, (_, n) => ({ namespace: "a", name: `a-door-${n}` }));
  const { api, calls } = apiThat((url) =>
    url.searchParams.has("continue")
      ? Response.json({ items: [{ namespace: "a", name: "door" }], continue: "more" })
      : Response.json({ items: like, continue: "next" }),
  );
  assert.equal((await api.camera({ namespace: "a", name: "door" }))?.name, "door");
  assert.deepEqual(calls.map(({ url }) => url.search), ["?limit=200&namespace=a&q=door", "?limit=200&namespace=a&q=door&continue=next"]);
});

test("a refusal rejects with the server's problem and without the token", async () => {
  const { api } = apiThat(() => problemResponse(403, { code: "forbidden", title: "Not allowed", detail: "Needs View." }));
  await assert.rejects(api.me(), (error) => {
    assert.ok(error instanceof ProblemError);
    assert.equal(error.problem.code, "forbidden");
    assert.doesNotMatch(`${error} ${error.stack} ${JSON.stringify(error.problem)}`, /secret/);
    return true;
  });
});

test("a network that fails and a body that is no JSON are problems, too", async () => {
  const down = apiThat(() => Promise.reject(new TypeError("Failed to fetch")));
  await assert.rejects(down.api.me(), (error) => error instanceof ProblemError && error.problem.code === "network");
  const html = apiThat(() => new Response("<html>"));
  await assert.rejects(html.api.me(), (error) => error instanceof ProblemError && error.problem.code === "bad-answer");
});

test("without a token there is no Authorization header", async () => {
  let sent: Headers | null = null;
  const fetch = async (_url: string, init?: RequestInit) => {
    sent = new Headers(init?.headers);
    return new Response("ok");
  };
  await request({ token: () => null, fetch }, "https://cameras.example/", {});
  assert.equal((sent as Headers | null)?.has("Authorization"), false);
});

test("names are escaped in paths", () => {
  assert.equal(whepPath("a", "b/../c"), "v1/namespaces/a/cameras/b%2F..%2Fc/whep");
});
