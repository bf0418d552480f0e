import assert from "node:assert/strict";
import { test } from "node:test";
import type { Problem } from "../src/problem";
import { readSample, resourceUrl, sdpFragment, WhepSession, type Peer } from "../src/whep";
import { problemResponse, settled } from "./helpers";

const ENDPOINT = "https://cameras.example/v1/namespaces/default/cameras/door/whep";
const RESOURCE = `${ENDPOINT}/signed-id`;
const OFFER = "v=0\r\na=ice-ufrag:uf\r\na=ice-pwd:pw\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";

class FakePeer extends EventTarget implements Peer {
  connectionState: RTCPeerConnectionState = "new";
  iceGatheringState: RTCIceGatheringState = "new";
  localDescription: { sdp: string } | null = null;
  readonly transceivers: string[] = [];
  answer: string | undefined;
  closed = false;
  readonly configuration: RTCConfiguration;

  constructor(configuration: RTCConfiguration) {
    super();
    this.configuration = configuration;
  }

  addTransceiver(kind: string, init: RTCRtpTransceiverInit): void {
    this.transceivers.push(`${kind} ${init.direction}`);
  }
  createOffer(): Promise<RTCSessionDescriptionInit> {
    return Promise.resolve({ type: "offer", sdp: OFFER });
  }
  setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.localDescription = { sdp: description.sdp ?? "" };
    this.iceGatheringState = "gathering";
    return Promise.resolve();
  }
  setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    if (description.sdp === "v=broken") return Promise.reject(new Error("bad SDP"));
    this.answer = description.sdp;
    return Promise.resolve();
  }
  getStats(): Promise<RTCStatsReport> {
    return Promise.reject(new Error("closed"));
  }
  close(): void {
    this.closed = true;
  }

  gathered(): void {
    this.iceGatheringState = "complete";
    this.dispatchEvent(new Event("icegatheringstatechange"));
  }
  candidate(candidate: string): void {
    this.dispatchEvent(Object.assign(new Event("icecandidate"), { candidate: { candidate, sdpMid: "0" } }));
  }
  become(state: RTCPeerConnectionState): void {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }
}

interface Call {
  readonly url: string;
  readonly init: RequestInit;
  readonly headers: Headers;
}

function created(over: { headers?: Record<string, string>; body?: string } = {}): Response {
  return new Response(over.body ?? "v=0\r\n", {
    status: 201,
    headers: { "Content-Type": "application/sdp", Location: RESOURCE, ETag: '"e1"', ...over.headers },
  });
}

interface Faked {
  audio?: boolean;
  createPeer?: () => Peer;
  iceServers?: RTCIceServer[];
}

/** One session with everything around it faked; `delays` are resolved by hand. */
function watch(answer: (call: Call) => Response | Promise<Response>, over: Faked = {}) {
  const calls: Call[] = [];
  const delays: (() => void)[] = [];
  const events: string[] = [];
  const problems: Problem[] = [];
  const peers: FakePeer[] = [];
  const session = new WhepSession(
    {
      endpoint: ENDPOINT,
      audio: over.audio ?? false,
      token: () => "secret",
      fetch: async (url, init = {}) => {
        const call = { url, init, headers: new Headers(init.headers) };
        calls.push(call);
        return call.init.method === "POST" ? answer(call) : new Response(null, { status: call.init.method === "PATCH" ? 204 : 200 });
      },
      ice: () =>
        Promise.resolve({ iceServers: over.iceServers ?? [{ urls: "stun:stun.example" }], iceTransportPolicy: "relay" }),
      createPeer:
        over.createPeer ??
        ((configuration) => {
          const peer = new FakePeer(configuration);
          peers.push(peer);
          return peer;
        }),
      delay: () => new Promise((resolve) => delays.push(resolve)),
    },
    {
      posted: () => events.push("posted"),
      answered: () => events.push("answered"),
      connected: () => events.push("connected"),
      track: () => events.push("track"),
      lost: (problem) => {
        events.push("lost");
        problems.push(problem);
      },
    },
  );
  const peer = (): FakePeer => {
    const [first] = peers;
    assert.ok(first);
    return first;
  };
  return { session, calls, delays, events, problems, peer };
}

async function answered(over: { headers?: Record<string, string>; body?: string } = {}, audio = false) {
  const world = watch(() => created(over), { audio });
  await settled();
  world.peer().gathered();
  await settled();
  return world;
}

const methods = (calls: readonly Call[]) => calls.map(({ url, init }) => `${init.method} ${url}`);

