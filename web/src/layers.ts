/** WHEP's layer extension as a player needs it: where the qualities of a session are, and what they are. Pure. */

const RELATION = "urn:ietf:params:whep:ext:core:layer";

export interface Quality {
  readonly name: string;
  /** Lines of the picture; null before its source ran for the first time. */
  readonly height: number | null;
}

export interface Qualities {
  /** The best first, as far as is known. */
  readonly list: readonly Quality[];
  readonly selected: string;
  /** The agent chooses, by what the link carries. */
  readonly automatic: boolean;
}

/** The address that a Link header (several lines come joined by commas) gives for the qualities, or null. */
export function layersLink(header: string | null): string | null {
  for (const [, url, parameters] of (header ?? "").matchAll(/<([^>]*)>([^<]*)/g)) {
    if (url !== undefined && parameters?.includes(`rel="${RELATION}"`)) return url;
  }
  return null;
}

/** What the answer says of the first track; null for what is none. */
export function readQualities(body: unknown): Qualities | null {
  if (!isObject(body)) return null;
  const media = Object.values(body)[0];
  if (!isObject(media) || typeof media["selected"] !== "string") return null;
  const layers = [media["active"], media["inactive"]].flatMap((part) => (Array.isArray(part) ? part : []));
  const list = layers.flatMap((layer): Quality[] => {
    if (!isObject(layer) || typeof layer["encodingId"] !== "string") return [];
    const height = layer["height"];
    return [{ name: layer["encodingId"], height: typeof height === "number" && height > 0 ? height : null }];
  });
  list.sort((a, b) => (b.height ?? 0) - (a.height ?? 0));
  return { list, selected: media["selected"], automatic: media["automatic"] === true };
}

/** `sd · 360p`; the main one has no name that means something to people. */
export function qualityLabel({ name, height }: Quality): string {
  const words = name === "main" ? "Full" : name;
  return height === null ? words : `${words} · ${height}p`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
