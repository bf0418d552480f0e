/**
 * What went wrong, in one shape.
 *
 * The front door answers with application/problem+json; a network that fails, a proxy that answers HTML and a stream
 * that falls silent are put into the same shape here, so that the machine and the page know one kind of failure.
 * No text here ever holds a token: details come from the server's problem or are written in this file.
 */

export interface Problem {
  /** Stable kebab-case code: the server's, or one of LOCAL below, or `http-<status>`. */
  readonly code: string;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** Reason of the camera's SourceReady condition, where a source failed. */
  readonly reason?: string;
  readonly retryAfterMs?: number;
}

const LOCAL = {
  "network": ["No connection", "The server could not be reached. Is this device online?"],
  "timeout": ["No answer in time", "The server took too long to answer."],
  "bad-answer": ["Unexpected answer", "The server answered with something that is not a stream description."],
  "no-media-path": [
    "No way through for the picture",
    "The camera answered, but no media arrived. A firewall may block UDP, or only the camera's own network reaches it.",
  ],
  "no-media": ["Connected, but nothing is sent", "The connection stands, but the camera sends no picture."],
  "no-picture": ["No picture", "Data arrives, but this browser could not show a picture from it."],
  "connection-lost": ["Connection lost", "The stream's connection broke off."],
  "stream-silent": ["Stream stopped", "The stream fell silent."],
  "autoplay-blocked": ["Press play", "This browser starts video only when you ask for it."],
  "webrtc-unavailable": ["WebRTC is not available", "This browser, or a setting of it, does not allow WebRTC."],
} as const satisfies Record<string, readonly [string, string]>;

export type LocalCode = keyof typeof LOCAL;

export function localProblem(code: LocalCode): Problem {
  const [title, detail] = LOCAL[code];
  return { code, status: 0, title, detail };
}

export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly problem: Problem;

  constructor(problem: Problem, options?: ErrorOptions) {
    super(`${problem.title}: ${problem.detail}`, options);
    this.problem = problem;
  }
}

/** Reads an error response; never throws, whatever the body is. `now` is needed for a Retry-After that is a date. */
export async function problemOf(response: Response, now: number): Promise<Problem> {
  const body = await readObject(response);
  const text = (key: string): string | undefined => {
    const value = body[key];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const reason = text("reason");
  const seconds = body["retryAfterSeconds"];
  const retryAfterMs =
    parseRetryAfter(response.headers.get("Retry-After"), now) ??
    (typeof seconds === "number" && seconds >= 0 ? seconds * 1000 : undefined);
  return {
    code: text("code") ?? `http-${response.status}`,
    status: response.status,
    title: text("title") ?? titleOfStatus(response.status),
    detail: text("detail") ?? `The server answered with status ${response.status}.`,
    ...(reason === undefined ? {} : { reason }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/** Puts whatever was thrown around a request into a Problem. */
export function problemOfError(error: unknown, otherwise: LocalCode = "network"): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (error instanceof DOMException && (error.name === "TimeoutError" || error.name === "AbortError")) {
    return localProblem("timeout");
  }
  return localProblem(otherwise);
}

/** Retry-After in milliseconds (RFC 9110 section 10.2.3: seconds or a date); undefined when absent or senseless. */
export function parseRetryAfter(value: string | null, now: number): number | undefined {
  if (value === null) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

async function readObject(response: Response): Promise<Record<string, unknown>> {
  if (!(response.headers.get("Content-Type") ?? "").includes("json")) return {};
  try {
    const value: unknown = await response.json();
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function titleOfStatus(status: number): string {
  if (status === 401) return "Sign-in needed";
  if (status === 403) return "Not allowed";
  if (status === 404) return "Not found";
  return status >= 500 ? "The server has a problem" : "The request was refused";
}
