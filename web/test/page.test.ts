/** The pure pieces of the page: fragment, words, ICE links, polling. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CameraSummary } from "../src/api";
import { formatFragment, parseFragment } from "../src/fragment";
import { discoverIceServers, type IceConfig, IceConfigCache, parseIceLinks } from "../src/ice";
import { Poller } from "../src/poller";
import { cameraMessage, cameraWording, formatPicture, formatViewers, spell } from "../src/words";
import { VirtualClock } from "./helpers";

test("fragments are read", () => {
  assert.deepEqual(parseFragment(""), { watch: null, token: null });
  assert.deepEqual(parseFragment("#watch=a/b"), { watch: { namespace: "a", name: "b" }, token: null });
  assert.deepEqual(parseFragment("#token=x%2Fy+z&watch=a/b"), { watch: { namespace: "a", name: "b" }, token: "x/y+z" });
  for (const odd of ["#watch=a", "#watch=/b", "#watch=a/", "#watch=a/b/c", "#token="]) {
    assert.deepEqual(parseFragment(odd), { watch: null, token: null }, odd);
  }
});

test("fragments are written as they are read", () => {
  const key = { namespace: "a&b", name: "c d" };
  assert.deepEqual(parseFragment(formatFragment(key)).watch, key);
  assert.equal(formatFragment(null), "#");
});

const camera = (over: Partial<CameraSummary>): CameraSummary => ({
  namespace: "a",
  name: "b",
  ready: true,
  live: false,
  viewers: 0,
  rights: ["View"],
  ...over,
});

const wordings: [Partial<CameraSummary>, string, string][] = [
  [{ source: { reason: "Streaming" } }, "Streaming", "live"],
  [{ source: { reason: "Idle" } }, "Ready", "ready"],
  [{ source: { reason: "Idle" }, ready: false, phase: "Starting" }, "Starting", "busy"],
  [{ source: { reason: "AuthenticationFailed" }, ready: false }, "Credentials refused", "bad"],
  [{ source: { reason: "DeviceOffline" }, ready: false }, "Device offline", "off"],
  [{ source: { reason: "LensDirty" }, ready: false }, "Lens dirty", "bad"],
  [{ source: { reason: "Pending" }, phase: "Refused", ready: false }, "Refused", "bad"],
  [{ source: { reason: "Idle" }, phase: "Degraded", ready: false }, "Degraded", "bad"],
  [{ source: { reason: "Pending" }, phase: "Degraded", ready: false }, "Degraded", "bad"],
  [{ source: { reason: "Pending" }, phase: "Starting", ready: false }, "Starting", "busy"],
  [{ source: null }, "Ready", "ready"],
  [{ source: {}, ready: false }, "Starting", "busy"],
];
for (const [over, text, tone] of wordings) {
  test(`${JSON.stringify(over)} reads "${text}"`, () => assert.deepEqual(cameraWording(camera(over)), { text, tone }));
}

test("a camera says what is in the way", () => {
  const said = (over: Partial<CameraSummary>) => cameraMessage(camera(over));
  const pending = { reason: "Pending", message: "No agent has looked at the source yet." };
  assert.equal(said({ phase: "Refused", ready: false, message: "There is no CameraClass x.", source: pending }), "There is no CameraClass x.");
  assert.equal(said({ phase: "Degraded", ready: false, message: "No node takes the pod.", source: pending }), "No node takes the pod.");
  assert.equal(said({ phase: "Starting", ready: false, message: "It needs the Secret a.", source: pending }), "It needs the Secret a.");
  assert.equal(said({ source: { reason: "Stalled", message: "Nothing came." } }), "Nothing came."); // ready stays for seconds
  assert.equal(said({ source: { reason: "Streaming", message: "Sound is left out." } }), "");
  assert.equal(said({ ready: false, source: null }), "");
});

test("formats", () => {
  assert.equal(formatPicture({ codec: "h264", width: 1920, height: 1080, fps: 29.97 }), "H.264 · 1920×1080 · 30 fps");
  assert.equal(formatPicture({ codec: "VP8", width: null, height: null, fps: null }), "VP8");
  assert.equal(formatViewers(1), "1 viewer");
  assert.equal(formatViewers(0), "0 viewers");
  assert.equal(spell("NotSupportedYet"), "Not supported yet");
});

test("ICE servers are read from Link headers", () => {
  const header =
    '<stun:stun.example>; rel="ice-server", ' +
    '<turn:turn.example?transport=udp>; rel="ice-server"; username="u,1"; credential="c;2"; credential-type="password", ' +
    '<https://x.example>; rel="ice-server", <turns:t.example>; rel=ice-server, <stun:no.example>; rel="next"';
  assert.deepEqual(parseIceLinks(header), [
    { urls: "stun:stun.example" },
    { urls: "turn:turn.example?transport=udp", username: "u,1", credential: "c;2" },
    { urls: "turns:t.example" },
  ]);
  assert.deepEqual(parseIceLinks(null), []);
});

test("an endpoint that does not answer is not asked for its ICE servers without end", async () => {
  let given: AbortSignal | null | undefined;
  const fetch = (_: string, init?: RequestInit): Promise<Response> => {
    given = init?.signal;
    return Promise.resolve(new Response(null, { headers: { Link: '<stun:s>; rel="ice-server"' } }));
  };
  const found = await discoverIceServers({ token: () => "t", fetch }, "https://cameras.example/whep");
  assert.deepEqual(found.iceServers, [{ urls: "stun:s" }]);
  assert.ok(given instanceof AbortSignal);
});

test("ICE servers are asked for once a minute and endpoint; a failure is asked again", async () => {
  let asked = 0;
  let now = 0;
  const stun: IceConfig = { iceServers: [{ urls: "stun:s" }], iceTransportPolicy: "all" };
  const cache = new IceConfigCache(() => now);
  const load = () => {
    asked++;
    return asked === 1 ? Promise.reject(new Error("down")) : Promise.resolve(stun);
  };
  assert.deepEqual(await cache.get("a", load), { ...stun, iceServers: [] });
  assert.deepEqual(await cache.get("a", load), stun);
  now = 59_999;
  await cache.get("a", load);
  assert.equal(asked, 2);
  await cache.get("b", load);
  assert.equal(asked, 3);
  now = 60_000;
  // Asked as whoever asks now does: the player that came first may be gone.
  assert.deepEqual((await cache.get("a", () => Promise.resolve({ ...stun, iceServers: [] }))).iceServers, []);
  await cache.get("b", load);
  assert.equal(asked, 3);
});

test("the poller asks every 5 s, pauses while hidden, drops answers to old questions", async () => {
  const clock = new VirtualClock();
  const heard: string[] = [];
  const waiting: ((answer: string) => void)[] = [];
  let hidden = false;
  const poller = new Poller<string>(
    {
      ask: () => new Promise((resolve) => waiting.push(resolve)),
      onAnswer: (answer) => heard.push(answer),
      onError: () => heard.push("error"),
      hidden: () => hidden,
      clock,
    },
    5000,
  );
  poller.start();
  poller.now();
  waiting[1]?.("new");
  waiting[0]?.("old");
  await clock.advance(4999);
  assert.deepEqual(heard, ["new"]);
  assert.equal(waiting.length, 2);
  await clock.advance(1);
  assert.equal(waiting.length, 3);
  waiting[2]?.("third");
  hidden = true;
  await clock.advance(60_000);
  assert.equal(waiting.length, 3);
  hidden = false;
  poller.now();
  assert.equal(waiting.length, 4);
  poller.stop();
  waiting[3]?.("late");
  await clock.advance(60_000);
  assert.deepEqual(heard, ["new", "third"]);
  assert.equal(waiting.length, 4);
});
