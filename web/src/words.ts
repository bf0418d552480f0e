/**
 * Machine words to people's words: the reasons of a camera's SourceReady condition and its phases, each with the tone
 * that decides the colour. A word that is not known yet is shown as it is, spelled out.
 */
import type { CameraSummary } from "./api";
import type { Problem } from "./problem";

export type Tone = "live" | "ready" | "busy" | "bad" | "off";

export interface Wording {
  readonly text: string;
  readonly tone: Tone;
}

/** Tones of cameras of which no picture is to be hoped for. */
export const TROUBLED: ReadonlySet<Tone> = new Set(["bad", "off"]);

const REASONS: Readonly<Record<string, Wording>> = {
  AuthenticationFailed: { text: "Credentials refused", tone: "bad" },
  CodecUnsupported: { text: "Codec not supported", tone: "bad" },
  Connecting: { text: "Connecting", tone: "busy" },
  DeviceOffline: { text: "Device offline", tone: "off" },
  Idle: { text: "Ready", tone: "ready" },
  NotFound: { text: "No such stream", tone: "bad" },
  NoFrames: { text: "No frames", tone: "bad" },
  Pending: { text: "Starting", tone: "busy" },
  ProtocolError: { text: "Protocol error", tone: "bad" },
  Stalled: { text: "Stalled", tone: "bad" },
  Streaming: { text: "Streaming", tone: "live" },
  Unreachable: { text: "Unreachable", tone: "bad" },
  WaitingForPublisher: { text: "Waiting for publisher", tone: "off" },
};

const PHASES: Readonly<Record<string, Tone>> = {
  Degraded: "bad",
  Idle: "ready",
  Pending: "busy",
  Refused: "bad",
  Starting: "busy",
  Streaming: "live",
};

/** The one state of a camera that matters most to somebody who looks at the wall. */
export function cameraWording(camera: CameraSummary): Wording {
  if (camera.phase === "Refused") return { text: "Refused", tone: "bad" }; // there is no source to speak of
  const reason = camera.source?.reason;
  const known = reason ? REASONS[reason] : undefined;
  // The agent comes before the source: where it is not ready, a source that idles well is not "Ready", and one that
  // nobody has looked at yet does not start.
  const agentFirst = known?.tone === "ready" || (reason === "Pending" && camera.phase === "Degraded");
  if (known !== undefined && !(agentFirst && !camera.ready)) return known;
  if (reason && known === undefined) return { text: spell(reason), tone: camera.ready ? "ready" : "bad" };
  if (camera.phase) return { text: spell(camera.phase), tone: PHASES[camera.phase] ?? "busy" };
  return camera.ready ? { text: "Ready", tone: "ready" } : { text: "Starting", tone: "busy" };
}

/** What is in the way, in the operator's words: of a source that fails, or of a camera that is not ready. */
export function cameraMessage(camera: CameraSummary): string {
  if (!camera.ready && camera.message) return camera.message;
  return TROUBLED.has(cameraWording(camera).tone) ? (camera.source?.message ?? "") : "";
}

/** The short code shown beside a failure: the source's reason when there is one, else the problem's code. */
export function problemTag(problem: Problem): string {
  return problem.reason ?? problem.code;
}

/** `VideoTooOld` -> `Video too old`. */
export function spell(word: string): string {
  const words = word.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** `H264 · 1920×1080 · 30 fps`, with what is known. */
export function formatPicture(parts: {
  codec?: string | null | undefined;
  width?: number | null | undefined;
  height?: number | null | undefined;
  fps?: number | null | undefined;
}): string {
  const { codec, width, height, fps } = parts;
  return [
    codec ? codec.toUpperCase().replace(/^H\.?(\d)/, "H.$1") : "",
    width && height ? `${width}×${height}` : "",
    fps ? `${Math.round(fps)} fps` : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

export function formatViewers(count: number): string {
  return count === 1 ? "1 viewer" : `${count} viewers`;
}