test("posts a receive-only offer with token and ICE servers, and takes the answer", async () => {
  const { calls, events, peer } = await answered();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`]);
  assert.equal(calls[0]?.init.body, OFFER);
  assert.equal(calls[0]?.headers.get("Content-Type"), "application/sdp");
  assert.equal(calls[0]?.headers.get("Authorization"), "Bearer secret");
  assert.deepEqual(peer().transceivers, ["video recvonly"]);
  assert.deepEqual(peer().configuration.iceServers, [{ urls: "stun:stun.example" }]);
  assert.equal(peer().configuration.iceTransportPolicy, "relay");
  assert.equal(peer().answer, "v=0\r\n");
  peer().become("connected");
  peer().dispatchEvent(new Event("track"));
  assert.deepEqual(events, ["posted", "answered", "connected", "track"]);
});

test("asks for audio only when told to", async () => {
  const { peer } = await answered({}, true);
  assert.deepEqual(peer().transceivers, ["video recvonly", "audio recvonly"]);
});

test("does not wait for slow gathering; late candidates go out in one PATCH with the ETag", async () => {
  const { calls, delays, peer } = watch(() => created());
  await settled();
  peer().candidate("candidate:1 1 udp 1 192.0.2.1 1 typ host"); // already in the description
  assert.equal(calls.length, 0);
  delays.shift()?.();
  await settled();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`]);
  peer().candidate("candidate:2 1 udp 1 192.0.2.1 2 typ srflx");
  peer().gathered();
  delays.shift()?.();
  await settled();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`, `PATCH ${RESOURCE}`]);
  assert.equal(calls[1]?.headers.get("Content-Type"), "application/trickle-ice-sdpfrag");
  assert.equal(calls[1]?.headers.get("If-Match"), '"e1"');
  assert.match(String(calls[1]?.init.body), /candidate:2/);
  assert.doesNotMatch(String(calls[1]?.init.body), /candidate:1/);
});

test("with no ICE servers the offer goes out soon after the first address is known", async () => {
  const { calls, delays, peer } = watch(() => created({ body: "v=0\r\na=ice-lite\r\n" }), { iceServers: [] });
  await settled();
  delays.shift(); // the long wait, which is not waited for
  peer().candidate("candidate:1 1 udp 1 192.0.2.1 1 typ host");
  assert.equal(calls.length, 0);
  delays.shift()?.();
  await settled();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`]);
  peer().candidate("candidate:2 1 tcp 1 192.0.2.1 9 typ host tcptype active");
  peer().gathered();
  await settled();
  assert.equal(delays.length, 0); // a lite agent is not told of further candidates
  assert.equal(calls.length, 1);
});

test("where the answer leads to qualities one can be chosen, without a new offer", async () => {
  const selected = { "0": { active: [{ encodingId: "sd", height: 360 }], inactive: [], selected: "sd", automatic: false } };
  const link = `<${RESOURCE}/layers>; rel="urn:ietf:params:whep:ext:core:layer"`;
  const { session, calls, peer } = watch(({ url }) =>
    url === ENDPOINT ? created({ headers: { Link: link } }) : new Response(JSON.stringify(selected)),
  );
  await settled();
  peer().gathered();
  await settled();
  assert.equal((await session.select("sd"))?.selected, "sd");
  await session.select(null);
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`, `POST ${RESOURCE}/layers`, `POST ${RESOURCE}/layers`]);
  assert.deepEqual(calls.slice(1).map(({ init }) => init.body), ['{"encodingId":"sd"}', "{}"]);
  assert.equal(calls[1]?.headers.get("Authorization"), "Bearer secret");
  assert.ok(calls.every(({ init }) => init.signal instanceof AbortSignal), "each question ends some time");
});

test("without them there is nothing to ask", async () => {
  const { session, calls } = await answered();
  assert.equal(await session.qualities(), null);
  assert.equal(calls.length, 1);
});

test("closing deletes the session once, with keepalive and token", async () => {
  const { session, calls, events, peer } = await answered();
  session.close();
  session.close();
  await settled();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`, `DELETE ${RESOURCE}`]);
  assert.equal(calls[1]?.init.keepalive, true);
  assert.equal(calls[1]?.headers.get("Authorization"), "Bearer secret");
  assert.equal(peer().closed, true);
  peer().become("failed");
  assert.ok(!events.includes("lost"));
});

test("closing gives up a request that is under way; an answer that comes all the same is deleted", async () => {
  let arrive = (_response: Response): void => {};
  const world = watch(() => new Promise((resolve) => (arrive = resolve)));
  await settled();
  world.peer().gathered();
  await settled();
  assert.equal(world.calls[0]?.init.signal?.aborted, false);
  world.session.close();
  assert.equal(world.calls[0]?.init.signal?.aborted, true);
  arrive(created());
  await settled();
  assert.deepEqual(methods(world.calls), [`POST ${ENDPOINT}`, `DELETE ${RESOURCE}`]);
  assert.deepEqual(world.events, ["posted"]);
});

test("a refusal is told with the server's problem", async () => {
  const world = watch(() =>
    problemResponse(409, { code: "source-unreachable", title: "T", detail: "D", reason: "Unreachable" }, { "Retry-After": "3" }),
  );
  await settled();
  world.peer().gathered();
  await settled();
  assert.deepEqual(world.problems, [
    { code: "source-unreachable", status: 409, title: "T", detail: "D", reason: "Unreachable", retryAfterMs: 3000 },
  ]);
  assert.equal(world.peer().closed, true);
  assert.equal(world.calls.length, 1); // there is nothing to delete
});

const bad: [string, { headers?: Record<string, string>; body?: string }][] = [
  ["of another type", { headers: { "Content-Type": "text/html" } }],
  ["that is empty", { body: "" }],
  ["that the browser refuses", { body: "v=broken" }],
];
for (const [name, over] of bad) {
  test(`an answer ${name} is a failure, and its session is deleted`, async () => {
    const { calls, problems } = await answered(over);
    assert.deepEqual(problems.map(({ code }) => code), ["bad-answer"]);
    assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`, `DELETE ${RESOURCE}`]);
  });
}

test("a browser without WebRTC is told so", async () => {
  const { problems } = watch(() => created(), {
    createPeer: () => {
      throw new ReferenceError("RTCPeerConnection is not defined");
    },
  });
  await settled();
  assert.deepEqual(problems.map(({ code }) => code), ["webrtc-unavailable"]);
});

test("nothing that is asked may take for ever", async () => {
  const { session, calls, delays, peer } = watch(() => created());
  await settled();
  delays.shift()?.();
  await settled();
  peer().candidate("candidate:2 1 udp 1 192.0.2.1 2 typ srflx");
  peer().gathered();
  delays.shift()?.();
  await settled();
  const reception = { freezes: 0, frozenSeconds: 0, framesDropped: 0, jitterBufferMs: 0, decoder: "" };
  session.report({ ...reception, framesDecoded: 1, framesPerSecond: 25 });
  session.close();
  await settled();
  assert.deepEqual(methods(calls), [`POST ${ENDPOINT}`, `PATCH ${RESOURCE}`, `POST ${RESOURCE}/report`, `DELETE ${RESOURCE}`]);
  for (const { init } of calls) assert.ok(init.signal instanceof AbortSignal, init.method);
});

for (const [state, code] of [["disconnected", "connection-lost"], ["failed", "no-media-path"]] as const) {
  test(`a connection that is ${state} is lost, once`, async () => {
    const { events, problems, peer, calls } = await answered();
    peer().become(state);
    peer().become("failed");
    await settled();
    assert.deepEqual(problems.map((problem) => problem.code), [code]);
    assert.equal(events.filter((event) => event === "lost").length, 1);
    assert.equal(calls.at(-1)?.init.method, "DELETE");
  });
}

const locations: [string | null, string | null][] = [
  [RESOURCE, RESOURCE],
  ["/v1/other/s1", "https://cameras.example/v1/other/s1"],
  ["whep/s1", `${ENDPOINT}/s1`],
  // Another origin never gets the token; below the endpoint's own path it is our front door under another name.
  ["http://10.0.0.7:8080/v1/namespaces/default/cameras/door/whep/s1", `${ENDPOINT}/s1`],
  ["https://evil.example/s1", null],
  ["http://[", null],
  [null, null],
];
for (const [location, expected] of locations) {
  test(`Location ${location} leads to ${expected}`, () => assert.equal(resourceUrl(location, ENDPOINT), expected));
}

test("a fragment holds credentials and the sections that have candidates", () => {
  const offer = `${OFFER}a=rtcp-mux\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n`;
  const candidate = { candidate: "candidate:9 1 udp 5 192.0.2.9 9 typ host", sdpMid: "1" } as RTCIceCandidate;
  assert.equal(
    sdpFragment(offer, [candidate]),
    [
      "a=ice-ufrag:uf",
      "a=ice-pwd:pw",
      "m=audio 9 UDP/TLS/RTP/SAVPF 111",
      "a=mid:1",
      "a=candidate:9 1 udp 5 192.0.2.9 9 typ host",
      "a=end-of-candidates",
      "",
    ].join("\r\n"),
  );
});

test("statistics are read from the video receiver", () => {
  const inbound = { type: "inbound-rtp", kind: "video", codecId: "C", bytesReceived: 7, framesDecoded: 3, frameWidth: 640, frameHeight: 360, freezeCount: 1, totalFreezesDuration: 0.25, framesDropped: 4, jitterBufferDelay: 0.6, jitterBufferEmittedCount: 3, decoderImplementation: "FFmpeg" };
  const report: [string, Record<string, unknown>][] = [
    ["T", { type: "transport", bytesReceived: 900 }],
    ["P", { type: "candidate-pair", bytesReceived: 800, responsesReceived: 9 }],
    ["R", { type: "remote-outbound-rtp", reportsSent: 2 }],
    ["A", { type: "inbound-rtp", kind: "audio", bytesReceived: 50 }],
    ["V", inbound],
    ["C", { type: "codec", mimeType: "video/H264" }],
  ];
  const reception = { freezes: 1, frozenSeconds: 0.25, framesDropped: 4, jitterBufferMs: 200, decoder: "FFmpeg" };
  const picture = { frames: 3, width: 640, height: 360, fps: 0, codec: "H264" };
  assert.deepEqual(readSample(report), { bytes: 7, heard: 811, reception, ...picture });
  assert.equal(readSample([]), null);
});
